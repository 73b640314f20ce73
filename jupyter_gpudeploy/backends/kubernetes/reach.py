"""Where a run's server is reached, and which link of the chain is missing when it is not."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any

from jupyter_gpudeploy.backends.base import Endpoint
from jupyter_gpudeploy.backends.kubernetes import places
from jupyter_gpudeploy.backends.kubernetes.client_errors import NotFoundError
from jupyter_gpudeploy.backends.kubernetes.forward import Forward
from jupyter_gpudeploy.errors import BackendError
from jupyter_gpudeploy.events.status import Status
from jupyter_gpudeploy.events.store import JournalReader
from jupyter_gpudeploy.events.types import State

if TYPE_CHECKING:
    from jupyter_gpudeploy.backends.base import RunRef
    from jupyter_gpudeploy.backends.kubernetes.client import Cluster
    from jupyter_gpudeploy.backends.kubernetes.layout import MirrorFolder

_KINDS = {"route": "Route", "httproute": "HTTPRoute", "ingress": "Ingress", "loadbalancer": "Service"}
_SUCCESSOR_SECONDS = 15.0
LIVING = (State.STARTING, State.RUNNING, State.READY)


class Reach:
    """The ways to one run from this process. Forwards are opened when they are first asked for."""

    def __init__(self, cluster: Cluster, ref: RunRef, folder: MirrorFolder) -> None:
        self._cluster = cluster
        self._ref = ref
        self._folder = folder
        self._record = folder.record()
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
                kept = self._forwards[port, task] = Forward(self._cluster, lambda: self.ready_pod(task), port)
            return kept

    def ready_pod(self, task: int, wait: float = _SUCCESSOR_SECONDS, states: tuple[State, ...] = (State.READY,)) -> str:
        """Return a task's pod, waiting a moment for the successor of one that went. Raises BackendError."""
        deadline = time.monotonic() + wait
        while True:
            status = Status.of((), JournalReader(self._folder.events_file).poll())
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
        """Return the header that opens the server, where it has a key and the key is here."""
        if not self._folder.key_file.exists():
            return {}
        return {"Authorization": f"Bearer {self._folder.key_file.read_text().strip()}"}

    def _outside(self, way: str) -> str:
        kind = _KINDS[way]
        name = places.service_name(self._ref.name) if kind == "Service" else self._ref.name
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
