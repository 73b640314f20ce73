r"""What travels in the log of a container and was not printed by the program: records, each in lines of its own.

The container's log is the one way out of a pod that needs no rights and no server, so records share it with what the
program prints. A record is one or more marked lines::

    \x1egpudeploy <token> <crc32 of the body, 8 hex> <body>\n        body: <kind> <json>
                                                                     or:  +<piece>/<pieces> <part of "<kind> <json>">

Each is at most LINE_LIMIT bytes and written in one write, which a pipe takes whole (POSIX: up to PIPE_BUF), so nothing
comes between its bytes. It may begin in the middle of a line that the program has not ended: taken out with its
newline, it leaves the program's bytes as they were. `token` is the uid of the run; text of the program that looks like
a record and is none (another token, a wrong sum) stays text. A body is ASCII without `\x1e` and newlines.

The kinds, and what is in them (JSON). `exec` is there where it is about a command executed in a manual run, else it is
about the task of the pod::

    began     attempt, time, python, pod, node, cpus, memory (limit in bytes, or None)
    metrics   rows (the objects of log(), as metrics/<task>.jsonl holds them), exec
    file      path, size, and: data (base64 of zlib) with sha256: the whole file
                               data with at: these bytes of it lie at that offset; it ends there, for now
                               sha256 without data: what it is in the end, for comparison
              exec; path is relative to out/<task>/
    outputs   attempt, files ([[path, size, sha256], ...] of all that was sent of the results, None where these are too
              many), left ([[path, size], ...], the largest of what was not sent), left_count, left_size, exec
    notice    message, level, exec
    samples   t (time), p ([cpu, memory, processes] of the pod), g ([[gpu, utilization, memory_used, memory_total,
              power, temperature], ...]); as in samples.jsonl, with null for what is not known
    exec      exec (its number), argv, time                              a command was started
    output    exec, at (offset), text (UTF-8, other bytes as lone surrogates, as `surrogateescape` makes them)
    ended     attempt, time, exit_code, reason (one sentence, or ""), exec; memory_peak where it is known

This file runs in the pod, too: standard library alone, Python 3.8.
"""

from __future__ import annotations

import json
import posixpath
import re
import zlib
from typing import Any, NamedTuple

LINE_LIMIT = 4096
"""The longest marked line, in bytes: PIPE_BUF of Linux."""

POD = "/gpudeploy"
"""The folder of ours in a pod; the notebook's folder is `work/` there, the program of a cell lies in `code/`."""

TOLD_TO_END = 143
"""The exit code of a pod that was told to end and not by its own limits: 128 and SIGTERM."""

RECORD_LIMIT = 1 << 22
"""The longest record, in bytes of its body."""

_SIGN = b"\x1e"
_MARK = _SIGN + b"gpudeploy "
_TOKEN = re.compile(r"[A-Za-z0-9._-]{1,64}")
_LINE = re.compile(rb"([0-9a-f]{8}) ([!-~][ -~]*)")
_PIECE = re.compile(rb"\+([1-9][0-9]{0,5})/([1-9][0-9]{0,5}) (.*)")
_OVERHEAD = 1 + 8 + 1 + 1  # blank, sum, blank, newline
_PIECE_ROOM = len("+999999/999999 ")


class Record(NamedTuple):
    """One record. `payload` is what its kind says it is, and comes from a pod: nothing in it is to be trusted."""

    kind: str
    payload: Any


class _Piece(NamedTuple):
    """One line of a record of several. `number` counts from 1."""

    number: int
    pieces: int
    part: bytes


def kept_as(path: str, output: str, work: str) -> str:
    """Return where below out/<task>/ a file of the pod is kept, from its path there.

    `output` is the task's output folder in the pod, `work` its working folder: what lies below either keeps its path
    from there, anything else its whole path.
    """
    path = posixpath.normpath(posixpath.join(work, path))
    for folder in (output, work):
        if path.startswith(folder.rstrip("/") + "/"):
            return posixpath.relpath(path, folder)
    return path.lstrip("/")


def working_folder(asked: str, base: str, work: str) -> str:
    """Return the working folder of a task in its pod.

    `asked` is as the plan has it, on the user's machine; `base` is the notebook's folder there and `work` what it is in
    the pod. A folder beside it is one of the image.
    """
    relative = posixpath.relpath(posixpath.join(base, asked), base)
    if relative == posixpath.curdir:
        return work
    is_outside = relative == posixpath.pardir or relative.startswith("../")
    return posixpath.normpath(asked) if is_outside else posixpath.join(work, relative)


def encode(token: str, kind: str, payload: Any) -> list[bytes]:  # noqa: ANN401 - any JSON
    """Return the lines of a record, each to be written at once. Raises ValueError for one that is too long."""
    body = f"{kind} {json.dumps(payload, separators=(',', ':'))}".encode("ascii")
    mark = _mark(token)
    room = LINE_LIMIT - len(mark) - _OVERHEAD
    if len(body) <= room:
        return [_line(mark, body)]
    if len(body) > RECORD_LIMIT:
        raise ValueError(f"a {kind} record of {len(body)} bytes is longer than {RECORD_LIMIT}")
    room -= _PIECE_ROOM
    count = -(-len(body) // room)
    return [
        _line(mark, b"+%d/%d " % (index + 1, count) + body[index * room : (index + 1) * room]) for index in range(count)
    ]


class Decoder:
    """Takes the records of one run out of a stream of bytes, however the stream is cut.

    At the end of every marked line and of every ordinary line nothing is held back, except the first pieces of a record
    of several lines: a reader that wants to go on later with a new Decoder notes its place while `is_whole`.
    `broken` counts records of which a piece did not come.
    """

    def __init__(self, token: str) -> None:
        self._mark = _mark(token)
        self._held = b""
        self._pieces: list[bytes] = []
        self._count = 0
        self._is_torn = False
        self.broken = 0

    @property
    def is_whole(self) -> bool:
        """Whether nothing of what was fed is still held back."""
        return not self._held and not self._pieces

    def feed(self, data: bytes) -> list[bytes | Record]:
        """Return what is known now, in order: the program's own bytes, and records."""
        data, self._held = self._held + data, b""
        found: list[bytes | Record] = []
        text = position = 0  # the program's bytes begin at `text`; up to `position` they are known to be no record
        while True:
            start = data.find(self._mark, position)
            if start < 0:
                end = len(data) - self._beginning_at_end(data, position)
                break
            stop = self._end_of_line(data, start)
            if stop is None:
                end = start
                break
            read = self._read(data[start:stop])
            if read is None:
                position = start + 1
                continue
            if start > text:
                found.append(data[text:start])
            text = position = stop
            record = self._joined(read)
            if record is not None:
                found.append(record)
        self._held = data[end:]
        if end > text:
            found.append(data[text:end])
        return found

    def rest(self) -> bytes:
        """Return the program's last bytes; nothing more follows."""
        rest, self._held = self._held, b""
        self._drop_pieces()
        return rest

    def _end_of_line(self, data: bytes, start: int) -> int | None:
        """Return where the line that begins with a mark ends, or cannot be a record any more; None: not known yet."""
        limit = start + LINE_LIMIT
        newline = data.find(b"\n", start, limit)
        other = data.find(_SIGN, start + 1, limit if newline < 0 else newline)
        if other >= 0:
            return other
        if newline >= 0:
            return newline + 1
        return limit if len(data) >= limit else None

    def _read(self, line: bytes) -> Record | _Piece | None:
        """Return what a marked line holds, or None for text that only looks like one."""
        match = _LINE.fullmatch(line[len(self._mark) : -1]) if line.endswith(b"\n") else None
        if match is None or int(match[1], 16) != zlib.crc32(match[2]):
            return None
        piece = _PIECE.fullmatch(match[2])
        return _record(match[2]) if piece is None else _Piece(int(piece[1]), int(piece[2]), piece[3])

    def _begin(self) -> None:
        """Another record begins: what came of one before it is all that comes."""
        self._drop_pieces()
        self._is_torn = False

    def _joined(self, piece: Record | _Piece) -> Record | None:
        """Return the record that is whole with this, if one is."""
        if isinstance(piece, Record):
            self._begin()
            return piece
        if piece.number == 1:
            self._begin()
        elif piece.number != len(self._pieces) + 1 or piece.pieces != self._count:
            self._drop_pieces()
            self.broken += not self._is_torn
            self._is_torn = True
            return None
        if piece.pieces * LINE_LIMIT > 2 * RECORD_LIMIT:
            return None
        self._count = piece.pieces
        self._pieces.append(piece.part)
        if piece.number < piece.pieces:
            return None
        whole, self._pieces = b"".join(self._pieces), []
        return _record(whole)

    def _drop_pieces(self) -> None:
        if self._pieces:
            self.broken += 1
            self._is_torn = True
            self._pieces = []

    def _beginning_at_end(self, data: bytes, start: int) -> int:
        """Return how many bytes at the end may be the beginning of a mark."""
        place = data.rfind(_SIGN, max(start, len(data) - len(self._mark) + 1))
        return len(data) - place if place >= 0 and self._mark.startswith(data[place:]) else 0


def _mark(token: str) -> bytes:
    if not _TOKEN.fullmatch(token):
        raise ValueError(f"no token: {token!r:.80}")
    return _MARK + token.encode() + b" "


def _line(mark: bytes, body: bytes) -> bytes:
    return mark + b"%08x " % zlib.crc32(body) + body + b"\n"


def _record(body: bytes) -> Record | None:
    kind, _, content = body.partition(b" ")
    try:
        return Record(kind.decode(), json.loads(content))
    except (ValueError, RecursionError):
        return None
