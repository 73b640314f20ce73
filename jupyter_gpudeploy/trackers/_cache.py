"""What a task reported until its end, kept in `cache/` of the run's folder: a reading that need not be done twice.

::

    cache/<task>.points     a line of JSON that says what was read, then the columns, packed (zlib)

It holds for as long as the files that were read are the same (inode, size, time of the last change) and the same
version of this package reads them. A file that is torn, foreign or too old is no cache. It may be deleted at any time,
and where it cannot be written, it is not.
"""

from __future__ import annotations

import json
import sys
import zlib
from array import array
from typing import TYPE_CHECKING, NamedTuple

from jupyter_gpudeploy._version import __version__
from jupyter_gpudeploy.events.store import write_atomically
from jupyter_gpudeploy.trackers._columns import SOURCES, Columns, Names
from jupyter_gpudeploy.trackers.base import Problem

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from jupyter_gpudeploy.events.store import RunFolder
    from jupyter_gpudeploy.trackers.base import Reader

FORMAT = 1
SMALLEST = 1 << 15  # bytes of reports that are worth it: below, reading them is as fast
_COLUMNS = ("metric", "attempt", "line", "value", "step", "epoch", "time")
_NARROWER = {"q": ("i", 1 << 31), "i": ("h", 1 << 15)}
_BROKEN = (OSError, ValueError, KeyError, TypeError, EOFError, OverflowError, zlib.error)


class Kept:
    """What is kept of one task. Made before its files are read, so that what they become meanwhile is noticed."""

    def __init__(self, folder: RunFolder, task: int, attempt: int, readers: Sequence[Reader]) -> None:
        self._file = folder.cache_file(task)
        self._task = task
        files = [_identity(file) for reader in readers for file in reader.files()]
        self._is_worth = sum(identity.size for identity in files) >= SMALLEST
        self._key = [FORMAT, __version__, sys.byteorder, attempt, [list(identity) for identity in files]]

    def load(self) -> tuple[list[Columns], list[Problem]] | None:
        """Return the points of each source, and what was wrong; None where nothing is kept that still holds."""
        if not self._is_worth:
            return None
        try:
            head, _, packed = self._file.read_bytes().partition(b"\n")
            header = json.loads(head)
            if header["key"] != self._key or header["crc"] != zlib.crc32(packed):
                return None
            data = _Unpacker(zlib.decompress(packed))
            sources = zip(SOURCES, header["sources"], strict=True)
            points = [data.columns(*kept).mark(self._task, source) for source, kept in sources]
            return points, [Problem(*problem) for problem in header["problems"]]
        except _BROKEN:
            return None

    def save(self, sources: Sequence[Columns], problems: Sequence[Problem]) -> None:
        """Keep the points of each source, and what was wrong. A full disk, or a folder that is gone, is no error."""
        if not self._is_worth:
            return
        data = bytearray()
        kept = [_packed(columns, data) for columns in sources]
        packed = zlib.compress(data, 1)
        header = {"key": self._key, "crc": zlib.crc32(packed), "sources": kept, "problems": problems}
        try:
            self._file.parent.mkdir(exist_ok=True, mode=0o700)
            write_atomically(self._file, json.dumps(header).encode() + b"\n" + packed)
        except OSError:
            return


class _Identity(NamedTuple):
    file: str
    inode: int
    size: int
    changed: int


def _identity(file: Path) -> _Identity:
    """Return who a file is, in zeros where there is none."""
    try:
        found = file.stat()
    except OSError:
        return _Identity(str(file), 0, 0, 0)
    return _Identity(str(file), found.st_ino, found.st_size, found.st_mtime_ns)


def _packed(columns: Columns, data: bytearray) -> tuple[list[str], int, list[tuple[str, int]]]:
    """Append the columns to `data`. Return their names, their length, and (type, stored items) of each."""
    count = len(columns)
    used = dict.fromkeys(columns.metric)
    numbers = {metric: number for number, metric in enumerate(used)}
    kept = []
    for name in _COLUMNS:
        column = getattr(columns, name)
        if name == "metric":
            column = array("i", map(numbers.__getitem__, column))
        raw, size = column.tobytes(), column.itemsize
        if count and raw == raw[:size] * count:
            raw = raw[:size]
        elif count and column.typecode in _NARROWER and max(column) < _NARROWER[column.typecode][1]:
            column = array(_NARROWER[column.typecode][0], column)
            raw, size = column.tobytes(), column.itemsize
        kept.append((column.typecode, len(raw) // size))
        data += raw
    return [columns.names[metric] for metric in used], count, kept


class _Unpacker:
    """Takes columns off packed bytes, in the order in which they were appended."""

    def __init__(self, data: bytes) -> None:
        self._data = memoryview(data)
        self._end = 0

    def columns(self, names: list[str], count: int, kept: list[tuple[str, int]]) -> Columns:
        """Return the next columns. Raises ValueError where there is not as much as was said."""
        found = Columns(Names(names))
        for name, (code, stored) in zip(_COLUMNS, kept, strict=True):
            column = array(code)
            start, self._end = self._end, self._end + stored * column.itemsize
            column.frombytes(self._data[start : self._end])
            if len(column) != stored or stored not in (1, count):
                raise ValueError(f"{stored} items for {count} points")
            wide = getattr(found, name)
            if code != wide.typecode:
                column = array(wide.typecode, column)
            wide.extend(column if stored == count else column * count)
        return found
