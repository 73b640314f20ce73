"""What a pod measured becomes lines of samples.jsonl, each once. Nothing of it is trusted."""

from __future__ import annotations

import threading
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from jupyter_gpudeploy.events.samples import SampleWriter, newest_time
from jupyter_gpudeploy.events.types import GpuSample, ProcessSample

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from jupyter_gpudeploy.events.store import RunFolder
    from jupyter_gpudeploy.events.types import Sample

_MOST_GPUS = 64
_NAME_LIMIT = 64
_LAST_MOMENT = 1e11
_LARGEST = float(1 << 60)
_WRITING = threading.Lock()  # the tasks of a run share a file, and each has a thread of its own


class SampleReceiver:
    """Appends the looks of one task's pod. They are told apart by their times, which a pod lets only grow.

    A look that the disk has no room for is lost: it is not worth stopping a log for.
    """

    def __init__(self, folder: RunFolder, task: int | None) -> None:
        self._file = folder.samples_file
        self._task = task
        self._last: float | None = None

    def receive(self, payload: Mapping[str, Any]) -> None:
        """Take one record. Raises ValueError, TypeError or KeyError for one that makes no sense."""
        time = round(float(payload["t"]), 3)
        if not 0 < time < _LAST_MOMENT:
            raise ValueError("no time")
        samples = self._samples(time, payload)
        if self._last is None:
            self._last = newest_time(self._file, self._task)
        if time <= self._last or not samples:
            return
        with suppress(OSError), _WRITING:
            writer = SampleWriter(self._file)
            try:
                if int(time) % writer.every == 0:
                    writer.write(samples)
            finally:
                writer.close()
        self._last = time

    def _samples(self, time: float, payload: Mapping[str, Any]) -> list[Sample]:
        samples: list[Sample] = []
        for name, *values in payload.get("g", ())[:_MOST_GPUS]:
            utilization, used, total, power, temperature = _numbers(values, 5)
            used, total = _whole(used), _whole(total)
            gpu = str(name)[:_NAME_LIMIT]
            samples.append(GpuSample(time, gpu, self._task, utilization, used, total, power, temperature))
        if "p" in payload:
            cpu, memory, processes = _numbers(payload["p"], 3)
            samples.append(ProcessSample(time, self._task, cpu, _whole(memory), _whole(processes)))
        return samples


def _numbers(values: Sequence[object], count: int) -> list[float | None]:
    """Return so many numbers that can be measured; None for what is none, and for what is missing."""
    found: list[float | None] = []
    for value in [*values, *[None] * count][:count]:
        is_number = isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < _LARGEST
        found.append(value if is_number else None)  # type: ignore[arg-type]  # looked at
    return found


def _whole(value: float | None) -> int | None:
    return None if value is None else int(value)
