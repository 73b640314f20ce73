"""What goes along to the pods: our own program, the program of the cell, and files of the notebook's folder.

What is small enough goes by ConfigMaps, more is uploaded to the pods (`uploads`), and too much is refused with its size
and its largest files. Sizes are known before anything is read.
"""

from __future__ import annotations

import os
import stat
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import jupyter_gpudeploy
from jupyter_gpudeploy.backends.kubernetes.manifests import attached
from jupyter_gpudeploy.backends.kubernetes.manifests.archives import Archive, Member, TooLargeError, pack
from jupyter_gpudeploy.backends.kubernetes.manifests.tree import Entry, Tree, ignore_of, look, named, scan
from jupyter_gpudeploy.backends.kubernetes.manifests.uploads import Part, upload_of
from jupyter_gpudeploy.errors import PlanError
from jupyter_gpudeploy.plan.types import Note
from jupyter_gpudeploy.quantities import format_memory

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from jupyter_gpudeploy.backends.base import Upload
    from jupyter_gpudeploy.plan.types import ClusterOptions, Plan

UNASKED_BYTES = 2**20
"""So much of the notebook's folder goes along without being asked for."""

MOST_BYTES = 3 * 2**20
"""Of the archive, packed: as much as a few ConfigMaps hold."""

MOST_UPLOADED = 2 * 2**30
"""Of the files, unpacked: as much as is uploaded to a pod."""

_MOST_IN_MEMORY = 64 * 2**20
_BLOCK = 2**20
_SHOWN = 5
_PACKAGE = Path(jupyter_gpudeploy.__file__).parent
_NOT_IN_A_POD = ("testing", "notebook", "labextension", "server", "backends/kubernetes")


class Chosen(NamedTuple):
    """The user's files that go along, what of them does not, and why it is these."""

    tree: Tree
    notes: tuple[Note, ...] = ()


class Work(NamedTuple):
    """What goes along by ConfigMaps, and what is too large for them."""

    archive: Archive | None = None
    upload: Upload | None = None


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


def receiver_text() -> dict[str, bytes]:
    """Return the program that waits for an upload, by its name in the pod."""
    return {"receive.py": (_PACKAGE / "programs" / "receive.py").read_bytes()}


def work(plan: Plan, options: ClusterOptions, runs: Mapping[str, Path]) -> Work:
    """Return the program, the user's files and the runs it attaches to: those that ConfigMaps hold, and the others.

    Raises PlanError for what is too large, or cannot be read.
    """
    tree = choose(plan, options).tree
    _check_size(tree)
    own = [Member(f"code/{path}", text.encode()) for path, text in plan.files.items()]
    own += attached.members(runs)
    if tree.size <= _MOST_IN_MEMORY:
        members = [*own, *(Member(f"work/{one.path}", _read(one), one.is_program) for one in tree.entries)]
        if not members or (archive := _packed(members)) is not None:
            return Work(archive if members else None)
    if why := why_no_upload(plan, options):
        raise PlanError(f"{why}: {_largest(tree)}", hint=f"storage: 10Gi keeps an upload for all; {_IGNORE_HINT}")
    parts = [Part(f"work/{one.path}", one.size, one.is_program, partial(_pieces, one)) for one in tree.entries]
    if (archive := _packed(own)) is None:
        parts += [Part(one.path, len(one.data), one.is_program, partial(iter, [one.data])) for one in own]
    return Work(archive if own else None, upload_of(parts))


def _packed(members: Sequence[Member]) -> Archive | None:
    """Return an archive that ConfigMaps hold, or None."""
    try:
        return pack(members, MOST_BYTES)
    except TooLargeError:
        return None


def why_no_upload(plan: Plan, options: ClusterOptions) -> str:
    """Return why more than ConfigMaps hold cannot be brought to the pods of this plan; empty where it can."""
    if options.schedule:
        return f"nobody is there to upload more than {format_memory(MOST_BYTES)}, packed, when the clock starts it"
    pods = len(plan.tasks) * options.nodes if plan.kind in ("job", "sweep") else options.replicas
    if pods > 1 and not options.storage:
        return f"more than {format_memory(MOST_BYTES)}, packed, cannot be uploaded to each of {pods} pods"
    return ""


def choose(plan: Plan, options: ClusterOptions) -> Chosen:
    """Return which of the user's files go along. Reads names and sizes only. Raises PlanError."""
    base = Path(plan.base)
    needed = _needed(plan, base)
    if options.upload is not None:
        tree = named(base, options.upload).joined(needed)
        return Chosen(tree, _notes(tree, f"{_amount(tree)}, as asked"))
    if plan.git is not None:
        return _of_repository(base)
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


def _of_repository(base: Path) -> Chosen:
    """Return all that a commit has; what is ignored by default was put into it on purpose."""
    tree = scan(base, ignore_of(base, defaults=False))
    if not tree.is_whole:
        message = f"the repository has more than {len(tree.entries):,} files"
        raise PlanError(message, hint="git: {url: .., path: FOLDER}, or upload: names what goes along")
    return Chosen(tree, _notes(tree, f"{_amount(tree)} of the repository"))


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


def upload_notes(plan: Plan, options: ClusterOptions, tree: Tree) -> Iterator[Note]:
    """Yield what a person should know of files that ConfigMaps do not hold."""
    if tree.size <= MOST_BYTES:
        return
    is_sure = tree.size > _MOST_IN_MEMORY
    unless = "" if is_sure else f", where they are more than {format_memory(MOST_BYTES)} packed"
    if tree.size > MOST_UPLOADED:
        message = f"{format_memory(tree.size)} would go along, {format_memory(MOST_UPLOADED)} can; {_largest(tree)}"
        yield Note("error", "upload", message, _IGNORE_HINT)
    elif (why := why_no_upload(plan, options)) and is_sure:
        yield Note("error", "upload", f"{why}: {_largest(tree)}", "storage: 10Gi keeps an upload for all")
    elif options.storage:
        message = f"the files are uploaded to the volume when the first pod has it{unless}"
        yield Note("info", "upload", message, "leave the notebook open until then")
    elif not why:
        message = f"the files are uploaded when the pod starts{unless}, and anew when it has to start again"
        yield Note("info", "upload", message, "leave the notebook open until then; storage: 10Gi keeps them")


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
    if tree.size > MOST_UPLOADED:
        limit = format_memory(MOST_UPLOADED)
        message = f"{format_memory(tree.size)} would go along, {limit} can; {_largest(tree)}"
        raise PlanError(message, hint=_IGNORE_HINT)


def _largest(tree: Tree) -> str:
    largest = sorted(tree.entries, key=lambda entry: -entry.size)[:_SHOWN]
    return "the largest: " + ", ".join(f"{entry.path} {format_memory(entry.size)}" for entry in largest)


def _read(entry: Entry) -> bytes:
    return b"".join(_pieces(entry))


def _pieces(entry: Entry) -> Iterator[bytes]:
    """Yield the bytes of a file that is still the plain file it was. Raises PlanError."""
    try:
        descriptor = os.open(entry.file, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        with os.fdopen(descriptor, "rb") as stream:
            if not stat.S_ISREG(os.fstat(stream.fileno()).st_mode):
                raise PlanError(f"{entry.path} is no plain file any more", hint="run the cell again")
            while data := stream.read(_BLOCK):
                yield data
    except OSError as error:
        raise PlanError(
            f"{entry.path} cannot be read: {error.strerror}", hint="or leave it out: .gpudeployignore"
        ) from None


def listing(tree: Tree) -> Iterator[str]:
    """Yield what goes along and what does not, a line each."""
    yield from (f"{entry.size:>12,}  {entry.path}" for entry in tree.entries)
    yield from (f"{'-':>12}  {one.path}: {one.reason}" for one in tree.skipped)
