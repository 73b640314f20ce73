"""What the supervisor tells: the journal of its run, written by it alone."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from jupyter_gpudeploy.backends.local.attempts import Outcome
from jupyter_gpudeploy.events.store import Journal, JournalReader
from jupyter_gpudeploy.events.types import Notice, State, StateChange

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from jupyter_gpudeploy.backends.local.layout import LocalFolder


LONGEST_REASON = 2000
"""How many characters of a reason are kept: the last record must be found at the end of a journal (`follow`)."""


class Chronicle:
    """Writes states and notices, each state once; knows what an earlier supervisor wrote.

    A torn last record is cut off when it is opened, and that is said.
    """

    def __init__(self, folder: LocalFolder) -> None:
        self._journal = Journal(folder.events_file)
        events = JournalReader(folder.events_file).poll()
        changes = [event for event in events if isinstance(event, StateChange)]
        self.is_new = not events
        self.results = _results(changes)
        self.failures = _failures(changes)
        self.started = _started(changes)
        self.state = next((change.state for change in reversed(changes) if change.task is None), State.STARTING)
        self._run: tuple[State, str] | None = None
        if self._journal.dropped:
            size = self._journal.dropped
            self.notice(f"the journal's last record was incomplete: {size} bytes of it were dropped", level="info")

    def run(self, state: State, reason: str = "", **details: Any) -> None:  # noqa: ANN401 - JSON values
        """Note the state of the run; the same again is not written."""
        reason = _bounded(reason)
        if (state, reason) != self._run:
            self._run = state, reason
            self._journal.append(StateChange(time.time(), state, reason=reason, details=details))

    def task(
        self, number: int, state: State, *, attempt: int = 1, reason: str = "", exit_code: int | None = None,
        details: Mapping[str, Any] | None = None,
    ) -> None:  # fmt: skip
        """Note the state of a task."""
        self._journal.append(
            StateChange(time.time(), state, number, attempt, _bounded(reason), exit_code, details or {})
        )

    def notice(self, message: str, task: int | None = None, *, level: str = "warning") -> None:
        """Note what changes no state."""
        self._journal.append(Notice(time.time(), message, task, level))

    @property
    def is_behind(self) -> bool:
        """Whether the disk has no room for what was noted; it is tried again now."""
        return not self._journal.retry()

    def close(self) -> None:
        """Write what can be written, and let go of the journal."""
        self._journal.close()


def _bounded(reason: str) -> str:
    return reason if len(reason) <= LONGEST_REASON else reason[: LONGEST_REASON - 1] + "…"


def _results(changes: Iterable[StateChange]) -> dict[int, Outcome]:
    """Return the end of each task that has ended, and was not started again afterwards."""
    found: dict[int, Outcome] = {}
    for change in changes:
        if change.task is not None and change.state.is_final:
            found[change.task] = Outcome(change.state, change.reason, change.exit_code)
        elif change.task is not None:
            found.pop(change.task, None)
    return found


def _failures(changes: Iterable[StateChange]) -> dict[int, int]:
    """Return how often each task was to be tried again."""
    found: dict[int, int] = {}
    for change in changes:
        if change.task is not None and "retry_in" in change.details:
            found[change.task] = found.get(change.task, 0) + 1
    return found


def _started(changes: Iterable[StateChange]) -> dict[int, int]:
    """Return the last attempt of each task that had a process."""
    found: dict[int, int] = {}
    for change in changes:
        if change.task is not None and "pid" in change.details:
            found[change.task] = max(change.attempt, found.get(change.task, 0))
    return found
