"""Whether the replicas of a server are well, and so the server.

A replica is STARTING until it answers, then READY, and RUNNING when it answers no more.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from jupyter_gpudeploy.backends.local.attempts import Outcome
from jupyter_gpudeploy.backends.local.probes import Prober
from jupyter_gpudeploy.backends.local.program import HOST
from jupyter_gpudeploy.events.types import State

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping

    from jupyter_gpudeploy.backends.local.loop import Loop
    from jupyter_gpudeploy.backends.local.starter import Live
    from jupyter_gpudeploy.backends.local.states import Chronicle

_LOOK_SECONDS = 0.05
_REASON_SECONDS = 5.0
_LATE_GRACE = 10.0


class Health:
    """Watches one replica until closed.

    `on_change` is called with the state and its reason, for a reason alone at most every five seconds; `on_late` once,
    when it is not ready in the time that starting may take.
    """

    def __init__(
        self, loop: Loop, service: Mapping[str, Any], port: int, pids: Callable[[], Collection[int]],
        on_change: Callable[[State, str], None], on_late: Callable[[str], None],
    ) -> None:  # fmt: skip
        health = service["health"]
        self._loop = loop
        self._prober = Prober(health, HOST, port, pids)
        self._on_change = on_change
        self._on_late = on_late
        self._startup = float(health["startup_seconds"])
        self._deadline: float | None = time.monotonic() + self._startup
        self._told_at = time.monotonic()
        self._closed = False
        self.state = State.STARTING
        self.reason = ""
        self._look()

    def close(self) -> None:
        """Stop watching."""
        self._closed = True
        self._prober.close()

    def _look(self) -> None:
        if self._closed:
            return
        verdict = self._prober.poll()
        if verdict is not None:
            state = State.READY if verdict.ready else State.STARTING if self._deadline else State.RUNNING
            self._tell(state, "" if verdict.ready else verdict.reason)
        if self._deadline is not None and time.monotonic() > self._deadline:
            self._deadline = None
            self._on_late(f"not ready after {self._startup:g} s: {self.reason or 'no answer'}")
            return
        self._loop.after(_LOOK_SECONDS, self._look)

    def _tell(self, state: State, reason: str) -> None:
        if state is State.READY:
            self._deadline = None
        now = time.monotonic()
        if state is self.state and (reason == self.reason or now - self._told_at < _REASON_SECONDS):
            return
        self.state, self.reason, self._told_at = state, reason, now
        self._on_change(state, reason)


class Replicas:
    """The replicas of one server that live now. Writes their states, and the server's, into the journal."""

    def __init__(self, loop: Loop, service: Mapping[str, Any], total: int, chronicle: Chronicle) -> None:
        self._loop = loop
        self._service = service
        self._total = total
        self._chronicle = chronicle
        self._health: dict[int, Health] = {}
        self._was_ready = False
        self._last_end = ""
        self.tell()

    def add(self, live: Live) -> None:
        """Watch a replica that was just started."""
        attempt = live.attempt

        def tell(state: State, reason: str) -> None:
            self._chronicle.task(live.turn.task, state, attempt=live.turn.attempt, reason=reason)
            self.tell()

        def end(reason: str) -> None:
            attempt.end(Outcome(State.FAILED, reason), _LATE_GRACE)

        self._health[live.turn.task] = Health(
            self._loop, self._service, live.port or 0, lambda: attempt.pids, tell, end
        )  # fmt: skip

    def remove(self, live: Live, reason: str) -> None:
        """Watch a replica that has ended no more."""
        health = self._health.pop(live.turn.task, None)
        if health is not None:
            health.close()
        self._last_end = reason

    def tell(self) -> None:
        """Note where the server stands as a whole."""
        ready = sum(health.state is State.READY for health in self._health.values())
        self._was_ready = self._was_ready or ready == self._total
        if ready == self._total:
            self._chronicle.run(State.READY)
        elif self._total > 1 and ready:
            self._chronicle.run(State.RUNNING, f"{ready} of {self._total} replicas are ready")
        else:
            reasons = [health.reason for health in self._health.values() if health.reason]
            reason = reasons[0] if reasons else "" if self._health else self._last_end
            self._chronicle.run(State.RUNNING if self._was_ready else State.STARTING, reason)
