"""Interleaved pairs: ours, then the peer, again and again; the median of the ratios, so that slow drift cancels."""

from __future__ import annotations

import os
import platform
import statistics
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


@dataclass(frozen=True)
class Result:
    """Seconds of both sides, pair by pair."""

    ours: list[float]
    peer: list[float]

    @property
    def ratios(self) -> list[float]:
        """Ours over the peer's, pair by pair."""
        return [ours / peer for ours, peer in zip(self.ours, self.peer, strict=True)]

    def line(self, name: str, target: str, unit: float = 1.0, suffix: str = "s") -> str:
        """Return one row: medians, median ratio with its range, the target."""
        ours, peer = (statistics.median(side) * unit for side in (self.ours, self.peer))
        low, high = min(self.ratios), max(self.ratios)
        ratio = statistics.median(self.ratios)
        return f"| {name} | {ours:.3g} {suffix} | {peer:.3g} {suffix} | {ratio:.2f} ({low:.2f}-{high:.2f}) | {target} |"


def measure(ours: Callable[[], float], peer: Callable[[], float], pairs: int = 9) -> Result:
    """Return the seconds of `pairs` interleaved pairs after one warm-up of each."""
    ours()
    peer()
    results = [(ours(), peer()) if index % 2 else (peer(), ours())[::-1] for index in range(pairs)]
    return Result([first for first, _ in results], [second for _, second in results])


def machine(*packages: str) -> str:
    """Return one line on what this was measured on."""
    return f"{os.cpu_count()} processors, Linux {platform.release()}, Python {platform.python_version()}" + "".join(
        f", {package} {_version(package)}" for package in packages
    )


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "(not installed)"
