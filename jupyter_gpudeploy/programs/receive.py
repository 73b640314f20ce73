"""The init container of a pod whose program is too large for ConfigMaps: it waits for an upload, and unpacks it.

::

    receive.py wait DIGEST FOLDER SECONDS    until FOLDER/DIGEST.tar.gz is there; unpack it, or give up
    receive.py put DIGEST FOLDER             make it of stdin: pieces, each behind its length in 4 bytes; 0 ends them

`put` is run in the waiting container by whoever has the files. An archive is in its place only when its content is what
DIGEST says: of each member, in the order of their paths, path, mode and sha256. FOLDER may be on a volume that many
pods share; then one upload serves them all. Standard library alone, Python 3.8 or later.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import select
import signal
import sys
import tarfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

if TYPE_CHECKING:
    from collections.abc import Iterator

FOLDERS = ("code", "work", "home")
BUSY = 17
"""The exit code of `put` while another one is at work in the same container."""

_SILENT_SECONDS = 120.0
_LOOK_SECONDS = 0.5
_BLOCK = 1 << 20
_HEAD = 4


def main(words: list[str]) -> int:
    """Return the exit code."""
    root = Path(os.environ.get("GPUDEPLOY_POD_ROOT") or "/gpudeploy")
    action, digest, folder = words[:3]
    archive = Path(folder) / (digest + ".tar.gz")
    try:
        if action == "put":
            return put(archive, digest, root / "state")
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # PID 1 gets no signal by default
        return wait(archive, digest, root, float(words[3]))
    except (OSError, ValueError, EOFError, tarfile.TarError) as error:
        return _say(f"what was uploaded cannot be taken: {error}")


def wait(archive: Path, digest: str, root: Path, seconds: float) -> int:
    """Wait for an archive and unpack it. Return the exit code."""
    done = root / "state" / "received"
    if done.exists() and done.read_text("ascii") == digest:
        return 0
    archive.parent.mkdir(parents=True, exist_ok=True)
    done.parent.mkdir(parents=True, exist_ok=True)
    deadline = time.monotonic() + seconds
    if not archive.exists():
        _say("waiting for the program: the notebook uploads it now")
    while not archive.exists():
        if time.monotonic() > deadline:
            return _say(
                f"nobody uploaded the program within {seconds / 60:g} minutes: run the cell again and leave the "
                "notebook open until it runs"
            )
        time.sleep(_LOOK_SECONDS)
        os.listdir(str(archive.parent))  # noqa: PTH208 - a shared file system looks anew
    with archive.open("rb") as stream:
        found = _content(stream, root)
    if found != digest:
        return _say(f"{archive} is not what was uploaded: its content is {found}")
    done.write_text(digest, "ascii")
    if archive.parent.parent == root / "state":
        archive.unlink()
    return 0


def put(archive: Path, digest: str, state: Path) -> int:
    """Make an archive of what comes on stdin. Return the exit code."""
    state.mkdir(parents=True, exist_ok=True)
    archive.parent.mkdir(parents=True, exist_ok=True)
    with (state / "upload.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            _say("another upload is at work")
            return BUSY
        if archive.exists() or (state / "received").exists():
            return 0
        draft = archive.with_name(f"{archive.name}.{os.uname().nodename}.{os.getpid()}")
        try:
            with draft.open("wb") as stream:
                pieces = _Pieces(0, stream)
                found = _content(pieces, None)
                while pieces.read(_BLOCK):
                    pass  # what follows the last member
                stream.flush()
                os.fsync(stream.fileno())
            if found != digest:
                return _say(f"what came is not what was to come: its content is {found}")
            draft.rename(archive)
        finally:
            if draft.exists():
                draft.unlink()
    return 0


class _Pieces:
    """What is read from a descriptor, piece by piece, and kept in a file as it comes."""

    def __init__(self, descriptor: int, copy: BinaryIO) -> None:
        self._descriptor = descriptor
        self._copy = copy
        self._left = 0
        self._ended = False

    def read(self, size: int) -> bytes:
        """Return up to `size` bytes; none at the end. Raises EOFError where it breaks off."""
        if not self._left and not self._ended:
            head = b"".join(self._exactly(_HEAD))
            self._left = int.from_bytes(head, "big")
            self._ended = not self._left
        if self._ended:
            return b""
        data = self._some(min(size, self._left))
        self._left -= len(data)
        self._copy.write(data)
        return data

    def _exactly(self, count: int) -> Iterator[bytes]:
        while count:
            data = self._some(count)
            count -= len(data)
            yield data

    def _some(self, count: int) -> bytes:
        ready, _, _ = select.select([self._descriptor], [], [], _SILENT_SECONDS)
        data = os.read(self._descriptor, count) if ready else b""
        if not data:
            raise EOFError("the upload broke off")
        return data


def _content(stream: object, root: Path | None) -> str:
    """Return the digest of an archive's content, unpacked below `root` where that is given. Raises ValueError."""
    digest = hashlib.sha256()
    with tarfile.open(fileobj=stream, mode="r|gz") as archive:  # type: ignore[call-overload]
        for member in archive:
            words = member.name.split("/")
            if words[0] not in FOLDERS or not {"", ".", ".."}.isdisjoint(words) or not member.isreg():
                raise ValueError(f"a member that is no file of a program: {member.name!r}")
            content = archive.extractfile(member)
            target = Path(os.devnull) if root is None else root / member.name
            if root is not None:
                target.parent.mkdir(parents=True, exist_ok=True)
            with target.open("wb") as file:
                found = _copied(content, file)
            if root is not None:
                target.chmod(0o755 if member.mode & 0o100 else 0o644)
            digest.update(f"{member.name}\0{member.mode}\0{found}\0".encode("utf-8", "surrogateescape"))
    return digest.hexdigest()


def _copied(content: object, file: BinaryIO) -> str:
    digest = hashlib.sha256()
    for block in iter(lambda: content.read(_BLOCK), b""):  # type: ignore[attr-defined]
        digest.update(block)
        file.write(block)
    return digest.hexdigest()


def _say(message: str) -> int:
    print(message, file=sys.stderr, flush=True)  # noqa: T201 - the container's log, or the answer to whoever asks
    return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
