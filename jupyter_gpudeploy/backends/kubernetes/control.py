"""What is done to a run that is there: stop it, go on with it, execute one more command in it."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

from jupyter_gpudeploy.backends.kubernetes import marks, places
from jupyter_gpudeploy.backends.kubernetes.client_errors import ApiError, NotFoundError
from jupyter_gpudeploy.errors import BackendError
from jupyter_gpudeploy.programs.boot import NUMBER_TAKEN

if TYPE_CHECKING:
    from collections.abc import Sequence

    from jupyter_gpudeploy.backends.base import RunRef
    from jupyter_gpudeploy.backends.kubernetes.client import Cluster

FIRST_EXECUTED = 1000
"""The number of the first command executed in a manual run, whose own pod is task 0."""
_AT_ONCE = 50
_GONE_SECONDS = 60.0
_WORK = ("Job", "JobSet", "CronJob", "Deployment")


def stop(cluster: Cluster, ref: RunRef, grace_seconds: float) -> None:
    """Ask for the end: what has not started never does, what runs is terminated, and killed after the grace."""
    root = places.root_name(ref.name)
    cluster.patch(
        "ConfigMap", root, {"metadata": {"uid": ref.uid, "annotations": {marks.STOPPED: f"{time.time():.3f}"}}}
    )
    _set_running(cluster, ref, replicas=0)
    pods = cluster.list("Pod", labels=marks.selector(uid=ref.uid)).items
    living = [pod for pod in pods if pod.get("status", {}).get("phase") not in {"Succeeded", "Failed"}]
    for pod in living[:_AT_ONCE]:  # the others end within the grace of their own template
        metadata = pod["metadata"]
        try:
            cluster.delete("Pod", metadata["name"], uid=metadata["uid"], grace_seconds=max(1, round(grace_seconds)))
        except ApiError:
            continue


def proceed(cluster: Cluster, ref: RunRef, replicas: int = 1) -> None:
    """Take a stop back: what has not ended starts again; a server with so many replicas."""
    root = places.root_name(ref.name)
    cluster.patch("ConfigMap", root, {"metadata": {"uid": ref.uid, "annotations": {marks.STOPPED: None}}})
    _set_running(cluster, ref, replicas=replicas)


def execute(cluster: Cluster, pod: str, number: int, argv: Sequence[str]) -> int:
    """Hand a command to a manual run's pod, under this number or the next that is free; return it.

    It starts there, and does not need this process any more.
    """
    while True:
        words = ["python3", places.BOOT, "exec", str(number), json.dumps(list(argv))]
        done = cluster.execute(pod, places.CONTAINER, words, timeout=30)
        if done.exit_code != NUMBER_TAKEN:
            break
        number += 1
    if done.exit_code:
        said = (done.stderr or done.stdout).decode("utf-8", "replace").strip() or f"exit code {done.exit_code}"
        raise BackendError(f"the command could not be started in {pod}: {said.splitlines()[-1]}")
    return number


def remove(cluster: Cluster, ref: RunRef) -> None:
    """Delete everything that belongs to a run, and return when its names are free. Storage that was asked for stays."""
    cluster.delete("ConfigMap", places.root_name(ref.name), uid=ref.uid, propagation="Background")
    deadline = time.monotonic() + _GONE_SECONDS
    for kind in _WORK:
        if kind == "JobSet" and not cluster.has(kind):
            continue
        _await_gone(cluster, kind, ref, deadline)


def _await_gone(cluster: Cluster, kind: str, ref: RunRef, deadline: float) -> None:
    pause = 0.05
    while True:
        try:
            body = cluster.get(kind, ref.name)
        except NotFoundError:
            return
        if not marks.is_ours(body, uid=ref.uid):
            return
        if time.monotonic() > deadline:
            raise BackendError(
                f"{kind} {ref.name} is not gone after {_GONE_SECONDS:g} s", hint="its finalizers may say who holds it"
            )
        if "deletionTimestamp" not in body["metadata"]:
            _delete(cluster, kind, body["metadata"])
        time.sleep(pause)
        pause = min(pause * 1.5, 0.5)


def _delete(cluster: Cluster, kind: str, metadata: dict[str, Any]) -> None:
    cluster.delete(kind, metadata["name"], uid=metadata["uid"], propagation="Background")


def _set_running(cluster: Cluster, ref: RunRef, *, replicas: int) -> None:
    """Let the run's work go on, or with 0 replicas not. Only what carries the run's uid is touched."""
    for kind in _WORK:
        if kind == "JobSet" and not cluster.has(kind):
            continue
        try:
            body = cluster.get(kind, ref.name)
        except NotFoundError:
            continue
        if not marks.is_ours(body, uid=ref.uid):
            continue
        wanted: dict[str, Any] = {"replicas": replicas} if kind == "Deployment" else {"suspend": replicas == 0}
        cluster.patch(kind, ref.name, {"metadata": {"uid": body["metadata"]["uid"]}, "spec": wanted})
