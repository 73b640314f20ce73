"""A port of this machine that leads to a server in a pod, for as long as this process and the run live.

Bound to loopback. Each connection gets a websocket of its own to a pod that is ready at that moment: when a pod is
replaced, the next connection goes to its successor, and the address stays what it was.
"""

from __future__ import annotations

import contextlib
import logging
import socket
import threading
import time
from typing import TYPE_CHECKING, Any

from jupyter_gpudeploy.errors import BackendError

if TYPE_CHECKING:
    from collections.abc import Callable

    from jupyter_gpudeploy.backends.kubernetes.api.client import Cluster

_LOG = logging.getLogger(__name__)
_BLOCK = 1 << 16
_TRIES = 20
_ACCEPT_SECONDS = 0.5


class Forward:
    """Listens at once; `url` says where. `pod` returns the name of a pod that is ready, or raises BackendError.

    Once `is_over`, which is asked every half second, it listens no more.
    """

    def __init__(self, cluster: Cluster, pod: Callable[[], str], port: int, is_over: Callable[[], bool]) -> None:
        self._cluster = cluster
        self._pod = pod
        self._is_over = is_over
        self._port = port
        self._listener = _listen(port)
        self.port: int = self._listener.getsockname()[1]
        self._closed = threading.Event()
        threading.Thread(target=self._accept, name=f"forward-{self.port}", daemon=True).start()

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def is_open(self) -> bool:
        """Whether it still listens."""
        return not self._closed.is_set()

    def close(self) -> None:
        """Stop listening. Connections that are open stay until one side closes them."""
        self._closed.set()
        self._listener.close()

    def _accept(self) -> None:
        self._listener.settimeout(_ACCEPT_SECONDS)
        look_at = 0.0
        while not self._closed.is_set():
            if time.monotonic() >= look_at:
                look_at = time.monotonic() + _ACCEPT_SECONDS
                if self._is_over():
                    break
            try:
                near, _ = self._listener.accept()
            except TimeoutError:
                continue
            except OSError:
                break
            threading.Thread(target=self._carry, args=(near,), name=f"forward-{self.port}", daemon=True).start()
        self.close()

    def _carry(self, near: socket.socket) -> None:
        with near:
            near.settimeout(None)
            try:
                far = self._cluster.connect_port(self._pod(), self._port)
            except BackendError as error:
                _LOG.warning("port %s: %s", self.port, error)
                return
            try:
                back = threading.Thread(target=_copy, args=(far, near), name=f"forward-{self.port}-back", daemon=True)
                back.start()
                _copy(near, far)
                back.join()
            finally:
                far.close()


def _listen(wish: int) -> socket.socket:
    """Return a socket that listens on loopback: at the port wished for, one of the next, or any."""
    for port in [*range(wish, min(wish + _TRIES, 65536)), 0]:
        listener = socket.socket()
        try:
            listener.bind(("127.0.0.1", port))
            listener.listen(64)
        except OSError:
            listener.close()
            continue
        return listener
    raise BackendError("no port of this machine is free", hint="close other programs that listen")


def _copy(source: Any, target: Any) -> None:  # noqa: ANN401 - a socket, or what stands for one
    """Carry bytes until `source` has no more, then say so to `target`."""
    with contextlib.suppress(OSError, BackendError):
        while data := source.recv(_BLOCK):
            target.sendall(data)
    with contextlib.suppress(OSError, BackendError, AttributeError):
        target.shutdown(socket.SHUT_WR)
