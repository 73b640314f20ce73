"""Where an axis has its marks, and what stands at them."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable

_LARGEST = 1e300  # what lies beyond is drawn at the edge
_SMALLEST = 1e-290
_FLAT = 1e-9  # of its size: what moves less is drawn as a level line
_MARGIN = 0.05
_SECONDS = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10800, 21600, 43200, 86400)
_MINUTE, _HOUR, _DAY = 60, 3600, 86400
_FEW_DECADES = 2
_NEAR = 0.7


class Axis(NamedTuple):
    """From where to where an axis goes, both finite and `low < high`, and its marks, of which there are some.

    On a logarithmic axis all of it is in powers of ten.
    """

    low: float
    high: float
    marks: tuple[tuple[float, str], ...]
    is_log: bool = False

    def scale(self, size: float) -> tuple[float, float]:
        """Return offset and factor: a value `v`, held within the axis, lies at `(v - offset) * factor` of `size`."""
        return self.low, size / (self.high - self.low)


def bounds(values: Iterable[float]) -> tuple[float, float] | None:
    """Return the least and the greatest of the finite values; None where there is none."""
    low, high = math.inf, -math.inf
    for value in values:
        if -math.inf < value < low:
            low = value
        if high < value < math.inf:
            high = value
    return None if low > high else (low, high)


def linear(low: float, high: float, count: int = 4, *, whole: bool = False) -> Axis:
    """Return an axis with about `count` marks. `whole`: only whole numbers have marks."""
    low, high = _widened(_held(low), _held(high))
    step = _step((high - low) / count)
    if whole:
        step = max(1.0, float(round(step)))
    places = _multiples(low, high, step) or [low]
    return Axis(low, high, tuple(zip(places, _labels(places, step), strict=True)))


def logarithmic(low: float, high: float) -> Axis:
    """Return an axis of positive values, in powers of ten."""
    bottom, top = _widened(math.log10(low), math.log10(high))
    powers = list(range(math.ceil(bottom - _FLAT), math.floor(top + _FLAT) + 1))
    if len(powers) <= _FEW_DECADES:
        return Axis(bottom, top, tuple(_between(bottom, top)) or ((bottom, f"{low:.2g}"),), is_log=True)
    every = -(-len(powers) // 5)
    return Axis(bottom, top, tuple((float(power), _power(power)) for power in powers[::every]), is_log=True)


def duration(low: float, high: float, count: int = 6) -> Axis:
    """Return an axis of seconds, with marks at round minutes, hours or days."""
    low, high = _widened(_held(low), _held(high))
    rough = (high - low) / count
    if not _SECONDS[0] <= rough <= _SECONDS[-1] * count:
        plain = linear(low, high, count)
        return plain._replace(marks=tuple((at, f"{label} s") for at, label in plain.marks))
    step = next((step for step in _SECONDS if step >= rough * _NEAR), _SECONDS[-1] * math.ceil(rough / _SECONDS[-1]))
    places = _multiples(low, high, step)
    unit, name = next(((size, name) for size, name in ((_DAY, "d"), (_HOUR, "h"), (_MINUTE, "min")) if step >= size),
                      (1, "s"))  # fmt: skip
    if unit == 1 and places and places[-1] >= 2 * _MINUTE:
        return Axis(low, high, tuple((float(at), _clock(at)) for at in places))
    return Axis(low, high, tuple((float(at), f"{at / unit:g} {name}" if at else "0") for at in places))


def _multiples(low: float, high: float, step: float) -> list[float]:
    slack = _FLAT * (high - low) / step
    return [number * step for number in range(math.ceil(low / step - slack), math.floor(high / step + slack) + 1)]


def _clock(seconds: float) -> str:
    return f"{int(seconds) // _MINUTE}:{int(seconds) % _MINUTE:02d}"


def _between(bottom: float, top: float) -> Iterable[tuple[float, str]]:
    """Yield 1, 2, 5 of every decade between two powers of ten."""
    for power in range(math.floor(bottom), math.ceil(top) + 1):
        for lead in (1, 2, 5):
            place = power + math.log10(lead)
            if bottom - _FLAT <= place <= top + _FLAT:
                yield place, f"{float(f'{lead}e{power}'):g}"


def _power(power: int) -> str:
    return f"{10.0**power:g}" if -4 <= power <= 4 else f"1e{power}"  # noqa: PLR2004 - as short as the other


def _held(value: float) -> float:
    return max(-_LARGEST, min(value, _LARGEST))


def _widened(low: float, high: float) -> tuple[float, float]:
    """Return the same, or what holds a single value in its middle."""
    size = max(abs(low), abs(high))
    if high - low > max(size * _FLAT, _SMALLEST):
        return low, high
    margin = max(size * _MARGIN, 10 * _SMALLEST) if size else 1.0
    return low - margin, high + margin


def _step(rough: float) -> float:
    """Return 1, 2 or 5 times a power of ten, not much less than `rough`."""
    power = 10.0 ** math.floor(math.log10(rough))
    return next((lead * power for lead in (1, 2, 5) if lead * power >= rough * _NEAR), 10 * power)


def _labels(places: list[float], step: float) -> list[str]:
    """Return the numbers with as many decimals each as the step has."""
    largest = max(map(abs, places))
    if largest >= 1e5 or step < 1e-4:  # noqa: PLR2004 - longer than its power of ten
        digits = max(0, math.floor(math.log10(largest)) - math.floor(math.log10(step))) if largest else 0
        return ["0" if place == 0 else _short(place, min(digits, 6)) for place in places]
    decimals = max(0, -math.floor(math.log10(step) + _FLAT))
    return [f"{place:.{decimals}f}" if place else "0" for place in places]


def _short(value: float, digits: int) -> str:
    lead, _, power = f"{value:.{digits}e}".partition("e")
    return f"{lead.rstrip('0').rstrip('.') if '.' in lead else lead}e{int(power)}"
