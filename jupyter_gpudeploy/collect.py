"""All metrics of a run, gathered from every way in which its programs report them.

A program may both print a value and `log` it, and write it to a file. Within one attempt of a task, the points of a
metric come from one source only: what was given to `log()` counts before a file, and a file before what was printed.

Points are kept as columns of numbers, about 50 bytes each, since a sweep of 200 trials can report a million.
"""

from __future__ import annotations

import math
from array import array
from dataclasses import dataclass, field
from itertools import compress
from threading import RLock
from typing import TYPE_CHECKING, Any, Literal

from jupyter_gpudeploy.events.types import MetricPoint, State
from jupyter_gpudeploy.trackers import files, log, stdout

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from jupyter_gpudeploy.events.status import Status, TaskStatus
    from jupyter_gpudeploy.events.store import RunFolder
    from jupyter_gpudeploy.trackers.base import Reader, Tracker

Goal = Literal["minimize", "maximize"]
SOURCES = ("log", "file", "stdout")
_TRACKERS: tuple[Tracker, ...] = (log.EXPORT, files.EXPORT, stdout.EXPORT)
_Key = tuple[int, int]
NOT_SAID = math.nan


@dataclass(slots=True)
class Columns:
    """Points as columns of one length. `metric` counts in `names`, `source` in SOURCES.

    `step`, `epoch` and `time` are NaN where they were not said; `value` is NaN where that was reported.
    """

    names: list[str]
    trial: array[int] = field(default_factory=lambda: array("i"))
    metric: array[int] = field(default_factory=lambda: array("i"))
    attempt: array[int] = field(default_factory=lambda: array("i"))
    source: array[int] = field(default_factory=lambda: array("b"))
    line: array[int] = field(default_factory=lambda: array("q"))
    value: array[float] = field(default_factory=lambda: array("d"))
    step: array[float] = field(default_factory=lambda: array("d"))
    epoch: array[float] = field(default_factory=lambda: array("d"))
    time: array[float] = field(default_factory=lambda: array("d"))

    def __len__(self) -> int:
        return len(self.value)

    def extend(self, other: Columns, chosen: Sequence[bool] | None = None) -> None:
        """Append the rows of `other`, of which `chosen` says which; both count in the same names."""
        for name in _FIELDS:
            theirs, mine = getattr(other, name), getattr(self, name)
            mine.extend(theirs if chosen is None else array(theirs.typecode, compress(theirs, chosen)))

    def point(self, index: int) -> MetricPoint:
        """Return one row as a point."""
        step, epoch, time = (
            None if math.isnan(value) else value for value in (self.step[index], self.epoch[index], self.time[index])
        )
        name, source = self.names[self.metric[index]], SOURCES[self.source[index]]
        place = (step, epoch, time, self.attempt[index], source, self.line[index])
        return MetricPoint(self.trial[index], name, self.value[index], *place)


_FIELDS = ("trial", "metric", "attempt", "source", "line", "value", "step", "epoch", "time")


class _Series:
    """What one source said about one task. `last` and `extremes` are by (attempt, metric)."""

    def __init__(self, names: _Names, source: int, reader: Reader) -> None:
        self.reader = reader
        self._names = names
        self._source = source
        self._clear()

    def _clear(self) -> None:
        self.generation = self.reader.generation
        self.columns = Columns(self._names.all)
        self.last: dict[_Key, int] = {}
        self.extremes: dict[_Key, list[float]] = {}

    def poll(self, *, ended: bool) -> None:
        points = self.reader.poll(ended=ended)
        if self.reader.generation != self.generation:
            self._clear()
        if points:
            self._extend(points)

    def _extend(self, points: Sequence[MetricPoint]) -> None:
        """Append points, column by column: a million of them in seconds."""
        columns, start = self.columns, len(self.columns)
        metrics = self._names.numbers([point.name for point in points])
        columns.metric.extend(metrics)
        columns.trial.extend([point.task for point in points])
        columns.attempt.extend([point.attempt for point in points])
        columns.source.extend([self._source] * len(points))
        columns.line.extend([point.line for point in points])
        columns.value.extend([point.value for point in points])
        columns.step.extend([NOT_SAID if point.step is None else point.step for point in points])
        columns.epoch.extend([NOT_SAID if point.epoch is None else point.epoch for point in points])
        columns.time.extend([NOT_SAID if point.time is None else point.time for point in points])
        keys = list(zip(columns.attempt[start:], metrics, strict=True))
        self.last.update(zip(keys, range(start, len(columns)), strict=True))
        for key, value in zip(keys, columns.value[start:], strict=True):
            if math.isfinite(value):
                found = self.extremes.setdefault(key, [value, value])
                if value < found[0]:
                    found[0] = value
                elif value > found[1]:
                    found[1] = value


class _Names:
    """The names of all metrics, each with its number, in the order in which they were first seen."""

    def __init__(self) -> None:
        self.all: list[str] = []
        self._numbers: dict[str, int] = {}

    def numbers(self, names: list[str]) -> list[int]:
        for name in dict.fromkeys(names):
            if name not in self._numbers:
                self._numbers[name] = len(self.all)
                self.all.append(name)
        return [self._numbers[name] for name in names]


class Collector:
    """The metrics of one run, as they come. Safe from several threads.

    It can be thrown away at any time: a new one reads the same from the run's folder. What has ended is read once
    more and then left alone.
    """

    def __init__(self, folder: RunFolder) -> None:
        self._folder = folder
        self._names = _Names()
        self._tasks: dict[int, list[_Series]] = {}
        self._finished: dict[int, int] = {}
        self._records: dict[int, Mapping[str, Any]] | None = None
        self._lock = RLock()

    def poll(self, status: Status) -> None:
        """Read what is new of all tasks. `status` says which have begun, and which write no more."""
        with self._lock:
            for number, task in status.tasks.items():
                if self._is_due(task):
                    for series in self._series(number):
                        series.poll(ended=task.state.is_final)
                    if task.state.is_final and task.state is not State.LOST:  # what lost its keeper may write on
                        self._finished[number] = task.attempt

    def points(self, task: int | None = None) -> list[MetricPoint]:
        """Return every point, of all attempts, task by task in the order in which each source reported them."""
        columns = self.columns(task)
        return [columns.point(index) for index in range(len(columns))]

    def columns(self, task: int | None = None) -> Columns:
        """Return the same as columns; a copy."""
        with self._lock:
            found = Columns(list(self._names.all))
            for number in sorted(self._tasks) if task is None else [task]:
                hidden: set[_Key] = set()
                for series in self._tasks.get(number, ()):
                    found.extend(series.columns, _chosen(series, hidden))
                    hidden |= series.last.keys()
            return found

    def latest(self) -> dict[int, dict[str, MetricPoint]]:
        """Return the last point of each metric of each task, of the last attempt that reported anything."""
        with self._lock:
            return {
                task: {self._names.all[metric]: series.columns.point(series.last[attempt, metric])
                       for series, (attempt, metric) in self._current(task)}
                for task in sorted(self._tasks)
                if any(series.last for series in self._tasks[task])
            }  # fmt: skip

    def best(self, metric: str, goal: Goal) -> dict[int, float]:
        """Return the best value of a metric that each task has reached, in the attempt that `latest` shows.

        NaN and infinity are never best: a task with no finite value is left out.
        """
        with self._lock:
            found: dict[int, float] = {}
            for task in sorted(self._tasks):
                for series, key in self._current(task):
                    if self._names.all[key[1]] == metric and key in series.extremes:
                        found[task] = series.extremes[key][goal == "maximize"]
            return found

    def best_task(self, metric: str, goal: Goal) -> int | None:
        """Return the task that reached the best value, the lower number of equals; None while there is no value."""
        found = self.best(metric, goal)
        sign = -1 if goal == "maximize" else 1
        return min(found, key=lambda task: (sign * found[task], task), default=None)

    def names(self) -> list[str]:
        """Return the names of all metrics that were seen, in the order in which they came."""
        with self._lock:
            return list(self._names.all)

    def _is_due(self, task: TaskStatus) -> bool:
        if task.state is State.WAITING and task.attempt == 1:
            return False
        return not task.state.is_final or self._finished.get(task.task) != task.attempt

    def _series(self, number: int) -> list[_Series]:
        if number not in self._tasks:
            if self._records is None:
                self._records = _records(self._folder)
            task = self._records.get(number, {"number": number})
            readers = [tracker.reader(self._folder, task) for tracker in _TRACKERS]
            self._tasks[number] = [_Series(self._names, source, reader) for source, reader in enumerate(readers)]
        return self._tasks[number]

    def _current(self, task: int) -> Iterator[tuple[_Series, _Key]]:
        """Yield each metric of the last attempt that reported anything, with the source that counts for it."""
        last = max((attempt for series in self._tasks[task] for attempt, _ in series.last), default=0)
        seen: set[_Key] = set()
        for series in self._tasks[task]:
            new = [key for key in series.last if key[0] == last and key not in seen]
            seen.update(new)
            yield from ((series, key) for key in new)


def _chosen(series: _Series, hidden: set[_Key]) -> list[bool] | None:
    """Return which rows count beside the sources before; None for all."""
    if hidden.isdisjoint(series.last):
        return None
    columns = series.columns
    return [key not in hidden for key in zip(columns.attempt, columns.metric, strict=True)]


def _records(folder: RunFolder) -> dict[int, Mapping[str, Any]]:
    try:
        return {task["number"]: task for task in folder.record()["tasks"]}
    except (OSError, ValueError, KeyError):
        return {}
