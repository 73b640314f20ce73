"""A line of a log as the card shows it: harmless, short, with its level and its colours."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from jupyter_gpudeploy.events.follow import LINE_LIMIT
from jupyter_gpudeploy.events.text import overwritten, plain
from jupyter_gpudeploy.notebook.card.protocol import LEVELS, LINE_CHARACTERS, Line
from jupyter_gpudeploy.patterns import lazy

if TYPE_CHECKING:
    from collections.abc import Sequence

START, END = "\ue000", "\ue001"
_OURS = {ord(START): None, ord(END): None}
_COLOUR = lazy(r"\x1b\[([0-9;:]{0,40})m")
_MARK = lazy(f"{START}[a-p]|{END}")
_LEVEL = lazy(
    r"(?P<error>\b(?:CRITICAL|FATAL|ERROR)\b|^Traceback \(most recent|\b(?:[Ff]atal|[Ee]rror)(?=[:\]])"
    r"|^[\w.]{0,80}(?:Error|Exception)(?=:|$))"
    r"|(?P<warning>\bWARN(?:ING)?\b|\b[Ww]arning(?=[:\]])|\b[A-Z]\w{0,40}Warning(?=:))"
    r"|(?P<info>\bINFO\b|\binfo(?=[:\]]))"
    r"|(?P<debug>\b(?:DEBUG|TRACE)\b)"
)
_WORDS = ("rror", "RROR", "arning", "WARN", "INFO", "info", "DEBUG", "TRACE", "atal", "FATAL", "CRIT", "Trace", "xcept")
_LEVEL_WITHIN = 200
_FRAME = 70  # bytes of a line beside its text
_BRIGHT = 8
_BYTES = {level: number for number, level in enumerate(LEVELS)}


class Seen:
    """How a line of bytes is seen: its text without terminal control, our colour marks in it, and what was left out."""

    __slots__ = ("left_out", "text")

    def __init__(self, raw: bytes) -> None:
        if b"\r" in raw:
            raw = raw.rstrip(b"\r \t").rpartition(b"\r")[2]
        self.left_out = max(0, len(raw) - LINE_LIMIT)
        text = raw[:LINE_LIMIT].decode("utf-8", "replace")
        if text.isascii() and text.isprintable():
            self.text = text
            return
        text = overwritten(text).translate(_OURS)
        self.text = plain(_coloured(text) if "\x1b[" in text else text)

    @property
    def bare(self) -> str:
        """The text without colours."""
        return _MARK.sub("", self.text) if START in self.text or END in self.text else self.text


def level_of(text: str) -> str | None:
    """Return the level that a line says of itself, or None."""
    head = text[:_LEVEL_WITHIN]
    if not any(word in head for word in _WORDS):
        return None
    found = _LEVEL.search(head)
    return found.lastgroup if found else None


def at_least(level: str | None, wanted: str) -> bool:
    """Return whether a line of this level is wanted. One without a level is not."""
    return level is not None and _BYTES[level] >= _BYTES[wanted]


def line(raw: bytes, number: int, task: int, attempt: int, time: float | None) -> Line:
    """Return the line of these bytes."""
    return shown(Seen(raw), number, task, attempt, time)


def shown(seen: Seen, number: int, task: int, attempt: int, time: float | None) -> Line:
    """Return the line, cut to what a view takes."""
    bare = seen.bare
    text, cut = seen.text, seen.left_out
    if len(bare) > LINE_CHARACTERS:
        cut += len(bare) - LINE_CHARACTERS
        text = bare[:LINE_CHARACTERS] if bare is text else _cut(text)
    return Line(number, task, attempt, time, level_of(bare), text, cut)


def size(lines: Sequence[Line]) -> int:
    """Return how many bytes the lines take on their way at most, as JSON."""
    return sum(_size(each.text) for each in lines)


def _size(text: str) -> int:
    wide = 0 if text.isascii() else 3 * len(text)
    return _FRAME + len(text) + wide + text.count('"') + text.count("\\")


def _coloured(text: str) -> str:
    """Replace the colours of a terminal by our marks; what is neither is left for `plain` to take out."""
    pieces: list[str] = []
    end, colour = 0, ""
    for found in _COLOUR.finditer(text):
        pieces.append(text[end : found.start()])
        end = found.end()
        new = _colour(found[1], colour)
        if new != colour:
            pieces.append(END * bool(colour) + (START + new if new else ""))
            colour = new
    return "".join([*pieces, text[end:], END * bool(colour)])


def _colour(codes: str, colour: str) -> str:
    """Return the foreground colour after these codes, a letter of the sixteen; empty for none."""
    numbers = [int(code) if code.isdecimal() and len(code) < 4 else 0 for code in re.split("[;:]", codes)]  # noqa: PLR2004 - digits
    place = 0
    while place < len(numbers):
        number = numbers[place]
        if number in (0, 39):
            colour = ""
        elif 30 <= number <= 37:  # noqa: PLR2004 - the codes of the standard
            colour = chr(ord("a") + number - 30)
        elif 90 <= number <= 97:  # noqa: PLR2004 - the codes of the standard
            colour = chr(ord("a") + number - 90 + _BRIGHT)
        elif number in (38, 48):
            kind, value = (*numbers[place + 1 : place + 3], 0, 0)[:2]
            if number == 38:  # noqa: PLR2004 - the codes of the standard
                colour = chr(ord("a") + value) if kind == 5 and value < 16 else ""  # noqa: PLR2004 - of a palette
            place += 2 if kind == 5 else 4  # noqa: PLR2004 - an index, or three shares
        place += 1
    return colour


def _cut(text: str) -> str:
    """Return as much of a marked text as LINE_CHARACTERS show, every colour ended."""
    pieces: list[str] = []
    left, place, is_open = LINE_CHARACTERS, 0, False
    for found in _MARK.finditer(text):
        piece = text[place : found.start()][:left]
        left -= len(piece)
        pieces.append(piece)
        if not left:
            break
        pieces.append(found[0])
        is_open = found[0] != END
        place = found.end()
    else:
        pieces.append(text[place:][:left])
    return "".join(pieces) + END * is_open
