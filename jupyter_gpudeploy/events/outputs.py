"""Files that tasks left: copied to where a person wants them."""

from __future__ import annotations

import difflib
import filecmp
import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from jupyter_gpudeploy.errors import BackendError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping


def copy(output: Path, target: Path, path: str = "") -> list[Path]:
    """Copy the files below `output`, or below `path` in it, into `target`; return the copies. Links are left out.

    A file that is there and the same is not written again. Raises BackendError for a path that is not there or
    leads out.
    """
    source = (output / path).resolve()
    if not source.is_relative_to(output.resolve()):
        raise BackendError(f"{path!r} leads out of the task's output folder", hint="a path below it")
    if not source.exists():
        there = ", ".join(sorted(entry.name for entry in output.iterdir())[:10]) if output.is_dir() else ""
        hint = f"there is: {there}" if there else "the task left no files"
        raise BackendError(f"{path or 'the output folder'} is not there", hint=hint)
    copied = []
    for file in [source] if source.is_file() else _files(source):
        made = target / (file.name if source.is_file() else file.relative_to(source))
        made.parent.mkdir(parents=True, exist_ok=True)
        if not (made.is_file() and filecmp.cmp(file, made, shallow=False)):
            copy_file(file, made)
        copied.append(made)
    return copied


def copy_file(file: Path, made: Path) -> None:
    """Copy one file over another, whole or not at all."""
    draft = made.with_name(f".{made.name[:200]}.{os.getpid()}")
    try:
        shutil.copyfile(file, draft)
        draft.replace(made)
    except BaseException:
        draft.unlink(missing_ok=True)
        raise


def differences(folder: Path, files: Mapping[str, str]) -> str:
    """Return how the texts of `files` differ from what lies in `folder`, as a unified diff; the record is left out."""
    found: list[str] = []
    for name, text in files.items():
        if name == "run.json":
            continue
        old = (folder / name).read_text("utf-8").splitlines() if (folder / name).is_file() else []
        found += difflib.unified_diff(old, text.splitlines(), f"run: {name}", f"cell: {name}", lineterm="")
    return "\n".join(found)


def _files(folder: Path) -> Iterator[Path]:
    for where, folders, names in os.walk(folder):
        folders.sort()
        yield from (file for name in sorted(names) if (file := Path(where) / name).is_file() and not file.is_symlink())
