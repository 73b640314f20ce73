"""Hiding the values of secrets in what a task prints, before it is written anywhere."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

SHORTEST = 6  # what is shorter stands in too many ordinary words
_SHOWN = "••••••".encode()


class Mask:
    """A filter for a stream of bytes. A value that comes in pieces is hidden too.

    What may be the beginning of a value is held back until the next piece, or `rest`, says that it is none.
    """

    def __init__(self, values: Iterable[bytes]) -> None:
        self._values = sorted({value for value in values if len(value) >= SHORTEST}, key=len, reverse=True)
        self._pattern = re.compile(b"|".join(map(re.escape, self._values))) if self._values else None
        self._held = b""

    @property
    def is_needed(self) -> bool:
        """Whether there is anything to hide."""
        return self._pattern is not None

    def feed(self, data: bytes) -> bytes:
        """Return what can be written now."""
        if self._pattern is None:
            return data
        whole = self._pattern.sub(_SHOWN, self._held + data)
        held = self._beginning_at_end(whole)
        self._held = whole[len(whole) - held :]
        return whole[: len(whole) - held]

    def rest(self) -> bytes:
        """Return what was held back; nothing more follows."""
        rest, self._held = self._held, b""
        return rest

    def _beginning_at_end(self, data: bytes) -> int:
        longest = min(len(self._values[0]) - 1, len(data))
        for size in range(longest, 0, -1):
            tail = data[len(data) - size :]
            if any(value.startswith(tail) for value in self._values):
                return size
        return 0
