"""A command in a container, and a port of a pod, each over a websocket of its own."""

from __future__ import annotations

import json
import select
import socket
import struct
import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING, NamedTuple

from jupyter_gpudeploy.backends.kubernetes.api.errors import ApiError, UnreachableError, from_status
from jupyter_gpudeploy.backends.kubernetes.api.websocket import CHUNK, V4, V5, open_websocket

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from jupyter_gpudeploy.backends.kubernetes.api.transport import Call, Transport
    from jupyter_gpudeploy.backends.kubernetes.api.websocket import WebSocket

STDIN, STDOUT, STDERR, STATUS = range(4)
_DATA, _ERROR = range(2)
_MOST_WAITING = 8 * CHUNK
_SAID = 1000
_LINGER_SECONDS = 10.0
_POLL_SECONDS = 0.5


class ExecResult(NamedTuple):
    """How a command ended. `exit_code` is None when it was left before its end."""

    exit_code: int | None
    stdout: bytes = b""
    stderr: bytes = b""


def execute(
    transport: Transport,
    call: Call,
    *,
    stdin: Iterable[bytes] | None,
    on_output: Callable[[int, bytes], None] | None,
    timeout: float,
    stop: threading.Event | None,
) -> ExecResult:
    """Run the command of `call` (see client.Cluster.execute)."""
    socket_ = open_websocket(transport, call, (V5, V4))
    kept: dict[int, list[bytes]] = {STDOUT: [], STDERR: []}
    feed = _pieces(stdin) if stdin is not None else iter(())
    deadline = time.monotonic() + timeout
    try:
        feeding = stdin is not None
        while True:
            feeding = feeding and _feed(socket_, feed)
            message = socket_.receive(_POLL_SECONDS)
            if message is not None:
                channel, data = message
                if channel == STATUS:
                    return ExecResult(_exit_code(data, call.doing, transport.where), *map(b"".join, kept.values()))
                if channel in kept and data:
                    on_output(channel, data) if on_output else kept[channel].append(data)
            elif socket_.ended:
                raise UnreachableError(f"cannot {call.doing}: the connection ended before the command said how")
            if stop is not None and stop.is_set():
                return ExecResult(None, *map(b"".join, kept.values()))
            if time.monotonic() > deadline:
                raise UnreachableError(f"cannot {call.doing}: not done in {timeout:g} s")
    finally:
        socket_.close()


class CommandStream:
    """A command that goes on. `poll` never waits. `exit_code` once it has ended; `said`: the end of its stderr.

    `close` ends its stdin and the connection; the command itself only where it heeds that.
    """

    def __init__(self, transport: Transport, call: Call) -> None:
        self.exit_code: int | None = None
        self.said = b""
        self._doing, self._where = call.doing, transport.where
        self._socket = open_websocket(transport, call, (V5, V4))

    def poll(self) -> bytes | None:
        """Return what it has printed since; None once it has ended and all was told.

        Raises ApiError when it could not be started, UnreachableError when the connection broke off.
        """
        printed = []
        while self.exit_code is None:
            message = self._socket.receive(0)
            if message is None:
                if self._socket.ended:
                    raise UnreachableError(f"cannot {self._doing}: the connection ended before the command did")
                break
            channel, data = message
            if channel == STATUS:
                self.exit_code = _exit_code(data, self._doing, self._where)
                self._socket.close()
            elif channel == STDOUT:
                printed.append(data)
            elif channel == STDERR:
                self.said = (self.said + data)[-_SAID:]
        return b"".join(printed) if printed or self.exit_code is None else None

    def close(self) -> None:
        """Let go of it."""
        self._socket.close()


def _feed(socket_: WebSocket, feed: Iterator[bytes]) -> bool:
    """Send more of stdin while little waits; return whether there is more. Its end is told where v5 is spoken."""
    while socket_.waiting < _MOST_WAITING:
        piece = next(feed, None)
        if piece is None:
            if socket_.protocol == V5:
                socket_.close_channel(STDIN)
            return False
        socket_.send(STDIN, piece)
    return True


def _pieces(stdin: Iterable[bytes]) -> Iterator[bytes]:
    for data in stdin:
        for start in range(0, len(data), CHUNK):
            yield bytes(data[start : start + CHUNK])


def _exit_code(data: bytes, doing: str, where: str) -> int:
    """Return what the status channel says. Raises ApiError when the command did not run at all."""
    try:
        status = json.loads(data)
    except ValueError:
        raise ApiError(f"cannot {doing} in {where}: {data[:500].decode('utf-8', 'replace')}") from None
    if status.get("status") == "Success":
        return 0
    causes = (status.get("details") or {}).get("causes") or []
    for cause in causes:
        if cause.get("reason") == "ExitCode" and str(cause.get("message", "")).lstrip("-").isdigit():
            return int(cause["message"])
    raise from_status(int(status.get("code") or 500), status, doing, where)


class PortSocket(socket.socket):
    """A real socket whose other end is a port of a pod. `failure` says why it ended, where the cluster said so."""

    failure: str | None = None


def connect_port(transport: Transport, call: Call, port: int) -> PortSocket:
    """Return a connection to `port` (see client.Cluster.connect_port)."""
    websocket = open_websocket(transport, call, (V4,))
    ours, theirs = socket.socketpair()
    end = PortSocket(fileno=theirs.detach())

    def carry() -> None:
        with ours:
            end.failure = _Carrier(websocket, ours, port).run()

    threading.Thread(target=carry, name=f"port {port}", daemon=True).start()
    return end


class _Carrier:
    """Carries bytes both ways between a websocket and a local socket until one of them is done."""

    def __init__(self, websocket: WebSocket, local: socket.socket, port: int) -> None:
        local.setblocking(False)
        self._websocket = websocket
        self._local = local
        self._greeting = struct.pack("<H", port)  # the first bytes of each channel
        self._greeted: set[int] = set()
        self._down = bytearray()
        self._writes = True
        self._moved_at = time.monotonic()

    def run(self) -> str | None:
        """Return what went wrong, in the cluster's words."""
        try:
            while not self._is_over():
                if self._writes and self._websocket.waiting < _MOST_WAITING:
                    self._upload()
                message = self._websocket.receive(0)
                if message is not None and (failure := self._download(*message)):
                    return failure
                self._deliver()
                if message is None:
                    self._wait()
        except UnreachableError as error:
            return error.message
        except OSError:
            return None  # the local end is gone
        finally:
            self._websocket.close()
        return None

    def _is_over(self) -> bool:
        """A local end that writes no more has closed, or waits for the rest of an answer: only time can tell."""
        has_left = not self._writes and time.monotonic() - self._moved_at > _LINGER_SECONDS
        return has_left or (self._websocket.ended and not self._down)

    def _upload(self) -> None:
        with suppress(BlockingIOError):
            data = self._local.recv(CHUNK)
            self._moved_at = time.monotonic()
            self._writes = bool(data)
            if data:
                self._websocket.send(_DATA, data)

    def _download(self, channel: int, data: bytes) -> str | None:
        if channel not in self._greeted:
            self._greeted.add(channel)
            data = data.removeprefix(self._greeting)
        if channel == _ERROR and data:
            return data.decode("utf-8", "replace").strip()
        if channel == _DATA:
            self._down += data
            self._moved_at = time.monotonic()
        return None

    def _deliver(self) -> None:
        if self._down:
            with suppress(BlockingIOError):
                del self._down[: self._local.send(self._down)]

    def _wait(self) -> None:
        poll = select.poll()
        if (descriptor := self._websocket.fileno()) >= 0:
            poll.register(descriptor, select.POLLIN | (select.POLLOUT if self._websocket.waiting else 0))
        reads = self._writes and self._websocket.waiting < _MOST_WAITING
        if wanted := (select.POLLIN if reads else 0) | (select.POLLOUT if self._down else 0):
            poll.register(self._local.fileno(), wanted)
        poll.poll(_POLL_SECONDS * 1000)
