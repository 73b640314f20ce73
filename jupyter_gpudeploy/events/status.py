"""Where a run stands: its events, folded into one value."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from jupyter_gpudeploy.events.types import Event, Notice, State, StateChange

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping


@dataclass(frozen=True, slots=True)
class TaskStatus:
    """Where one task stands. `started` and `ended` are of its last attempt, in seconds since the epoch."""

    task: int
    state: State = State.WAITING
    reason: str = ""
    attempt: int = 1
    exit_code: int | None = None
    started: float | None = None
    ended: float | None = None
    details: Mapping[str, Any] = field(default_factory=dict)

    def seconds(self, now: float) -> float | None:
        """Return how long the last attempt ran, until `now` where it still does; None before it started."""
        if self.started is None:
            return None
        return max(0.0, (self.ended if self.ended is not None else now) - self.started)

    def after(self, change: StateChange) -> TaskStatus:
        """Return where the task stands after `change`."""
        fresh_attempt = change.attempt != self.attempt
        started = None if fresh_attempt else self.started
        if started is None and change.state is not State.WAITING and not change.state.is_final:
            started = change.time
        return TaskStatus(
            task=self.task,
            state=change.state,
            reason=change.reason,
            attempt=change.attempt,
            exit_code=change.exit_code,
            started=started,
            ended=change.time if change.state.is_final else None,
            details={**({} if fresh_attempt else _lasting(self.details)), **change.details},
        )


@dataclass
class Status:
    """Where a run stands. Fed event by event; `tasks` holds every task that was launched or has an event."""

    state: State = State.WAITING
    reason: str = ""
    started: float | None = None
    ended: float | None = None
    details: Mapping[str, Any] = field(default_factory=dict)
    tasks: dict[int, TaskStatus] = field(default_factory=dict)
    notices: list[Notice] = field(default_factory=list)

    @classmethod
    def of(cls, tasks: Iterable[int], events: Iterable[Event] = ()) -> Status:
        """Return the status of a run of these tasks after these events."""
        status = cls(tasks={task: TaskStatus(task) for task in tasks})
        status.feed(events)
        return status

    def feed(self, events: Iterable[Event]) -> None:
        """Take these events in, in their order."""
        for event in events:
            if isinstance(event, Notice):
                self.notices.append(event)
            elif event.task is None:
                self._feed_run(event)
            else:
                self.tasks[event.task] = self.tasks.get(event.task, TaskStatus(event.task)).after(event)

    def lost(self, change: StateChange) -> Status:
        """Return this status, lost: what had not ended by itself is lost with whoever kept it."""
        tasks = {
            number: task if task.state.is_final or task.state is State.WAITING else task.after(
                change._replace(task=number, attempt=task.attempt)
            )
            for number, task in self.tasks.items()
        }  # fmt: skip
        return Status(State.LOST, change.reason, self.started, change.time, self.details, tasks, list(self.notices))

    @property
    def hint(self) -> str:
        """What would help, where a backend said so: of the run, else of a task that failed, else of any."""
        order = sorted(self.tasks.values(), key=lambda task: task.state is not State.FAILED)
        told = [self.details.get("hint"), *(task.details.get("hint") for task in order)]
        return next((str(hint) for hint in told if hint), "")

    def counts(self) -> dict[State, int]:
        """Return how many tasks are in each state, states without a task left out."""
        counter = Counter(task.state for task in self.tasks.values())
        return {state: counter[state] for state in State if counter[state]}

    def _feed_run(self, change: StateChange) -> None:
        self.state, self.reason = change.state, change.reason
        self.details = {**_lasting(self.details), **change.details}
        if self.started is None and change.state is not State.WAITING and not change.state.is_final:
            self.started = change.time
        self.ended = change.time if change.state.is_final else None


def _lasting(details: Mapping[str, Any]) -> dict[str, Any]:
    """Return what is known beyond one change: a hint belongs to the reason it came with."""
    return {key: value for key, value in details.items() if key != "hint"}
