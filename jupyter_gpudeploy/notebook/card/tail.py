"""The end of a log that grows, for a view: what is new is counted, and only its end is looked at.

Nothing is held open in between, so a hundred logs cost no descriptors. A flood costs little: newlines of what is
skipped are counted by the megabyte.
"""

from __future__ import annotations

import os
from array import array
from bisect import bisect_left, bisect_right
from threading import Lock
from typing import TYPE_CHECKING, NamedTuple

from jupyter_gpudeploy.events.times import read_times

if TYPE_CHECKING:
    from pathlib import Path

BLOCK = 1 << 20
NEWEST = 1 << 16  # how much of a flood is looked at
WHOLE = 1 << 18  # so much is read whole
_SPACING_SECONDS = 1.0
_SPACING_BYTES = 4 * BLOCK
_SURE_SECONDS = 2.0
_MARKS = 20_000
_HEAD = 1 << 14  # of a line that is longer than what is looked at


class Chunk(NamedTuple):
    """What came into a log. `start`, `end`: bytes of it that are whole lines, `whole` of them, the first is `number`.

    `lines`: the last of them, as bytes; `extra` bytes are missing of the first. `rest`: the beginning of a line that
    has no end yet, None where it is as before.
    """

    task: int
    attempt: int
    start: int
    end: int
    number: int
    whole: int
    lines: list[bytes]
    extra: int
    rest: bytes | None
    time: float


class Clock:
    """When which byte and which line of a log was written, as far as that is known. Safe from several threads.

    By a mark (offset, lines before it, time) everything before `offset` was there at `time`; a sure one was made when
    the last of it came. `latest`: when anything came last. Of very many marks every second one is kept.
    """

    def __init__(self, log: Path, begun: float | None = None) -> None:
        self._lock = Lock()
        self._offsets, self._lines = array("Q", [0]), array("q", [0])
        self._times, self._sure = array("d", [begun or 0.0]), array("b", [begun is not None])
        self._noted_times, self._noted_sizes = read_times(str(log))
        self.latest: float | None = None

    def noted(self) -> list[tuple[int, float]]:
        """Return the sizes that whoever wrote the log noted, each with its time."""
        return list(zip(self._noted_sizes, self._noted_times, strict=True))

    def mark(self, offset: int, lines: int, time: float, *, sure: bool = True) -> None:
        """Say that the log had so many bytes and lines at that time. Marks come in their order."""
        with self._lock:
            last = len(self._offsets) - 1
            if offset <= self._offsets[last]:
                return
            if (
                last
                and time - self._times[last - 1] < _SPACING_SECONDS
                and offset - self._offsets[last - 1] < _SPACING_BYTES
            ):
                self._offsets[last], self._lines[last] = offset, lines
                self._times[last], self._sure[last] = time, sure
                return
            if last >= _MARKS:
                self._thin()
            self._lines.append(lines)
            self._times.append(time)
            self._sure.append(sure)
            self._offsets.append(offset)

    def at(self, offset: int) -> float | None:
        """Return when the byte before `offset` was there, None where that is not known."""
        with self._lock:
            noted = bisect_left(self._noted_sizes, offset)
            if noted < len(self._noted_sizes):
                return self._noted_times[noted]
            return self._of(bisect_left(self._offsets, offset))

    def of_line(self, line: int) -> float | None:
        """Return when this line (from 1) was there, None where that is not known."""
        with self._lock:
            return self._of(bisect_left(self._lines, line))

    def offset(self, time: float) -> int | None:
        """Return how much was there at `time`, None where that is not known."""
        with self._lock:
            noted = bisect_right(self._noted_times, time)
            known = int(self._noted_sizes[noted - 1]) if noted else 0
            marked = bisect_right(self._times, time) - 1
            if marked > 0:
                return max(known, int(self._offsets[marked]))
            return known if noted or self._sure[0] else None

    def counted(self, offset: int) -> tuple[int, int]:
        """Return a place at or before `offset` and how many lines lie before it."""
        with self._lock:
            place = bisect_right(self._offsets, offset) - 1
            return int(self._offsets[place]), self._lines[place]

    def _thin(self) -> None:
        half = _MARKS // 2
        for marks in (self._offsets, self._lines, self._times, self._sure):
            del marks[1:half:2]

    def _of(self, place: int) -> float | None:
        if place >= len(self._times):
            return self.latest
        is_close = place > 0 and self._sure[place - 1] and self._times[place] - self._times[place - 1] <= _SURE_SECONDS
        return self._times[place] if self._sure[place] or is_close else None


class LogTail:
    """One attempt's log. `poll` is for one thread; `clock` for any.

    `offset`: where the line begins that has no end yet; `lines`: how many there are before it; `end`: what was seen.
    """

    def __init__(self, task: int, attempt: int, file: Path, begun: float | None = None) -> None:
        self.task, self.attempt, self.file = task, attempt, file
        self.clock = Clock(file, begun)
        self._identity = 0
        self._restart()

    def _restart(self) -> None:
        self.offset = self.lines = self.end = 0
        self._counted = 0  # no newline lies between `offset` and this
        self._rest: bytes = b""

    def poll(self, now: float) -> Chunk | None:
        """Return what is new, None for nothing."""
        try:
            descriptor = os.open(self.file, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return None
        try:
            found = os.fstat(descriptor)
            if found.st_size < self.offset or self._identity not in (0, found.st_ino):
                self._restart()
            self._identity = found.st_ino
            return None if found.st_size == self._counted else self._read(descriptor, found.st_size, now)
        finally:
            os.close(descriptor)

    def catch_up(self) -> None:
        """Count what is there, so that `poll` returns only what comes after. A last line without an end comes again."""
        try:
            descriptor = os.open(self.file, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return
        try:
            found = os.fstat(descriptor)
            self._identity = found.st_ino
            place = 0
            for offset, when in [*self.clock.noted(), (found.st_size, found.st_mtime)]:
                if place < offset <= found.st_size:
                    count, self.offset = count_lines(descriptor, place, offset, self.offset)
                    place, self.lines = offset, self.lines + count
                    self.clock.mark(self.offset, self.lines, when, sure=offset < found.st_size)
            self._counted, self.end = self.offset, found.st_size
            self.clock.latest = found.st_mtime
        finally:
            os.close(descriptor)

    def _read(self, descriptor: int, size: int, now: float) -> Chunk:
        start, number = self.offset, self.lines + 1
        place = start if size - start <= WHOLE else size - NEWEST
        skipped, begun = count_lines(descriptor, max(self._counted, start), place, start)
        data = os.pread(descriptor, size - place, place)
        self._counted = self.end = place + len(data)
        self.clock.latest = now
        cut = data.rfind(b"\n") + 1
        first = data.find(b"\n") + 1 if begun < place else 0  # the line that goes on over `place` ends there
        lines = data[first : cut - 1].split(b"\n") if cut > first else []
        extra = 0
        if first and place + first - begun > NEWEST:
            head, extra = _long_line(descriptor, begun, place + first - 1, data[: first - 1])
            lines.insert(0, head)
        if cut:
            begun = place + cut
        count = skipped + data.count(b"\n", 0, cut)
        self.offset, self.lines = begun, self.lines + count
        self.clock.mark(self.offset, self.lines, now)
        return Chunk(
            self.task,
            self.attempt,
            start,
            begun,
            number,
            count,
            lines,
            extra,
            self._new_rest(descriptor, data[cut:], begun),
            now,
        )

    def _new_rest(self, descriptor: int, rest: bytes, begun: int) -> bytes | None:
        if self._counted - begun > len(rest):
            rest, _ = _long_line(descriptor, begun, self._counted, rest)
        if rest == self._rest:
            return None
        self._rest = rest
        return rest


def count_lines(descriptor: int, place: int, end: int, begun: int) -> tuple[int, int]:
    """Return how many newlines lie in these bytes, and where the last line begins; `begun` without a newline."""
    count = 0
    while place < end:
        block = os.pread(descriptor, min(BLOCK, end - place), place)
        if not block:
            break
        found = block.rfind(b"\n")
        if found >= 0:
            count += block.count(b"\n")
            begun = place + found + 1
        place += len(block)
    return count, begun


def _long_line(descriptor: int, begun: int, end: int, last: bytes) -> tuple[bytes, int]:
    """Return what is shown of a line of many bytes, and how many are left out: its last state, or its beginning."""
    if b"\r" in last.rstrip(b"\r \t"):
        return last, 0
    head = os.pread(descriptor, min(_HEAD, end - begun), begun)
    return head, end - begun - len(head)
