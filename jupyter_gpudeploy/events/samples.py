"""What was measured of a run from outside: `samples.jsonl`, one line a look.

::

    {"t":1763930000.125,"g":[["0",2,97.0,8589934592,17179869184,212.5,71.0]],"p":[[2,184.0,3221225472,5]],"m":[[2,"ttft_seconds",0.031]]}

`t` is the time of the look. `g`: the fields of GpuSample after `time`; `p`: those of ProcessSample; `m`: task, name and
value of a MetricPoint of a server. Unknown values are null; those at the end of a list are left out. A line that is no
look is passed over; one without its newline is not there yet, and is cut off by the next writer.

A look of eight GPUs has about 500 bytes. So that no file grows without end, looks become rarer with its size: after
each FINE_BYTES they are kept half as often.
"""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any

from jupyter_gpudeploy.events.types import GpuSample, MetricPoint, ProcessSample

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from jupyter_gpudeploy.events.types import Sample

FINE_BYTES = 1 << 25
"""So much is written at full detail: a day of eight GPUs, two weeks of a run without any."""

_BLOCK = 1 << 16
_JSON = json.JSONEncoder(separators=(",", ":"))
_MOST_HALVINGS = 6


class SampleWriter:
    """The one writer of a file of samples. Holds it open until `close`.

    What does not fit on the disk is dropped, and nothing of it stays behind.
    """

    def __init__(self, file: Path) -> None:
        self._descriptor = os.open(file, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            self._size = _whole(self._descriptor)
        except BaseException:
            os.close(self._descriptor)
            raise

    @property
    def every(self) -> int:
        """Every which look is still to be kept: 1, 2, 4 ..."""
        return 1 << min(self._size // FINE_BYTES, _MOST_HALVINGS)

    def write(self, samples: Iterable[Sample]) -> bool:
        """Append the samples of one look, which have one time. Return whether they are in the file."""
        return self.append(encode(samples))

    def append(self, line: bytes) -> bool:
        """Append a look that `encode` made."""
        done = 0
        try:
            while done < len(line):
                done += os.pwrite(self._descriptor, line[done:], self._size + done)
        except OSError:
            if done:
                os.ftruncate(self._descriptor, self._size)
            return False
        self._size += done
        return True

    def close(self) -> None:
        """Hold nothing open any more."""
        os.close(self._descriptor)


class SampleReader:
    """Reads samples from where it stopped last time; holds no file open in between.

    `offset`: the byte after the last look that was handed out.
    """

    def __init__(self, file: Path, offset: int = 0) -> None:
        self.file = file
        self.offset = offset

    def poll(self, most_bytes: int | None = None) -> list[Sample]:
        """Return the samples that are new, in their order; of a long file, with `most_bytes`, a part at a time.

        An empty list says that there is no more for now. A file that is not there yet has none; one that was cut is
        read on from its end.
        """
        found: list[Sample] = []
        while not found:
            lines = self._lines(most_bytes)
            if not lines:
                break
            for line in lines:
                found += decode(line)
        return found

    def _lines(self, most_bytes: int | None) -> list[bytes]:
        try:
            with self.file.open("rb", buffering=0) as stream:
                size = os.fstat(stream.fileno()).st_size
                self.offset = min(self.offset, size)
                room = size - self.offset if most_bytes is None else max(min(most_bytes, size - self.offset), 0)
                data = os.pread(stream.fileno(), room, self.offset) if room else b""
                while data and b"\n" not in data and self.offset + len(data) < size:
                    data += os.pread(stream.fileno(), _BLOCK, self.offset + len(data))
        except FileNotFoundError:
            return []
        end = data.rfind(b"\n") + 1
        self.offset += end
        return data[: end - 1].split(b"\n") if end else []


def last_samples(file: Path, seconds: float) -> list[Sample]:
    """Return the samples of the last `seconds` before the newest one, without reading what comes before them."""
    found: list[list[Sample]] = []
    for line in _backward(file):
        look = decode(line)
        if look and found and (look[0].time or 0.0) < (found[0][0].time or 0.0) - seconds:
            break
        if look:
            found.append(look)
    return [sample for look in reversed(found) for sample in look]


def newest_time(file: Path, task: int | None) -> float:
    """Return when the last look at a task was; 0 where there was none."""
    for line in _backward(file):
        if look := [sample for sample in decode(line) if sample.task == task]:
            return look[0].time or 0.0
    return 0.0


def encode(samples: Iterable[Sample]) -> bytes:
    """Return one look as a line."""
    look: dict[str, Any] = {}
    for sample in samples:
        look.setdefault("t", round(sample.time or 0.0, 3))
        if isinstance(sample, MetricPoint):
            look.setdefault("m", []).append([sample.task, sample.name, sample.value])
        else:
            row = [sample.gpu, *sample[2:]] if isinstance(sample, GpuSample) else list(sample[1:])
            while row and row[-1] is None:
                row.pop()
            look.setdefault("g" if isinstance(sample, GpuSample) else "p", []).append(row)
    return _JSON.encode(look).encode("ascii") + b"\n"


def decode(line: bytes) -> list[Sample]:
    """Return the samples of a line; none for one that is no look."""
    try:
        look = json.loads(line)
        time = float(look["t"])
        found: list[Sample] = [GpuSample(time, *row) for row in look.get("g", ())]
        found += [ProcessSample(time, *row) for row in look.get("p", ())]
        found += [MetricPoint(task, name, value, time=time, source="server") for task, name, value in look.get("m", ())]
    except (ValueError, TypeError, KeyError, RecursionError):
        return []
    return found


def _backward(file: Path) -> Iterator[bytes]:
    """Yield the whole lines of a file, the last one first. A file that is not there has none."""
    try:
        with file.open("rb", buffering=0) as stream:
            place = os.fstat(stream.fileno()).st_size
            held = b""
            while place:
                start = max(place - _BLOCK, 0)
                first, *lines = (os.pread(stream.fileno(), place - start, start) + held).split(b"\n")
                yield from reversed(lines[:-1])
                place = start
                held = first + b"\n" * bool(lines)
            yield held.rstrip(b"\n")
    except FileNotFoundError:
        return


def _whole(descriptor: int) -> int:
    """Cut off what follows the last newline. Return the size of what is left."""
    size = place = os.fstat(descriptor).st_size
    while place:
        start = max(place - _BLOCK, 0)
        newline = os.pread(descriptor, place - start, start).rfind(b"\n")
        if newline >= 0:
            place = start + newline + 1
            break
        place = start
    if place < size:
        os.ftruncate(descriptor, place)
    return place
