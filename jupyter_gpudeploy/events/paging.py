"""A log in pieces, for whoever reads it from afar: from any byte on, whole lines, made harmless, a limit a piece."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, NamedTuple

from jupyter_gpudeploy.events.follow import texts
from jupyter_gpudeploy.events.text import plain

if TYPE_CHECKING:
    from pathlib import Path

LIMIT = 1 << 18
NEWEST = 1 << 16


class Page(NamedTuple):
    """A piece of a log. `start` and `end` are bytes of the file, `size` what it has by now.

    `is_cut`: it does not join on to what was asked for, or ends within a line that is longer than a piece.
    """

    text: str
    start: int
    end: int
    size: int
    is_cut: bool


def page(file: Path, start: int = -1, *, is_over: bool, limit: int = LIMIT) -> Page:
    """Return what follows the byte `start`; the newest NEWEST bytes where it is negative or beyond the end.

    A last line without its newline is left for the next piece, unless the log `is_over`. A file that is not there is
    empty.
    """
    try:
        with file.open("rb", buffering=0) as stream:
            size = os.fstat(stream.fileno()).st_size
            is_known = 0 <= start <= size
            first = start if is_known else _newest(stream.fileno(), size)
            data = os.pread(stream.fileno(), min(limit, size - first), first)
    except FileNotFoundError:
        return Page("", 0, 0, 0, start > 0)
    end = data.rfind(b"\n") + 1
    is_long = not end and len(data) == limit
    if is_long:
        end = _whole_characters(data)
    elif is_over and first + len(data) == size:
        end = len(data)
    whole = data[:end]
    lines = texts(whole.removesuffix(b"\n").split(b"\n")) if whole else []
    text = "".join(f"{plain(line)}\n" for line in lines)
    return Page(text, first, first + end, size, is_long or (first > 0 and not is_known) or start > size)


def _newest(descriptor: int, size: int) -> int:
    """Return where the line begins that is the first one within the newest bytes."""
    start = max(0, size - NEWEST)
    if not start:
        return 0
    data = os.pread(descriptor, size - start, start)
    return start + data.find(b"\n") + 1


def _whole_characters(data: bytes) -> int:
    """Return how many bytes there are without a character of UTF-8 that goes on beyond them."""
    for back in range(1, 4):
        byte = data[-back]
        if byte & 0xC0 != 0x80:  # noqa: PLR2004 - no byte that continues a character
            return len(data) - back if byte >= 0xC0 else len(data)  # noqa: PLR2004 - one that begins a longer one
    return len(data)
