"""What is offered while one types: members of families, clusters of the settings file, scripts of the folder."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from jupyter_gpudeploy import launching
from jupyter_gpudeploy.errors import GpuDeployError
from jupyter_gpudeploy.notebook.header import family

if TYPE_CHECKING:
    from pathlib import Path

MOST = 200
DEPTH = 2
SUFFIXES = (".py", ".ipynb", ".sh")
_SKIPPED = frozenset({"__pycache__", "node_modules", "site-packages", "venv"})


def words(name: str) -> tuple[str, ...]:
    """Return what a key is offered."""
    if name in ("serve", "backend"):
        return tuple(family("servers" if name == "serve" else "backends"))
    return _clusters() if name == "cluster" else ()


def default_backend() -> str:
    """Return the backend of cells that name none."""
    try:
        return launching.default_backend()
    except GpuDeployError:
        return launching.LOCAL


def scripts(base: Path) -> list[str]:
    """Return programs in the folder and just below it, the nearest first."""
    found: list[str] = []
    for root, folders, files in os.walk(base):
        inside = os.path.relpath(root, base)
        depth = 0 if inside == "." else inside.count(os.sep) + 1
        folders[:] = sorted(name for name in folders if depth < DEPTH and name[0] != "." and name not in _SKIPPED)
        found += [os.path.normpath(f"{inside}/{name}") for name in sorted(files) if name.endswith(SUFFIXES)]
        if len(found) >= MOST:
            break
    return sorted(found[:MOST], key=lambda path: path.count(os.sep))


def _clusters() -> tuple[str, ...]:
    from jupyter_gpudeploy.spec.settings import read_settings

    try:
        return tuple(read_settings().clusters)
    except GpuDeployError:
        return ()
