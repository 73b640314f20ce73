"""Archives of files that are the same bytes for the same files, and ConfigMaps to carry them."""

from __future__ import annotations

import gzip
import hashlib
import io
import tarfile
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

PART_BYTES = 900 * 2**10
"""A ConfigMap holds 1 MiB, its keys among it."""

_SUM = ".sha256"


class Member(NamedTuple):
    """A file of an archive."""

    path: str
    data: bytes
    is_program: bool = False


class Archive(NamedTuple):
    """`digest` is of the contents, so it is the same whatever packs them; `size` is unpacked."""

    data: bytes
    files: int
    size: int
    digest: str

    def __str__(self) -> str:
        plural = "" if self.files == 1 else "s"
        return f"{self.files:,} file{plural}, {self.size:,} bytes unpacked, sha256 of them {self.digest[:16]}"


class TooLargeError(Exception):
    """An archive is larger than it may be."""


def pack(members: Iterable[Member], limit: int | None = None) -> Archive:
    """Return the members as tar.gz: sorted, of no time and no owner. Raises TooLargeError above `limit` bytes."""
    packed = _Limited(limit)
    digest = hashlib.sha256()
    files = size = 0
    with (
        gzip.GzipFile(fileobj=packed, mode="wb", mtime=0, compresslevel=6) as stream,
        tarfile.open(fileobj=stream, mode="w", format=tarfile.PAX_FORMAT) as archive,
    ):
        for member in sorted(members):
            entry = tarfile.TarInfo(member.path)
            entry.size = len(member.data)
            entry.mode = 0o755 if member.is_program else 0o644
            archive.addfile(entry, io.BytesIO(member.data))
            content = hashlib.sha256(member.data).hexdigest()
            digest.update(f"{member.path}\0{entry.mode}\0{content}\0".encode("utf-8", "surrogateescape"))
            files, size = files + 1, size + len(member.data)
    return Archive(packed.getvalue(), files, size, digest.hexdigest())


class _Limited(io.BytesIO):
    def __init__(self, limit: int | None) -> None:
        super().__init__()
        self._limit = limit

    def write(self, data: Any) -> int:  # noqa: ANN401 - whatever has bytes
        written = super().write(data)
        if self._limit is not None and self.tell() > self._limit:
            raise TooLargeError
        return written


class Carried(NamedTuple):
    """The data of one ConfigMap, and what is said of each key where the data is not shown."""

    data: Mapping[str, bytes]
    shown: Mapping[str, str]


def spread(texts: Mapping[str, bytes], archives: Mapping[str, Archive]) -> list[Carried]:
    """Return the ConfigMaps that hold all of this: as few as may be, archives cut in parts where they are large."""
    pieces = [(name, data, _said(data)) for name, data in texts.items()]
    for name, archive in archives.items():
        pieces.append((name + _SUM, hashlib.sha256(archive.data).hexdigest().encode(), "of the archive"))
        pieces += _parts(name, archive)
    boxes: list[dict[str, tuple[bytes, str]]] = []
    for name, data, said in pieces:
        room = next((box for box in boxes if _size(box) + len(data) <= PART_BYTES), None)
        if room is None:
            boxes.append(room := {})
        room[name] = (data, said)
    return [
        Carried({name: box[name][0] for name in sorted(box)}, {name: box[name][1] for name in sorted(box)})
        for box in boxes
    ]


def _parts(name: str, archive: Archive) -> Iterator[tuple[str, bytes, str]]:
    if len(archive.data) <= PART_BYTES:
        yield name, archive.data, str(archive)
        return
    count = -(-len(archive.data) // PART_BYTES)
    for index in range(count):
        part = archive.data[index * PART_BYTES : (index + 1) * PART_BYTES]
        yield f"{name}.{index:03d}", part, f"part {index + 1} of {count}: {archive}"


def _size(box: Mapping[str, tuple[bytes, str]]) -> int:
    return sum(len(data) for data, _ in box.values())


def _said(data: bytes) -> str:
    return f"{len(data):,} bytes, sha256 {hashlib.sha256(data).hexdigest()[:16]}"
