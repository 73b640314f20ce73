"""Answers that do not end: a log that is followed, a watch. Bytes as they come, without a copy more than needed.

urllib3's own reader takes one chunk at a time, and the kubelet sends a chunk a line; here one read of the socket takes
all chunks that are there.
"""

from __future__ import annotations

import contextlib
import json
import socket
import ssl
from typing import TYPE_CHECKING, Any

from jupyter_gpudeploy.backends.kubernetes.api.errors import UnreachableError, from_status

if TYPE_CHECKING:
    from collections.abc import Iterator

    import urllib3

READ_SIZE = 65536
_LONGEST_HEAD = 1024
_MANY = 16


class Chunks:
    """The body of a chunked answer, taken out of its frame. Pure: bytes in, bytes out. Raises ValueError."""

    def __init__(self) -> None:
        self.ended = False
        self._left = 0  # of the chunk that is open, with its line feed
        self._rest = b""

    def feed(self, data: bytes) -> bytes:
        """Return what of the body is in `data`, which follows what was fed before."""
        buffer = self._rest + data if self._rest else data
        self._rest = b""
        parts: list[bytes] = []
        position = self._finish_chunk(buffer, parts)
        end = len(buffer)
        if not self._left:
            body, taken = _lines_as_chunks(buffer[position:] if position else buffer)
            parts.append(body)
            position += taken
        while position < end and not self.ended:
            line = buffer.find(b"\n", position)
            if line < 0:
                self._keep(buffer[position:])
                break
            start = line + 1
            stop = start + int(buffer[position:line].partition(b";")[0], 16)
            parts.append(buffer[start:stop])
            position = stop + 2
            if stop == start:
                self.ended = True
            elif position > end:
                self._left = position - end
        return b"".join(parts)

    def _finish_chunk(self, buffer: bytes, parts: list[bytes]) -> int:
        """Take the rest of the chunk that is open; return where the next one begins."""
        if not self._left:
            return 0
        body = self._left - 2
        if body > 0:
            parts.append(buffer[:body])
        taken = min(self._left, len(buffer))
        self._left -= taken
        return taken

    def _keep(self, head: bytes) -> None:
        if len(head) > _LONGEST_HEAD:
            raise ValueError("this is no chunk")
        self._rest = head


def take_socket(response: urllib3.BaseHTTPResponse) -> tuple[socket.socket, bytes]:
    """Return the socket under an answer whose body was not read, and what of the body was read ahead.

    The answer must be kept as long as the socket. http.client keeps both, and every urllib3 keeps http.client's answer.
    """
    file: Any = response._fp.fp  # type: ignore[attr-defined]  # noqa: SLF001 - see above
    connection: socket.socket = file.raw._sock  # noqa: SLF001 - see above
    timeout = connection.gettimeout()
    connection.setblocking(False)
    try:
        ahead = file.read1(READ_SIZE) or b""
    except (ssl.SSLWantReadError, BlockingIOError):
        ahead = b""
    connection.settimeout(timeout)
    return connection, ahead


def free_socket(response: urllib3.BaseHTTPResponse, connection: socket.socket) -> None:
    """Close what `take_socket` gave."""
    for close in (response.close, response._fp.close, connection.close):  # type: ignore[attr-defined] # noqa: SLF001 - see above
        with contextlib.suppress(OSError, ValueError):
            close()


def _lines_as_chunks(buffer: bytes) -> tuple[bytes, int]:
    """Return the body of chunks of a line each with which a buffer begins, and their length in it.

    The kubelet sends a log like that, and taken at once it costs a third. (b"", 0) where it is otherwise.
    """
    words = buffer.split(b"\n")
    count = (len(words) - 1) // 3
    if count < _MANY or words[2] != b"\r":
        return b"", 0
    heads, lines, ends = words[: 3 * count : 3], words[1 : 3 * count : 3], words[2 : 3 * count : 3]
    try:
        sizes = {head: int(head, 16) - 1 for head in set(heads)}
    except ValueError:
        return b"", 0
    if set(ends) != {b"\r"} or [*map(sizes.__getitem__, heads)] != [*map(len, lines)]:
        return b"", 0
    body = b"\n".join(lines) + b"\n"
    return body, len(body) + sum(map(len, heads)) + 3 * count


class LogStream:
    """A body that grows. `read` blocks, `poll` does not; `close` may be called from another thread.

    Choose one of them: after the first `poll` the socket does not block any more.
    """

    def __init__(self, response: urllib3.BaseHTTPResponse, what: str, silence: float) -> None:
        self.closed = False
        self._response = response
        self._what = what
        self._silence = silence
        self._chunks = Chunks() if response.headers.get("Transfer-Encoding", "").lower() == "chunked" else None
        length = response.headers.get("Content-Length", "")
        self._left = int(length) if length.isdigit() else None  # of a body in one piece
        self._socket, self._ahead = take_socket(response)

    def fileno(self) -> int:
        """Return the socket's descriptor, to select on after `poll` gave None; -1 once it has ended."""
        return self._socket.fileno()

    def read(self, size: int = READ_SIZE) -> bytes:
        """Return what is there, at most `size` bytes, waiting for the first; b"" is the clean end of the answer.

        Raises UnreachableError when the connection broke, ended in the middle, or was silent for too long.
        """
        while not self._is_over():
            body = self._step(size)
            if body:
                return body
            if body is None:
                raise UnreachableError(f"{self._what} was silent for {self._silence:g} s")
        return b""

    def poll(self, size: int = READ_SIZE) -> bytes | None:
        """Return what is there without waiting; None: nothing yet; b"": the end. Raises as `read`."""
        if self._socket.gettimeout() != 0 and not self.closed:
            self._socket.setblocking(False)
        while not self._is_over():
            body = self._step(size)
            if body or body is None:
                return body
        return b""

    def close(self) -> None:
        """End it; whoever reads gets b""."""
        self.closed = True
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        free_socket(self._response, self._socket)

    def _is_over(self) -> bool:
        is_over = self.closed or (self._chunks.ended if self._chunks else self._left == 0)
        if is_over:
            free_socket(self._response, self._socket)
        return is_over

    def _step(self, size: int) -> bytes | None:
        """Return what one read of the socket gives; None: nothing in time; b"": nothing of the body, or its end."""
        try:
            data, self._ahead = self._ahead or self._socket.recv(size), b""
            return self._chunks.feed(data) if data and self._chunks else self._unframed(data)
        except (ssl.SSLWantReadError, BlockingIOError, TimeoutError):
            return None
        except (OSError, ValueError) as error:
            if self.closed:
                return b""
            raise self._broken(getattr(error, "strerror", None) or type(error).__name__) from None

    def _unframed(self, data: bytes) -> bytes:
        if not data:
            if not self.closed and (self._chunks or self._left is not None):
                raise self._broken("it ended in the middle")
            self._left = 0
        elif self._left is not None:
            self._left = max(0, self._left - len(data))
        return data

    def _broken(self, why: str) -> UnreachableError:
        self.close()
        return UnreachableError(f"{self._what} broke off: {why}", hint="is the network up?")


class WatchStream:
    """The events of a watch, as they come: {"type", "object"}. Ends when the server ends it.

    Raises GoneError (also for an ERROR event), ApiError, and UnreachableError for a line that is no JSON, a broken
    connection or silence. `close` may be called from another thread and ends it.
    """

    def __init__(self, stream: LogStream, doing: str, where: str) -> None:
        self._stream = stream
        self._doing = doing
        self._where = where
        self._events = self._read()

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return self

    def __next__(self) -> dict[str, Any]:
        return next(self._events)

    def close(self) -> None:
        """End it."""
        self._stream.close()

    def _read(self) -> Iterator[dict[str, Any]]:
        rest = b""
        try:
            while data := self._stream.read():
                *lines, rest = (rest + data).split(b"\n")
                for line in lines:
                    if line.strip():
                        yield self._event(line)
            if rest.strip() and not self._stream.closed:
                yield self._event(rest)
        finally:
            self._stream.close()

    def _event(self, line: bytes) -> dict[str, Any]:
        try:
            event = json.loads(line)
            body = event["object"]
            kind = event["type"]
        except (ValueError, KeyError, TypeError):
            raise UnreachableError(f"cannot {self._doing} in {self._where}: a line of the watch is broken") from None
        if kind == "ERROR":
            raise from_status(int(body.get("code") or 0), body, self._doing, self._where)
        return dict(event)
