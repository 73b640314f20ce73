"""What a run has reported and used so far, as numbers to be drawn; kept between looks, so that only the new is read.

A run that is looked at every second has its curves copied only where a point was added, its samples read only once.
"""

from __future__ import annotations

import math
from array import array
from itertools import compress
from threading import Lock
from typing import TYPE_CHECKING, Any, NamedTuple
from weakref import WeakKeyDictionary

from jupyter_gpudeploy.events.samples import SampleReader
from jupyter_gpudeploy.events.types import GpuSample, ProcessSample
from jupyter_gpudeploy.notebook import thinning

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from jupyter_gpudeploy.collect import Collector
    from jupyter_gpudeploy.events.status import Status
    from jupyter_gpudeploy.events.types import MetricPoint, Sample
    from jupyter_gpudeploy.run import Run

    Latest = Mapping[int, Mapping[str, MetricPoint]]

GPU, GPU_MEMORY, PROCESSOR, MEMORY = "GPU utilization", "GPU memory", "processor", "memory"
SILENCE = 15.0  # seconds without a look, from which the line has a gap
_MOST = 8000  # points kept of one series of samples
_Key = tuple[Any, ...]


class Curve(NamedTuple):
    """What one task reported of one metric in its last attempt. Columns of one length; NaN where nothing was said."""

    task: int
    step: Sequence[float]
    epoch: Sequence[float]
    value: Sequence[float]


class Use(NamedTuple):
    """What was measured of one task: `what` is one of the words below, or what a server calls a number of its own.

    Utilization is in percent, that of processors in percent of one core; memory in bytes. `gpu` is empty where it is
    of no GPU. Times are seconds since the epoch, NaN values are gaps.
    """

    what: str
    gpu: str
    task: int | None
    time: array[float]
    value: array[float]


class History:
    """The curves and the samples of one run. Not safe from several threads: `of` hands out one with its lock."""

    def __init__(self, collector: Collector, reader: SampleReader) -> None:
        self.collector = collector
        self.lock = Lock()
        self.drawn: tuple[_Key, Any] = ((), None)
        self.uses: dict[tuple[str, str, int | None], Use] = {}
        self.looks = 0
        self.totals: dict[str, int] = {}
        self._reader = reader
        self._curves: dict[int, tuple[_Key, dict[str, Curve]]] = {}

    def curves(self, tasks: Iterable[int], latest: Latest) -> dict[int, dict[str, Curve]]:
        """Return the curves of these tasks, by metric. `latest` says what is new."""
        found = {}
        for task in tasks:
            key = mark(latest.get(task, {}))
            known, curves = self._curves.get(task, ((), {}))
            if known != key:
                curves = _curves(self.collector, task, latest.get(task, {}))
                self._curves[task] = key, curves
            found[task] = curves
        self._curves = {task: self._curves[task] for task in found}
        return found

    def poll(self) -> None:
        """Read the samples that are new."""
        for sample in self._reader.poll():
            self.looks += 1
            if isinstance(sample, GpuSample):
                self._add(sample, GPU, sample.utilization, sample.gpu)
                self._add(sample, GPU_MEMORY, sample.memory_used, sample.gpu)
                if sample.memory_total:
                    self.totals[sample.gpu] = sample.memory_total
            elif isinstance(sample, ProcessSample):
                self._add(sample, PROCESSOR, sample.cpu)
                self._add(sample, MEMORY, sample.memory)
            else:
                self._add(sample, sample.name, sample.value)

    def _add(self, sample: Sample, what: str, value: float | None, gpu: str = "") -> None:
        key, time = (what, gpu, sample.task), sample.time or 0.0
        use = self.uses.get(key)
        if use is None:
            use = self.uses[key] = Use(what, gpu, sample.task, array("d"), array("d"))
        if use.time and time - use.time[-1] > SILENCE:
            use.time.append((use.time[-1] + time) / 2)
            use.value.append(math.nan)
        use.time.append(time)
        use.value.append(math.nan if value is None else value)
        if len(use.time) > _MOST:
            places = thinning.halved(use.value)
            use.time[:] = array("d", map(use.time.__getitem__, places))
            use.value[:] = array("d", map(use.value.__getitem__, places))


def of(run: Run) -> tuple[History, Status]:
    """Return what is kept of this run, and where it stands."""
    _record, status, collector = run.parts()
    with _lock:
        known = _known.get(run)
        if known is None or known.collector is not collector:
            known = _known[run] = History(collector, SampleReader(run.folder / "samples.jsonl"))
    return known, status


def drawn(run: Run) -> Any:  # noqa: ANN401 - whatever was kept
    """Return what was drawn of this run before, or None."""
    with _lock:
        known = _known.get(run)
    return None if known is None else known.drawn[1]


def mark(points: Mapping[str, MetricPoint]) -> _Key:
    """Return what changes when a task has reported more."""
    return tuple((name, point.attempt, point.source, point.line, repr(point.value)) for name, point in points.items())


def _curves(collector: Collector, task: int, latest: Mapping[str, MetricPoint]) -> dict[str, Curve]:
    columns = collector.columns(task)
    attempts = {point.attempt for point in latest.values()}
    is_only = set(columns.attempt) <= attempts
    curves = {}
    for name in latest:
        number = columns.names.index(name)
        chosen = [metric == number for metric in columns.metric]
        if not is_only:
            chosen = [one and attempt in attempts for one, attempt in zip(chosen, columns.attempt, strict=True)]
        parts = (columns.step, columns.epoch, columns.value)
        curves[name] = Curve(task, *(array("d", compress(part, chosen)) for part in parts))
    return curves


_known: WeakKeyDictionary[Run, History] = WeakKeyDictionary()
_lock = Lock()
