"""Is the server well? Asked from a thread of its own, so that a server that hangs hangs nothing else.

What counts is the answer of *our* server: a port that somebody else listens on is told as such and never asked.
"""

from __future__ import annotations

import errno
import socket
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from jupyter_gpudeploy.backends.local import ports
from jupyter_gpudeploy.programs._idle import OWN_ADDRESS

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping

AGENT = "jupyter_gpudeploy"
"""How a probe names itself, so that a server can leave it out of its access log."""

_EVERY = {False: 0.2, True: 1.0}
_TIME_OUT = {False: 2.0, True: 5.0}
_FAILURES = 3
_DRAIN_SECONDS = 0.25
_STATUS_LIMIT = 4096
_PATH_CHARACTERS = "%/:=&?~+!$,;'@()*[]"


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether the server can take requests, and one sentence why."""

    ready: bool
    reason: str


class Prober:
    """Probes one server until closed: every 0.2 s until it is ready, then every second.

    `health` holds `path` (None: a listening socket of ours is enough) and `strict` (only 2xx and 3xx are well, else
    anything below 500). `owner` returns the pids of the task; it is called from the prober's thread. Once ready, one
    or two failed probes in a row change nothing; the third does.
    """

    def __init__(self, health: Mapping[str, Any], host: str, port: int, owner: Callable[[], Collection[int]]) -> None:
        self.path: str | None = health.get("path")
        self.strict = bool(health.get("strict"))
        self.host = {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}.get(host, host)  # noqa: S104 - not bound
        self.port = port
        self._owner = owner
        self._verdict: Verdict | None = None
        self._failures = 0
        self._socket: socket.socket | None = None
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"probe of port {port}", daemon=True)
        self._thread.start()

    def poll(self) -> Verdict | None:
        """Return the newest verdict, None before the first."""
        return self._verdict

    def close(self) -> None:
        """Stop probing, also in the middle of one."""
        self._closed.set()
        if (connection := self._socket) is not None:
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        self._thread.join(_TIME_OUT[True])

    def _run(self) -> None:
        ready = False
        while not self._closed.is_set():
            try:
                seen = self._probe(_TIME_OUT[ready])
            except Exception as error:  # noqa: BLE001 - a probe that cannot be made is a reason like any other
                seen = Verdict(ready=False, reason=f"the probe failed: {type(error).__name__}: {error}")
            if self._closed.is_set():
                return
            self._failures = 0 if seen.ready else self._failures + 1
            if seen.ready or not ready or self._failures >= _FAILURES:
                ready, self._verdict = seen.ready, seen
            self._closed.wait(_EVERY[ready])

    def _probe(self, time_out: float) -> Verdict:
        pids = set(self._owner())
        ours = ports.listens(self.port, pids, self.host)
        if ours is False:
            return Verdict(ready=False, reason=self._stranger(pids))
        if self.path is None and ours:
            return Verdict(ready=True, reason=f"port {self.port} is open")
        try:
            status = self._ask(self.path, time_out)
        except TimeoutError:
            return Verdict(ready=False, reason=f"no answer within {time_out:g} s")
        except ConnectionRefusedError:
            return Verdict(ready=False, reason=f"nothing listens on port {self.port} yet")
        except OSError as error:
            reason = error.strerror or str(error)
            return Verdict(ready=False, reason=f"port {self.port} broke the connection: {reason}")
        return self._judged(status)

    def _judged(self, status: int | None) -> Verdict:
        if self.path is None:
            return Verdict(ready=True, reason=f"port {self.port} is open")
        if status is None:
            return Verdict(ready=False, reason=f"port {self.port} answered, but not in HTTP")
        well = 200 <= status < 400 if self.strict else status < 500  # noqa: PLR2004 - the classes of HTTP
        return Verdict(ready=well, reason=f"GET {self.path} answered {status}")

    def _stranger(self, pids: Collection[int]) -> str:
        """Return why nobody of ours is reached on the port."""
        owner = ports.owner_of(self.port, self.host)
        if owner is None:
            if found := ports.listeners(self.port):
                addresses = ", ".join(sorted({listener.address for listener in found}))
                return f"port {self.port} is open on {addresses}, by no process of ours that {self.host} would reach"
            return f"nothing listens on port {self.port} yet"
        if owner[0] in pids:
            return f"port {self.port} is shared with a process that is not ours"
        return f"port {self.port} is answered by pid {owner[0]} ({owner[1]}), which is not ours"

    def _ask(self, path: str | None, time_out: float) -> int | None:
        """Return the status that the server answers with, None for an answer that is not HTTP or without a path.

        The time-out holds for the whole answer, which that of http.client would not: it starts again with each byte.
        """
        deadline = time.monotonic() + time_out
        with connect_to(self.host, self.port, time_out) as connection:
            self._socket = connection
            try:
                return None if path is None else self._get(connection, quote(path, safe=_PATH_CHARACTERS), deadline)
            finally:
                self._socket = None

    def _get(self, connection: socket.socket, path: str, deadline: float) -> int | None:
        host = f"[{self.host}]" if ":" in self.host else self.host
        connection.sendall(
            f"GET {path} HTTP/1.1\r\nHost: {host}:{self.port}\r\nUser-Agent: {AGENT}\r\n"
            "Accept: */*\r\nConnection: close\r\n\r\n".encode()
        )
        answer = b""
        while b"\n" not in answer and len(answer) < _STATUS_LIMIT:
            left = deadline - time.monotonic()
            if left <= 0:
                raise TimeoutError
            connection.settimeout(left)
            if not (received := connection.recv(_STATUS_LIMIT)):
                break
            answer += received
        if not answer:
            raise ConnectionResetError(0, "closed without an answer")
        _drain(connection)
        words = answer.split(b"\n")[0].split()
        return int(words[1]) if len(words) > 1 and answer.startswith(b"HTTP/") and words[1].isdigit() else None


def connect_to(host: str, port: int, time_out: float) -> socket.socket:
    """Connect from an address by which health checks are told from requests, where this system lets us."""
    if host == "127.0.0.1":
        try:
            return socket.create_connection((host, port), time_out, (OWN_ADDRESS, 0))
        except OSError as error:
            if error.errno not in (errno.EADDRNOTAVAIL, errno.EINVAL):
                raise
    return socket.create_connection((host, port), time_out)


def _drain(connection: socket.socket) -> None:
    """Read on for a moment: many servers log an error when the other side leaves in the middle of an answer."""
    deadline = time.monotonic() + _DRAIN_SECONDS
    with suppress(OSError):
        while (left := deadline - time.monotonic()) > 0:
            connection.settimeout(left)
            if not connection.recv(1 << 16):
                return
