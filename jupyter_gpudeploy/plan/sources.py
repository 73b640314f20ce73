"""The user's files: where they may lie, and what they are, told by their hash.

Nothing outside the notebook's folder runs unless the cell says `allow_outside: true`, links followed. Files run in
place, so relative imports and paths work as they do in a terminal.
"""

from __future__ import annotations

import hashlib
import json
import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING

from jupyter_gpudeploy.errors import PlanError
from jupyter_gpudeploy.plan.types import Source
from jupyter_gpudeploy.registry import did_you_mean

if TYPE_CHECKING:
    from collections.abc import Iterator

_SKIPPED = frozenset({".git", "__pycache__", ".ipynb_checkpoints", ".venv", "node_modules", ".mypy_cache"})
_READ_LIMIT = 16 * 2**20


def locate(text: str, base: Path, *, allow_outside: bool) -> Path:
    """Return the real path of a source. Raises PlanError when it is missing, outside, or nothing that can be read."""
    given = Path(text).expanduser() if allow_outside else Path(text)
    path = base / given
    if not allow_outside and (text.startswith("~") or not _is_inside(path, base)):
        raise PlanError(
            f"{text!r} lies outside the notebook's folder {base}",
            hint="copy it here, or say allow_outside: true",
        )
    if not path.exists():
        near = sorted(entry.name for entry in path.parent.iterdir()) if path.parent.is_dir() else []
        raise PlanError(f"{text!r} is not there (looked in {path.parent})", hint=did_you_mean(path.name, near[:20]))
    mode = path.stat().st_mode
    if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
        raise PlanError(f"{text!r} is neither a file nor a folder", hint="sources are plain files")
    return path.resolve()


def source_of(file: Path) -> Source:
    """Return the file with its hash; of a notebook, the hash of its code alone, so that running it changes nothing."""
    if file.suffix == ".ipynb":
        return Source(str(file), hashlib.sha256(_notebook_code(file)).hexdigest())
    return Source(str(file), hashlib.sha256(file.read_bytes()).hexdigest())


def folder_digest(folder: Path) -> str:
    """Return one hash of a folder's files; a large file counts by its size and time."""
    digest = hashlib.sha256()
    for file in _files(folder):
        status = file.lstat()
        small = stat.S_ISREG(status.st_mode) and status.st_size <= _READ_LIMIT
        content = hashlib.sha256(file.read_bytes()).hexdigest() if small else f"{status.st_size}:{status.st_mtime_ns}"
        digest.update(f"{file.relative_to(folder)}\0{content}\0".encode())
    return digest.hexdigest()


def links_outside(folder: Path) -> list[str]:
    """Return the links below a folder that lead out of it."""
    return [
        str(file.relative_to(folder))
        for file in _files(folder)
        if file.is_symlink() and not _is_inside(file, folder)
    ]  # fmt: skip


def _files(folder: Path) -> Iterator[Path]:
    for root, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if name not in _SKIPPED)
        linked = [name for name in folders if (Path(root) / name).is_symlink()]
        yield from (Path(root) / name for name in sorted([*files, *linked]))


def _is_inside(path: Path, folder: Path) -> bool:
    return path.resolve().is_relative_to(folder.resolve())


def _notebook_code(file: Path) -> bytes:
    try:
        cells = json.loads(file.read_text("utf-8"))["cells"]
        return json.dumps([cell["source"] for cell in cells if cell["cell_type"] == "code"]).encode()
    except (ValueError, KeyError, TypeError):
        raise PlanError(f"{file.name} is no Jupyter notebook", hint="open it in Jupyter and save it again") from None
