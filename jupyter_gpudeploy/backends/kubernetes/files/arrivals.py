"""Files that a pod sends as a tar become files below a folder of this machine. Nothing of what it sends is trusted.

What was asked for is known by name and size before. Only plain files of these names are written, each under a name of
its own first, and moved to its place when its sum is right; nothing that is a link is made or followed, modes are ours.
Everything else of the archive is passed over and named. It is never held in memory, nor more of it taken than was
announced.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import stat
import tarfile
from contextlib import contextmanager
from typing import TYPE_CHECKING, NamedTuple

from jupyter_gpudeploy.errors import BackendError

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator, Mapping
    from pathlib import Path

_HEADERS = 16 * 2**10
_SPARE = 2**20
_NAME_LIMIT = 255
_PATH_LIMIT = 4096
_TAKEN = 2**20
_PREFIX = "GPUDEPLOY."
_DRAFTS = ".gpudeploy-download."
_KINDS = {
    tarfile.SYMTYPE: "a symbolic link",
    tarfile.LNKTYPE: "a hard link",
    tarfile.FIFOTYPE: "a pipe",
    tarfile.CHRTYPE: "a device",
    tarfile.BLKTYPE: "a device",
    tarfile.GNUTYPE_SPARSE: "a file with holes",
}


class Refused(NamedTuple):
    """A member that was not taken, and why."""

    path: str
    why: str

    def __str__(self) -> str:
        return f"{self.path} ({self.why})"


class _Draft(NamedTuple):
    path: str
    file: Path
    digest: str


class Arrivals:
    """Takes a tar as it comes. `wanted`: size by path; `arrived`: those that are in their place.

    `refused`: what was not taken, each time. `missing`: what was wanted and did not come at all.
    """

    def __init__(
        self, wanted: Mapping[str, int], target: Path, drafts: Path, on_bytes: Callable[[int], None] = lambda _: None
    ) -> None:
        self.arrived: list[str] = []
        self.refused: list[Refused] = []
        self._wanted = dict(wanted)
        self._left = set(wanted)
        self._target = target
        self._drafts = drafts
        self._on_bytes = on_bytes
        self._room = sum(wanted.values()) + len(wanted) * _HEADERS + _SPARE
        self._pending: _Draft | None = None
        self._open = ""
        self._count = 0
        self._announced: int | None = None
        self._parser = self._archive()
        self._wants = next(self._parser)

    @property
    def missing(self) -> list[str]:
        """What was wanted and did not come to its end."""
        pending = {self._open} if self._open else set()
        return sorted(self._left | pending)

    def feed(self, data: bytes) -> None:
        """Take bytes. Raises BackendError for no archive, or more than was announced; OSError for a full disk."""
        self._room -= len(data)
        if self._room < 0:
            raise BackendError("the pod sends more than it announced: the rest of it was not taken")
        view = memoryview(data)
        try:
            while view:
                piece, view = view[: self._wants], view[self._wants :]
                self._wants = self._parser.send(bytes(piece))
        except tarfile.TarError as error:
            raise BackendError(f"what the pod sends is no archive: {error}") from None

    def _archive(self) -> Generator[int, bytes, None]:
        """Read an archive, and pass over what follows it. Yields how many bytes are wanted, at most; gets 1 or more."""
        path = ""
        sparse = False
        while True:
            block = yield from _exactly(tarfile.BLOCKSIZE)
            if not block.strip(b"\0"):
                continue
            info = tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
            if info.size < 0:
                raise tarfile.ReadError("a member of less than no bytes")
            if info.type in (tarfile.XHDTYPE, tarfile.XGLTYPE):
                said = yield from _records(info.size)
                if info.type == tarfile.XGLTYPE:
                    self._close_draft(said)
                    continue
                path, sparse = said.get("path", ""), any(key.startswith("GNU.sparse") for key in said)
                size = said.get("size", "")
                self._announced = int(size) if size.isascii() and size.isdigit() else None
                continue
            if self._announced is not None:
                info.size = self._announced
            self._announced = None
            self._drop_draft("it came without its sum")
            yield from self._member(path or info.name, info, is_sparse=sparse)
            path, sparse = "", False

    def _member(self, path: str, info: tarfile.TarInfo, *, is_sparse: bool) -> Generator[int, bytes, None]:
        why = self._why_not(path, info, is_sparse=is_sparse)
        file = None
        if not why:
            try:
                place_in(self._target, path)
            except ValueError as error:
                why = str(error)
        if why:
            self._refuse(path, why)
            yield from _skip(_padded(info.size if _has_content(info) else 0))
            return
        self._count += 1
        self._left.discard(path)
        self._open = path
        file = self._drafts / str(self._count)
        digest = hashlib.sha256()
        left = info.size
        mode = 0o777 if info.mode & stat.S_IXUSR else 0o666
        descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, mode)
        with os.fdopen(descriptor, "wb") as stream:
            while left:
                piece = yield min(left, _TAKEN)
                stream.write(piece)
                digest.update(piece)
                left -= len(piece)
                self._on_bytes(len(piece))
        self._pending = _Draft(path, file, digest.hexdigest())
        yield from _skip(_padded(info.size) - info.size)

    def _why_not(self, path: str, info: tarfile.TarInfo, *, is_sparse: bool) -> str:
        """Return why a member is not taken; empty for one that is."""
        if why := why_no_place(path):
            return why
        if info.type not in (tarfile.REGTYPE, tarfile.AREGTYPE) or is_sparse:
            return "a file with holes" if is_sparse else _KINDS.get(info.type, "no plain file")
        if path not in self._wanted:
            return "it was not asked for"
        if path not in self._left:
            return "it came twice"
        if info.size != self._wanted[path]:
            return f"{info.size} bytes came of {self._wanted[path]}"
        return ""

    def _close_draft(self, said: Mapping[str, str]) -> None:
        """Move the last file to its place, where its sum is right."""
        draft = self._pending
        if draft is None:
            return
        self._open = ""
        digest = said.get(f"{_PREFIX}sha256")
        if digest != draft.digest:
            self._drop_draft(said.get(f"{_PREFIX}error") or "its sum is wrong")
            return
        self._pending = None
        try:
            place = place_in(self._target, draft.path)
        except ValueError as error:
            draft.file.unlink()
            self._refuse(draft.path, str(error))
            return
        draft.file.replace(place)
        self.arrived.append(draft.path)

    def _drop_draft(self, why: str) -> None:
        self._open = ""
        if self._pending is not None:
            self._pending.file.unlink(missing_ok=True)
            self._refuse(self._pending.path, why[:_NAME_LIMIT])
            self._pending = None

    def _refuse(self, path: str, why: str) -> None:
        if len(self.refused) < len(self._wanted) + 100:
            self.refused.append(Refused(ascii(path)[1:-1][:_NAME_LIMIT], why))


@contextmanager
def drafts(target: Path) -> Iterator[Path]:
    """Make a folder for unfinished files, and delete it at the end; those of processes that were killed go, too."""
    target.mkdir(parents=True, exist_ok=True)
    for old in target.glob(f"{_DRAFTS}*"):
        _remove_if_free(old)
    made, held = _made(target)
    try:
        yield made
    finally:
        shutil.rmtree(made, ignore_errors=True)
        os.close(held)


def why_no_place(path: str) -> str:
    """Return why a path is none below a folder; empty for one that is."""
    words = path.split("/")
    if path.startswith("/"):
        return "an absolute path"
    if ".." in words:
        return "it leads out"
    if any(word in ("", ".") or len(os.fsencode(word)) > _NAME_LIMIT for word in words) or "\0" in path:
        return "no name of a file"
    return "its path is too long" if len(os.fsencode(path)) > _PATH_LIMIT else ""


def place_in(target: Path, path: str) -> Path:
    """Return where a file goes, and make its folder. Raises ValueError where a link or something else is in the way."""
    *folders, name = path.split("/")
    place = target
    for word in folders:
        place /= word
        if not stat.S_ISDIR(_mode(place) or stat.S_IFDIR):
            raise ValueError(f"{word} is no folder here")
        place.mkdir(exist_ok=True)
    if not stat.S_ISREG(_mode(place / name) or stat.S_IFREG):
        raise ValueError("something of that name is here and is no plain file")
    return place / name


def _mode(path: Path) -> int:
    try:
        return path.lstat().st_mode
    except FileNotFoundError:
        return 0


def _made(target: Path) -> tuple[Path, int]:
    """Return a new folder, and the lock that says that somebody uses it."""
    while True:
        made = target / f"{_DRAFTS}{os.getpid()}-{os.urandom(4).hex()}"
        made.mkdir(mode=0o700)
        held = os.open(made, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        fcntl.flock(held, fcntl.LOCK_EX)
        if made.exists():  # else another process took it for one that was left behind
            return made, held
        os.close(held)


def _remove_if_free(folder: Path) -> None:
    try:
        held = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return
    try:
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        shutil.rmtree(folder, ignore_errors=True)
    except OSError:
        return
    finally:
        os.close(held)


def _exactly(count: int) -> Generator[int, bytes, bytes]:
    parts = bytearray()
    while len(parts) < count:
        parts += yield count - len(parts)
    return bytes(parts)


def _skip(count: int) -> Generator[int, bytes, None]:
    while count:
        count -= len((yield min(count, _TAKEN)))


def _records(size: int) -> Generator[int, bytes, dict[str, str]]:
    """Return the records of a pax header. Raises TarError for one that is too large, or wrong."""
    if size > _HEADERS // 2:
        raise tarfile.ReadError("a header is too long")
    data = (yield from _exactly(_padded(size)))[:size]
    found = {}
    while data:
        length, blank, _ = data.partition(b" ")
        count = int(length) if blank and length.isdigit() and len(length) < 6 else 0  # noqa: PLR2004 - of a header
        key, equals, value = data[len(length) + 1 : count].partition(b"=")
        if not equals or not value.endswith(b"\n") or count > len(data):
            raise tarfile.ReadError("a header is broken")
        found[key.decode("utf-8", "replace")] = value[:-1].decode("utf-8", "surrogateescape")
        data = data[count:]
    return found


def _padded(size: int) -> int:
    return size + -size % tarfile.BLOCKSIZE


def _has_content(info: tarfile.TarInfo) -> bool:
    """Return whether bytes follow the header of a member that is passed over."""
    return info.type not in (
        tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.DIRTYPE
    )  # fmt: skip
