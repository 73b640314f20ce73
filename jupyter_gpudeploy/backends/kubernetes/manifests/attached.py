"""Earlier runs that a program attaches to: `attach("digits").best()["output"]` works in the pod as it does here."""

from __future__ import annotations

import ast
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jupyter_gpudeploy.backends.kubernetes.manifests.archives import Member
from jupyter_gpudeploy.errors import PlanError
from jupyter_gpudeploy.quantities import format_memory

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from jupyter_gpudeploy.plan.types import Plan

MOST_BYTES = 16 * 2**20
_RUNS = "home/.local/state/jupyter_gpudeploy/runs"
_KEPT = ("run.json", "cell.txt", "ref.json", "events.jsonl")
_FOLDERS = ("metrics", "logs", "out")
_REF = ("name", "uid", "fingerprint", "created")


def attached_names(plan: Plan) -> tuple[str, ...]:
    """Return the names of the runs that the program attaches to, as they stand in its text."""
    texts = [text for path, text in plan.files.items() if path.endswith(".py")]
    for source in plan.sources:
        if source.path.endswith(".py"):
            try:
                texts.append(Path(source.path).read_text("utf-8"))
            except (OSError, ValueError):
                continue
    found = [name for text in texts for name in _names(text)]
    return tuple(dict.fromkeys(found))


def members(runs: Mapping[str, Path]) -> Iterator[Member]:
    """Yield the files of these runs, each run as a local one. Raises PlanError for a run that is too large."""
    for name, folder in sorted(runs.items()):
        files = [file for file in _files(folder) if file.is_file() and not file.is_symlink()]
        size = sum(file.stat().st_size for file in files)
        if size > MOST_BYTES:
            message = (
                f"attach({name!r}): the run's files are {format_memory(size)}, {format_memory(MOST_BYTES)} can go along"
            )
            raise PlanError(message, hint="put what is needed on a volume: storage:")
        for file in files:
            yield Member(f"{_RUNS}/{folder.name}/{file.relative_to(folder).as_posix()}", file.read_bytes())
        if not (folder / "ref.json").is_file():
            yield Member(f"{_RUNS}/{folder.name}/ref.json", json.dumps(_ref(folder)).encode())


def _names(text: str) -> Iterator[str]:
    try:
        tree = ast.parse(text)
    except (SyntaxError, ValueError):
        return
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and _called(node.func) == "attach":
            given = [*node.args[:1], *(word.value for word in node.keywords if word.arg == "name")]
            yield from (one.value for one in given if isinstance(one, ast.Constant) and isinstance(one.value, str))


def _called(function: ast.expr) -> str:
    return function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")


def _files(folder: Path) -> Iterator[Path]:
    yield from (folder / name for name in _KEPT)
    for below in _FOLDERS:
        for root, folders, names in os.walk(folder / below):
            folders.sort()
            yield from (Path(root) / name for name in sorted(names))


def _ref(folder: Path) -> dict[str, Any]:
    record = json.loads((folder / "run.json").read_text("utf-8"))
    missing = {"name": folder.name, "uid": "", "fingerprint": "", "created": 0.0}
    return {key: record.get(key) or missing[key] for key in _REF}
