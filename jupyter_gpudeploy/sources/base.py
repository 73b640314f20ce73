"""The seam for what is measured from outside a program: GPUs, processes, and a server's own metrics page.

A source is looked at again and again, as a reader of a file is: whoever keeps the clock (a recorder, a display) looks
at all of its sources in one turn, and a source that has nothing to tell says nothing. Parsing is apart from asking, in
plain functions of a text, so that each format is tested against what the tools really print.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import threading
    from collections.abc import Iterator, Sequence

    from jupyter_gpudeploy.events.types import Sample

TIME_OUT = 15.0
"""Seconds that a tool or a page may take to answer."""


class MetricSource(Protocol):
    """Something that can be looked at again and again, by one thread at a time.

    What cannot be read is None, never 0. A source never raises for what is wrong with what it looks at: it then tells
    nothing, and `trouble` says why.
    """

    @property
    def trouble(self) -> str:
        """Why there is nothing to tell, as a sentence for a person; empty while all is well."""

    def look(self) -> Sequence[Sample]:
        """Return what is there now. It takes at most TIME_OUT seconds, and as a rule a millisecond or less."""

    def close(self) -> None:
        """Let go of everything: libraries, processes, connections. Further looks tell nothing."""


def follow(source: MetricSource, every: float, stop: threading.Event) -> Iterator[Sequence[Sample]]:
    """Yield a look every `every` seconds until `stop` is set, and close the source then. Late looks are left out."""
    due = time.monotonic()
    try:
        while not stop.is_set():
            yield source.look()
            due = max(due + every, time.monotonic())
            stop.wait(due - time.monotonic())
    finally:
        source.close()


def percent(value: float | None) -> float | None:
    """Return a share in percent, or None where it cannot be one."""
    return value if value is not None and 0 <= value <= 100 else None  # noqa: PLR2004 - percent
