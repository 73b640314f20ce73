"""A run that was stopped goes on: what its journal says then, so that no reader takes it for ended any more."""

from __future__ import annotations

from typing import TYPE_CHECKING

from jupyter_gpudeploy.events.status import Status
from jupyter_gpudeploy.events.types import State, StateChange

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from jupyter_gpudeploy.events.types import Event


def reopened(events: Sequence[Event], tasks: Collection[int], now: float) -> list[Event]:
    """Return that the run waits again, and each of its `tasks` that was stopped: as a further attempt, if it had begun.

    A command that was executed in a manual run is over: it is not among its tasks.
    """
    status = Status.of((), events)
    begun: dict[int, int] = {}
    for event in events:
        if isinstance(event, StateChange) and event.task is not None and event.state in (State.RUNNING, State.READY):
            begun[event.task] = max(event.attempt, begun.get(event.task, 0))
    undone = [task for task in status.tasks.values() if task.task in tasks and task.state is State.STOPPED]
    changes: list[Event] = [
        StateChange(now, State.WAITING, task.task, attempt=max(task.attempt, begun.get(task.task, 0) + 1))
        for task in undone
    ]
    reason = f"resumed: {len(undone)} of {len(tasks)} are to be done" if undone else "resumed"
    return [*changes, StateChange(now, State.WAITING, reason=reason)]
