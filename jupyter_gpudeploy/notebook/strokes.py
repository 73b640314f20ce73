"""The curves of a chart as SVG paths, thinned to the least and the greatest value of each pixel or two."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple

from jupyter_gpudeploy.notebook.thinning import thinned_along

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from jupyter_gpudeploy.notebook.ticks import Axis

FINE = 2  # coordinates are whole halves of a pixel
_MARKS = 30
_FEWEST = 12

_Point = tuple[int, int]


class Line(NamedTuple):
    """One series. `x` and `y` have one length; what is not finite in `y` is a gap, and so is it in `x`.

    `note` stands at its end, in the margin.
    """

    label: str
    x: Sequence[float]
    y: Sequence[float]
    colour: str
    dash: str = ""
    is_bold: bool = False
    note: str = ""


class Frame(NamedTuple):
    """Where the curves of a chart go, and its axes."""

    left: float
    width: float
    height: float
    x: Axis
    y: Axis


def place(axis: Axis, value: float, size: float) -> float:
    """Return where a value lies along an axis of that many pixels."""
    return (value - axis.low) / (axis.high - axis.low) * size


def curve(line: Line, frame: Frame, share: int, *, crosses: bool) -> str:
    """Return a line as it is drawn, of about `share` points; `crosses`: its gaps are marked."""
    runs = list(_runs(line.y))
    whole = sum(end - start for start, end in runs) or 1
    pieces: list[str] = []
    dots: list[str] = []
    limit = max(_FEWEST, min(share // 2, int(frame.width)))
    for start, end in runs:
        chosen = thinned_along(line.x, line.y, start, end, max(2, limit * (end - start) // whole))
        path = _path([(line.x[place], line.y[place]) for place in chosen], frame)
        (pieces if "l" in path else dots).append(path)
    look = stroke(line)
    drawn = f'<path {look} d="{"".join(pieces)}"/>' if pieces else ""
    if dots:
        drawn += f'<path stroke="{line.colour}" stroke-width="10" stroke-linecap="round" d="{"".join(dots)}"/>'
    return drawn + (_crosses(line, frame, runs) if crosses else "")


def stroke(line: Line) -> str:
    """Return how a line is drawn where it differs from the others."""
    if line.is_bold:
        return f'stroke="{line.colour}" stroke-width="5" stroke-opacity="1"'
    return f'stroke="{line.colour}"' + (f' stroke-dasharray="{line.dash}"' if line.dash else "")


def _runs(values: Sequence[float]) -> Iterable[tuple[int, int]]:
    """Yield where stretches of finite values begin and end."""
    if not len(values):
        return
    if math.isfinite(sum(values)):
        yield 0, len(values)
        return
    start = None
    for index, value in enumerate(values):
        if math.isfinite(value):
            start = index if start is None else start
        elif start is not None:
            yield start, index
            start = None
    if start is not None:
        yield start, len(values)


def _path(points: Sequence[tuple[float, float]], frame: Frame) -> str:
    """Return the points joined, each as the way from the one before, in halves of a pixel."""
    found = placed(points, frame)
    steps = [f"{x - from_x} {y - from_y}" for (from_x, from_y), (x, y) in pairwise(found) if x != from_x or y != from_y]
    start = f"M{found[0][0]} {found[0][1]}"
    return f"{start}l{' '.join(steps).replace(' -', '-')}" if steps else f"{start}h0"


def placed(points: Sequence[tuple[float, float]], frame: Frame) -> list[_Point]:
    """Return where the points lie, in halves of a pixel; what is beyond an axis, at its end."""
    if frame.y.is_log:
        points = [(x, math.log10(y)) for x, y in points]
    left, factor_x = frame.x.low, frame.width * FINE / (frame.x.high - frame.x.low)
    top, factor_y = frame.y.high, frame.height * FINE / (frame.y.high - frame.y.low)
    right, bottom = frame.x.high, frame.y.low
    if any(not (left <= x <= right and bottom <= y <= top) for x, y in points):
        points = [(min(max(x, left), right), min(max(y, bottom), top)) for x, y in points]
    return [(round((x - left) * factor_x), round((top - y) * factor_y)) for x, y in points]


def _crosses(line: Line, frame: Frame, runs: Sequence[tuple[int, int]]) -> str:
    """Return a cross for each place at which something was reported that is no number, beside the value before it."""
    near = [(start - 1, start) for start, _ in runs if start > 0]
    near += [(end, end - 1) for _, end in runs if end < len(line.y)]
    places = {gap: (line.x[gap], line.y[beside]) for gap, beside in near}
    arms = [f"M{x - 5} {y - 5}l10 10m0-10l-10 10" for x, y in placed(list(places.values())[:_MARKS], frame)]
    return f'<path stroke="{line.colour}" d="{"".join(arms)}"/>' if arms else ""
