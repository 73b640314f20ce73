"""Lines of one shape: what was learnt of one line reads the next ones, many times as fast as the parser.

A program prints the same line again and again with other numbers in it. From a line that has come a few times one
regular expression is made (`_learn.py`), which takes the numbers out of every line of that shape. The parser is asked
for whatever has no shape, so what is read is the same, with or without.
"""

from __future__ import annotations

import re
from array import array
from itertools import chain, pairwise, repeat
from typing import TYPE_CHECKING, Any, NamedTuple

from jupyter_gpudeploy.trackers._learn import Shape, learn

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from jupyter_gpudeploy.trackers._columns import Columns
    from jupyter_gpudeploy.trackers._learn import Parser

LONGEST = 1 << 10
SIGHTINGS = 6  # of lines that differ in their numbers only, before one is learnt
_SHAPES = 8  # of such lines
_KEYS = 1 << 12
_TRIALS = 64  # of learning, that are made in any case; each further one must have been paid for by lines read
_PAYING = 100
_NUMERIC = b"0123456789.-+eE"
_NOTHING = Shape(re.compile(b"(?!)").fullmatch, (), (), (0.0, 0.0, 0.0))


class _Hits(NamedTuple):
    """The lines of one shape: what its expression found in them, and their numbers."""

    groups: list[tuple[bytes, ...]]
    lines: list[int]


class _Known:
    """What is known of lines that differ in their numbers only."""

    __slots__ = ("shapes", "sightings", "trials")

    def __init__(self) -> None:
        self.shapes: list[Shape] = []
        self.sightings = self.trials = 0


class Shapes:
    """The shapes of one log, as far as they are known. `parse` says what a line means."""

    def __init__(self, parse: Parser) -> None:
        self._parse = parse
        self._known: dict[bytes, _Known] = {}
        self._last = _NOTHING
        self._trials = self._read = 0

    def read(self, lines: Iterable[bytes], first: int, attempt: int, into: Columns) -> None:
        """Append the points of these lines; the first of them has the number `first`."""
        start, shape = len(into), self._last
        every = {shape: _Hits([], [])}
        match, (groups, numbers) = shape.match, every[shape]
        for number, line in enumerate(lines, first):
            if (found := match(line)) is None:
                if b"=" not in line and b":" not in line and line[:1] != b"|":
                    continue
                known = self._of(line)
                if known is None:
                    if (row := self._parse(line)) is not None:
                        into.add(row, attempt, number)
                    continue
                shape, found = known
                match, (groups, numbers) = shape.match, every.setdefault(shape, _Hits([], []))
            groups.append(found.groups())
            numbers.append(number)
        self._last = shape
        self._add(every, start, attempt, into)

    def _add(self, every: Mapping[Shape, _Hits], start: int, attempt: int, into: Columns) -> None:
        """Append what was read by shapes; from `start` on stands already what the parser read."""
        ends = [(into.line[start], into.line[-1])] if len(into) > start else []
        for shape, hits in every.items():
            self._read += len(hits.lines)
            if shape.names and hits.lines:
                _add(shape, hits, attempt, into)
                ends.append((hits.lines[0], hits.lines[-1]))
        if any(before[1] > after[0] for before, after in pairwise(ends)):
            into.order_by_line(start)

    def _of(self, line: bytes) -> tuple[Shape, re.Match[bytes]] | None:
        """Return the shape of a line with what its expression found, or None where the parser is to be asked."""
        if len(line) > LONGEST:
            return None
        known = self._known_of(line)
        for shape in known.shapes:
            if found := shape.match(line):
                return shape, found
        known.sightings += 1
        is_worth = self._trials < _TRIALS + self._read // _PAYING and known.trials < _SHAPES
        if known.sightings >= SIGHTINGS and is_worth:
            known.trials += 1
            self._trials += 1
            learnt = learn(line, self._parse)
            if learnt and (found := learnt.match(line)):
                known.shapes.append(learnt)
                return learnt, found
        return None

    def _known_of(self, line: bytes) -> _Known:
        key = line.translate(None, _NUMERIC)
        known = self._known.get(key)
        if known is None:
            if len(self._known) >= _KEYS:
                self._known.clear()
            known = self._known[key] = _Known()
        return known


def _add(shape: Shape, hits: _Hits, attempt: int, into: Columns) -> None:
    """Append the points of these lines, column by column."""
    groups, count, width = list(zip(*hits.groups, strict=True)), len(hits.lines), len(shape.names)

    def series(slot: float) -> Iterable[float]:
        return map(float, groups[slot]) if isinstance(slot, int) else repeat(slot, count)

    def widened(column: Iterable[Any]) -> Iterable[Any]:
        return column if width == 1 else chain.from_iterable(zip(*[list(column)] * width, strict=True))

    into.metric.extend(array("i", map(into.number, shape.names)) * count)
    into.attempt.extend(array("i", [attempt]) * (count * width))
    into.line.extend(widened(hits.lines))
    into.value.extend(chain.from_iterable(zip(*map(series, shape.values), strict=True)))
    for column, slot in zip((into.step, into.epoch, into.time), shape.place, strict=True):
        column.extend(widened(series(slot)))
