"""Lines out of the files: the newest, older ones, those that a filter lets through, those of a moment.

Files are read from their end, a block at a time, always in that task whose next block is the newest. Whatever is asked,
it is answered in about BUDGET seconds: what was not searched by then is said, and can be asked for next.
"""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, NamedTuple

from jupyter_gpudeploy.notebook.card import lines as looks
from jupyter_gpudeploy.notebook.card.protocol import LOG_BYTES, LOG_LINES, Line, Log
from jupyter_gpudeploy.notebook.card.tail import BLOCK, count_lines
from jupyter_gpudeploy.quantities import format_memory

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from jupyter_gpudeploy.notebook.card.match import Match
    from jupyter_gpudeploy.notebook.card.tail import LogTail

BUDGET = 1.0
_STEP = 1 << 16
_LONGEST = 1 << 18  # of a line: what is longer is read by its beginning


class Found(NamedTuple):
    """A line of a file, before it is made fit to be shown. `offset`: where it begins."""

    time: float
    tail: LogTail
    offset: int
    place: int
    raw: bytes


class Reading:
    """One answer in the making: the tasks with what is still to be read of each, backwards."""

    def __init__(self, places: Iterable[tuple[LogTail, int]], match: Match, limit: int = LOG_LINES) -> None:
        self.places = {tail: min(offset, tail.end) for tail, offset in places if min(offset, tail.end) > 0}
        self._match = match
        self._limit = limit
        self._deadline = time.monotonic() + BUDGET
        self._found: list[Found] = []
        self.bytes = 0

    def backwards(self) -> Log:
        """Return the newest lines that match, at most `limit` of them."""
        ends = dict(self.places)
        while ends and len(self._found) < self._limit and not (self.bytes and time.monotonic() > self._deadline):
            tail = max(ends, key=lambda each: (_time(each, ends[each]), each.task))
            ends[tail] = self._block(tail, ends[tail])
            if not ends[tail]:
                del ends[tail]
        kept = sorted(self._found, key=lambda one: (one.time, one.tail.task, one.tail.attempt, one.offset, one.place))
        kept, dropped = kept[-self._limit :], kept[: -self._limit]
        for one in dropped:
            ends[one.tail] = max(ends.get(one.tail, 0), _after(one))
        out_of_time = bool(ends) and len(self._found) < self._limit
        note = f"searched the newest {format_memory(self.bytes)}; older lines on request" if out_of_time else ""
        made, left = _made(kept, ends)
        return Log(made, [[tail.task, tail.attempt, end] for tail, end in left.items() if end] or None, note=note)

    def _block(self, tail: LogTail, end: int) -> int:
        """Take the matching lines of the block that ends there; return where it begins."""
        step = _STEP if self._match.is_open else BLOCK
        try:
            descriptor = os.open(tail.file, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return 0
        try:
            start = max(0, end - step)
            data = os.pread(descriptor, end - start, start)
            self.bytes += len(data)
            if start:
                newline = data.find(b"\n", 0, len(data) - 1)
                if newline < 0:
                    return self._long_line(descriptor, tail, start, end)
                start, data = start + newline + 1, data[newline + 1 :]
        finally:
            os.close(descriptor)
        return self._take(tail, start, data)

    def _take(self, tail: LogTail, start: int, data: bytes) -> int:
        """Take the last lines that match, as many as can be used; return where the first one begins that was seen."""
        raws = data.removesuffix(b"\n").split(b"\n")
        chosen = self._match.select(data, raws) or ()
        is_enough = len(chosen) > self._limit
        wanted = set(chosen[-self._limit :])
        offset = start
        for index, raw in enumerate(raws):
            if index in wanted:
                if is_enough:
                    start, is_enough = offset, False
                when = _time(tail, offset + len(raw) + 1)
                self._found.append(Found(when, tail, offset, index, raw))
            offset += len(raw) + 1
        return start

    def _long_line(self, descriptor: int, tail: LogTail, place: int, end: int) -> int:
        """Take a line that is longer than a block by its beginning; return where it begins."""
        start = place
        while start:
            step = max(0, start - BLOCK)
            newline = os.pread(descriptor, start - step, step).rfind(b"\n")
            if newline >= 0:
                start = step + newline + 1
                break
            start = step
        head = os.pread(descriptor, min(_LONGEST, end - start), start)
        if self._match.select(head, [head]):
            self._found.append(Found(_time(tail, end), tail, start, 0, head))
        return start


def forwards(places: Sequence[tuple[LogTail, int]], limit: int, match: Match) -> list[Found]:
    """Return the lines that follow these places and match, the first `limit` of all; not far beyond."""
    found: list[Found] = []
    for tail, offset in places:
        try:
            with tail.file.open("rb", buffering=0) as stream:
                data = os.pread(stream.fileno(), _STEP, offset)
        except FileNotFoundError:
            continue
        whole = data[: data.rfind(b"\n") + 1]
        place = offset
        raws = whole[:-1].split(b"\n") if whole else []
        wanted = set(match.select(whole, raws) or ())
        for index, raw in enumerate(raws):
            if index in wanted:
                found.append(Found(_time(tail, place + len(raw) + 1), tail, place, index, raw))
            place += len(raw) + 1
    return sorted(found, key=lambda one: (one.time, one.tail.task, one.offset))[:limit]


def line_start(tail: LogTail, offset: int) -> int:
    """Return where the line begins that goes on over `offset`; `offset` itself where one begins there."""
    start = max(0, offset - BLOCK)
    try:
        with tail.file.open("rb", buffering=0) as stream:
            return start + os.pread(stream.fileno(), offset - start, start).rfind(b"\n") + 1
    except FileNotFoundError:
        return 0


def shown(found: Sequence[Found], limit: float = BUDGET) -> list[Line]:
    """Return these lines as they are sent, each with its number where that can be counted in time."""
    deadline = time.monotonic() + limit
    numbers: dict[LogTail, tuple[int, int]] = {}
    made = []
    for one in sorted(found, key=lambda each: (each.tail.task, each.tail.attempt, each.offset)):
        numbers[one.tail] = _count(one.tail, numbers.get(one.tail), one.offset, deadline)
        counted, lines = numbers[one.tail]
        number = lines + 1 if counted == one.offset else 0
        when = one.time if one.time > 0 else None
        made.append((one, looks.line(one.raw, number, one.tail.task, one.tail.attempt, when)))
    order = {id(one): place for place, one in enumerate(found)}
    return [line for _, line in sorted(made, key=lambda pair: order[id(pair[0])])]


def _made(kept: Sequence[Found], ends: dict[LogTail, int]) -> tuple[list[Line], dict[LogTail, int]]:
    """Return the lines that fit into one answer, and where the next one goes on."""
    lines = shown(kept)
    room, first = LOG_BYTES, len(lines)
    while first and room > 0:
        first -= 1
        room -= looks.size(lines[first : first + 1])
    left = dict(ends)
    for one in kept[:first]:
        left[one.tail] = max(left.get(one.tail, 0), _after(one))
    return lines[first:], left


def _after(one: Found) -> int:
    return one.offset + len(one.raw) + 1


def _count(tail: LogTail, known: tuple[int, int] | None, offset: int, deadline: float) -> tuple[int, int]:
    """Return a place and the lines before it: `offset` itself, unless counting takes too long."""
    place, lines = known or (0, 0)
    marked = tail.clock.counted(offset)
    if marked[0] > place:
        place, lines = marked
    if place == offset or time.monotonic() > deadline:
        return place, lines
    with tail.file.open("rb", buffering=0) as stream:
        while place < offset and time.monotonic() < deadline:
            end = min(offset, place + 16 * BLOCK)
            lines += count_lines(stream.fileno(), place, end, 0)[0]
            place = end
    return place, lines


def _time(tail: LogTail, offset: int) -> float:
    return tail.clock.at(offset) or 0.0


def newest(tails: Iterable[LogTail], match: Match, limit: int = LOG_LINES) -> Log:
    """Return the last lines of these logs that match."""
    return Reading([(tail, tail.end) for tail in tails], match, limit).backwards()


def moment(tails: Sequence[LogTail], when: float, match: Match) -> Log:
    """Return the lines around a moment, and say where its time is not known."""
    places, unknown = [], 0
    for tail in tails:
        offset = tail.clock.offset(when)
        unknown += offset is None
        if offset is not None:
            places.append((tail, line_start(tail, min(offset, tail.offset))))
    if not places:
        return Log((), note="the times of these lines are not known" if unknown else "nothing was printed by then")
    before = Reading(places, match, LOG_LINES // 2).backwards()
    after = shown(forwards(places, LOG_LINES // 2, match))
    said = time.strftime("%H:%M:%S", time.localtime(when))
    return before._replace(lines=[*before.lines, *after], note=f"around {said}")
