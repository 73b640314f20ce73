"""The seam for what is measured from outside a program: GPUs, and a server's own metrics page."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import threading
    from collections.abc import Iterator

    from jupyter_gpudeploy.events.types import GpuSample, MetricPoint


class MetricSource(Protocol):
    """Something that can be looked at again and again."""

    def samples(self, every: float, stop: threading.Event) -> Iterator[GpuSample | MetricPoint]:
        """Yield a look every `every` seconds until `stop` is set. What cannot be read is None, never 0."""
