"""Shows and sends the files of a folder. Its text is given to `python3 -c` in a pod that sees them, before the wish.

One line of JSON on stdin says what is wanted, beside `folder` and `path`, a file or folder below it ("": all)::

    action "list"    a line of JSON an entry: {"file": path, "size", "stored" (bytes on the disk)}, or
                     {"left": path, "why"} for what is no plain file; at last {"end": count}, or {"missing": [names]}
    action "sums"    of each of `files` ([[path, size], ...]) a line {"file": path, "sha256"}, None where it is not so
                     large any more; at last {"end": count}
    action "send"    a tar of the first `size` bytes of each of `files`; behind each of them a global header with
                     GPUDEPLOY.sha256 of what was sent, or GPUDEPLOY.error

Paths are relative to what was asked for; of a file, its name. Nothing is followed that is a link.
Standard library alone, Python 3.8 or later.
"""

# ruff: noqa: PTH112, PTH114, PTH118, PTH119, PTH208 - texts all along: there may be a hundred thousand files
from __future__ import annotations

import hashlib
import json
import os
import stat
import sys
import tarfile
from typing import TYPE_CHECKING, Any, BinaryIO

if TYPE_CHECKING:
    from collections.abc import Iterator

_BLOCK = 1 << 20
_WRITTEN = 1 << 16
_SHOWN = 10


def main() -> int:
    """Return the exit code."""
    wish = json.loads(sys.stdin.buffer.readline())
    start = os.path.join(wish["folder"], wish["path"]).rstrip("/")
    try:
        if wish["action"] == "send":
            with os.fdopen(1, "wb", _WRITTEN, closefd=False) as out:
                send(start, wish["files"], out)
        else:
            found = listing(start, wish["folder"]) if wish["action"] == "list" else sums(start, wish["files"])
            for line in found:
                sys.stdout.write(json.dumps(line) + "\n")
        sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # nobody is there to be told
        return 1
    return 0


def listing(start: str, folder: str) -> Iterator[dict[str, Any]]:
    """Yield what lies there."""
    count = 0
    if not os.path.lexists(start):
        yield {"missing": sorted(os.listdir(folder))[:_SHOWN] if os.path.isdir(folder) else []}
        return
    for path, place in _entries(start):
        try:
            found = os.lstat(place)
            path.encode()
            if not stat.S_ISREG(found.st_mode):
                yield {"left": path, "why": "a link" if stat.S_ISLNK(found.st_mode) else "no plain file"}
                continue
            line = {"file": path, "size": found.st_size, "stored": found.st_blocks * 512}
        except UnicodeEncodeError:
            yield {"left": ascii(path), "why": "its name is not UTF-8"}
        except OSError as error:
            yield {"left": path, "why": str(error.strerror)}
        else:
            count += 1
            yield line
    yield {"end": count}


def sums(start: str, files: list[tuple[str, int]]) -> Iterator[dict[str, Any]]:
    """Yield the sums of these files."""
    for path, size in files:
        try:
            yield {"file": path, "sha256": _sum(_place(start, path), size)}
        except OSError:
            yield {"file": path, "sha256": None}
    yield {"end": len(files)}


def send(start: str, files: list[tuple[str, int]], out: BinaryIO) -> None:
    """Write the tar."""
    for path, size in files:
        entry = tarfile.TarInfo(path)
        entry.size = size
        entry.mode = 0o755 if _is_program(_place(start, path)) else 0o644
        out.write(entry.tobuf(tarfile.PAX_FORMAT))
        word, said = _send_content(_place(start, path), size, out)
        out.write(b"\0" * (-size % tarfile.BLOCKSIZE))
        out.write(tarfile.TarInfo.create_pax_global_header({"GPUDEPLOY." + word: said}))
    out.write(b"\0" * (2 * tarfile.BLOCKSIZE))


def _send_content(place: str, size: int, out: BinaryIO) -> tuple[str, str]:
    """Write exactly so many bytes; return what is said of them."""
    digest = hashlib.sha256()
    left = size
    error = ""
    try:
        with _opened(place) as stream:
            before = os.fstat(stream.fileno())
            while left:
                data = stream.read(min(_BLOCK, left))
                if not data:
                    break
                digest.update(data)
                left -= len(data)
                out.write(data)
            after = os.fstat(stream.fileno())
            is_rewritten = after.st_mtime_ns != before.st_mtime_ns and after.st_size <= before.st_size
            if left or is_rewritten:
                error = "it changed while it was read"
    except BrokenPipeError:
        raise
    except OSError as failure:
        error = str(failure.strerror or failure)
    while left:
        taken = min(_BLOCK, left)
        out.write(b"\0" * taken)
        left -= taken
    return ("error", error) if error else ("sha256", digest.hexdigest())


def _entries(start: str) -> Iterator[tuple[str, str]]:
    """Yield (path, place) of everything below a folder that is no folder; of a file itself."""
    if os.path.islink(start) or not os.path.isdir(start):
        yield os.path.basename(start), start
        return
    for where, folders, names in os.walk(start):
        folders.sort()
        links = [name for name in folders if os.path.islink(os.path.join(where, name))]
        for name in sorted(names + links):
            place = os.path.join(where, name)
            yield os.path.relpath(place, start), place


def _place(start: str, path: str) -> str:
    return os.path.join(start, path) if os.path.isdir(start) and not os.path.islink(start) else start


def _is_program(place: str) -> bool:
    try:
        return bool(os.lstat(place).st_mode & 0o100)
    except OSError:
        return False


def _opened(place: str) -> BinaryIO:
    descriptor = os.open(place, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(0, "no plain file any more")
    return os.fdopen(descriptor, "rb")


def _sum(place: str, size: int) -> str | None:
    digest = hashlib.sha256()
    with _opened(place) as stream:
        if os.fstat(stream.fileno()).st_size != size:
            return None
        for data in iter(lambda: stream.read(_BLOCK), b""):
            digest.update(data)
    return digest.hexdigest()


if __name__ == "__main__":
    sys.exit(main())
