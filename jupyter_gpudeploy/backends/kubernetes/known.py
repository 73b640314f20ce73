"""What the mirror of a run tells of it, however often it is asked: each event of the journal is read once."""

from __future__ import annotations

import threading
from functools import cached_property
from typing import TYPE_CHECKING, Any

from jupyter_gpudeploy.events.status import Status
from jupyter_gpudeploy.events.store import JournalReader

if TYPE_CHECKING:
    from jupyter_gpudeploy.events.store import RunFolder


class Known:
    """The record of a run, and where it stands. Any thread may ask."""

    def __init__(self, folder: RunFolder) -> None:
        self.folder = folder
        self._reader = JournalReader(folder.events_file)
        self._status = Status()
        self._lock = threading.Lock()

    @cached_property
    def record(self) -> dict[str, Any]:
        """What was launched. Raises what `RunFolder.record` does."""
        return self.folder.record()

    def status(self) -> Status:
        """Return where the run stands now; the same object each time, which goes on with the journal."""
        with self._lock:
            self._status.feed(self._reader.poll())
            return self._status
