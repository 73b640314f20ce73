"""What is due on the cluster when a run is not as it was left, seen by whoever holds the run's mirror.

The root is marked `started` once what makes the pods was seen: whatever is missing later was there, and is not made
again (launch.py). A run that was asked to stop while it was being launched is stopped after all. And where nothing is
left that could go on, that is said: the run has no other end then.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from jupyter_gpudeploy.backends.kubernetes import marks, places
from jupyter_gpudeploy.backends.kubernetes.api.errors import NotFoundError
from jupyter_gpudeploy.backends.kubernetes.api.kinds import is_limited
from jupyter_gpudeploy.backends.kubernetes.life import control
from jupyter_gpudeploy.errors import BackendError
from jupyter_gpudeploy.events.types import Event, Notice

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from jupyter_gpudeploy.backends.base import RunRef
    from jupyter_gpudeploy.backends.kubernetes.api.client import Cluster
    from jupyter_gpudeploy.backends.kubernetes.mirror.states import States

    Duty = Callable[[States, float], list[Event]]

_SETTLE_SECONDS = 2.0
_AGAIN_SECONDS = 15.0
_LAUNCH_SECONDS = 60.0
CUT_OFF = "its launch was cut off: run its cell again, that completes it"
_OWNERS = {"job": "Job", "sweep": "Job", "server": "Deployment", "manual": "Deployment"}


class Caretaker:
    """Sees to one run. One thread."""

    def __init__(self, cluster: Cluster, ref: RunRef, record: Mapping[str, Any]) -> None:
        self._cluster = cluster
        self._ref = ref
        self._options = record.get("cluster") or {}
        limited = record["kind"] in ("server", "manual") and is_limited(record)
        kind = "Job" if limited else _OWNERS.get(record["kind"], "Job")
        if record["kind"] == "server" and int(self._options.get("nodes") or 1) > 1:
            kind = "LeaderWorkerSet"
        self._owner = "CronJob" if self._options.get("schedule") else kind
        self._duty: str = ""
        self._at = self._began = 0.0

    @property
    def patience(self) -> float | None:
        """After how many seconds it looks again by itself; None for not before something changes."""
        return max(0.0, self._at - time.monotonic()) if self._duty else None

    def look(self, states: States) -> list[Event]:
        """Do what is due; return what is to be told of it. What the cluster refuses is tried again later."""
        now = time.monotonic()
        duty = self._due(states)
        name = "" if duty is None else duty.__name__
        if name != self._duty:
            self._duty, self._began = name, now
            self._at = now if duty == self._mark else now + _SETTLE_SECONDS
        if duty is None or now < self._at:
            return []
        self._at = now + _AGAIN_SECONDS
        try:
            return duty(states, now - self._began)
        except BackendError:
            return []

    def _due(self, states: States) -> Duty | None:
        if not states.has_root or states.root_gone or states.is_over:
            return None
        if states.has_work and not states.is_marked:
            return self._mark
        if states.is_asked_to_stop:
            return self._halt if states.goes_on else None
        return None if states.has_work or states.is_active or states.is_left else self._missing

    def _mark(self, states: States, _: float) -> list[Event]:
        """Write down that the launch is complete. Of another person's run, that person's kernels do so."""
        if not self._ref.owner or self._ref.owner == self._cluster.user:
            note = {marks.STARTED: f"{time.time():.3f}"}
            body = {"metadata": {"uid": self._ref.uid, "annotations": note}}
            self._cluster.patch("ConfigMap", places.root_name(self._ref.name), body)
        states.is_marked = True
        return []

    def _halt(self, _: States, __: float) -> list[Event]:
        """Stop what was started after the run was asked to stop."""
        if marks.STOPPED in self._notes():
            control.halt(self._cluster, self._ref)
        return []

    def _missing(self, states: States, seconds: float) -> list[Event]:
        """Say what became of a run of which nothing is there that could go on."""
        notes = self._notes()
        if marks.STOPPED in notes or control.is_there(self._cluster, self._ref):
            return []
        age = max(seconds, time.time() - self._ref.created)
        if marks.STARTED in notes:
            states.leave(f"its {self._owner} was deleted before its end was seen")
        elif age > (self._options.get("keep_seconds") or float("inf")):
            states.leave(f"its launch was cut off, or its {self._owner} was deleted since")
        elif age > _LAUNCH_SECONDS:
            return [*states.notes.once(Notice(time.time(), CUT_OFF))]
        return []

    def _notes(self) -> Mapping[str, str]:
        """Return the annotations of the root. Raises NotFoundError where it is another run's by now."""
        metadata = self._cluster.get("ConfigMap", places.root_name(self._ref.name), bare=True)["metadata"]
        if metadata["uid"] != self._ref.uid:
            raise NotFoundError(f"{self._ref.name} is another run now")
        notes: Mapping[str, str] = metadata.get("annotations") or {}
        return notes
