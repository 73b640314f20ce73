"""Following files that grow: whole lines, from where one stopped, with nothing held open in between.

Built for floods: a block of a megabyte is read and split at once, so a tail keeps up with a child that prints two
million lines (benchmarks/b11_tail.py).
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

BLOCK = 1 << 20
LINE_LIMIT = 1 << 16


class Tail:
    """The lines of one growing file. `offset` is the byte after the last line handed out.

    A line is cut at LINE_LIMIT bytes for the reader, and says how much was left out; the file keeps all of it.
    """

    def __init__(self, file: Path, offset: int = 0) -> None:
        self.file = file
        self.offset = offset

    def lines(self, *, ended: bool = False, blocks: int = 64) -> list[str]:
        """Return the lines that are whole by now; with `ended`, also a last one without a newline.

        At most `blocks` megabytes are read by one call.
        """
        found: list[bytes] = []
        try:
            with self.file.open("rb", buffering=0) as stream:
                if os.fstat(stream.fileno()).st_size <= self.offset:
                    return []
                for _ in range(blocks):
                    if not self._read_block(stream.fileno(), found):
                        break
                if ended:
                    self._read_rest(stream.fileno(), found)
        except FileNotFoundError:
            return []
        return [text(line) for line in found]

    def _read_block(self, descriptor: int, found: list[bytes]) -> bool:
        data = os.pread(descriptor, BLOCK, self.offset)
        end = data.rfind(b"\n") + 1
        if end:
            found.extend(data[: end - 1].split(b"\n"))
            self.offset += end
            return len(data) == BLOCK
        return len(data) == BLOCK and self._skip_long_line(descriptor, found)

    def _skip_long_line(self, descriptor: int, found: list[bytes]) -> bool:
        """Take a line that is longer than a block; False when its end is not there yet."""
        head, position = os.pread(descriptor, LINE_LIMIT, self.offset), self.offset
        while data := os.pread(descriptor, BLOCK, position):
            newline = data.find(b"\n")
            if newline >= 0:
                end = position + newline
                found.append(_cut(head, end - self.offset))
                self.offset = end + 1
                return True
            position += len(data)
        return False

    def _read_rest(self, descriptor: int, found: list[bytes]) -> None:
        size = os.fstat(descriptor).st_size - self.offset
        if size > 0:
            found.append(_cut(os.pread(descriptor, LINE_LIMIT, self.offset), size))
            self.offset += size


def text(line: bytes) -> str:
    """Return one line as a person saw it last: the last state of a progress bar (carriage returns), bad UTF-8 replaced."""
    if len(line) > LINE_LIMIT:
        line = _cut(line[:LINE_LIMIT], len(line))
    if b"\r" in line:
        line = line.rstrip(b"\r").rpartition(b"\r")[2]
    return line.decode("utf-8", "replace")


def _cut(head: bytes, size: int) -> bytes:
    if size <= LINE_LIMIT:
        return head[:size]
    return head[:LINE_LIMIT] + f" ... {size - LINE_LIMIT} bytes omitted (kept in the file)".encode()


def last_lines(file: Path, count: int) -> list[str]:
    """Return the last `count` lines of a file without reading what comes before; none if it is not there."""
    try:
        with file.open("rb") as stream:
            start = stream.seek(0, os.SEEK_END)
            data = b""
            while start and data.count(b"\n") <= count:
                step = min(BLOCK // 16, start)
                start = stream.seek(start - step)
                data = stream.read(step) + data
                if len(data) > LINE_LIMIT * count:
                    break
    except FileNotFoundError:
        return []
    return [text(line) for line in data.rstrip(b"\n").split(b"\n")[-count:]] if data else []
