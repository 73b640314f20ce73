"""A program that is too large for ConfigMaps: what is sent, and the digest by which it is known.

A pod waits for it in an init container (`programs/receive.py`); `files/uploading.py` sends it there, as a tar that is
packed while it is sent. With `storage:` it is kept on the volume, and sent once.
"""

from __future__ import annotations

import hashlib
import tarfile
import zlib
from typing import TYPE_CHECKING, NamedTuple

from jupyter_gpudeploy.backends.base import Upload
from jupyter_gpudeploy.errors import BackendError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

WAIT_SECONDS = 1800
"""For so long a pod waits for what it needs."""


class Part(NamedTuple):
    """A file that is sent. `read()` yields its bytes, the same each time: `size` of them."""

    path: str
    size: int
    is_program: bool
    read: Callable[[], Iterator[bytes]]


def upload_of(parts: Iterable[Part]) -> Upload:
    """Return what is sent. Reads every file once, for the digest."""
    ordered = sorted(parts, key=lambda part: part.path)
    digest = hashlib.sha256()
    sums = {}
    for part in ordered:
        content = hashlib.sha256()
        for data in part.read():
            content.update(data)
        sums[part.path] = content.hexdigest()
        digest.update(f"{part.path}\0{_mode(part)}\0{sums[part.path]}\0".encode("utf-8", "surrogateescape"))
    size = sum(part.size for part in ordered)
    return Upload(digest.hexdigest(), len(ordered), size, lambda: _packed(ordered))


def _mode(part: Part) -> int:
    return 0o755 if part.is_program else 0o644


def _packed(parts: Iterable[Part]) -> Iterator[bytes]:
    """Yield a tar.gz. Raises BackendError for a file that has another size by now."""
    packer = zlib.compressobj(1, zlib.DEFLATED, 31)
    for part in parts:
        entry = tarfile.TarInfo(part.path)
        entry.size, entry.mode = part.size, _mode(part)
        yield packer.compress(entry.tobuf(tarfile.PAX_FORMAT))
        read = 0
        for data in part.read():
            read += len(data)
            yield packer.compress(data)
        if read != part.size:
            raise BackendError(f"{part.path} has changed while it was uploaded", hint="--replace starts the run anew")
        yield packer.compress(b"\0" * (-part.size % tarfile.BLOCKSIZE))
    yield packer.compress(b"\0" * (2 * tarfile.BLOCKSIZE)) + packer.flush()
