"""One start of a task's container, and what a run knows beside its tasks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from jupyter_gpudeploy.backends.kubernetes.facts import end_of, said_reason
from jupyter_gpudeploy.events.types import State
from jupyter_gpudeploy.quantities import format_seconds

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from jupyter_gpudeploy.backends.kubernetes.facts import Exit, JobFacts, PodFacts
    from jupyter_gpudeploy.backends.kubernetes.mirror.reasons import Reason


class LogOrder(NamedTuple):
    """A log that is to be copied. `restart`: which start of the pod's container; `previous`: it is not the last one.

    `ended`: it grows no more. `gone`: it can be had no more. `shared`: at any time a further start of the container can
    take its place.
    """

    task: int
    attempt: int
    pod: str
    pod_uid: str
    container: str
    container_id: str
    restart: int
    previous: bool
    ended: bool
    gone: bool
    shared: bool


class Told(NamedTuple):
    """The last that the journal says of a task."""

    attempt: int = 1
    state: State = State.WAITING
    reason: str = ""
    time: float = 0.0


class Attempt:
    """One start of a task's container: the pod as it was seen last, and which start of its container this is."""

    __slots__ = ("ended_at", "pod", "restart", "was_ready")

    def __init__(self, pod: PodFacts, restart: int) -> None:
        self.pod = pod
        self.restart = restart
        self.was_ready = False
        self.ended_at: float | None = None

    @property
    def is_last_start(self) -> bool:
        """Whether the pod's container was not started again since."""
        return self.restart == self.pod.restarts

    @property
    def exit(self) -> Exit | None:
        """How it ended; None while it runs, and where nobody knows any more."""
        if self.is_last_start:
            return self.pod.exit
        return self.pod.previous if self.restart == self.pod.restarts - 1 else None

    @property
    def has_ended(self) -> bool:
        """Whether its container runs no more, or never will."""
        return not self.is_last_start or self.pod.is_over or (self.pod.restartable and self.pod.exit is not None)

    @property
    def started(self) -> float | None:
        """When its container began."""
        return self.pod.started if self.is_last_start else self.exit.started if self.exit else self.pod.created

    @property
    def finished(self) -> float | None:
        """When its container ended."""
        exit_ = self.exit
        return exit_.finished if exit_ else self.pod.deleted


class Surroundings:
    """What the run as a whole knows, for its tasks: the Job, a request to stop, the clock.

    `why_left`: why nothing of it can go on, although its end was not seen; empty while it can.
    `gated`: the uids of pods that a controller has not let go yet, in the order in which they came.
    `why_idle`: what a pod said that ended because nothing happened in it.
    `fired`: when a schedule fired last and True, or when it was made and False; 0 before that is known.
    """

    def __init__(self, record: Mapping[str, Any], reason_of: Callable[[str], Reason]) -> None:
        self.kind: str = record["kind"]
        self.is_search = bool(record.get("search"))
        self.retries: int = record.get("retries") or 0
        self.max_seconds: float | None = record.get("max_seconds")
        self.reason_of = reason_of
        self.job: JobFacts | None = None
        self.deployment = ""
        self.queue: str = (record.get("cluster") or {}).get("queue") or ""
        self.gated: dict[str, None] = {}
        self.in_jobset = False
        self.is_asked_to_stop = False
        self.has_expired = False
        self.is_quiet = False
        self.why_left = ""
        self.schedule: str = (record.get("cluster") or {}).get("schedule") or ""
        self.time_zone: str = (record.get("cluster") or {}).get("time_zone") or ""
        self.fired = (0.0, False)
        self.evicted: dict[str, str] = {}
        self.why_idle = ""
        self.nodes = int((record.get("cluster") or {}).get("nodes") or 1)
        self._failed_nodes: dict[int, tuple[float, str]] = {}
        self.clock = 0.0
        self.monotonic = 0.0

    def see_node(self, number: int, pod: PodFacts) -> None:
        """Take in the pod of a node of a job of several, which fail together."""
        if self.nodes == 1:
            return
        if pod.exit is None and not pod.gone:
            self._failed_nodes.pop(number, None)
        elif pod.exit is not None and pod.exit.code and pod.deleted is None:
            failed = pod.exit.finished or self.clock, end_of(pod, pod.exit)
            self._failed_nodes[number] = max(failed, self._failed_nodes.get(number, failed))

    def see_end(self, pod: PodFacts) -> None:
        """Take in how a pod of a server or an environment ended that is a Job: well, where it was idle."""
        if not self.is_batch and pod.exit is not None and not pod.exit.code and (said := said_reason(pod.exit)):
            self.why_idle = said

    def failed_node(self, but: int) -> str:
        """Return which other node failed first, and how; empty where none did."""
        found = min(((*why, number) for number, why in self._failed_nodes.items() if number != but), default=None)
        return f"node {found[2]}: {found[1]}" if found else ""

    @property
    def queued(self) -> tuple[str, ...]:
        """The uids of what Kueue keeps waiting: of the Job, its JobSet, or the pods of a server."""
        if not self.queue or self.is_stopping:
            return ()
        if self.job is None:
            return tuple(self.gated)
        waits = self.job.suspended and not self.job.has_ended
        return (self.job.owner or self.job.uid,) if waits else ()

    @property
    def starts_together(self) -> bool:
        """Whether its machines are a JobSet's: where one fails, all start again."""
        return self.nodes > 1 and self.in_jobset

    @property
    def is_scheduled(self) -> bool:
        """Whether the clock starts it, again and again."""
        return bool(self.schedule)

    @property
    def is_stopping(self) -> bool:
        """Whether it is to end: it was asked to, or the Job of a server or an environment is over."""
        return self.is_asked_to_stop or self.has_expired

    @property
    def is_going_on(self) -> bool:
        """Whether a Job makes pods for what has not ended: also for what was stopped, when that was taken back."""
        job = self.job
        is_over = not self.is_search if job is None else job.suspended or job.has_ended
        return self.is_batch and not (is_over or self.is_stopping or self.is_scheduled)

    @property
    def why_expired(self) -> str:
        """Why the Job of a server or an environment is over; empty while it is not, or was asked to stop."""
        if not self.has_expired or self.is_asked_to_stop or self.job is None:
            return ""
        if self.job.conditions.get("Failed", ("",))[0] == "DeadlineExceeded" and self.max_seconds:
            return f"max_hours is over ({format_seconds(self.max_seconds)})"
        if "Complete" in self.job.conditions:
            return self.why_idle or "it ended by itself"
        return "its Job has ended"

    @property
    def is_batch(self) -> bool:
        """Whether its tasks end by themselves."""
        return self.kind in ("job", "sweep")
