"""What we need of a pod and of a Job, taken out of the objects of the API: a hundredth of their size."""

from __future__ import annotations

import json
import signal
from datetime import datetime
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

INDEX = "batch.kubernetes.io/job-completion-index"
_FAILURES = ("batch.kubernetes.io/job-index-failure-count", "batch.kubernetes.io/job-index-ignored-failure-count")
_RESTARTS = "jobset.sigs.k8s.io/restart-attempt"
_GROUPS = "leaderworkerset.sigs.k8s.io"
_JOB = "batch.kubernetes.io/controller-uid"
_JOB_NAME = "batch.kubernetes.io/job-name"
_OOM_KILLED = "OOMKilled"
_SIGNALLED = 128
_LONGEST_REASON = 300


class Exit(NamedTuple):
    """How a container ended. Times in seconds since the epoch, by the clock of the node, which tells whole seconds."""

    code: int
    reason: str = ""
    message: str = ""
    started: float | None = None
    finished: float | None = None

    @property
    def words(self) -> str:
        """The end as a sentence: `exit code 3`, `killed by SIGTERM`; empty for a success."""
        if self.code > _SIGNALLED and self.code - _SIGNALLED in _SIGNALS:
            return f"killed by {_SIGNALS[self.code - _SIGNALLED]}"
        return f"exit code {self.code}" if self.code else ""


_SIGNALS = {number.value: number.name for number in signal.Signals}


class PodFacts(NamedTuple):
    """A pod. Times in seconds since the epoch, by the clock of the cluster; None while it has not come to that.

    `completion`: its index in the Job, and `failures`: how often that, or its JobSet, failed before. `restarts`: how
    often its container was started again; `exit`: the end of the last one started, `previous` that of the one before.
    `waiting`: (reason, message) of a container that does not run, an init container's before the main one's. `setup`:
    it failed before its main container began, and `container` and `exit` are the init container's. `gone`: it was
    deleted and is no more. `image`: what it runs, with the digest that the node has of it. `job`: the uid of its Job,
    `job_name`: what that is called.
    """

    uid: str
    name: str
    container: str
    completion: int | None
    task: int | None
    failures: int
    created: float
    node: str
    phase: str
    deleted: float | None
    scheduled: float | None
    started: float | None
    ready: float | None
    exit: Exit | None
    previous: Exit | None
    restarts: int
    container_id: str
    waiting: tuple[str, str]
    status: tuple[str, str]
    disruption: tuple[str, str]
    memory: str
    restartable: bool
    setup: bool = False
    gone: bool = False
    image: str = ""
    job: str = ""
    job_name: str = ""

    @property
    def is_over(self) -> bool:
        """Nothing of it runs any more, and nothing will."""
        return self.gone or self.phase in ("Succeeded", "Failed")


class JobFacts(NamedTuple):
    """A Job: the numbers of the indexes that have ended, and its conditions that are true: (reason, message, since).

    `restarts`: how often the JobSet that it belongs to has made it anew; None for a Job of its own. `owner`: the uid of
    that JobSet. `resumed`: when it was let go on last, after it was suspended; 0 while it is, or where it never was.
    """

    uid: str
    created: float
    suspended: bool
    active: int
    completed: frozenset[int]
    failed: frozenset[int]
    conditions: Mapping[str, tuple[str, str, float]]
    restarts: int | None = None
    gone: bool = False
    owner: str = ""
    resumed: float = 0.0

    @property
    def has_ended(self) -> bool:
        """Whether it ended as a whole."""
        return self.gone or "Complete" in self.conditions or "Failed" in self.conditions


def pod_facts(pod: Mapping[str, Any], *, gone: bool = False) -> PodFacts:
    """Return what we need of a pod."""
    metadata, spec, status = pod["metadata"], pod.get("spec", {}), pod.get("status", {})
    notes, labels = metadata.get("annotations") or {}, metadata.get("labels") or {}
    main = _main_container(spec, notes)
    seen = _named(status.get("containerStatuses"), main.get("name", ""))
    state = seen.get("state") or {}
    ended, before = state.get("terminated"), (seen.get("lastState") or {}).get("terminated")
    crashed = before if ended is None and not state.get("running") else None
    conditions = {item["type"]: item for item in status.get("conditions") or () if item.get("status") == "True"}
    index = notes.get(INDEX, labels.get(INDEX))
    disruption = conditions.get("DisruptionTarget") or {}
    exit_ = _exit(ended or crashed)
    name = main.get("name", "")
    failed = _failed_setup(status) if exit_ is None and status.get("phase") == "Failed" else None
    if failed is not None:
        name, exit_ = failed["name"], _exit(failed["state"]["terminated"])
    return PodFacts(
        uid=metadata["uid"],
        name=metadata["name"],
        container=name,
        completion=None if index is None else int(index),
        task=_task(labels, notes),
        failures=sum(_number(notes.get(name)) or 0 for name in _FAILURES) + (_number(labels.get(_RESTARTS)) or 0),
        created=seconds(metadata.get("creationTimestamp")) or 0.0,
        node=spec.get("nodeName", ""),
        phase=status.get("phase", "Pending"),
        deleted=seconds(metadata.get("deletionTimestamp")),
        scheduled=seconds((conditions.get("PodScheduled") or {}).get("lastTransitionTime")),
        started=seconds((state.get("running") or {}).get("startedAt")) or (exit_.started if exit_ else None),
        ready=seconds((conditions.get("Ready") or {}).get("lastTransitionTime")) if seen.get("ready") else None,
        exit=exit_,
        previous=None if crashed else _exit(before),
        restarts=seen.get("restartCount", 0),
        container_id=(failed or seen).get("containerID", ""),
        waiting=_waiting(status, state),
        status=(status.get("reason", ""), status.get("message", "")),
        disruption=(disruption.get("reason", ""), disruption.get("message", "")),
        memory=str(((main.get("resources") or {}).get("limits") or {}).get("memory", "")),
        restartable=spec.get("restartPolicy", "Always") != "Never",
        setup=failed is not None,
        gone=gone,
        image=_image(main.get("image", ""), seen.get("imageID", "")),
        job=labels.get(_JOB, ""),
        job_name=labels.get(_JOB_NAME, ""),
    )


def job_facts(job: Mapping[str, Any], *, gone: bool = False) -> JobFacts:
    """Return what we need of a Job."""
    metadata, spec, status = job["metadata"], job.get("spec", {}), job.get("status", {})
    conditions = {
        item["type"]: (item.get("reason", ""), item.get("message", ""), seconds(item.get("lastTransitionTime")) or 0.0)
        for item in status.get("conditions") or ()
        if item.get("status") == "True"
    }
    return JobFacts(
        uid=metadata["uid"],
        created=seconds(metadata.get("creationTimestamp")) or 0.0,
        suspended=bool(spec.get("suspend")),
        active=(status.get("active") or 0) + (status.get("terminating") or 0),
        completed=frozenset(indexes(status.get("completedIndexes"))),
        failed=frozenset(indexes(status.get("failedIndexes"))),
        conditions=conditions,
        restarts=_number((metadata.get("labels") or {}).get(_RESTARTS)),
        gone=gone,
        owner=next((one["uid"] for one in metadata.get("ownerReferences") or () if one["kind"] == "JobSet"), ""),
        resumed=max((_resumed(item) for item in status.get("conditions") or ()), default=0.0),
    )


def was_suspended(pod: PodFacts, job: JobFacts | None) -> bool:
    """Return whether a pod was ended because its Job was suspended: what is older than the last resumption was."""
    return job is not None and pod.deleted is not None and (job.suspended or pod.created < job.resumed)


def _resumed(item: Mapping[str, Any]) -> float:
    is_so = item.get("type") == "Suspended" and item.get("status") == "False"
    return (seconds(item.get("lastTransitionTime")) or 0.0) if is_so else 0.0


def indexes(text: str | None) -> Iterator[int]:
    """Yield the numbers of a compressed list: `1,3-5,7`. What is no number is passed over."""
    for part in (text or "").split(","):
        first, _, last = part.strip().partition("-")
        if first.isdigit() and (last.isdigit() or not last):
            yield from range(int(first), int(last or first) + 1)


def seconds(text: str | None) -> float | None:
    """Return a time of the API (RFC 3339) as seconds since the epoch."""
    if not text:
        return None
    try:
        return datetime.fromisoformat(text).timestamp()
    except ValueError:
        return None


def end_of(pod: PodFacts, exit_: Exit | None, said: str = "") -> str:
    """Return why a container that failed did so, as a sentence. `said`: what the pod itself said at its end."""
    if exit_ is not None and exit_.reason == _OOM_KILLED:
        limit = f" (limit {pod.memory})" if pod.memory else ""
        return f"out of memory{limit}, exit code {exit_.code}"
    reason, message = pod.status
    words = exit_.words if exit_ is not None else ""
    if reason == "Evicted":
        return f"evicted: {message or 'the node was low on resources'}"
    if pod.disruption[0]:
        return disruption_words(*pod.disruption, pod.node)
    if pod.deleted is not None or pod.gone:
        return f"the pod was deleted outside ({words})" if words else "the pod was deleted outside"
    if words:
        return f"{pod.container}: {words}" if pod.setup else said or words
    return ": ".join(filter(None, (reason, message))) or "the pod failed"


def said_reason(exit_: Exit) -> str:
    """Return the reason that our program in a pod left as its last word; empty where it left none."""
    try:
        said = json.loads(exit_.message)
        return str(said.get("reason") or "")[:_LONGEST_REASON]
    except (ValueError, AttributeError):
        return ""


def disruption_words(reason: str, message: str, node: str) -> str:
    """Return a pod's DisruptionTarget condition as a sentence."""
    what = {
        "PreemptionByScheduler": "preempted by a pod of higher priority",
        "PreemptionByKubeScheduler": "preempted by a pod of higher priority",
        "DeletionByTaintManager": f"node {node} does not respond or is not to be used",
        "EvictionByEvictionAPI": "evicted (the node is being drained)",
        "DeletionByPodGC": f"node {node} is gone",
        "TerminationByKubelet": f"ended by node {node}",
    }.get(reason, f"disrupted ({reason})")
    return f"{what}: {message}" if message else what


def _main_container(spec: Mapping[str, Any], notes: Mapping[str, str]) -> Mapping[str, Any]:
    containers = spec.get("containers") or [{}]
    wanted = notes.get("kubectl.kubernetes.io/default-container")
    return next((container for container in containers if container.get("name") == wanted), containers[0])


def _image(name: str, found: str) -> str:
    """Return `name@sha256:..` from what was asked for and the node's imageID; empty before the node has it.

    That is a reference with the digest of the registry, or the hash of the image alone where it came from no registry.
    """
    digest = found.rpartition("@")[2].removeprefix("docker-pullable://")
    return f"{name.partition('@')[0]}@{digest}" if digest.startswith("sha256:") else ""


def _named(statuses: Any, name: str) -> Mapping[str, Any]:  # noqa: ANN401 - JSON of the API
    return next((status for status in statuses or () if status.get("name") == name), {})


def _waiting(status: Mapping[str, Any], state: Mapping[str, Any]) -> tuple[str, str]:
    for initial in status.get("initContainerStatuses") or ():
        held = (initial.get("state") or {}).get("waiting")
        if held and held.get("reason") not in ("PodInitializing", None):
            return held["reason"], held.get("message", "")
    held = state.get("waiting") or {}
    return held.get("reason", ""), held.get("message", "")


def _failed_setup(status: Mapping[str, Any]) -> Mapping[str, Any] | None:
    return next(
        (
            initial
            for initial in status.get("initContainerStatuses") or ()
            if ((initial.get("state") or {}).get("terminated") or {}).get("exitCode")
        ),
        None,
    )


def _exit(terminated: Mapping[str, Any] | None) -> Exit | None:
    if not terminated:
        return None
    return Exit(
        terminated.get("exitCode", 0),
        terminated.get("reason", ""),
        terminated.get("message", ""),
        seconds(terminated.get("startedAt")),
        seconds(terminated.get("finishedAt")),
    )


def _task(labels: Mapping[str, str], notes: Mapping[str, str]) -> int | None:
    """Return which task a pod says that it is; of a LeaderWorkerSet, counted through all groups."""
    group, index = _number(labels.get(f"{_GROUPS}/group-index")), _number(labels.get(f"{_GROUPS}/worker-index"))
    size = _number(notes.get(f"{_GROUPS}/size"))
    if group is not None and index is not None and size is not None:
        return group * size + index
    return _number(labels.get("jupyter-gpudeploy/task"))


def _number(text: str | None) -> int | None:
    return int(text) if text is not None and text.isdigit() else None
