"""Points as columns of numbers, about 50 bytes each, since a sweep of 200 trials can report millions."""

from __future__ import annotations

import math
from array import array
from collections.abc import Sequence
from itertools import compress
from typing import TYPE_CHECKING, overload

from jupyter_gpudeploy.events.types import MetricPoint

if TYPE_CHECKING:
    from collections.abc import Iterable

    from jupyter_gpudeploy.trackers._rows import Row

SOURCES = ("log", "file", "stdout")
NOT_SAID = math.nan
FIELDS = ("trial", "metric", "attempt", "source", "line", "value", "step", "epoch", "time")


class Names:
    """The names of metrics, each with its number, in the order in which they were first seen."""

    def __init__(self, names: Iterable[str] = ()) -> None:
        self.all: list[str] = []
        self._numbers: dict[str, int] = {}
        for name in names:
            self.number(name)

    def number(self, name: str) -> int:
        """Return the number of a name, the next one if it is new."""
        found = self._numbers.get(name)
        if found is None:
            found = self._numbers[name] = len(self.all)
            self.all.append(name)
        return found


class Columns(Sequence[MetricPoint]):
    """Points as columns of one length. `metric` counts in `names`, `source` in SOURCES. An item is a MetricPoint.

    `step`, `epoch` and `time` are NaN where they were not said; `value` is NaN where that was reported.
    """

    __slots__ = ("_names", *FIELDS)

    def __init__(self, names: Names | None = None) -> None:
        self._names = names or Names()
        self.trial, self.metric, self.attempt = array("i"), array("i"), array("i")
        self.source, self.line = array("b"), array("q")
        self.value, self.step, self.epoch, self.time = array("d"), array("d"), array("d"), array("d")

    @property
    def names(self) -> list[str]:
        """The names in which `metric` counts."""
        return self._names.all

    def number(self, name: str) -> int:
        """Return the number of a metric's name, a new one if it is new."""
        return self._names.number(name)

    def __len__(self) -> int:
        return len(self.value)

    @overload
    def __getitem__(self, index: int) -> MetricPoint: ...
    @overload
    def __getitem__(self, index: slice) -> list[MetricPoint]: ...
    def __getitem__(self, index: int | slice) -> MetricPoint | list[MetricPoint]:
        if isinstance(index, slice):
            return [self[each] for each in range(*index.indices(len(self)))]
        step, epoch, time = (
            None if math.isnan(value) else value for value in (self.step[index], self.epoch[index], self.time[index])
        )
        name, source = self.names[self.metric[index]], SOURCES[self.source[index]]
        place = (step, epoch, time, self.attempt[index], source, self.line[index])
        return MetricPoint(self.trial[index], name, self.value[index], *place)

    def add(self, row: Row, attempt: int, line: int) -> None:
        """Append what one line or record says, one point a metric. Trial and source are told by `mark`."""
        step, epoch, time = (NOT_SAID if found is None else found for found in row[1:])
        for name, value in row.metrics.items():
            self.metric.append(self._names.number(name))
            self.attempt.append(attempt)
            self.line.append(line)
            self.value.append(value)
            self.step.append(step)
            self.epoch.append(epoch)
            self.time.append(time)

    def mark(self, trial: int, source: str) -> Columns:
        """Say of all points added whose they are, and from which source. Return the columns themselves."""
        count = len(self)
        self.trial = array("i", [trial]) * count
        self.source = array("b", [SOURCES.index(source)]) * count
        return self

    def extend(self, other: Columns, chosen: Sequence[bool] | None = None) -> None:
        """Append the rows of `other`, of which `chosen` says which."""
        for name in FIELDS:
            theirs, mine = getattr(other, name), getattr(self, name)
            if name == "metric" and other.names is not self.names:
                numbers = [self._names.number(each) for each in other.names]
                if numbers != list(range(len(numbers))):
                    theirs = array("i", map(numbers.__getitem__, theirs))
            mine.extend(theirs if chosen is None else array(theirs.typecode, compress(theirs, chosen)))

    def after(self, start: int) -> Columns:
        """Return the rows from `start` on; a copy."""
        part = Columns(self._names)
        for name in FIELDS:
            setattr(part, name, getattr(self, name)[start:])
        return part

    def order_by_line(self, start: int = 0) -> None:
        """Bring the rows from `start` on into the order of their lines; those of one line stay as they are."""
        line = self.line
        order = sorted(range(start, len(line)), key=line.__getitem__)
        for name in ("metric", "attempt", "line", "value", "step", "epoch", "time"):
            column = getattr(self, name)
            column[start:] = array(column.typecode, map(column.__getitem__, order))
