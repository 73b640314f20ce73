"""One request: connection, TLS, proxy, time limits, and what is tried again.

A read, an apply, a patch and a delete may be sent twice without harm and are tried again after a 5xx or a lost
connection. A create is tried again only where nothing can have been created: the connection was refused, or the server
said 401 or 429.
"""

from __future__ import annotations

import json
import math
import random
import threading
import time
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import urlencode

from jupyter_gpudeploy._version import __version__
from jupyter_gpudeploy.backends.kubernetes.api.errors import (
    ApiError,
    CredentialsError,
    ThrottledError,
    UnreachableError,
    from_status,
)
from jupyter_gpudeploy.backends.kubernetes.api.lost import CONNECT_SECONDS, LostError, what_happened

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    import urllib3

    from jupyter_gpudeploy.backends.kubernetes.api.kubeconfig import Access

READ_SECONDS = 30.0
_OK = range(200, 300)
_LONGEST_AFTER_5XX = 5.0
_LONGEST_TEXT = 300


class Patience(NamedTuple):
    """How long is tried again, in seconds. `internal`: how often a 500 is, which is often an admission hook's.

    `silence`: for how long one try waits for a connection, or for more of an answer; less where the call says so.
    """

    total: float = 30.0
    first: float = 0.4
    longest: float = 8.0
    longest_retry_after: float = 20.0
    said_after: float = 10.0
    internal: int = 3
    silence: float = math.inf


class Call(NamedTuple):
    """One request. `doing` is it in words, for errors: `read Pod 'a'`. `safe`: it may be sent twice."""

    method: str
    path: str
    doing: str
    query: Sequence[tuple[str, str]] = ()
    body: Any = None
    content_type: str = "application/json"
    headers: Mapping[str, str] = {}
    safe: bool = True
    read_seconds: float = READ_SECONDS
    streams: bool = False


class Transport:
    """The connections to one API server. Any thread may use it."""

    def __init__(self, access: Access, where: str, patience: Patience | None = None) -> None:
        self.access = access
        self.where = where
        self.patience = patience or Patience()
        self.tell: Callable[[str], None] = lambda _: None
        self._closed = threading.Event()
        self._renewing = threading.Lock()
        self._generation = 0
        self._pool: urllib3.PoolManager | None = None

    def json(self, call: Call) -> dict[str, Any]:
        """Return the object that the server answers. Raises ApiError, UnreachableError, CredentialsError."""
        response = self.send(call)
        try:
            body = json.loads(response.data)
        except ValueError:
            body = None
        if not isinstance(body, dict):
            message = f"cannot {call.doing} in {self.where}: the answer is no Kubernetes object"
            raise ApiError(
                message, status=response.status, hint=f"is {self.access.server} the address of an API server?"
            )
        return body

    def send(self, call: Call) -> urllib3.BaseHTTPResponse:
        """Return the answer; with `call.streams` its body is not read yet. Raises as `json`."""
        trying = _Trying(self, call)
        renewed = False
        while True:
            generation = self._generation
            try:
                response = self._once(call)
            except LostError as lost:
                trying.after_loss(lost)
                continue
            if response.status in _OK or response.status == 101:  # noqa: PLR2004 - switching protocols
                return response
            if response.status == 401:  # noqa: PLR2004 - HTTP
                response.close()
                if renewed or not self._renew(generation):
                    raise self._refused()
                renewed = True
                continue
            trying.after_answer(response)

    def close(self) -> None:
        """Close what is idle; whoever waits for another try gives up."""
        self._closed.set()
        if self._pool is not None:
            self._pool.clear()

    def wait(self, seconds: float) -> None:
        """Wait, unless closed meanwhile. Raises UnreachableError."""
        if self._closed.wait(seconds):
            raise UnreachableError(f"the connection to {self.where} was closed")

    def _once(self, call: Call) -> urllib3.BaseHTTPResponse:
        import urllib3

        query = f"?{urlencode(call.query)}" if call.query else ""
        body = None if call.body is None else json.dumps(call.body).encode()
        headers = {
            "Accept": "application/json",
            "User-Agent": f"jupyter-gpudeploy/{__version__}",
            **({"Content-Type": call.content_type} if body is not None else {}),
            **({} if call.streams else {"Accept-Encoding": "gzip"}),
            **call.headers,
            **self.access.credentials.headers(),
        }
        connect, read = min(CONNECT_SECONDS, self.patience.silence), min(call.read_seconds, self.patience.silence)
        try:
            return self._connections().request(
                call.method,
                f"{self.access.server}{call.path}{query}",
                body=body,
                headers=headers,
                retries=False,
                redirect=False,
                preload_content=not call.streams,
                timeout=urllib3.Timeout(connect=connect, read=read),
            )
        except (urllib3.exceptions.HTTPError, OSError) as error:
            raise what_happened(error, read) from None

    def _connections(self) -> urllib3.PoolManager:
        from jupyter_gpudeploy.backends.kubernetes.api.connections import pool_manager

        pool = self._pool
        if pool is None:
            with self._renewing:
                pool = self._pool = self._pool or pool_manager(self.access)
        return pool

    def _renew(self, generation: int) -> bool:
        """Renew the credentials after a 401; another thread may have done so meanwhile."""
        with self._renewing:
            if self._generation != generation:
                return True
            if not self.access.credentials.refresh():
                return False
            self._generation += 1
            self._pool = None  # a new certificate needs new connections
            return True

    def _refused(self) -> CredentialsError:
        used = self.access.credentials
        return CredentialsError(f"{self.access.place} does not accept {used.name} (401)", hint=used.way_out)


class _Trying:
    """How often one call was tried, and whether it is again."""

    def __init__(self, transport: Transport, call: Call) -> None:
        self._transport = transport
        self._call = call
        self._begun = time.monotonic()
        self._times = 0
        self._internal = 0
        self._told = 0.0

    def after_loss(self, lost: LostError) -> None:
        """Wait for the next try, or raise UnreachableError."""
        may_repeat = (self._call.safe or not lost.sent) and not lost.lasting
        if may_repeat and self._pause(self._backoff(), f"does not answer ({lost.reason})"):
            return
        doubt = "" if self._call.safe or not lost.sent else "; it may have been done all the same"
        call, transport = self._call, self._transport
        raise UnreachableError(
            f"cannot {call.doing}: {transport.access.place} cannot be reached: {lost.reason}{doubt}", hint=lost.hint
        )

    def after_answer(self, response: urllib3.BaseHTTPResponse) -> None:
        """Wait for the next try, or raise what the answer says."""
        error = self._error(response)
        code = response.status
        asked = _seconds(response.headers.get("Retry-After"))
        if code == 429:  # noqa: PLR2004 - HTTP
            wait = min(asked or self._backoff(), self._transport.patience.longest_retry_after)
            if isinstance(error, ThrottledError):
                error.retry_after = asked
            if self._pause(wait * random.uniform(1.0, 1.1), "is throttling requests"):  # noqa: S311 - jitter
                return
        elif code >= 500 and self._call.safe:  # noqa: PLR2004 - HTTP
            self._internal += code == 500  # noqa: PLR2004 - HTTP
            wait = max(self._backoff(), min(asked, _LONGEST_AFTER_5XX))
            if self._internal < self._transport.patience.internal and self._pause(wait, f"answers {code}"):
                return
        raise error

    def _pause(self, seconds: float, why: str) -> bool:
        """Wait and return True, or return False when there is no patience left."""
        patience = self._transport.patience
        waited = time.monotonic() - self._begun
        if waited + seconds > patience.total:
            return False
        if waited + seconds >= patience.said_after and waited - self._told >= patience.said_after:
            self._told = waited
            self._transport.tell(f"{self._transport.access.server} {why}: trying again after {waited:.0f} s")
        self._transport.wait(seconds)
        self._times += 1
        return True

    def _backoff(self) -> float:
        patience = self._transport.patience
        doubled: float = patience.first * 2**self._times
        return min(patience.longest, doubled) * random.uniform(0.5, 1.0)  # noqa: S311 - jitter

    def _error(self, response: urllib3.BaseHTTPResponse) -> ApiError:
        try:
            data = response.data
            body = json.loads(data)
        except Exception:  # noqa: BLE001 - a proxy's page, or half of one: the status is what counts
            body = None
        finally:
            response.close()
        status = (
            body if isinstance(body, dict) else {"message": f"HTTP {response.status} {response.reason or ''}".strip()}
        )
        return from_status(response.status, status, self._call.doing, self._transport.where)


def _seconds(text: str | None) -> float:
    try:
        return max(0.0, float(text or 0))
    except ValueError:  # a date: nothing in Kubernetes sends one
        return 0.0
