"""Where a run's server is reached, and which link of the chain is missing when it is not."""

from __future__ import annotations

import base64
import functools
import threading
import time
from typing import TYPE_CHECKING, Any

from jupyter_gpudeploy.backends.base import Endpoint
from jupyter_gpudeploy.backends.kubernetes import marks, places
from jupyter_gpudeploy.backends.kubernetes.api.errors import ApiError, NotFoundError
from jupyter_gpudeploy.backends.kubernetes.api.forward import Forward
from jupyter_gpudeploy.backends.kubernetes.known import Known
from jupyter_gpudeploy.errors import BackendError
from jupyter_gpudeploy.events.history import has_final_record
from jupyter_gpudeploy.events.store import write_atomically
from jupyter_gpudeploy.events.types import State

if TYPE_CHECKING:
    from jupyter_gpudeploy.backends.base import RunRef
    from jupyter_gpudeploy.backends.kubernetes.api.client import Cluster
    from jupyter_gpudeploy.backends.kubernetes.layout import MirrorFolder

_KINDS = {"route": "Route", "httproute": "HTTPRoute", "ingress": "Ingress", "loadbalancer": "Service"}
_SUCCESSOR_SECONDS = 15.0
LIVING = (State.STARTING, State.RUNNING, State.READY)
_ANSWERS = {"server": (State.READY,), "manual": (State.READY,)}
"""When a pod is connected to, by the kind of its run. Of what is never called ready: while it runs."""


class Reach:
    """The ways to one run from this process. Forwards are opened when they are first asked for."""

    def __init__(self, cluster: Cluster, ref: RunRef, folder: MirrorFolder) -> None:
        self._cluster = cluster
        self._ref = ref
        self._folder = folder
        self._known = Known(folder)
        self._record = self._known.record
        self._forwards: dict[tuple[int, int], Forward] = {}
        self._lock = threading.Lock()

    def endpoint(self, task: int = 0) -> Endpoint:
        """Return the address of a server whose pod runs. Raises BackendError."""
        self.ready_pod(task, wait=0, states=LIVING)
        path = str(self._record["service"]["path"]).rstrip("/")
        headers = self._headers()
        way = (self._record.get("cluster") or {}).get("expose") or "forward"
        if way in _KINDS:
            return Endpoint(self._outside(way) + path, headers)
        return Endpoint(self.forward(int(self._record["service"]["port"]), task).url + path, headers)

    def forward(self, port: int, task: int = 0) -> Forward:
        """Return the forward to a port of a replica's pod; one a port and replica."""
        with self._lock:
            kept = self._forwards.get((port, task))
            if kept is None or not kept.is_open:
                ended = functools.partial(has_final_record, self._folder.events_file)
                kept = self._forwards[port, task] = Forward(self._cluster, lambda: self.ready_pod(task), port, ended)
            return kept

    def ready_pod(self, task: int, wait: float = _SUCCESSOR_SECONDS, states: tuple[State, ...] = ()) -> str:
        """Return a task's pod, waiting a moment for the successor of one that went. Raises BackendError.

        `states`: those in which it will do; by default those in which it can be connected to.
        """
        states = states or _ANSWERS.get(self._record["kind"], (State.RUNNING, State.READY))
        deadline = time.monotonic() + wait
        while True:
            status = self._known.status()
            found = status if self._record["kind"] == "manual" else status.tasks.get(task)
            if found is not None and found.state in states and "pod" in found.details:
                return str(found.details["pod"])
            if status.state.is_final or time.monotonic() >= deadline:
                state = "waiting" if found is None else f"{found.state.value} {found.reason}".strip()
                raise BackendError(
                    f"{self._ref.name} cannot be reached: its task {task} is {state}",
                    hint="wait until it is ready, or see its log",
                )
            time.sleep(0.1)

    def close(self) -> None:
        """Close every forward."""
        with self._lock:
            for forward in self._forwards.values():
                forward.close()
            self._forwards.clear()

    def _headers(self) -> dict[str, str]:
        """Return the header that opens the server, where it has a key of ours. Raises BackendError for one not here."""
        secret = self._record.get("api_key")
        if not secret:
            return {}
        if not self._folder.key_file.exists():
            self._fetch_key(secret)
        return {"Authorization": f"Bearer {self._folder.key_file.read_text().strip()}"}

    def _fetch_key(self, secret: str) -> None:
        """Bring the key from its Secret, where we may read that."""
        try:
            body = self._cluster.get("Secret", secret)
            key = base64.b64decode(body["data"][places.KEY])
        except (ApiError, KeyError, ValueError):
            body, key = {}, b""
        if not key or not marks.is_ours(body, uid=self._ref.uid):
            raise BackendError(
                f"{self._ref.name} cannot be reached from here: its key is on the machine that launched it",
                hint="use it from there; or --replace, and the key is here",
            )
        write_atomically(self._folder.key_file, key)

    def _outside(self, way: str) -> str:
        kind = _KINDS[way]
        nodes = int((self._record.get("cluster") or {}).get("nodes") or 1)
        name = places.service_name(self._ref.name, nodes=nodes) if kind == "Service" else self._ref.name
        try:
            body = self._cluster.get(kind, name)
        except NotFoundError:
            raise BackendError(f"{kind} {name} is not there: it was deleted", hint="--replace makes it again") from None
        url, missing = _READERS[way](body)
        if url is None:
            raise BackendError(
                f"{kind} {name} leads nowhere yet: {missing}", hint="%deploy forward reaches it meanwhile"
            )
        return url


def _route(body: dict[str, Any]) -> tuple[str | None, str]:
    for ingress in body.get("status", {}).get("ingress") or ():
        conditions = {item["type"]: item for item in ingress.get("conditions") or ()}
        admitted = conditions.get("Admitted", {})
        if admitted.get("status") == "True":
            scheme = "https" if body["spec"].get("tls") else "http"
            return f"{scheme}://{ingress['host']}", ""
        if admitted:
            return None, admitted.get("message") or "the router did not admit it"
    return None, "no router has admitted it"


def _httproute(body: dict[str, Any]) -> tuple[str | None, str]:
    for parent in body.get("status", {}).get("parents") or ():
        conditions = {item["type"]: item for item in parent.get("conditions") or ()}
        if conditions.get("Accepted", {}).get("status") == "True":
            hosts = body["spec"].get("hostnames") or []
            return (f"https://{hosts[0]}", "") if hosts else (None, "it has no host name: say host:")
        if message := conditions.get("Accepted", {}).get("message"):
            return None, str(message)
    return None, "no Gateway has accepted it"


def _ingress(body: dict[str, Any]) -> tuple[str | None, str]:
    found = (body.get("status", {}).get("loadBalancer") or {}).get("ingress") or []
    hosts = [rule["host"] for rule in body["spec"].get("rules") or () if rule.get("host")]
    if not found:
        return None, "no ingress controller has taken it"
    host = hosts[0] if hosts else found[0].get("hostname") or found[0]["ip"]
    return f"{'https' if body['spec'].get('tls') else 'http'}://{host}", ""


def _balancer(body: dict[str, Any]) -> tuple[str | None, str]:
    found = (body.get("status", {}).get("loadBalancer") or {}).get("ingress") or []
    if not found:
        return None, "it has no external address yet"
    port = body["spec"]["ports"][0]["port"]
    return f"http://{found[0].get('hostname') or found[0]['ip']}:{port}", ""


_READERS = {"route": _route, "httproute": _httproute, "ingress": _ingress, "loadbalancer": _balancer}
