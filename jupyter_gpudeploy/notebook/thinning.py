"""Which points of a long curve are kept: its lowest, its highest and its gaps survive, whatever is left out."""

from __future__ import annotations

import math
from bisect import bisect_left
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence


def thinned(values: Sequence[float], limit: int) -> list[int]:
    """Return the places of at most `limit` values (3 at least): of each stretch the lowest, the highest and its gap.

    NaN is a gap; of several one after the other in a stretch, the first is kept. The places ascend.
    """
    count = len(values)
    if count <= limit:
        return list(range(count))
    has_gaps = math.isnan(sum(values))
    width = -(-count // max(limit // (3 if has_gaps else 2), 1))
    kept: list[int] = []
    for start in range(0, count, width):
        end = min(start + width, count)
        kept += _extremes_and_gap(values, start, end) if has_gaps else extremes(values, start, end)
    return kept


def halved(values: Sequence[float]) -> list[int]:
    """Return the places that are left when the older half loses half of its points; the newer half stays as it is."""
    half = len(values) // 2
    return [*thinned(values[:half], half // 2), *range(half, len(values))]


def thinned_along(x: Sequence[float], y: Sequence[float], start: int, end: int, buckets: int) -> list[int]:
    """Return the places of the least and greatest `y` in each of the equal stretches of `x`, first and last too.

    For a picture, in which stretches of `x` are columns of pixels. `x` ascends from `start` to `end`, `y` is finite
    there.
    """
    if end - start <= 2 * buckets:
        return list(range(start, end))
    low, width = x[start], (x[end - 1] - x[start]) / buckets
    kept, at = [start], start
    for number in range(1, buckets + 1):
        after = bisect_left(x, low + number * width, at, end) if number < buckets else end
        if after > at:
            kept += [place for place in extremes(y, at, after) if place != kept[-1]]
        at = after
    return kept if kept[-1] == end - 1 else [*kept, end - 1]


def extremes(values: Sequence[float], start: int, end: int) -> list[int]:
    """Return the places of the least and the greatest of these values, none of them NaN; one where they are one."""
    part = values[start:end]
    first, last = sorted((start + part.index(min(part)), start + part.index(max(part))))
    return [first] if first == last else [first, last]


def _extremes_and_gap(values: Sequence[float], start: int, end: int) -> list[int]:
    known = [place for place in range(start, end) if not math.isnan(values[place])]
    if not known:
        return [start]
    chosen = {min(known, key=values.__getitem__), max(known, key=values.__getitem__)}
    if len(known) < end - start:
        chosen.add(next(place for place in range(start, end) if math.isnan(values[place])))
    return sorted(chosen)
