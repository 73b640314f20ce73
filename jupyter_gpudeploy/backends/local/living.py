"""One living run, as the recorder sees it: who its tasks are, which GPUs they hold, and where its samples go."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, NamedTuple

from jupyter_gpudeploy.backends.local import claim, processes
from jupyter_gpudeploy.events.samples import SampleWriter
from jupyter_gpudeploy.events.store import JournalReader
from jupyter_gpudeploy.events.types import State, StateChange

if TYPE_CHECKING:
    from collections.abc import Sequence

    from jupyter_gpudeploy.backends.local.layout import LocalFolder
    from jupyter_gpudeploy.events.types import Sample

_START_SECONDS = 10.0
_KEEPER_SECONDS = 5.0


class LivingTask(NamedTuple):
    """A task that has a process. `url`: where a server answers, once it `is_ready`."""

    pid: int
    gpus: tuple[str, ...] = ()
    url: str = ""
    is_ready: bool = False


class LivingRun:
    """A run whose journal has no end yet. Raises OSError, ValueError, KeyError or TypeError for what is no run."""

    def __init__(self, folder: LocalFolder) -> None:
        self.folder = folder
        self.inode = folder.path.stat().st_ino
        ref = claim.read_ref(folder)
        self.uid = ref.uid
        self.tasks: dict[int, LivingTask] = {}
        self.gpus: tuple[str, ...] = ()
        self.is_over = False
        self._created = ref.created
        self._journal = JournalReader(folder.events_file)
        self._size = -1
        self._service: dict[str, Any] | None = None
        self._keeper_at = -_KEEPER_SECONDS
        self._is_kept = True
        self._writer: SampleWriter | None = None

    @property
    def holds_gpus(self) -> bool:
        """Whether it, or a task of it, holds GPUs now."""
        return bool(self.gpus) or any(task.gpus for task in self.tasks.values())

    @property
    def preset(self) -> str:
        """The name of the server's preset; empty for what is no server."""
        if self._service is None:
            self._service = dict(self.folder.record()["service"] or {})
        return str(self._service.get("preset", ""))

    def poll(self) -> None:
        """Take in what has happened."""
        try:
            size = self.folder.events_file.stat().st_size
        except FileNotFoundError:
            self.is_over = self._size >= 0 or not self.folder.path.exists()
            return
        if size == self._size:
            return
        self._size = size
        for event in self._journal.poll():
            if isinstance(event, StateChange) and event.task is None:
                self.is_over = event.state.is_final
                self.gpus = tuple(event.details.get("gpus", self.gpus))
            elif isinstance(event, StateChange):
                self._feed(event)

    def _feed(self, event: StateChange) -> None:
        number = event.task or 0
        known = self.tasks.pop(number, None)
        if event.state.is_final or event.state is State.WAITING:
            return
        details = {**(known._asdict() if known else {}), **event.details}
        if "pid" in details:
            pid, gpus = int(details["pid"]), tuple(details.get("gpus") or ())
            self.tasks[number] = LivingTask(pid, gpus, str(details.get("url") or ""), event.state is State.READY)

    def is_kept(self) -> bool:
        """Whether its supervisor lives, as seen some seconds ago at most. Without one, the journal tells old things."""
        now = time.monotonic()
        if now - self._keeper_at >= _KEEPER_SECONDS:
            self._keeper_at = now
            who = processes.kept_by(self.folder.supervisor_file)
            is_young = time.time() - self._created < _START_SECONDS
            self._is_kept = is_young if who is None else processes.is_alive(who)
        return self._is_kept

    def write(self, samples: Sequence[Sample], turn: int) -> None:
        """Keep a look. What cannot be written is lost."""
        if not samples:
            return
        try:
            if self._writer is None:
                self._writer = SampleWriter(self.folder.samples_file)
            if turn % self._writer.every == 0:
                self._writer.write(samples)
        except OSError:
            return

    def close(self) -> None:
        """Hold nothing open any more."""
        if self._writer is not None:
            self._writer.close()
            self._writer = None
