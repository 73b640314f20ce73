"""The websockets of exec and port-forward: RFC 6455 frames whose first byte is the number of a channel.

One private connection each. The socket never blocks: what is to be sent waits in a buffer while what arrives is read,
so a program that is fed and prints at once cannot block both ends. A lock makes it safe for several threads.
"""

from __future__ import annotations

import base64
import os
import select
import ssl
import struct
import threading
import time
from typing import TYPE_CHECKING

from jupyter_gpudeploy.backends.kubernetes.api.errors import UnreachableError
from jupyter_gpudeploy.backends.kubernetes.api.streams import free_socket, take_socket

if TYPE_CHECKING:
    import urllib3

    from jupyter_gpudeploy.backends.kubernetes.api.transport import Call, Transport

V5 = "v5.channel.k8s.io"
V4 = "v4.channel.k8s.io"
CHUNK = 32 * 1024
PING_SECONDS = 15.0
SILENT_SECONDS = 60.0
_TEXT, _BINARY, _CLOSE, _PING, _PONG = 1, 2, 8, 9, 10
_READ = 65536
_SHORT, _MEDIUM = 126, 65536


def open_websocket(transport: Transport, call: Call, protocols: tuple[str, ...]) -> WebSocket:
    """Ask for an upgrade. Raises ApiError (404 no such pod, 400 not running), UnreachableError, CredentialsError."""
    headers = {
        "Accept": "*/*",
        "Upgrade": "websocket",
        "Connection": "Upgrade",
        "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": base64.b64encode(os.urandom(16)).decode(),
        "Sec-WebSocket-Protocol": ", ".join(protocols),
    }
    response = transport.send(call._replace(headers=headers, streams=True))
    if response.status != 101:  # noqa: PLR2004 - switching protocols
        response.close()
        hint = "something between here and the cluster does not pass websockets on"
        raise UnreachableError(f"cannot {call.doing}: no websocket, HTTP {response.status}", hint=hint)
    return WebSocket(response, call.doing)


class WebSocket:
    """`protocol` is what the server chose; `ended` is set once no more messages come."""

    def __init__(self, response: urllib3.BaseHTTPResponse, doing: str) -> None:
        self.protocol = response.headers.get("Sec-WebSocket-Protocol") or V4
        self.ended = False
        self._response = response
        self._doing = doing
        self._socket, ahead = take_socket(response)
        self._socket.setblocking(False)
        self._lock = threading.RLock()
        self._in = bytearray(ahead)
        self._out = bytearray()
        self._parts: list[bytes] = []
        self._is_deaf = False
        self._heard = self._pinged = time.monotonic()

    def fileno(self) -> int:
        """Return the socket's descriptor; -1 once closed."""
        return self._socket.fileno()

    @property
    def waiting(self) -> int:
        """The bytes that are not sent yet."""
        return len(self._out)

    def send(self, channel: int, data: bytes = b"") -> None:
        """Put a message into the buffer, and as much as can be on the wire."""
        with self._lock:
            self._frame(_BINARY, bytes((channel,)) + data)
            self._flush()

    def close_channel(self, channel: int) -> None:
        """Say that nothing more comes on a channel. Only v5 knows how."""
        self.send(255, bytes((channel,)))

    def receive(self, seconds: float) -> tuple[int, bytes] | None:
        """Return (channel, bytes) of the next message; None when none is whole yet, or `ended`.

        Waits at most `seconds`, and less when something can be sent. Raises UnreachableError when the connection broke,
        or nothing, not even the answer to a ping, came for a minute.
        """
        if (message := self._advance()) is None and not self.ended and seconds > 0:
            self.await_change(seconds)
            message = self._advance()
        return message

    def await_change(self, seconds: float) -> None:
        """Wait until something can be read, or sent where something waits."""
        if (descriptor := self.fileno()) >= 0:
            poll = select.poll()
            poll.register(descriptor, select.POLLIN | (select.POLLOUT if self._out else 0))
            poll.poll(seconds * 1000)

    def close(self) -> None:
        """Say good-bye and close."""
        with self._lock:
            if not self.ended:
                self._frame(_CLOSE, struct.pack(">H", 1000))
                self._flush()
            self.ended = True
            free_socket(self._response, self._socket)

    def _advance(self) -> tuple[int, bytes] | None:
        with self._lock:
            message = self._next()
            while message is None and not self.ended and self._fill():
                message = self._next()
            if not self.ended:
                self._flush()
                self._keep_alive()
            return message

    def _fill(self) -> bool:
        """Read what is there. Return whether anything was."""
        try:
            data = self._socket.recv(_READ)
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError, BlockingIOError):
            return False
        except OSError as error:
            raise self._broken(error.strerror or type(error).__name__) from None
        if not data:
            raise self._broken("it ended without a good-bye")
        self._in += data
        self._heard = time.monotonic()
        return True

    def _flush(self) -> None:
        try:
            while self._out:
                sent = self._socket.send(memoryview(self._out)[:_READ].tobytes())
                del self._out[:sent]
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError, BlockingIOError):
            return
        except OSError:  # nobody reads any more; what was written to us before is still to be read, and tells why
            self._out.clear()
            self._is_deaf = True

    def _next(self) -> tuple[int, bytes] | None:
        """Return the next whole message of the buffer; control frames are dealt with."""
        while (frame := self._take()) is not None:
            final, opcode, body = frame
            if opcode == _CLOSE:
                self.close()
                return None
            if opcode == _PING:
                self._frame(_PONG, body)
            elif opcode != _PONG:
                self._parts.append(body)
                if final:
                    whole, self._parts = b"".join(self._parts), []
                    if whole:
                        return whole[0], whole[1:]
        return None

    def _take(self) -> tuple[bool, int, bytes] | None:
        """Take one frame (final, opcode, body) out of the buffer."""
        data = self._in
        if len(data) < 2:  # noqa: PLR2004 - the shortest head
            return None
        size, start = data[1] & 127, 2
        if size == _SHORT:
            size, start = int.from_bytes(data[2:4], "big"), 4
        elif size > _SHORT:
            size, start = int.from_bytes(data[2:10], "big"), 10
        if len(data) < start + size:
            return None
        final, opcode = bool(data[0] & 128), data[0] & 15
        body = bytes(memoryview(data)[start : start + size])
        del data[: start + size]
        return final, opcode, body

    def _frame(self, opcode: int, body: bytes) -> None:
        if self._is_deaf:
            return
        size = len(body)
        if size < _SHORT:
            head = bytes((128 | opcode, 128 | size))
        elif size < _MEDIUM:
            head = bytes((128 | opcode, 128 | 126)) + size.to_bytes(2, "big")
        else:
            head = bytes((128 | opcode, 128 | 127)) + size.to_bytes(8, "big")
        mask = os.urandom(4)
        repeated = (mask * (size // 4 + 1))[:size]
        masked = int.from_bytes(body, "big") ^ int.from_bytes(repeated, "big")
        self._out += head + mask + masked.to_bytes(size, "big")

    def _keep_alive(self) -> None:
        now = time.monotonic()
        if now - self._heard > SILENT_SECONDS:
            raise self._broken(f"nothing came for {SILENT_SECONDS:g} s")
        if now - max(self._pinged, self._heard) > PING_SECONDS:
            self._pinged = now
            self._frame(_PING, b"")
            self._flush()

    def _broken(self, why: str) -> UnreachableError:
        if self.ended:
            why = "it was closed"
        self.ended = True
        free_socket(self._response, self._socket)
        return UnreachableError(f"cannot {self._doing}: the connection broke off: {why}", hint="is the network up?")
