"""A pod that lives for a moment, to read the volume of a run from whose pods none is left.

It belongs to the run, and ends by itself when nobody asks it for anything for a while: a process that was killed leaves
nothing that holds a volume.
"""

from __future__ import annotations

import secrets
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from jupyter_gpudeploy.backends.kubernetes import marks, places
from jupyter_gpudeploy.backends.kubernetes.api.errors import ApiError, NotFoundError
from jupyter_gpudeploy.backends.kubernetes.diagnosis.explain import explain
from jupyter_gpudeploy.backends.kubernetes.manifests.scheduling import toleration
from jupyter_gpudeploy.backends.kubernetes.manifests.security import of_person
from jupyter_gpudeploy.backends.kubernetes.manifests.shapes import shape
from jupyter_gpudeploy.errors import BackendError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from jupyter_gpudeploy.backends.base import RunRef
    from jupyter_gpudeploy.backends.kubernetes.api.client import Cluster

CONTAINER = "reader"
IDLE_SECONDS = 60
LINGER_SECONDS = 2.0
_DEADLINE_SECONDS = 6 * 3600
_START_SECONDS = 180.0
_PROGRAM = """
import os, sys, time
last = time.monotonic()
while time.monotonic() - last < float(sys.argv[1]):
    time.sleep(1)
    if any(name.isdigit() and name != "1" for name in os.listdir("/proc")):
        last = time.monotonic()
"""


class Readers:
    """The reader pods of this process, one a run; each is deleted a moment after it was used last."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._lock = threading.Lock()
        self._opening = threading.Lock()
        self._pods: dict[str, tuple[str, str]] = {}
        self._users: dict[str, int] = {}

    @contextmanager
    def reader(self, ref: RunRef, record: Mapping[str, Any]) -> Iterator[str]:
        """Give the name of a running pod that has the run's volume at places.STORAGE. Raises BackendError."""
        with self._lock:
            self._users[ref.uid] = self._users.get(ref.uid, 0) + 1
        try:
            with self._opening:
                pod = self._opened(ref, record)
            yield pod
        finally:
            with self._lock:
                self._users[ref.uid] -= 1
            # No daemon: the pod goes although the program that asked for the files ends now.
            threading.Timer(LINGER_SECONDS, self._close, [ref.uid]).start()

    def close(self) -> None:
        """Delete every reader."""
        for uid in [*self._pods]:
            name, pod_uid = self._pods.pop(uid)
            self._delete(name, pod_uid)

    def _opened(self, ref: RunRef, record: Mapping[str, Any]) -> str:
        kept = self._pods.get(ref.uid)
        if kept is not None and self._is_running(*kept):
            return kept[0]
        self._sweep(ref)
        body = self._cluster.create(reader_pod(ref, record, is_owned=self._has_root(ref)))
        metadata = body["metadata"]
        self._pods[ref.uid] = metadata["name"], metadata["uid"]
        self._await(metadata["name"], record)
        return str(metadata["name"])

    def _close(self, uid: str) -> None:
        with self._opening:
            if self._users.get(uid) or uid not in self._pods:
                return
            name, pod_uid = self._pods.pop(uid)
        self._delete(name, pod_uid)

    def _is_running(self, name: str, uid: str) -> bool:
        try:
            body = self._cluster.get("Pod", name)
        except NotFoundError:
            return False
        return bool(body["metadata"]["uid"] == uid and body["status"].get("phase") == "Running")

    def _sweep(self, ref: RunRef) -> None:
        """Delete readers of this run that have ended: those of processes that were killed."""
        for pod in self._cluster.list("Pod", labels=marks.selector(run=ref.name, part=marks.READER)).items:
            if pod.get("status", {}).get("phase") in {"Succeeded", "Failed"}:
                self._delete(pod["metadata"]["name"], pod["metadata"]["uid"])

    def _has_root(self, ref: RunRef) -> bool:
        try:
            body = self._cluster.get("ConfigMap", places.root_name(ref.name), bare=True)
        except NotFoundError:
            return False
        return bool(body["metadata"]["uid"] == ref.uid)

    def _await(self, name: str, record: Mapping[str, Any]) -> None:
        deadline = time.monotonic() + _START_SECONDS
        while True:
            pod = self._cluster.get("Pod", name)
            phase = pod.get("status", {}).get("phase")
            if phase == "Running":
                return
            late = time.monotonic() > deadline
            if late or phase in {"Succeeded", "Failed"}:
                raise BackendError(f"the volume cannot be read: {self._why(pod, record)}", hint="%deploy doctor")
            time.sleep(0.25)

    def _why(self, pod: dict[str, Any], record: Mapping[str, Any]) -> str:
        try:
            events = self._cluster.list("Event", fields=f"involvedObject.uid={pod['metadata']['uid']}").items
        except ApiError:
            events = []
        found = explain({**pod, "kind": "Pod"}, events, record)
        return found.sentence if found else f"its pod does not start in {_START_SECONDS:g} s"

    def _delete(self, name: str, uid: str) -> None:
        try:
            self._cluster.delete("Pod", name, uid=uid, grace_seconds=1, propagation="Background")
        except ApiError:
            return  # it ends by itself


def reader_pod(ref: RunRef, record: Mapping[str, Any], *, is_owned: bool) -> dict[str, Any]:
    """Return the pod. It has no label with the run's uid: it is no part of what the run does."""
    options = record["cluster"]
    person = of_person(is_openshift=(record.get("target") or {}).get("flavour") == "openshift")
    pod = shape(
        "pod",
        labels=marks.labels(ref.name, marks.READER),
        annotations={"kubectl.kubernetes.io/default-container": CONTAINER},
        restart_policy="Never",
        deadline_seconds=_DEADLINE_SECONDS,
        grace_seconds=1,
        service_account=options.get("service_account"),
        priority=options.get("priority"),
        subdomain=None,
        pull_secrets=[{"name": name} for name in dict.fromkeys(options.get("image_pull_secrets") or ())] or None,
        node_selector=None,
        tolerations=[toleration(text) for text in options.get("tolerations") or ()] or None,
        spread=None,
        claims=None,
        security={**person, "fsGroupChangePolicy": "OnRootMismatch"},
        init_containers=None,
        containers=[_container(options["image"])],
        volumes=[{"name": "storage", "persistentVolumeClaim": {"claimName": claim_of(ref.name, options)}}],
    )
    pod["metadata"]["name"] = f"{ref.name[:40].rstrip('-.')}-reader-{secrets.token_hex(4)}"
    if is_owned:
        owner = {"apiVersion": "v1", "kind": "ConfigMap", "name": places.root_name(ref.name), "uid": ref.uid}
        pod["metadata"]["ownerReferences"] = [{**owner, "controller": False, "blockOwnerDeletion": False}]
    return {"apiVersion": "v1", "kind": "Pod", **pod}


def claim_of(name: str, options: Mapping[str, Any]) -> str:
    """Return the claim of a run with `storage:`."""
    storage = str(options["storage"])
    return storage.removeprefix("claim:") if storage.startswith("claim:") else name


def _container(image: str) -> dict[str, Any]:
    nothing = dict.fromkeys(("args", "environment", "ports", "startup", "readiness", "liveness", "lifecycle"))
    return shape(
        "container",
        name=CONTAINER,
        image=image,
        command=["python3", "-c", _PROGRAM, str(IDLE_SECONDS)],
        resources={"requests": {"cpu": "50m", "memory": "64Mi"}, "limits": {"cpu": "1", "memory": "512Mi"}},
        mounts=[{"name": "storage", "mountPath": places.STORAGE, "readOnly": True}],
        **nothing,
    )
