"""How far a copy is, as one line of text that is written over."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from jupyter_gpudeploy.quantities import format_memory, format_seconds

if TYPE_CHECKING:
    from collections.abc import Callable

_EVERY_SECONDS = 0.5


class Progress:
    """Prints `3.2 MiB of 90 MiB, 11 MiB a second` at most twice a second, and nothing of what is done before that."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._begun = self._shown = clock()
        self._last = ""
        self._width = 0

    def show(self, done: int, total: int) -> None:
        """Take how many bytes are there, and how many there will be. A further copy begins at 0."""
        now = self._clock()
        if done == 0:
            self._begun = now
        speed = done / max(now - self._begun, 0.001)
        self._last = f"{format_memory(done)} of {format_memory(total)}"
        if 0 < done < total and now - self._shown >= _EVERY_SECONDS:
            self._shown = now
            left = f", {format_seconds((total - done) / speed)} left" if speed else ""
            self._print(f"{self._last}, {format_memory(speed)}/s{left}")

    def end(self) -> None:
        """Print how far it came, where anything was printed before."""
        if self._width:
            self._print(self._last)
            print()  # noqa: T201 - what was asked for

    def _print(self, text: str) -> None:
        print(f"\r{text:<{self._width}}", end="", flush=True)  # noqa: T201 - what was asked for
        self._width = len(text)
