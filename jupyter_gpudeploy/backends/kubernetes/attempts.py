"""One start of a task's container, and what a run knows beside its tasks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from jupyter_gpudeploy.events.types import State

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from jupyter_gpudeploy.backends.kubernetes.facts import Exit, JobFacts, PodFacts
    from jupyter_gpudeploy.backends.kubernetes.reasons import Reason


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
    """What the run as a whole knows, for its tasks: the Job, a request to stop, the clock."""

    def __init__(self, record: Mapping[str, Any], reason_of: Callable[[str], Reason]) -> None:
        self.kind: str = record["kind"]
        self.retries: int = record.get("retries") or 0
        self.max_seconds: float | None = record.get("max_seconds")
        self.reason_of = reason_of
        self.job: JobFacts | None = None
        self.deployment = ""
        self.is_stopping = False
        self.is_quiet = False
        self.is_scheduled = bool((record.get("cluster") or {}).get("schedule"))
        self.evicted: dict[str, str] = {}
        self.failed_machines: dict[int, str] = {}
        self.clock = 0.0
        self.monotonic = 0.0

    @property
    def is_batch(self) -> bool:
        """Whether its tasks end by themselves."""
        return self.kind in ("job", "sweep")
