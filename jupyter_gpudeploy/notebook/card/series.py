"""Curves in memory: the newest points as they came, older ones ever more thinly, with their extremes."""

from __future__ import annotations

import math
from array import array
from typing import TYPE_CHECKING, Any

from jupyter_gpudeploy.notebook import thinning
from jupyter_gpudeploy.notebook.card.protocol import Points

if TYPE_CHECKING:
    from collections.abc import Sequence

RING = 3600


class Series:
    """One curve. At most RING points are kept: whenever there are more, the older half loses half of its points.

    `total` counts every point that ever came, so that a reader can ask for what came `since`.
    """

    def __init__(
        self, number: int, chart: str, label: str, *, task: int | None, unit: str = "", x: str = "time"
    ) -> None:
        self.number, self.chart, self.label, self.task, self.unit, self.x = number, chart, label, task, unit, x
        self.na = ""
        self.total = 0
        self._time, self._step, self._value = array("d"), array("d"), array("f")

    def __len__(self) -> int:
        return len(self._value)

    @property
    def newest(self) -> float:
        """The time of the last point."""
        return self._time[-1] if self._time else 0.0

    @property
    def last_step(self) -> float:
        """The step of the last point, NaN where it has none."""
        return self._step[-1] if self._step else math.nan

    def message(self) -> dict[str, Any]:
        """Return what is sent of it beside its points."""
        said = {"id": self.number, "chart": self.chart, "label": self.label, "task": self.task}
        return {**said, "unit": self.unit, "x": self.x, **({"na": self.na} if self.na else {})}

    def add(self, time: float, value: float | None, step: float = math.nan) -> None:
        """Append one point; an unknown value is a gap."""
        self.extend(Points(array("d", [time]), array("d", [step]), array("f", [_finite(value)])))

    def extend(self, points: Points) -> None:
        """Append points, in their order."""
        self.total += len(points.value)
        for mine, new in zip((self._time, self._step, self._value), points, strict=True):
            mine.extend(new)
        while len(self) > RING:
            self._time, self._step, self._value = _at(
                Points(self._time, self._step, self._value), thinning.halved(self._value)
            )

    def clear(self) -> None:
        """Forget every point, because they were reported anew."""
        self._time, self._step, self._value = array("d"), array("d"), array("f")
        self.total = 0

    def since(self, seen: int, limit: int) -> Points:
        """Return what came after the first `seen` points, thinned to about `limit`."""
        new = min(self.total - seen, len(self))
        return thinned(self._slice(len(self) - new, len(self)), limit)

    def after(self, seen: int, limit: int) -> Points:
        """Return the next `limit` points after the first `seen`, as they came: at most RING // 2 may wait."""
        start = len(self) - (self.total - seen)
        return self._slice(start, min(start + limit, len(self)))

    def _slice(self, start: int, end: int) -> Points:
        return Points(self._time[start:end], self._step[start:end], self._value[start:end])


def thinned(points: Points, limit: int) -> Points:
    """Return at most `limit` points (3 at least), as `thinning.thinned` chooses them."""
    return points if len(points.value) <= limit else _at(points, thinning.thinned(points.value, limit))


def shares(counts: Sequence[int], total: int) -> list[int]:
    """Return how many points each of these series may send so that all are `total` at most; short ones send all."""
    left, open_ = total, sorted(range(len(counts)), key=counts.__getitem__)
    given = [0] * len(counts)
    for place, index in enumerate(open_):
        share = left // (len(open_) - place)
        given[index] = min(counts[index], share)
        left -= given[index]
    return given


def _at(points: Points, places: Sequence[int]) -> Points:
    time, step, value = (array(part.typecode, map(part.__getitem__, places)) for part in points)
    return Points(time, step, value)


def _finite(value: float | None) -> float:
    return value if value is not None and math.isfinite(value) else math.nan
