"""When the lines of a copied log were printed, by the clock of the node, kept beside the copy (events/times.py)."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from jupyter_gpudeploy.backends.kubernetes.mirror.stamps import SECOND, stamp
from jupyter_gpudeploy.events.times import TimesWriter

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_SECONDS = re.compile(rb"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d", re.MULTILINE)
_LONGEST_STAMP = 64


class Moments:
    """Notes how large a copy is after the last line of each second in which any were printed."""

    def __init__(self, log: Path) -> None:
        self._writer = TimesWriter(str(log), -float("inf"))

    def note(self, piece: bytes, size: int) -> None:
        """Say that the copy has `size` bytes when it holds the whole lines of `piece`, which have their stamps."""
        end = piece.rfind(b"\n")
        begin = piece.rfind(b"\n", 0, max(end, 0)) + 1
        time = stamp(piece[begin : begin + _LONGEST_STAMP])
        if time and end >= 0 and self._writer.is_due(time / SECOND):
            self._writer.note(time / SECOND, size)


def by_seconds(data: bytes) -> Iterator[bytes]:
    """Yield the bytes of a log with stamps in pieces, a new one where the line of another second begins.

    What a running program prints comes in one piece as a rule; a log of long ago comes cut.
    """
    begin, second = 0, None
    if data[:19] != data[data.rfind(b"\n", 0, max(data.rfind(b"\n"), 0)) + 1 :][:19]:
        for found in _SECONDS.finditer(data):
            if second is not None and found[0] != second:
                yield data[begin : found.start()]
                begin = found.start()
            second = found[0]
    yield data[begin:]
