"""What goes along to the pods: our own program, the program of the cell, and files of the notebook's folder.

Everything is small enough for ConfigMaps, or it is refused with its size and its largest files. Sizes are known before
anything is read.
"""

from __future__ import annotations

import os
import stat
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import jupyter_gpudeploy
from jupyter_gpudeploy.backends.kubernetes import attached
from jupyter_gpudeploy.backends.kubernetes.archives import Archive, Member, pack
from jupyter_gpudeploy.backends.kubernetes.tree import Entry, Tree, ignore_of, look, named, scan
from jupyter_gpudeploy.errors import PlanError
from jupyter_gpudeploy.plan.types import Note
from jupyter_gpudeploy.quantities import format_memory

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from jupyter_gpudeploy.plan.types import ClusterOptions, Plan

UNASKED_BYTES = 2**20
"""So much of the notebook's folder goes along without being asked for."""

MOST_BYTES = 3 * 2**20
"""Of the archive, packed: as much as a few ConfigMaps hold."""

_MOST_UNPACKED = 256 * 2**20
_SHOWN = 5
_PACKAGE = Path(jupyter_gpudeploy.__file__).parent
_NOT_IN_A_POD = ("testing", "notebook", "labextension", "server", "backends/kubernetes")


class Chosen(NamedTuple):
    """The user's files that go along, what of them does not, and why it is these."""

    tree: Tree
    notes: tuple[Note, ...] = ()


def runtime_texts() -> dict[str, bytes]:
    """Return the programs that run before anything is unpacked, by their name in the pod."""
    return {name: (_PACKAGE / "programs" / name).read_bytes() for name in ("boot.py", "install.py")}


@cache
def runtime() -> Archive:
    """Return the sources of this package that programs in a pod may import, below `runtime/`."""
    found = []
    for file in sorted(_PACKAGE.rglob("*.py")):
        path = file.relative_to(_PACKAGE).as_posix()
        if not path.startswith(tuple(f"{folder}/" for folder in _NOT_IN_A_POD)):
            found.append(Member(f"runtime/jupyter_gpudeploy/{path}", file.read_bytes()))
    return pack(found)


def work(plan: Plan, options: ClusterOptions, runs: Mapping[str, Path]) -> Archive | None:
    """Return the program, the user's files and the runs it attaches to; None where there are none.

    Raises PlanError for what is too large, or cannot be read.
    """
    chosen = choose(plan, options)
    _check_size(chosen.tree)
    members = [Member(f"code/{path}", text.encode()) for path, text in plan.files.items()]
    members += [Member(f"work/{entry.path}", _read(entry), entry.is_program) for entry in chosen.tree.entries]
    members += attached.members(runs)
    if not members:
        return None
    archive = pack(members)
    if len(archive.data) > MOST_BYTES:
        raise _too_large(chosen.tree, len(archive.data), " packed")
    return archive


def choose(plan: Plan, options: ClusterOptions) -> Chosen:
    """Return which of the user's files go along. Reads names and sizes only. Raises PlanError."""
    base = Path(plan.base)
    needed = _needed(plan, base)
    if options.upload is not None:
        tree = named(base, options.upload).joined(needed)
        return Chosen(tree, _notes(tree, f"{_amount(tree)}, as asked"))
    everything = scan(base, ignore_of(base))
    for what, is_wanted in _SHARES.items():
        tree = everything.only(entry.path for entry in everything.entries if is_wanted(entry)).joined(needed)
        if tree.size - needed.size <= UNASKED_BYTES and (everything.is_whole or what in _OF_A_PART):
            break
    if len(tree.entries) == len(everything.entries) and everything.is_whole:
        said = f"{_amount(tree)} of the notebook's folder" if tree.entries else "no files of the notebook's folder"
        return Chosen(tree, _notes(tree, said))
    amount = format_memory(everything.size) if everything.is_whole else f"more than {len(everything.entries):,} files"
    message = f"the notebook's folder has {amount}: {what} go along ({_amount(tree)})"
    return Chosen(tree, _notes(tree, message, "upload: [src, data.csv] names what goes along"))


_SHARES: dict[str, Callable[[Entry], bool]] = {
    "all files": lambda _: True,
    "only the *.py files": lambda entry: entry.path.endswith(".py"),
    "only the *.py files directly in it": lambda entry: entry.path.endswith(".py") and "/" not in entry.path,
    "only the program's own files": lambda _: False,
}
_OF_A_PART = tuple(_SHARES)[2:]


def _needed(plan: Plan, base: Path) -> Tree:
    """Return what the program surely needs: its sources, and its folder where it has one of its own."""
    inside = [Path(source.path) for source in plan.sources if Path(source.path).is_relative_to(base)]
    looked = [look(base, file.relative_to(base).as_posix(), None) for file in inside]
    own = Tree(tuple(one for one in looked if isinstance(one, Entry)))
    found = Tree()
    folder = Path(plan.working_dir)
    if folder != base and folder.is_relative_to(base):
        found = scan(base, ignore_of(base), folder.relative_to(base).as_posix())
        if not found.is_whole:
            raise PlanError(f"{folder.name}/ has more than {len(found.entries):,} files", hint=_IGNORE_HINT)
    return own.joined(found)


def _notes(tree: Tree, message: str, hint: str = "") -> tuple[Note, ...]:
    notes = [Note("info", "upload", message, hint)]
    if tree.skipped:
        listed = "; ".join(f"{one.path} ({one.reason})" for one in tree.skipped[:_SHOWN])
        more = f"; and {len(tree.skipped) - _SHOWN} more" if len(tree.skipped) > _SHOWN else ""
        notes.append(Note("warning", "upload", f"do not go along: {listed}{more}"))
    return tuple(notes)


_IGNORE_HINT = (
    "upload: names what goes along, .gpudeployignore what does not; large data belongs on a volume (storage:)"
)


def _amount(tree: Tree) -> str:
    plural = "" if len(tree.entries) == 1 else "s"
    return f"{len(tree.entries):,} file{plural}, {format_memory(tree.size)}"


def _check_size(tree: Tree) -> None:
    if tree.size > _MOST_UNPACKED:
        raise _too_large(tree, tree.size, "")


def _too_large(tree: Tree, size: int, how: str) -> PlanError:
    largest = sorted(tree.entries, key=lambda entry: -entry.size)[:_SHOWN]
    listed = ", ".join(f"{entry.path} {format_memory(entry.size)}" for entry in largest)
    return PlanError(
        f"{format_memory(size)}{how} would go along, {format_memory(MOST_BYTES)} can; the largest: {listed}",
        hint=_IGNORE_HINT,
    )


def _read(entry: Entry) -> bytes:
    """Return the bytes of a file that is still the plain file it was. Raises PlanError."""
    try:
        descriptor = os.open(entry.file, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        with os.fdopen(descriptor, "rb") as stream:
            if not stat.S_ISREG(os.fstat(stream.fileno()).st_mode):
                raise PlanError(f"{entry.path} is no plain file any more", hint="run the cell again")
            return stream.read(_MOST_UNPACKED)
    except OSError as error:
        raise PlanError(
            f"{entry.path} cannot be read: {error.strerror}", hint="or leave it out: .gpudeployignore"
        ) from None


def listing(tree: Tree) -> Iterator[str]:
    """Yield what goes along and what does not, a line each."""
    yield from (f"{entry.size:>12,}  {entry.path}" for entry in tree.entries)
    yield from (f"{'-':>12}  {one.path}: {one.reason}" for one in tree.skipped)
