"""The GPUs of this machine, by whichever source can tell of them."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

from jupyter_gpudeploy.sources.nvidia_smi import NvidiaSmi
from jupyter_gpudeploy.sources.nvml import Nvml
from jupyter_gpudeploy.sources.rocm import Rocm

if TYPE_CHECKING:
    from collections.abc import Callable

    from jupyter_gpudeploy.events.types import GpuSample
    from jupyter_gpudeploy.sources.base import MetricSource


class Gpus:
    """The driver's library, else nvidia-smi, else AMD's tools: the first of them that is there."""

    def __init__(self) -> None:
        self._source: MetricSource = Nvml()
        self._others: list[tuple[str, Callable[[], MetricSource]]] = [
            ("nvidia-smi", NvidiaSmi),
            ("amd-smi", Rocm),
            ("rocm-smi", Rocm),
        ]
        self._why: list[str] = []

    @property
    def trouble(self) -> str:
        """Why there is nothing to tell."""
        return "; ".join([*self._why, self._source.trouble]) if self._source.trouble else ""

    def look(self) -> list[GpuSample]:
        """Return a sample a GPU."""
        found = self._source.look()
        while not found and self._source.trouble and self._others:
            program, source = self._others.pop(0)
            if shutil.which(program):
                self._why.append(self._source.trouble)
                self._source.close()
                self._source = source()
                found = self._source.look()
        return list(found)  # type: ignore[arg-type]  # each of these tells of GPUs alone

    def close(self) -> None:
        """Let go of it."""
        self._others = []
        self._source.close()
