"""`%deploy doctor` of this machine."""

from __future__ import annotations

import importlib.util
import os
import shutil
from typing import TYPE_CHECKING

from jupyter_gpudeploy.quantities import format_memory
from jupyter_gpudeploy.report import Report, Row, Section

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from jupyter_gpudeploy.backends.base import Capabilities

_LITTLE_ROOM = 2**30
_OPTIONAL = {
    "fastapi": "serve: fastapi", "uvicorn": "serve: fastapi", "flask": "serve: flask",
    "nbclient": "run: a notebook", "kubernetes": "--backend kubernetes",
}  # fmt: skip


def examine(can: Capabilities, root: Path, runs: int) -> Report:
    """Return what this machine has."""
    return Report(f"this machine, {can.where}", (
        Section("Machine", tuple(_machine(can))),
        Section("Runs", tuple(_runs(root, runs))),
        Section("Packages", tuple(_packages())),
    ))  # fmt: skip


def _machine(can: Capabilities) -> Iterator[Row]:
    yield Row("ok", "processors", f"{can.cpus:g}")
    yield Row("ok", "memory", format_memory(can.memory) if can.memory else "unknown")
    if can.gpus:
        yield Row("ok", "GPUs", f"{can.gpus}: {', '.join(dict.fromkeys(can.gpu_names))}")
    else:
        yield Row("info", "GPUs", "none visible", "gpus: 0 works; or --backend kubernetes")


def _runs(root: Path, runs: int) -> Iterator[Row]:
    yield Row("ok", "runs", f"{runs}, in {root}", "JUPYTER_GPUDEPLOY_HOME moves them")
    place = next(path for path in (root, *root.parents) if path.exists())
    if not os.access(place, os.W_OK):
        yield Row("error", "folder", f"{place} cannot be written", "JUPYTER_GPUDEPLOY_HOME names another one")
    free = shutil.disk_usage(place).free
    if free > _LITTLE_ROOM:
        yield Row("ok", "free", format_memory(free))
    else:
        yield Row("warning", "free", format_memory(free), "%deploy clean --older 7d")


def _packages() -> Iterator[Row]:
    for module, what in _OPTIONAL.items():
        if importlib.util.find_spec(module) is None:
            yield Row("info", module, "not installed", f"pip install {module}, for {what}")
        else:
            yield Row("ok", module, "installed")
