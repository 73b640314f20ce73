"""What a program printed, made fit to be shown: terminal control, overwritten text, hidden characters.

Every pattern here is linear in the length of the text, since a log line may be anything.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from jupyter_gpudeploy.patterns import lazy

if TYPE_CHECKING:
    import re

_CONTROL_SEQUENCE = lazy(
    r"(?:\x1b\[|\x9b)[0-?]*[ -/]*[@-~]"  # CSI: colours, cursor moves, erasing
    r"|(?:\x1b\]|\x9d)[^\x07\x1b\x80-\x9f]*(?:\x07|\x1b\\|\x9c)"  # OSC: titles, hyperlinks (OSC 8)
    r"|(?:\x1b[PX^_]|[\x90\x98\x9e\x9f])[^\x1b\x80-\x9f]*(?:\x1b\\|\x9c)"  # DCS, SOS, PM, APC
    r"|\x1b[ -/]+[0-~]"  # character sets
    r"|\x1b[0-OQ-WYZ\\`-~]"  # one letter: reset, save the cursor
)
_UNSEEN = lazy(
    "[\x00-\x08\x0a-\x1f\x7f-\x9f"
    "\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u2069\ufeff"  # directions, separators, no width
    "\ud800-\udfff\U000e0000-\U000e007f]"  # halves of a pair, tags
)
_C0_PICTURES = 0x2400
LINE = 240
_DELETE = 0x7F


def strip_controls(text: str) -> str:
    """Return the text without the control sequences of terminals; what a hyperlink shows is kept, its target not."""
    return _CONTROL_SEQUENCE.sub("", text) if "\x1b" in text or not text.isascii() else text


def overwritten(text: str) -> str:
    r"""Return what is left to see of a line that was printed over: the last state after `\r`, with `\b` obeyed.

    Of states that were wiped by blanks at the end, the last one that showed something.
    """
    if "\r" in text:
        text = text.rstrip("\r \t").rpartition("\r")[2]
    return _backspaced(text) if "\b" in text else text


def plain(text: str) -> str:
    """Return a line that hides nothing and moves nothing: `␀` for a NUL, `⟨U+202E⟩` for a change of direction.

    Terminal sequences are taken out; tabs stay. The result can be encoded as UTF-8.
    """
    if text.isascii() and text.isprintable():
        return text
    return _UNSEEN.sub(_visible, strip_controls(overwritten(text)))


def one_line(text: str, limit: int = LINE) -> str:
    """Return foreign text as one line that hides nothing, at most `limit` characters long."""
    line = " ".join(plain(part) for part in text[: 4 * limit].splitlines())
    return line if len(line) <= limit else line[: limit - 1] + "…"


def _visible(match: re.Match[str]) -> str:
    code = ord(match[0])
    if code < ord(" "):
        return chr(_C0_PICTURES + code)
    return "␡" if code == _DELETE else f"⟨U+{code:04X}⟩"


def _backspaced(text: str) -> str:
    first, *pieces = text.split("\b")
    cells, cursor = list(first), len(first)
    for piece in pieces:
        cursor = max(0, cursor - 1)
        cells[cursor : cursor + len(piece)] = piece
        cursor += len(piece)
    return "".join(cells)
