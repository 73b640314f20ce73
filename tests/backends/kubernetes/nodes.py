"""The log of a container as an API server serves it, with a network that breaks on the way; and objects of a run."""

import random
import threading
import time
from datetime import UTC, datetime

from wire import CUT, END, RESET

PODS = "/api/v1/namespaces/default/pods"
SECOND = 1_000_000_000
BEGIN = 1_780_000_000 * SECOND
UID = "11111111-2222-3333-4444-555555555555"


def text(nanoseconds):
    return f"{datetime.fromtimestamp(nanoseconds // SECOND, UTC):%Y-%m-%dT%H:%M:%S}.{nanoseconds % SECOND:09d}Z"


class ContainerLog:
    """Lines with their times. `faults`: how a stream may end, of which one is drawn after a few thousand bytes."""

    def __init__(self, faults=(END,), seed=1, resend_seconds=0, chunk=700):
        self.lines = []
        self.ended = False
        self.faults = faults
        self.resend = resend_seconds * SECOND
        self.chunk = chunk
        self.first = 0
        self.streams = 0
        self._random = random.Random(seed)
        self._grown = threading.Condition()

    def add(self, *lines, time=None):
        """Append lines: 10 ms after each other, or all at one time."""
        with self._grown:
            for line in lines:
                last = self.lines[-1][0] if self.lines else BEGIN
                self.lines.append((last + 10_000_000 if time is None else time, line))
            self._grown.notify_all()

    def end(self):
        with self._grown:
            self.ended = True
            self._grown.notify_all()

    def rotate(self):
        """Only what comes from now on is served."""
        self.first = len(self.lines)

    def __call__(self, request, answer):
        self.streams += 1
        since = request.query.get("sinceTime", "")
        since = int(datetime.fromisoformat(since).timestamp()) * SECOND - self.resend if since else 0
        follow = request.query.get("follow") == "true"
        answer.begin()
        left = self._random.randrange(3000, 60000)
        place = self.first
        while True:
            with self._grown:
                while place >= len(self.lines) and follow and not self.ended and not answer.stopping.is_set():
                    if not self._grown.wait(0.2) and len(self.faults) > 1:
                        answer.finish(self._random.choice(self.faults))
                        return
                batch, is_last = self.lines[place : place + 400], place + 400 >= len(self.lines)
            place += len(batch)
            data = b"".join(b"%s %s\n" % (text(at).encode(), line) for at, line in batch if at >= since)
            if self._has_no_last_newline and self.ended and is_last:
                data = data.removesuffix(b"\n")
            for start in range(0, len(data), self.chunk):
                answer.chunk(data[start : start + self.chunk])
                left -= self.chunk
                if left < 0 and len(self.faults) > 1:
                    answer.finish(self._random.choice(self.faults))
                    return
            if not batch:
                answer.end()
                return

    _has_no_last_newline = False


BREAKS = (END, CUT, RESET)


def until(true, seconds=20, what=""):
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, what or "it never came so far"
        time.sleep(0.01)


def record(count=1, kind=None, **fields):
    tasks = [{"number": number, "name": f"task {number}", "parameters": {}} for number in range(count)]
    kind = kind or ("job" if count == 1 else "sweep")
    return {"version": 1, "name": "digits", "uid": UID, "kind": kind, "created": 0.0, "retries": 0,
            "max_seconds": None, "tasks": [] if kind == "manual" else tasks, **fields}  # fmt: skip


def at(seconds):
    """The API's text of so many seconds after the beginning."""
    return f"{datetime.fromtimestamp(BEGIN // SECOND + seconds, UTC):%Y-%m-%dT%H:%M:%SZ}"


def moment(seconds):
    return float(BEGIN // SECOND + seconds)


_version = [100]


def version():
    _version[0] += 1
    return str(_version[0])


def root(stopped=False, uid=UID):
    notes = {"jupyter-gpudeploy/stopped": at(50)} if stopped else {}
    return {"kind": "ConfigMap", "metadata": {
        "name": "digits.run", "uid": uid, "resourceVersion": version(), "creationTimestamp": at(0), "annotations": notes,
        "labels": {"app.kubernetes.io/managed-by": "jupyter-gpudeploy", "jupyter-gpudeploy/part": "root"}}}  # fmt: skip


def job(completed="", failed="", *, suspended=False, active=0, uid="job", **conditions):
    listed = [{"type": kind, "status": "True", "reason": reason, "message": "", "lastTransitionTime": at(60)}
              for kind, reason in conditions.items()]  # fmt: skip
    return {"kind": "Job", "metadata": _metadata("digits", uid), "spec": {"suspend": suspended},
            "status": {"active": active, "completedIndexes": completed, "failedIndexes": failed, "conditions": listed}}  # fmt: skip


def deployment(replicas=1):
    return {"kind": "Deployment", "metadata": _metadata("digits", "deployment"), "spec": {"replicas": replicas}}


def pod(  # noqa: PLR0913 - a pod can differ in many ways
    index=0, *, uid=None, failures=0, state="pending", created=1, code=0, reason="", restarts=0, last=None,
        ready=False, deleted=None, policy="Never", phase=None, status_reason="", message="", waiting=None,
        disruption=None, memory=""):  # fmt: skip
    """A pod; `state`: pending, scheduled, running or ended."""
    uid = uid or f"pod-{index}-{failures}"
    metadata = _metadata(f"digits-{index}-{uid[-5:]}", uid, created)
    metadata["annotations"] = {
        "batch.kubernetes.io/job-completion-index": str(index), "batch.kubernetes.io/job-index-failure-count": str(failures)
    }  # fmt: skip
    if deleted is not None:
        metadata["deletionTimestamp"] = at(deleted)
    conditions = []
    if state != "pending":
        conditions.append({"type": "PodScheduled", "status": "True", "lastTransitionTime": at(created + 1)})
    if ready:
        conditions.append({"type": "Ready", "status": "True", "lastTransitionTime": at(created + 5)})
    if disruption:
        conditions.append({"type": "DisruptionTarget", "status": "True", "reason": disruption, "message": "why"})
    states = {
        "running": {"running": {"startedAt": at(created + 2)}},
        "ended": {"terminated": {"exitCode": code, "reason": reason, "startedAt": at(created + 2), "finishedAt": at(created + 9)}},
    }  # fmt: skip
    own = states.get(state) or {"waiting": {"reason": waiting[0], "message": waiting[1]} if waiting else {}}
    seen = {"name": "main", "state": own, "restartCount": restarts, "ready": ready, "containerID": f"containerd://{uid}{restarts}"}  # fmt: skip
    if last is not None:
        seen["lastState"] = {"terminated": {"exitCode": last, "startedAt": at(created), "finishedAt": at(created + 1)}}
    usual = {"running": "Running", "ended": "Failed" if code else "Succeeded"}.get(state, "Pending")
    if policy != "Never" and state == "ended":
        usual = "Running"
    return {
        "kind": "Pod", "metadata": metadata,
        "spec": {"nodeName": "node-1", "restartPolicy": policy,
                 "containers": [{"name": "main", "resources": {"limits": {"memory": memory}} if memory else {}}]},
        "status": {"phase": phase or usual, "reason": status_reason, "message": message, "conditions": conditions,
                   "containerStatuses": [seen] if state != "pending" else []},
    }  # fmt: skip


def event(about, reason, message, kind="Warning", uid=None, count=1, seconds=3):
    return {"kind": "Event", "metadata": {"name": uid or f"e-{reason}", "uid": uid or f"e-{about}-{reason}",
                                          "resourceVersion": version(), "creationTimestamp": at(seconds)},
            "involvedObject": {"uid": about}, "reason": reason, "message": message, "type": kind, "count": count,
            "firstTimestamp": at(seconds), "lastTimestamp": at(seconds + count)}  # fmt: skip


def _metadata(name, uid, created=0):
    labels = {"app.kubernetes.io/managed-by": "jupyter-gpudeploy", "jupyter-gpudeploy/uid": UID}
    return {"name": name, "uid": uid, "resourceVersion": version(), "creationTimestamp": at(created), "labels": labels}
