"""What is done to a run that is there: stop it, go on with it, execute one more command in it."""

from __future__ import annotations

import json
import time
from contextlib import nullcontext, suppress
from typing import TYPE_CHECKING, Any

from jupyter_gpudeploy.backends.kubernetes import marks, places
from jupyter_gpudeploy.backends.kubernetes.api.errors import ConflictError, ForbiddenError, NotFoundError
from jupyter_gpudeploy.backends.kubernetes.api.kinds import MAKERS
from jupyter_gpudeploy.backends.kubernetes.life import graces, objects
from jupyter_gpudeploy.backends.kubernetes.manifests import render
from jupyter_gpudeploy.backends.kubernetes.manifests.workloads import QUEUE
from jupyter_gpudeploy.errors import BackendError
from jupyter_gpudeploy.programs.boot import NUMBER_TAKEN

if TYPE_CHECKING:
    from collections.abc import Sequence

    from jupyter_gpudeploy.backends.base import RunRef
    from jupyter_gpudeploy.backends.kubernetes.api.client import Cluster

FIRST_EXECUTED = 1000
"""The number of the first command executed in a manual run, whose own pod is task 0."""
_GONE_SECONDS = 60.0
_QUEUED = "kueue.x-k8s.io/job-uid"


def stop(cluster: Cluster, ref: RunRef, grace_seconds: float) -> None:
    """Ask for the end: what has not started never does, what runs is terminated, and killed after the grace.

    Raises BackendError, before anything is done, for a grace that the cluster does not give.

    A run that is gone, or whose name another run has, has nothing to be told; what carries its uid is ended all the
    same.
    """
    graces.check(cluster, ref, grace_seconds)
    root = places.root_name(ref.name)
    with suppress(NotFoundError, ConflictError):
        cluster.patch(
            "ConfigMap", root, {"metadata": {"uid": ref.uid, "annotations": {marks.STOPPED: f"{time.time():.3f}"}}}
        )
    graces.tell(cluster, ref, grace_seconds)
    halt(cluster, ref)
    graces.end(cluster, ref, grace_seconds)


def halt(cluster: Cluster, ref: RunRef) -> None:
    """Let nothing more of a run begin."""
    _set_running(cluster, ref, replicas=0)


def is_there(cluster: Cluster, ref: RunRef) -> bool:
    """Return whether anything is there that makes pods of a run."""
    for kind in _kinds(cluster, ref):
        with suppress(NotFoundError):
            if marks.is_ours(cluster.get(kind, ref.name), uid=ref.uid):
                return True
    return False


def is_alive(cluster: Cluster, ref: RunRef) -> bool:
    """Return whether any pod of a run lives, or more are to come."""
    pods = cluster.list("Pod", labels=marks.selector(uid=ref.uid)).items
    if any(pod.get("status", {}).get("phase") not in {"Succeeded", "Failed"} for pod in pods):
        return True
    kinds = _kinds(cluster, ref)
    try:
        if "CronJob" in kinds:
            clock = cluster.get("CronJob", ref.name)
            return marks.is_ours(clock, uid=ref.uid) and not clock["spec"].get("suspend")
        if "Job" not in kinds:
            return False
        _job(cluster, ref)
    except BackendError:
        return False
    return True


def proceed(cluster: Cluster, ref: RunRef, replicas: int = 1) -> None:
    """Take a stop back: what has not ended starts again; a server with so many replicas."""
    root = places.root_name(ref.name)
    cluster.patch(
        "ConfigMap", root, {"metadata": {"uid": ref.uid, "annotations": {marks.STOPPED: None, marks.PAUSED: None}}}
    )
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


def app_command(verb: str, name: str) -> list[str]:
    """Return the command that starts (`run`) or shows (`show`) an application in a pod."""
    return ["python3", places.APP, verb, name, places.APPS]


def app(cluster: Cluster, pod: str, name: str) -> dict[str, Any] | None:
    """Return port and token of an application that runs in a manual run's pod, None for none."""
    done = cluster.execute(pod, places.CONTAINER, app_command("show", name), timeout=30)
    if done.exit_code:
        raise BackendError(
            f"{pod} cannot be asked for {name}: {done.stderr.decode('utf-8', 'replace').strip()[-200:]}",
            hint="an environment of an earlier version has none: --replace",
        )
    found: dict[str, Any] | None = json.loads(done.stdout)
    return found


def remove(cluster: Cluster, ref: RunRef) -> None:
    """Delete everything that belongs to a run, and return when its names are free. Storage that was asked for stays."""
    kinds = _kinds(cluster, ref)
    with suppress(ConflictError):  # another run has the name
        cluster.delete("ConfigMap", places.root_name(ref.name), uid=ref.uid, propagation="Background")
    deadline = time.monotonic() + _GONE_SECONDS
    for kind in kinds:
        with suppress(NotFoundError):
            body = cluster.get(kind, ref.name)
            if marks.is_ours(body, uid=ref.uid):
                objects.await_gone(cluster, kind, body, deadline)


def parallelism(cluster: Cluster, ref: RunRef) -> int:
    """Return how many pods of a run's Job may run at once. Raises BackendError where it has none."""
    return int(_job(cluster, ref)["spec"]["parallelism"])


def set_parallelism(cluster: Cluster, ref: RunRef, count: int) -> None:
    """Let so many pods of the run's Job run at once; of more, the latest are ended, and begin anew later.

    Raises BackendError for one that Kueue has let go: it would end all that runs, and queue the Job anew.
    """
    job = _job(cluster, ref)
    if QUEUE in (job["metadata"].get("labels") or {}) and not job["spec"].get("suspend"):
        raise BackendError(
            f"{ref.name} has its room from Kueue, which would end all that runs of it to find another",
            hint="pause it, change it, unpause it: what runs begins anew then",
        )
    _set_job(cluster, "Job", job, {"parallelism": count})


def pause(cluster: Cluster, ref: RunRef, *, is_paused: bool) -> None:
    """Suspend the Job or the JobSet of a run, or let it go on. Raises BackendError where it is so already.

    What is in a queue is taken out of it, or put into it again: suspending is Kueue's.
    """
    kind = "JobSet" if "JobSet" in _kinds(cluster, ref) and cluster.has("JobSet") else "Job"
    job = _job(cluster, ref, kind)
    queued = _workloads(cluster, job["metadata"]["uid"]) if QUEUE in (job["metadata"].get("labels") or {}) else []
    held = [not one["spec"].get("active", True) for one in queued] or [bool(job["spec"].get("suspend"))]
    if all(held) is is_paused and not (queued and not is_paused):
        raise BackendError(f"{ref.name} is {'paused already' if is_paused else 'not paused'}")
    if queued:
        # Kueue may make a Workload anew, and active, when the parallelism of its Job changes: it is let go then.
        with suppress(NotFoundError) if not is_paused else nullcontext():
            _set_active(cluster, queued, is_active=not is_paused)
    else:
        _set_job(cluster, kind, job, {"suspend": is_paused})


def _set_job(cluster: Cluster, kind: str, job: dict[str, Any], wanted: dict[str, Any]) -> None:
    metadata = job["metadata"]
    cluster.patch(kind, metadata["name"], {"metadata": {"uid": metadata["uid"]}, "spec": wanted})


def _job(cluster: Cluster, ref: RunRef, kind: str = "Job") -> dict[str, Any]:
    """Return the Job of a run that has not ended. Raises BackendError."""
    try:
        job = cluster.get(kind, ref.name)
    except NotFoundError:
        job = {}
    if not marks.is_ours(job, uid=ref.uid):
        raise BackendError(f"{ref.name} has no Job that could be changed", hint="only jobs and sweeps have one")
    if _has_ended(job):
        raise BackendError(f"{ref.name} has ended", hint="launch it anew")
    return job


def _kinds(cluster: Cluster, ref: RunRef) -> list[str]:
    """Return the kinds of what makes the pods of a run: what it was made of, else all that there may be."""
    try:
        root = cluster.get("ConfigMap", places.root_name(ref.name))
        made = {body["kind"] for body in render.objects_in(root)} if root["metadata"]["uid"] == ref.uid else set()
    except (NotFoundError, KeyError, ValueError, OSError):
        made = set()
    return [maker.kind for maker in MAKERS if maker.kind in made or (not made and maker.is_everywhere)]


def _set_running(cluster: Cluster, ref: RunRef, *, replicas: int) -> None:
    """Let the run's work go on, or with 0 replicas not. Only what carries the run's uid is touched."""
    for kind in _kinds(cluster, ref):
        try:
            body = cluster.get(kind, ref.name)
        except NotFoundError:
            body = {}
        if marks.is_ours(body, uid=ref.uid):
            _set(cluster, kind, body, replicas)
        if kind == "CronJob" or (kind == "Job" and not marks.is_ours(body, uid=ref.uid)):
            set_jobs(cluster, ref, replicas)


def set_jobs(cluster: Cluster, ref: RunRef, replicas: int) -> None:
    """Let all Jobs of a run go on, or not: rounds that a schedule has started, trials of a search."""
    for job in cluster.list("Job", labels=marks.selector(uid=ref.uid)).items:
        if not _has_ended(job):
            with suppress(NotFoundError):
                _set(cluster, "Job", job, replicas)


def _set(cluster: Cluster, kind: str, body: dict[str, Any], replicas: int) -> None:
    """Let one object go on, or not. What waits in a queue is started by Kueue, and by nobody else."""
    metadata = body["metadata"]
    has_replicas = kind in ("Deployment", "LeaderWorkerSet")
    is_queued = not has_replicas and QUEUE in (metadata.get("labels") or {})
    if is_queued and _set_workload(cluster, metadata["uid"], is_active=replicas > 0) and replicas:
        return
    wanted: dict[str, Any] = {"replicas": replicas} if has_replicas else {"suspend": replicas == 0}
    cluster.patch(kind, metadata["name"], {"metadata": {"uid": metadata["uid"]}, "spec": wanted})


def _set_workload(cluster: Cluster, owner: str, *, is_active: bool) -> bool:
    """Let Kueue admit an object, or not: one that is only suspended would be started again. Return whether it does."""
    try:
        found = _workloads(cluster, owner)
        _set_active(cluster, found, is_active=is_active)
    except (ForbiddenError, NotFoundError):
        return False
    return bool(found)


def _workloads(cluster: Cluster, owner: str) -> list[dict[str, Any]]:
    """Return what Kueue keeps of an object of ours; nothing where there is no Kueue."""
    return cluster.list("Workload", labels=f"{_QUEUED}={owner}").items if cluster.has("Workload") else []


def _set_active(cluster: Cluster, workloads: Sequence[dict[str, Any]], *, is_active: bool) -> None:
    for one in workloads:
        metadata = one["metadata"]
        wanted = {"metadata": {"uid": metadata["uid"]}, "spec": {"active": is_active}}
        cluster.patch("Workload", metadata["name"], wanted)


def _has_ended(job: dict[str, Any]) -> bool:
    ends = job.get("status", {}).get("conditions") or ()
    return any(one["type"] in ("Complete", "Completed", "Failed") and one["status"] == "True" for one in ends)
