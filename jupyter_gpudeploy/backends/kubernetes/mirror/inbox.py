"""What the watchers and the readers of logs hand in, from their threads, for the one thread that writes it down."""

from __future__ import annotations

import threading
import time
from collections import deque
from typing import TYPE_CHECKING, Any

from jupyter_gpudeploy.events.types import Event, Notice

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from jupyter_gpudeploy.backends.kubernetes.mirror.kept import Kept


class Inbox:
    """Calls that wait for whoever holds the folder. Any thread hands in; `_wake` is set then."""

    def __init__(self) -> None:
        self._inbox: deque[Callable[[Kept], None]] = deque()
        self._wake = threading.Event()

    def put(self, kind: str, item: Mapping[str, Any], *, gone: bool) -> None:
        """Take an object of the run, from a watcher."""
        self._hand_in(lambda kept: kept.see(kind, item, gone=gone))

    def trouble(self, message: str) -> None:
        """Take what went wrong in a watcher."""
        self.note(message, None)

    def drained(self, task: int, attempt: int, end: Mapping[str, Any] | None) -> None:
        """Take that a log was copied to its end."""
        said = str((end or {}).get("reason") or "")
        self._hand_in(lambda kept: kept.states.drained(task, attempt, said))

    def told(self, events: list[Event]) -> None:
        """Take what a pod said in its log."""
        if events:
            self._hand_in(lambda kept: kept.tell_of_pod(events))

    def note(self, message: str, task: int | None, level: str = "warning") -> None:
        """Take what a person should know."""
        notice = Notice(time.time(), message, task, level)
        self._hand_in(lambda kept: kept.tell([notice]))

    def _hand_in(self, call: Callable[[Kept], None]) -> None:
        self._inbox.append(call)
        self._wake.set()

    def _take_in(self, kept: Kept) -> None:
        while self._inbox:
            self._inbox.popleft()(kept)
