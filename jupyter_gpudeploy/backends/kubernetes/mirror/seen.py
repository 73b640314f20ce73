"""What was seen of a run on a cluster: objects go in, one at a time and in any order.

Times are those of the cluster's objects, so neither the clock of this machine nor how late it looks plays a part.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from jupyter_gpudeploy.backends.kubernetes import marks
from jupyter_gpudeploy.backends.kubernetes.diagnosis.findings import condition
from jupyter_gpudeploy.backends.kubernetes.diagnosis.queues import why_evicted
from jupyter_gpudeploy.backends.kubernetes.facts import job_facts, pod_facts, seconds
from jupyter_gpudeploy.backends.kubernetes.mirror.attempts import Surroundings
from jupyter_gpudeploy.backends.kubernetes.mirror.notes import EventNotes
from jupyter_gpudeploy.backends.kubernetes.mirror.placing import Places
from jupyter_gpudeploy.backends.kubernetes.mirror.reasons import Reason, Reasons
from jupyter_gpudeploy.backends.kubernetes.mirror.standing import Standing
from jupyter_gpudeploy.backends.kubernetes.mirror.tasks import TaskTrack
from jupyter_gpudeploy.events.types import Notice, State

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from jupyter_gpudeploy.backends.kubernetes.facts import PodFacts
    from jupyter_gpudeploy.backends.kubernetes.mirror.reasons import Explain

QUEUED_UID = "kueue.x-k8s.io/job-uid"
"""The label of a Workload that names what it stands for."""
_NONE: frozenset[int] = frozenset()


class Seen:
    """What is known of the objects of one run. Not safe from several threads."""

    def __init__(self, record: Mapping[str, Any], uid: str, explain: Explain | None) -> None:
        self._record = record
        self._uid = uid
        self.notes = EventNotes()
        self._reasons = Reasons(record, explain, self.notes)
        self._around = Surroundings(record, self._why)
        self._workloads: dict[str, str] = {}
        options = record.get("cluster") or {}
        self.numbers = _numbers(record, options)
        self._places = Places(self.numbers, record["kind"], has_own_jobs=bool(record.get("search")))
        self._tracks: dict[int, TaskTrack] = {}
        self._dirty: set[int] = set()
        self._ordered: set[int] = set()
        self._active: set[str] = set()
        self._deployments: dict[str, bool] = {}
        self._clock = (0.0, 0.0)
        self.root_gone = self.has_root = self.is_marked = False
        self._work: dict[str, bool] = {}
        self._standing = Standing(record, self._around)

    @property
    def has_work(self) -> bool:
        """Whether anything is there that makes pods of the run, or has made them."""
        return bool(self._work)

    @property
    def goes_on(self) -> bool:
        """Whether anything is there that would make pods of the run now."""
        return any(self._work.values())

    @property
    def is_active(self) -> bool:
        """Whether any pod lives."""
        return bool(self._active)

    @property
    def is_asked_to_stop(self) -> bool:
        """Whether the root says so."""
        return self._around.is_asked_to_stop

    @property
    def is_left(self) -> bool:
        """Whether `leave` was called."""
        return bool(self._around.why_left)

    def leave(self, why: str) -> None:
        """Take in that nothing of the run is there that could go on. What is known of it decides how it ends."""
        self._around.why_left = why
        self._touch_all()

    @property
    def queue(self) -> str:
        """What the queue is called in which the run waits; empty for none."""
        return self._around.queue

    @property
    def queued(self) -> tuple[str, ...]:
        """The uids of what waits in a queue: of the Job, its JobSet, or the pods of a server."""
        return self._around.queued

    def running(self) -> Iterable[tuple[int, PodFacts]]:
        """Yield each task whose container runs, with its pod."""
        for track in self._tracks.values():
            attempt = track.attempts.get(max(track.attempts, default=0))
            if attempt is not None and not attempt.has_ended and attempt.pod.started and attempt.pod.deleted is None:
                yield track.number, attempt.pod

    def feed(self, kind: str, item: Mapping[str, Any], *, gone: bool = False) -> None:
        """Take in an object as it is now, or as it was last, when it is `gone`."""
        item = {"kind": kind, **item}
        self._see_time(item)
        if kind == "Pod":
            self._feed_pod(item, gone=gone)
        elif kind == "Job":
            self._feed_job(item, gone=gone)
        elif kind == "Workload":
            self._feed_workload(item)
        elif kind == "CronJob":
            self._feed_cronjob(item, gone=gone)
        elif kind in ("Deployment", "LeaderWorkerSet"):
            self._feed_deployment(item, gone=gone)
        elif kind == "Event":
            self._feed_event(item)
        elif kind == "ConfigMap" and item["metadata"]["uid"] == self._uid:
            self._feed_root(item, gone=gone)

    def _feed_pod(self, item: Mapping[str, Any], *, gone: bool) -> None:
        pod = pod_facts(item, gone=gone)
        place = self._places.place(pod)
        if place is None:
            return
        number, first = place
        self._around.see_node(number, pod)
        self._around.see_end(pod)
        track = self._track(number)
        track.see(pod, first)
        self._dirty.add(number)
        self._ordered.add(number)
        (self._active.discard if pod.is_over else self._active.add)(pod.uid)
        if (item.get("spec") or {}).get("schedulingGates") and not (pod.is_over or pod.deleted):
            self._around.gated[pod.uid] = None
        else:
            self._around.gated.pop(pod.uid, None)
        is_well = pod.exit is None and (pod.started if self._around.is_batch else pod.ready) is not None
        if is_well or (pod.is_over and track.told.state.is_final):
            self._reasons.drop(pod.uid)
        else:
            self._reasons.keep(item)
        self._know(pod.uid, number)
        if pod.is_over and self._around.is_stopping:
            self._touch_all()

    def _feed_job(self, item: Mapping[str, Any], *, gone: bool) -> None:
        job = job_facts(item, gone=gone)
        now = self._around.job
        self._see_work(job.uid, not job.suspended and not job.has_ended, gone=gone)
        if gone and now is not None and now.uid == job.uid and "status" not in item:
            job = now._replace(gone=True)
        if now is not None and now.uid != job.uid and (gone or job.created < now.created):
            return  # of an earlier turn of a schedule, or of a JobSet
        self._around.in_jobset = self._around.in_jobset or job.restarts is not None
        if job.restarts is not None and job.restarts < self._around.retries:
            job = job._replace(conditions={kind: why for kind, why in job.conditions.items() if kind != "Failed"})
        before = now if now is not None and now.uid == job.uid else job._replace(completed=_NONE, failed=_NONE)
        self._around.job = None if gone and (self._around.is_scheduled or job.restarts is not None) else job
        self._reasons.keep(item)
        self._know(job.uid, None)
        for index in (job.completed | job.failed) - (before.completed | before.failed):
            number = self._places.number(index)
            if number is not None:
                self._track(number)
                self._dirty.add(number)
        self._around.has_expired = job.has_ended and not self._around.is_batch
        if now is None or job.has_ended or self._around.is_stopping or before.suspended != job.suspended:
            self._touch_all()

    def _feed_workload(self, item: Mapping[str, Any]) -> None:
        """Take in what Kueue says of something of the run; that it took room back is told once for each time."""
        metadata = item["metadata"]
        owners = {one["uid"] for one in metadata.get("ownerReferences") or ()}
        named = (metadata.get("labels") or {}).get(QUEUED_UID, "")
        self._workloads.update(dict.fromkeys(owners | {named}, metadata["uid"]))
        self._reasons.keep(item)
        self._dirty.update(self._places.task_of(uid) for uid in owners if uid in self._places)
        if (lost := why_evicted(item)) and not self._around.is_stopping:
            since = seconds(condition(item, "Evicted").get("lastTransitionTime")) or self._around.clock
            self.notes.add(Notice(since, f"{lost} ({time.strftime('%H:%M:%S', time.localtime(since))})"))

    def _why(self, about: str) -> Reason:
        """Return why an object is not where it should be: of what waits in a queue, what Kueue says first."""
        if about in self.queued and about in self._workloads:
            found = self._reasons.of(self._workloads[about], self._around.clock)
            if found.sentence:
                return found
        return self._reasons.of(about, self._around.clock)

    def _feed_cronjob(self, item: Mapping[str, Any], *, gone: bool) -> None:
        self._see_work(item["metadata"]["uid"], not (item.get("spec") or {}).get("suspend"), gone=gone)
        last = seconds((item.get("status") or {}).get("lastScheduleTime"))
        made = seconds(item["metadata"].get("creationTimestamp")) or 0.0
        self._around.fired = (made, False) if last is None else (last, True)

    def _feed_deployment(self, item: Mapping[str, Any], *, gone: bool) -> None:
        uid = self._around.deployment = item["metadata"]["uid"]
        replicas = (item.get("spec") or {}).get("replicas", 1)
        self._deployments[uid] = gone or replicas == 0
        self._see_work(uid, replicas != 0, gone=gone)
        self._standing.total = replicas * self._around.nodes or self._standing.total
        self._reasons.keep(item)
        self._know(uid, None)
        self._touch_all()

    def _feed_root(self, item: Mapping[str, Any], *, gone: bool) -> None:
        self.root_gone, self.has_root = gone, True
        notes = item["metadata"].get("annotations") or {}
        self._around.is_asked_to_stop = marks.STOPPED in notes
        self.is_marked = self.is_marked or marks.STARTED in notes
        self._standing.created = seconds(item["metadata"].get("creationTimestamp")) or 0.0
        self._touch_all()

    def _see_work(self, uid: str, goes_on: bool, *, gone: bool) -> None:  # noqa: FBT001 - what is kept of it
        if gone:
            self._work.pop(uid, None)
        else:
            self._work[uid] = goes_on

    def _feed_event(self, item: Mapping[str, Any]) -> None:
        about = self.notes.feed(item)
        if about is None:
            return
        if item.get("reason") == "Evicted":
            self._around.evicted[about] = f"evicted: {item.get('message', '')}".rstrip(": ")
        if about in self._places:
            self._dirty.add(self._places.task_of(about))

    def _know(self, uid: str, task: int | None) -> None:
        for event in self.notes.know(uid, task):
            self._feed_event(event)

    def _work_is_quiet(self) -> bool:
        """Whether nothing more is going to be started."""
        job = self._around.job
        if job is not None and not job.has_ended and not (job.suspended and not job.active):
            return False
        return all(self._deployments.values())

    def _track(self, number: int) -> TaskTrack:
        if number not in self._tracks:
            self._tracks[number] = TaskTrack(number, self._places.index(number))
            self._standing.count(None, State.WAITING)
        return self._tracks[number]

    def _touch_all(self) -> None:
        for number in self.numbers if self._around.is_batch else ():
            self._track(number)
        ended = State.SUCCEEDED, State.FAILED
        self._dirty.update(number for number, track in self._tracks.items() if track.told.state not in ended)

    def _see_time(self, item: Mapping[str, Any]) -> None:
        """Keep the latest time that any object shows: the cluster's clock is not behind that."""
        conditions = (item.get("status") or {}).get("conditions") or ()
        texts = [item["metadata"].get("creationTimestamp"), item.get("lastTimestamp"), item.get("eventTime")]
        texts += [condition.get("lastTransitionTime") for condition in conditions]
        latest = max((seconds(text) or 0.0 for text in texts), default=0.0)
        if latest > self._clock[0] + self._around.monotonic - self._clock[1]:
            self._clock = latest, self._around.monotonic


def _numbers(record: Mapping[str, Any], options: Mapping[str, Any]) -> list[int]:
    """Return the numbers of the tasks; the replicas of a server and the nodes of a job are tasks of their own."""
    numbers = [task["number"] for task in record["tasks"]]
    nodes = int(options.get("nodes") or 1)
    pods = {"server": int(options.get("replicas") or 1) * nodes, "job": nodes}.get(record["kind"]) or 0
    return numbers + list(range(max(numbers, default=-1) + 1, int(pods)))
