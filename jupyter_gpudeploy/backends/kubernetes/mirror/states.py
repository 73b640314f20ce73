"""What the objects of a run on a cluster say, as the journal's own records: pure, one object at a time.

Times are those of the cluster's objects, so neither the clock of this machine nor how late it looks plays a part. What
the journal holds already is not told again: a second reader of the same objects goes on where the first one stopped.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from jupyter_gpudeploy.backends.kubernetes.mirror.attempts import LogOrder, Told
from jupyter_gpudeploy.backends.kubernetes.mirror.seen import Seen
from jupyter_gpudeploy.backends.kubernetes.mirror.tasks import SETTLE_SECONDS, TaskTrack
from jupyter_gpudeploy.events.types import Event, Notice, State, StateChange

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from jupyter_gpudeploy.backends.kubernetes.mirror.reasons import Explain

_LOOK_SECONDS = 5.0
_QUEUE_SECONDS = 1.0


class States(Seen):
    """The states of one run. `feed` it objects in any order; `changes` says what is new and can be told now.

    The last state of a task is told only after `drained` was called for its log, that of the run after those of all
    tasks. Not safe from several threads.
    """

    def __init__(
        self, record: Mapping[str, Any], uid: str, history: Iterable[Event] = (), explain: Explain | None = None
    ) -> None:
        super().__init__(record, uid, explain)
        self._look_at = 0.0
        self._executed: dict[int, State] = {}
        self._take_up(history)

    @property
    def is_over(self) -> bool:
        """Whether the run's end was told, and nothing has happened since."""
        return self._standing.is_over

    @property
    def patience(self) -> float | None:
        """After how many seconds time alone can bring a change; None for never."""
        if self._dirty:
            return SETTLE_SECONDS / 4
        if any(uid in self._places for uid in self._reasons):
            return _LOOK_SECONDS / 5
        return _QUEUE_SECONDS if self.queued else None

    def executed(self, change: StateChange) -> StateChange | None:
        """Take in what a pod said about a command executed in it; None where that was told before."""
        if change.task is None:
            return None
        before = self._executed.get(change.task)
        if before is not None and (before.is_final or before is change.state):
            return None
        self._executed[change.task] = change.state
        return change

    def drained(self, task: int, attempt: int, said: str = "") -> None:
        """Note that the log of an attempt was read to its end, or can be read no more; `said`: its last word there."""
        track = self._tracks.get(task)
        if track is not None:
            track.drained(attempt, said)
            self._dirty.add(task)

    def orders(self) -> list[LogOrder]:
        """Return the logs that are to be copied now, of the tasks of which something was fed since the last call."""
        ordered, self._ordered = self._ordered, set()
        return [order for number in sorted(ordered) for order in self._tracks[number].orders()]

    def changes(self, monotonic: float) -> list[Event]:
        """Return what is new and can be told now. `monotonic`: seconds of a clock that only goes forward."""
        around = self._around
        if not around.monotonic:  # what was fed before the first call was fed just now
            self._clock = self._clock[0], monotonic
        around.monotonic = monotonic
        around.clock = self._clock[0] + max(0.0, monotonic - self._clock[1]) if self._clock[0] else 0.0
        around.is_quiet = not self._active and self._work_is_quiet()
        if monotonic >= self._look_at:
            self._look_at = monotonic + _LOOK_SECONDS
            self._dirty.update(self._places.task_of(uid) for uid in self._reasons if uid in self._places)
        found: list[Event] = []
        dirty, self._dirty = self._dirty, set()
        for number in sorted(dirty):
            found.extend(self._task_changes(self._tracks[number]))
        found.extend(self.notes.take())
        change = self._standing.next_change(self._tracks, is_active=bool(self._active))
        if change is not None and change.state.is_final:
            found.extend(self._end_executed(change))
        return [*found, change] if change is not None else found

    def _task_changes(self, track: TaskTrack) -> list[StateChange]:
        before = track.told.state
        pods = {attempt.pod.uid for attempt in track.attempts.values()}
        found = []
        while (change := track.next_change(self._around)) is not None:
            found.append(change)
        self._standing.count(before, track.told.state)
        if found:
            still = set() if track.told.state.is_final else {attempt.pod.uid for attempt in track.attempts.values()}
            for uid in pods - still:
                self._reasons.drop(uid)
            self._ordered.add(track.number)
        if track.is_ending:
            self._dirty.add(track.number)
        if self._around.kind != "manual":
            return found
        if found and "pod_uid" in found[0].details:
            self._standing.details = found[0].details
        return []

    def _end_executed(self, change: StateChange) -> list[StateChange]:
        """A command that was still running ends with the run."""
        ended = [number for number, last in self._executed.items() if not last.is_final]
        self._executed.update(dict.fromkeys(ended, change.state))
        return [StateChange(change.time, change.state, number, reason=change.reason) for number in ended]

    def _take_up(self, history: Iterable[Event]) -> None:
        for event in history:
            if isinstance(event, Notice):
                self.notes.was_told(event)
            elif event.task is None:
                self._standing.take_up(event)
                if self._around.kind == "manual":
                    self._remember(event, 0)
            elif self._around.kind == "manual":
                self._executed[event.task] = event.state
            else:
                told = Told(event.attempt, event.state, event.reason, event.time)
                before = self._tracks.get(event.task)
                track = self._tracks[event.task] = TaskTrack(event.task, self._places.index(event.task), told)
                is_same = before is not None and before.had_pod and before.told.attempt == event.attempt
                track.had_pod = is_same or "pod_uid" in event.details
                self._remember(event, event.task)
        for track in self._tracks.values():
            self._standing.count(None, track.told.state)

    def _remember(self, event: StateChange, number: int) -> None:
        uid = event.details.get("pod_uid")
        if uid is not None:
            attempt = event.details.get("attempt", event.attempt)
            self._places.remember(str(uid), number, attempt)
            self.notes.know(str(uid), number)
