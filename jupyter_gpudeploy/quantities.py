"""Quantities as people write them, and back: memory, processors, durations.

Memory follows the Kubernetes quantity suffixes (`Ki Mi Gi Ti` binary, `k M G T` decimal) and also takes the
`KB MB GB TB` of everyday speech as decimal. Durations take `s m h d`.
"""

from __future__ import annotations

import math

from jupyter_gpudeploy.patterns import lazy

_MEMORY = {
    "": 1,
    "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12,
    "kb": 10**3, "mb": 10**6, "gb": 10**9, "tb": 10**12,
    "ki": 2**10, "mi": 2**20, "gi": 2**30, "ti": 2**40,
    "kib": 2**10, "mib": 2**20, "gib": 2**30, "tib": 2**40,
}  # fmt: skip
_LAST_OF_THREE = 999.5  # from here on three digits would round up to 1e+03
_SECONDS = {"": 1.0, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_QUANTITY = lazy(r"\s*([0-9]*\.?[0-9]+(?:[eE][+-]?[0-9]+)?)\s*([A-Za-z]*)\s*")
_BINARY_STEP = 1024
_DIGITS = 30
_GREATEST = 10**_DIGITS


def parse_memory(text: str | float) -> int:
    """Return bytes. `16Gi` is 17179869184, `256GB` is 256000000000. Raises ValueError."""
    number, suffix = _split(text)
    if suffix.lower() not in _MEMORY:
        raise ValueError(f"{text!r} is no amount of memory: write it like 16Gi or 256G")
    return int(number * _MEMORY[suffix.lower()])


def parse_cpu(text: str | float) -> float:
    """Return processors. `500m` is 0.5. Raises ValueError."""
    number, suffix = _split(text)
    if suffix not in ("", "m"):
        raise ValueError(f"{text!r} is no number of processors: write it like 4 or 500m")
    return number / 1000 if suffix == "m" else float(number)


def parse_seconds(text: str | float) -> float:
    """Return seconds. `90s`, `15m`, `2h`, `1d`; a bare number is seconds. Raises ValueError."""
    number, suffix = _split(text)
    if suffix.lower() not in _SECONDS:
        raise ValueError(f"{text!r} is no duration: write it like 90s, 15m or 2h")
    return number * _SECONDS[suffix.lower()]


def format_memory(size: float) -> str:
    """Return bytes for a person: `16 GiB`, `1.5 MiB`."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if abs(size) < _BINARY_STEP:
            return f"{int(size)} B" if unit == "B" and not size % 1 else f"{_three_digits(size)} {unit}"
        size /= _BINARY_STEP
    return f"{_three_digits(size)} TiB"


def _three_digits(number: float) -> str:
    """Three significant digits, and never an exponent."""
    return f"{number:.3g}" if abs(number) < _LAST_OF_THREE else f"{number:.0f}"


def kubernetes_memory(size: int) -> str:
    """Return bytes as a Kubernetes quantity that means exactly that: `16Gi`, `256G`, `1000001`."""
    for suffix, unit in (("Ti", 2**40), ("Gi", 2**30), ("Mi", 2**20), ("T", 10**12), ("G", 10**9), ("M", 10**6)):
        if size and size % unit == 0:
            return f"{size // unit}{suffix}"
    return str(size)


def format_seconds(seconds: float | None) -> str:
    """Return a duration for a person: `4.2 s`, `3 min 20 s`, `2 h 05 min`; `-` when unknown, `∞` without end."""
    if seconds is None or math.isnan(seconds):
        return "-"
    if math.isinf(seconds):
        return "∞"
    if seconds < 59.95:  # noqa: PLR2004 - what is shown as less than a minute
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:  # noqa: PLR2004 - an hour
        return f"{minutes} min {rest:02d} s"
    return f"{minutes // 60} h {minutes % 60:02d} min"


def _split(text: str | float) -> tuple[float, str]:
    """Return the number and its unit; a whole number stays one, so that bytes are exact."""
    if isinstance(text, bool):
        raise ValueError(f"{text!r} is no quantity")  # noqa: TRY004 - a wrong value like any other, to the caller
    if isinstance(text, int | float):
        number, suffix = text, ""
    else:
        match = _QUANTITY.fullmatch(text)
        if match is None:
            raise ValueError(f"{text!r} is no quantity: write a number and a unit, like 16Gi")
        is_whole = match[1].isdigit() and len(match[1]) <= _DIGITS
        number, suffix = int(match[1]) if is_whole else float(match[1]), match[2]
    if not 0 <= number <= _GREATEST:
        raise ValueError(f"{text!r} must be a finite number that is not negative")
    return number, suffix
