"""Where a run stands as a whole, told by where its tasks stand."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

from jupyter_gpudeploy.backends.kubernetes.mirror import cron
from jupyter_gpudeploy.backends.kubernetes.mirror.attempts import Surroundings, Told
from jupyter_gpudeploy.events.types import State, StateChange

if TYPE_CHECKING:
    from collections.abc import Mapping

    from jupyter_gpudeploy.backends.kubernetes.mirror.tasks import TaskTrack

_NOUNS = {"sweep": "trials", "server": "replicas", "job": "nodes"}


class Standing:
    """The state of a run of `total` tasks. `count` keeps how many are in each state; `created`: when it was claimed."""

    def __init__(self, record: Mapping[str, Any], around: Surroundings) -> None:
        self._around = around
        self.total = max(len(record["tasks"]) * around.nodes, 1)
        self._counts: Counter[State] = Counter()
        self._told: Told | None = None
        self._told_details: Mapping[str, Any] = {}
        self.details: Mapping[str, Any] = {}
        self._hint = ""
        self.created = 0.0

    @property
    def is_over(self) -> bool:
        """Whether the end was told, and nothing after it."""
        return self._told is not None and self._told.state.is_final

    def count(self, before: State | None, after: State) -> None:
        """Note that a task went from one state to another."""
        if before is not None:
            self._counts[before] -= 1
        self._counts[after] += 1

    def take_up(self, change: StateChange) -> None:
        """Take up what the journal says of the run."""
        self._told = Told(1, change.state, change.reason, change.time)
        self._told_details = self.details = {key: value for key, value in change.details.items() if key != "hint"}

    def next_change(self, tracks: Mapping[int, TaskTrack], *, is_active: bool) -> StateChange | None:
        """Return what is to be told now, and take it as told. `is_active`: whether any pod lives."""
        self._hint = ""
        state, reason = self._now(tracks)
        told = self._told
        if told is not None:
            if (state, reason, self.details) == (told.state, told.reason, self._told_details):
                return None
            if told.state.is_final and (state.is_final or not is_active):
                return None
        times = [track.told.time for track in tracks.values() if track.told.state is not State.WAITING]
        first = state is State.STARTING or (state is State.RUNNING and told is not None and told.state is State.WAITING)
        time = self.created if state is State.WAITING or not times else min(times) if first else max(times)
        self._told = Told(1, state, reason, max(time or self._around.clock, told.time if told is not None else 0.0))
        self._told_details = self.details
        hint = {"hint": self._hint} if self._hint else {}
        return StateChange(self._told.time, state, reason=reason, details={**self.details, **hint})

    def _now(self, tracks: Mapping[int, TaskTrack]) -> tuple[State, str]:
        around = self._around
        if around.why_left and not around.is_stopping and all(track.told.state.is_final for track in tracks.values()):
            return self._left(tracks)
        if around.is_scheduled:
            return self._scheduled(tracks)
        if around.is_batch:
            if sum(count for state, count in self._counts.items() if state.is_final) >= self.total:
                return self._verdict(tracks)
            return self._batch(tracks)
        if around.is_stopping and around.is_quiet and all(track.told.state.is_final for track in tracks.values()):
            return State.STOPPED, around.why_expired
        return self._server(tracks)

    def _left(self, tracks: Mapping[int, TaskTrack]) -> tuple[State, str]:
        """Return the end of a run of which nothing is left, where what is known of its tasks does not tell it."""
        around = self._around
        is_told = around.is_batch and not around.is_scheduled and not self._counts[State.LOST]
        return self._verdict(tracks) if is_told else (State.LOST, around.why_left)

    def _batch(self, tracks: Mapping[int, TaskTrack]) -> tuple[State, str]:
        if any(self._counts[state] for state in State if state not in (State.WAITING, State.STARTING)):
            return State.RUNNING, self._of_work()
        if self._told is not None and self._told.state is State.RUNNING:
            return State.RUNNING, self._of_work()
        state = State.STARTING if self._counts[State.STARTING] else State.WAITING
        return state, self._reason(tracks)

    def _scheduled(self, tracks: Mapping[int, TaskTrack]) -> tuple[State, str]:
        """A schedule has no end of its own: between two rounds it is ready for the next one."""
        around = self._around
        if around.is_stopping and around.is_quiet and all(track.told.state.is_final for track in tracks.values()):
            return State.STOPPED, ""
        is_on = around.job is not None and not around.job.has_ended
        if is_on or self._counts[State.STARTING] or self._counts[State.RUNNING]:
            return self._round(tracks)
        return (State.READY, self._next_round(tracks)) if around.fired[0] else (State.WAITING, "")

    def _round(self, tracks: Mapping[int, TaskTrack]) -> tuple[State, str]:
        has_begun = self._told is not None and self._told.state is State.RUNNING
        if has_begun or self._counts[State.RUNNING]:
            return State.RUNNING, self._of_work()
        return State.STARTING if self._counts[State.STARTING] else State.WAITING, self._reason(tracks)

    def _next_round(self, tracks: Mapping[int, TaskTrack]) -> str:
        """Return when it fires next, and how it ended last."""
        (fired, has_fired), zone = self._around.fired, self._around.time_zone
        moment = cron.next_time(self._around.schedule, zone, fired)
        words = [f"next at {cron.shown(moment)}" if moment else f"runs at {self._around.schedule}"]
        if has_fired:
            state, reason = self._verdict(tracks)
            words.append(": ".join(filter(None, (f"last at {cron.local(fired, zone):%Y-%m-%d %H:%M} {state}", reason))))
        return "; ".join(words)

    def _server(self, tracks: Mapping[int, TaskTrack]) -> tuple[State, str]:
        ready = self._counts[State.READY]
        if ready >= self.total:
            return State.READY, ""
        if ready:
            return State.RUNNING, f"{ready} of {self.total} replicas are ready"
        was_ready = self._told is not None and self._told.state in (State.READY, State.RUNNING)
        has_begun = any(self._counts[state] for state in (State.STARTING, State.RUNNING))
        state = State.RUNNING if was_ready else State.STARTING if has_begun else State.WAITING
        return state, self._reason(tracks)

    def _reason(self, tracks: Mapping[int, TaskTrack]) -> str:
        """Return why the first of the tasks that have a reason does not go on, else why nothing is begun."""
        for track in tracks.values():
            if track.told.reason and not track.told.state.is_final:
                return track.told.reason
        return self._of_work()

    def _of_work(self) -> str:
        """Return why the Job or the Deployment makes no more pods, where it wants to."""
        job = self._around.job
        uid = self._around.deployment if job is None else "" if job.has_ended else job.uid
        queued = self._around.queued if job is not None else ()
        told = self._around.reason_of(queued[0]) if queued else None
        sentence, self._hint = told if told and told[0] else self._around.reason_of(uid) if uid else ("", "")
        return sentence

    def _verdict(self, tracks: Mapping[int, TaskTrack]) -> tuple[State, str]:
        """Return the end of a run whose tasks have ended: failed if any failed, else stopped if any was stopped."""
        for state in (State.FAILED, State.STOPPED):
            count = self._counts[state]
            if count and self.total == 1:
                return state, next(track.told.reason for track in tracks.values())
            if count and state is State.FAILED and self._around.nodes > 1:
                first = min((track for track in tracks.values() if track.told.state is state), key=_end_of)
                return state, f"node {first.number}: {first.told.reason}"
            if count:
                return state, f"{count} of {self.total} {_NOUNS.get(self._around.kind, 'tasks')} {state.value}"
        return State.SUCCEEDED, ""


def _end_of(track: TaskTrack) -> tuple[float, int]:
    return track.told.time, track.number
