"""The curves of one run: what was measured from outside, and what its programs report, as they come."""

from __future__ import annotations

import math
from array import array
from typing import TYPE_CHECKING, Any

from jupyter_gpudeploy.collect import SOURCES
from jupyter_gpudeploy.events.types import GpuSample, MetricPoint
from jupyter_gpudeploy.notebook.card.protocol import Points
from jupyter_gpudeploy.notebook.card.series import RING, Series, thinned
from jupyter_gpudeploy.notebook.sheet import clean

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from jupyter_gpudeploy.collect import Collector, Place
    from jupyter_gpudeploy.events.types import Sample
    from jupyter_gpudeploy.trackers._columns import Columns

    When = Callable[[int, int, int], float | None]

GAP_SECONDS = 15.0
_LABEL = 60
_NEVER = 5  # looks
_GPU = (
    ("gpu.utilization", "%", "utilization", 1.0),
    ("gpu.memory", "B", "memory_used", 1.0),
    ("gpu.power", "W", "power", 1.0),
    ("gpu.temperature", "°C", "temperature", 1.0),
)
_Key = tuple[Any, ...]


class Curves:
    """All series of a run, by what they show. For one thread, or under a lock.

    `generation` grows when a series was taken back: who has sent it must send everything again. `odd` holds (time,
    task, text) of values that are no numbers, the first of each series.
    """

    def __init__(self, labels: Mapping[int, str] | None = None) -> None:
        self.labels: dict[int, str] = dict(labels or {})
        self.series: dict[int, Series] = {}
        self.generation = 0
        self.best: int | None = None
        self.odd: list[tuple[float, int, str]] = []
        self.has_gpu = False
        self.has_processes = False
        self._keys: dict[_Key, Series] = {}
        self._number = 0
        self._places: dict[int, Place] = {}
        self._attempts: dict[tuple[int, str], int] = {}
        self._told: set[_Key] = set()
        self._unknown: dict[int, int] = {}

    def measure(self, samples: Iterable[Sample]) -> None:
        """Take looks from outside."""
        for sample in samples:
            if isinstance(sample, GpuSample):
                self.has_gpu = True
                for chart, unit, field, _ in _GPU:
                    label = f"GPU {clean(sample.gpu, _LABEL)}"
                    self._point((chart, sample.gpu, sample.task), label, unit, sample.time, getattr(sample, field))
            elif isinstance(sample, MetricPoint):
                label, when = self._label(sample.task), sample.time or 0.0
                self._point((f"metric:{clean(sample.name)}", "", sample.task), label, "", when, sample.value)
            else:
                self.has_processes = True
                label = self._label(sample.task)
                self._point(("cpu", "", sample.task), label, "%", sample.time, sample.cpu)
                self._point(("memory", "", sample.task), label, "B", sample.time, sample.memory)

    def collect(self, collector: Collector, when: When, now: float | None) -> None:
        """Take the metrics that are new. `when(task, attempt, line)` is the time of a line, `now` that of the rest."""
        for task, columns, is_anew in collector.fresh(self._places):
            if is_anew:
                self._forget(task)
            for metric, name in enumerate(columns.names):
                self._take(task, name, metric, columns, when, now)

    def _take(
        self,
        task: int,
        name: str,
        metric: int,
        columns: Columns,
        when: When,
        now: float | None,
    ) -> None:
        if metric not in columns.metric:
            return
        rows: Sequence[int] = [index for index, each in enumerate(columns.metric) if each == metric]
        last = max(map(columns.attempt.__getitem__, rows))
        known = self._attempts.get((task, name), last)
        if last < known:
            return
        rows = [row for row in rows if columns.attempt[row] == last]
        series = self._metric(task, name, last, is_new=last != known)
        values = array("f", (_finite(columns.value[row]) for row in rows))
        self._notice_odd(series, task, name, columns, rows)
        steps = _steps(columns, rows, series)
        chosen = thinned(Points(array("d", rows), steps, values), RING // 2)
        kept = [int(row) for row in chosen.time]
        times = array("d", (_time(columns, row, when, now) for row in kept))
        self._place_on_axis(series, times, chosen.step)
        series.extend(Points(times, chosen.step, chosen.value))

    def _metric(self, task: int, name: str, attempt: int, *, is_new: bool) -> Series:
        """Return the series of a metric; of a further attempt one that takes the place of the one before."""
        key = (f"metric:{clean(name)}", "", task)
        if is_new and key in self._keys:
            self.series.pop(self._keys.pop(key).number)
            self.generation += 1
        self._attempts[task, name] = attempt
        return self._get(key, self._label(task) + (f" (attempt {attempt})" if attempt > 1 else ""), "", "step")

    def _forget(self, task: int) -> None:
        self.generation += 1
        for key in [key for key in self._keys if key[0].startswith("metric:") and key[2] == task]:
            self.series.pop(self._keys.pop(key).number)
        for pair in [pair for pair in self._attempts if pair[0] == task]:
            del self._attempts[pair]

    def _point(self, key: _Key, label: str, unit: str, time: float, value: float | None) -> None:
        series = self._get(key, label, unit, "time")
        if value is not None:
            self._unknown.pop(series.number, None)
        elif series.number in self._unknown or not series.total:
            self._unknown[series.number] = self._unknown.get(series.number, 0) + 1
        self._mark_unknown(series)
        if len(series) and time - series.newest > GAP_SECONDS:
            series.add(series.newest + 1, None)
        series.add(time, value)

    def _mark_unknown(self, series: Series) -> None:
        """Say of a series that was never known that it is not."""
        na = "N/A" if self._unknown.get(series.number, 0) >= _NEVER else ""
        if na != series.na:
            series.na = na
            self.generation += 1

    def _get(self, key: _Key, label: str, unit: str, x: str) -> Series:
        found = self._keys.get(key)
        if found is None:
            self._number += 1
            found = self._keys[key] = Series(self._number, key[0], label, task=key[2], unit=unit, x=x)
            self.series[found.number] = found
        return found

    def _label(self, task: int | None) -> str:
        return "run" if task is None else clean(self.labels.get(task) or f"task {task}", _LABEL)

    def _place_on_axis(self, series: Series, times: array[float], steps: array[float]) -> None:
        """Draw over time what has no rising steps, over the number of the point what has no times either."""
        if series.x != "step" or not steps:
            return
        before = series.last_step
        rises = all(map(float.__le__, steps[:-1], steps[1:])) and not steps[0] < before
        if not rises and not any(map(math.isnan, times)):
            self.generation += bool(len(series))
            series.x = "time"
        elif not rises:
            start = 0.0 if math.isnan(before) else before + 1
            steps[:] = array("d", (start + index for index in range(len(steps))))

    def _notice_odd(self, series: Series, task: int, name: str, columns: Columns, rows: Sequence[int]) -> None:
        key = (series.number, task, name)
        if key in self._told:
            return
        for row in rows:
            if not math.isfinite(columns.value[row]):
                self._told.add(key)
                step = columns.step[row]
                at = "" if math.isnan(step) else f" at step {step:g}"
                value = "NaN" if math.isnan(columns.value[row]) else f"{columns.value[row]}"
                when = columns.time[row]
                self.odd.append((0.0 if math.isnan(when) else when, task, f"{clean(name)} is {value}{at}"))
                return


def _steps(columns: Columns, rows: Sequence[int], series: Series) -> array[float]:
    """Return the steps, else the epochs, else the numbers of the points."""
    for column in (columns.step, columns.epoch):
        steps = array("d", map(column.__getitem__, rows))
        if not any(map(math.isnan, steps)):
            return steps
    return array("d", (float(series.total + index) for index in range(len(rows))))


def _time(columns: Columns, row: int, when: When, now: float | None) -> float:
    time = columns.time[row]
    if not math.isnan(time):
        return time
    found = None
    if SOURCES[columns.source[row]] == "stdout":
        found = when(columns.trial[row], columns.attempt[row], columns.line[row])
    found = now if found is None else found
    return math.nan if found is None else found


def _finite(value: float) -> float:
    return value if math.isfinite(value) else math.nan
