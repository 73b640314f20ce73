"""Following files that grow: whole lines, from where one stopped, with nothing held open in between.

Built for floods: a block of a megabyte is read and split at once, so a tail keeps up with a child that prints two
million lines (benchmarks/b11_tail.py). No byte of a line is looked at more than twice, however long the line is.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from jupyter_gpudeploy.events.text import overwritten

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

BLOCK = 1 << 20
LINE_LIMIT = 1 << 16
_KEPT = LINE_LIMIT - 64  # of a line that is cut; the rest is for the note


class Tail:
    """The lines of one growing file. `offset` is the byte after the last line handed out.

    A line is cut at LINE_LIMIT bytes for the reader, and says how much was left out; the file keeps all of it.
    A file that was replaced, or is shorter than what was read, is read anew from its beginning.
    """

    def __init__(self, file: Path, offset: int = 0) -> None:
        self.file = file
        self.offset = offset
        self._searched = offset
        self._identity = 0
        self._length = 0

    def lines(self, *, ended: bool = False, blocks: int = 64) -> list[str]:
        """Return the lines that are whole by now; with `ended`, also a last one without a newline.

        At most `blocks` megabytes of lines are returned by one call; an empty list says that there is no more for now.
        """
        return texts(self.raw(ended=ended, blocks=blocks))

    def raw(self, *, ended: bool = False, blocks: int = 64) -> list[bytes]:
        """Return the same lines as bytes, for `text` to make readable. Only those longer than a block are cut."""
        return [line for block in self._take(blocks, ended=ended) for line in block.split(b"\n")]

    def until_now(self, *, ended: bool = False) -> Iterator[bytes]:
        """Yield every line that is there when this is called, as `raw` does; a flood that goes on does not hold it."""
        for block in self.blocks(ended=ended):
            yield from block.split(b"\n")

    def blocks(self, *, ended: bool = False) -> Iterator[bytes]:
        """Yield the same lines, as many as a block holds at once, with a newline between two of them."""
        found = self._take(8, ended=ended)
        now = self._length
        while found:
            yield from found
            found = self._take(8, ended=ended) if self.offset < now else []

    def _take(self, blocks: int, *, ended: bool) -> list[bytes]:
        """Return the next whole lines, some to a block."""
        found: list[bytes] = []
        try:
            with self.file.open("rb", buffering=0) as stream:
                if self._size(stream.fileno()) == self.offset:
                    return []
                more = True
                for _ in range(blocks):
                    if not (more := self._read_block(stream.fileno(), found)):
                        break
                if ended and not more:
                    self._read_rest(stream.fileno(), found)
        except FileNotFoundError:
            return []
        return found

    def _size(self, descriptor: int) -> int:
        found = os.fstat(descriptor)
        if found.st_size < self.offset or self._identity not in (0, found.st_ino):
            self.offset = self._searched = 0
        self._identity, self._length = found.st_ino, found.st_size
        return found.st_size

    def _read_block(self, descriptor: int, found: list[bytes]) -> bool:
        """Take the whole lines of the next block; False when nothing whole is left."""
        if self._searched - self.offset < BLOCK:
            data = os.pread(descriptor, BLOCK, self.offset)
            end = data.rfind(b"\n") + 1
            if end:
                found.append(data[: end - 1])
                self.offset = self._searched = self.offset + end
                return True
            if len(data) < BLOCK:
                return False
            self._searched = self.offset + len(data)
        return self._take_long_line(descriptor, found)

    def _take_long_line(self, descriptor: int, found: list[bytes]) -> bool:
        """Take a line that is longer than a block; False when its end is not there yet."""
        while data := os.pread(descriptor, BLOCK, self._searched):
            newline = data.find(b"\n")
            if newline >= 0:
                end = self._searched + newline
                found.append(self._long_line(descriptor, end))
                self.offset = self._searched = end + 1
                return True
            self._searched += len(data)
        return False

    def _read_rest(self, descriptor: int, found: list[bytes]) -> None:
        end = os.fstat(descriptor).st_size
        if end > self.offset:
            found.append(self._long_line(descriptor, end))
            self.offset = self._searched = end

    def _long_line(self, descriptor: int, end: int) -> bytes:
        """Return the line up to `end`: its last state if it was printed over, else its beginning."""
        last = os.pread(descriptor, min(BLOCK, end - self.offset), max(self.offset, end - BLOCK))
        if len(last) == end - self.offset:
            return last
        if b"\r" in last.rstrip(b"\r \t"):
            return _last_state(last)
        return _cut(os.pread(descriptor, LINE_LIMIT, self.offset), end - self.offset)


def text(line: bytes) -> str:
    r"""Return one line as a person saw it last: the last state of a progress bar (`\r`, `\b`), bad UTF-8 replaced."""
    if b"\r" in line:
        line = _last_state(line)
    if len(line) > LINE_LIMIT:
        line = _cut(line, len(line))
    decoded = line.decode("utf-8", "replace")
    return overwritten(decoded) if "\b" in decoded else decoded


def texts(lines: list[bytes]) -> list[str]:
    """Return `text` of each line; a flood of ordinary lines is decoded at once."""
    whole = b"\n".join(lines)
    if not lines or b"\r" in whole or b"\b" in whole or max(map(len, lines)) > LINE_LIMIT:
        return [text(line) for line in lines]
    return whole.decode("utf-8", "replace").split("\n")


def last_lines(file: Path, count: int) -> list[str]:
    """Return the last `count` lines of a file without reading what comes before; none if it is not there.

    At most LINE_LIMIT bytes a line are read on average: where the lines are longer, there are fewer.
    """
    pieces: list[bytes] = []
    size = newlines = 0
    try:
        with file.open("rb", buffering=0) as stream:
            start = os.fstat(stream.fileno()).st_size
            while start and newlines <= count and size <= LINE_LIMIT * count:
                step = min(BLOCK // 16, start)
                start -= step
                pieces.append(os.pread(stream.fileno(), step, start))
                newlines += pieces[-1].count(b"\n")
                size += step
    except FileNotFoundError:
        return []
    data = b"".join(reversed(pieces)).removesuffix(b"\n")
    lines = data.split(b"\n")[-count:] if pieces and count > 0 else []
    return [text(line) for line in lines]


def _last_state(line: bytes) -> bytes:
    return line.rstrip(b"\r \t").rpartition(b"\r")[2]


def _cut(head: bytes, size: int) -> bytes:
    """Return a line of `size` bytes that begins with `head`, cut between two characters to at most LINE_LIMIT bytes."""
    if size <= LINE_LIMIT:
        return head[:size]
    end = min(_KEPT, len(head))
    while _KEPT - 3 < end < len(head) and head[end] & 0xC0 == 0x80:  # noqa: PLR2004 - a byte that continues a character of UTF-8
        end -= 1
    return head[:end] + f" ... {size - end} bytes omitted (kept in the file)".encode()
