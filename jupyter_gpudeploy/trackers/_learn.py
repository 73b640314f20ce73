"""What the numbers of a line mean, found out by asking the parser: each number is changed, and the line parsed again.

The result is used for other lines, so it must hold for them: the parser has to agree on probes made of short, long,
negative and tiny numbers. Beyond that, digits that belong to a word (`top5`) stay as they are, a number that means
nothing may only change into one of as many digits (`12:30:05`), and each kind of number stays what it is: a whole one
whole, one above a thousand million above it (so that a moment stays a moment).
"""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING, NamedTuple

from jupyter_gpudeploy.trackers._columns import NOT_SAID

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from jupyter_gpudeploy.trackers._rows import Row

    Parser = Callable[[bytes], Row | None]
    Said = tuple[tuple[str, ...], tuple[float, ...]]
    """The names of a line's metrics, and its values: those of the metrics, then step, epoch, time."""

_TOKENS = 24
_TOKEN = re.compile(rb"(?:(?<![^\s=:,(\[{\"'|])-)?(?<![\w.\x80-\xff])\d+(?:\.\d+)?(?:e-\d+)?(?!\.?\d)")
_BEFORE_A_SIGN = frozenset(b" \t=:,([{\"'|")
_SMALL, _LARGE = rb"(?:0|[1-9]\d{0,8})", rb"[1-9]\d{9,11}"
_KINDS = (
    (_SMALL, b"0 7 10 321 4096 999999999"),
    (_LARGE, b"1000000000 1718000000 999999999999 20000000001"),
    (
        _SMALL + rb"\.\d{1,20}(?:e-\d{1,3})?",
        b"0.0 7.5 31.25 0.12345678901234567 999999999.125 5.5e-06 1.0e-300 123.4 2.5123456789",
    ),
    (_SMALL + rb"e-\d{1,3}", b"1e-05 7e-1 10e-300 3e-10"),
    (_LARGE + rb"\.\d{1,20}", b"1000000000.0 1718000000.123456 999999999999.5"),
)
_PATTERNS = tuple(re.compile(b"-?" + pattern) for pattern, _ in _KINDS)
_PROBES = 18
_DIGITS, _ZERO = b"0123456789", ord("0")


class Shape(NamedTuple):
    """Lines of one shape: `match` finds the groups of those that are. `names` is empty for lines that say nothing.

    A value, and each of `place` (step, epoch, time), is the number of its group, an int, or itself, a float.
    """

    match: Callable[[bytes], re.Match[bytes] | None]
    names: tuple[str, ...]
    values: tuple[float, ...]
    place: tuple[float, ...]


class _Number(NamedTuple):
    """A number of a line: what may stand in its place as a pattern, and as samples, the first of which differs.

    `slot` counts in the values of what is said, -1 for a number that means nothing. `signed`: whether a minus may come
    and go.
    """

    start: int
    end: int
    text: bytes
    pattern: bytes
    samples: tuple[bytes, ...]
    signed: bool = False
    slot: int = -1


def learn(line: bytes, parse: Parser) -> Shape | None:
    """Return the shape of a line, or None where none can be told."""
    found = list(_TOKEN.finditer(line))
    if b"\b" in line or b"\r" in line or len(found) > _TOKENS:
        return None
    said = _said(parse(line))
    numbers = []
    for match in found:
        number = _free(line, match)
        now = _said(parse(_with(line, [number], number.samples[:1])))
        if now[0] != said[0]:
            continue  # it is part of a name: it stays as it is
        if not all(map(_same, said[1], now[1])):
            meant = _meant(line, _number(match), said, parse)
            if meant is None:
                return None
            number = meant
        numbers.append(number)
    agrees = all(_agrees(line, numbers, said, parse, probe) for probe in range(_PROBES))
    return _shape(line, numbers, said) if agrees else None


def _free(line: bytes, match: re.Match[bytes]) -> _Number:
    """Return a number that means nothing: other digits, as many. JSON knows no number that begins with a zero."""
    text, front = match[0], line[: match.start()]
    pattern = b"".join(rb"\d" if digit in _DIGITS else re.escape(bytes([digit])) for digit in text)
    samples = [_turned(text, by) for by in range(1, 10)]
    if b"{" in front and front.rstrip()[-1:] in (b":", b",", b"[") and len(text) > 1 and text[:2].isdigit():
        first = b"0" if text[0] == _ZERO else b"[1-9]"
        pattern = first + pattern.removeprefix(rb"\d")
        samples = [text[:1] + sample[1:] for sample in samples]
    return _Number(match.start(), match.end(), text, pattern, tuple(samples))


def _number(match: re.Match[bytes]) -> _Number:
    """Return a number that means something: others of its kind; one with zeros in front stays as long as it is."""
    text = match[0]
    for known, (pattern, samples) in zip(_PATTERNS, _KINDS, strict=True):
        if known.fullmatch(text):
            value = abs(float(text))
            ordered = sorted(samples.split(), key=lambda sample: float(sample) in (value, 0.0))
            return _Number(match.start(), match.end(), text, pattern, tuple(ordered))
    turned = tuple(_turned(text, by) for by in range(1, 10))
    return _Number(match.start(), match.end(), text, rb"\d{%d}" % len(text) if text.isdigit() else b"", turned)


def _meant(line: bytes, number: _Number, said: Said, parse: Parser) -> _Number | None:
    """Return a number with the value that it is, and whether it may be negative; None where it is no value."""
    sample = number.samples[0]
    names, values = _said(parse(_with(line, [number], [sample])))
    changed = [slot for slot, pair in enumerate(zip(said[1], values, strict=False)) if not _same(*pair)]
    if names != said[0] or len(changed) != 1 or values[changed[0]] != float(sample) or not number.pattern:
        return None
    number = number._replace(slot=changed[0])
    names, values = _said(parse(_with(line, [number], [b"-" + sample])))
    is_free = not number.start or line[number.start - 1] in _BEFORE_A_SIGN
    if is_free and names == said[0] and values[number.slot] == -float(sample):
        return number._replace(samples=(*number.samples, *(b"-" + each for each in number.samples)), signed=True)
    return number


def _turned(text: bytes, by: int) -> bytes:
    return bytes((digit - _ZERO + by) % 10 + _ZERO if digit in _DIGITS else digit for digit in text)


def _agrees(line: bytes, numbers: Sequence[_Number], said: Said, parse: Parser, probe: int) -> bool:
    """Return whether the parser says of one other line of this shape what the shape says."""
    texts = []
    expected = list(said[1])
    for place, number in enumerate(numbers):
        texts.append(number.samples[(probe * (place + 1) + place * 5) % len(number.samples)])
        if number.slot >= 0:
            expected[number.slot] = float(texts[-1])
    names, values = _said(parse(_with(line, numbers, texts)))
    return names == said[0] and all(map(_same, values, expected))


def _shape(line: bytes, numbers: Sequence[_Number], said: Said) -> Shape:
    pattern, end, group = b"", 0, 0
    slots = list(said[1])
    for number in numbers:
        pattern += re.escape(line[end : number.start])
        end = number.end
        if number.slot < 0:
            pattern += number.pattern
        else:
            pattern += b"(" + b"-?" * number.signed + number.pattern + b")"
            slots[number.slot] = group
            group += 1
    pattern += re.escape(line[end:])
    count = len(said[0])
    return Shape(re.compile(pattern, re.DOTALL).fullmatch, said[0], tuple(slots[:count]), tuple(slots[count:]))


def _said(row: Row | None) -> Said:
    if row is None:
        return (), (NOT_SAID, NOT_SAID, NOT_SAID)
    place = (NOT_SAID if value is None else value for value in row[1:])
    return tuple(row.metrics), (*row.metrics.values(), *place)


def _same(first: float, second: float) -> bool:
    return first == second or (math.isnan(first) and math.isnan(second))


def _with(line: bytes, numbers: Sequence[_Number], texts: Sequence[bytes]) -> bytes:
    """Return the line with other texts in the place of these numbers."""
    for number, text in zip(reversed(numbers), reversed(texts), strict=True):
        line = line[: number.start] + text + line[number.end :]
    return line
