"""The folder of a run while it is held: its journal, and what was seen of the run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from jupyter_gpudeploy.backends.kubernetes.mirror.searched import SearchStates
from jupyter_gpudeploy.backends.kubernetes.mirror.states import States
from jupyter_gpudeploy.events.store import Journal, JournalReader
from jupyter_gpudeploy.events.types import Event, Notice, StateChange

if TYPE_CHECKING:
    from collections.abc import Mapping

    from jupyter_gpudeploy.backends.base import RunRef
    from jupyter_gpudeploy.backends.kubernetes.mirror.reasons import Explain
    from jupyter_gpudeploy.events.store import RunFolder

_LONGEST_REASON = 2000
_GONE = 1 << 62


class Kept:
    """The one writer of the journal. One thread."""

    def __init__(self, folder: RunFolder, ref: RunRef, record: Mapping[str, Any], explain: Explain | None) -> None:
        for name in ("logs", "metrics"):
            (folder.path / name).mkdir(exist_ok=True, mode=0o700)  # never the run's folder, which may be moved aside
        self._journal = Journal(folder.events_file)
        self._versions: dict[str, int] = {}
        made = SearchStates if record.get("search") else States
        self.states = made(record, ref.uid, JournalReader(folder.events_file).poll(), explain)

    @property
    def is_behind(self) -> bool:
        """Whether the disk has no room for what is to be told; it is tried again now."""
        return not self._journal.retry()

    def see(self, kind: str, item: Mapping[str, Any], *, gone: bool) -> None:
        """Take an object in, unless a newer one of it was seen."""
        metadata = item["metadata"]
        version = _GONE if gone else int(metadata.get("resourceVersion") or 0)
        before = self._versions.get(metadata["uid"], -1)
        if version <= before:
            return
        self._versions[metadata["uid"]] = version
        self.states.feed(kind, item, gone=gone)

    def see_queued(self, workload: Mapping[str, Any]) -> None:
        """Take in a Workload of Kueue's, with its place in the queue, which changes without it."""
        self.states.feed("Workload", workload)

    def tell_of_pod(self, events: list[Event]) -> None:
        """Write what a pod said, unless it was said before."""
        for event in events:
            if isinstance(event, Notice):
                self.tell([event])
            elif (change := self.states.executed(event)) is not None:
                self.tell([change])

    def tell(self, events: list[Event]) -> None:
        """Write into the journal."""
        for event in events:
            if isinstance(event, StateChange) and len(event.reason) > _LONGEST_REASON:
                event = event._replace(reason=event.reason[: _LONGEST_REASON - 1] + "…")  # noqa: PLW2901 - the same
            self._journal.append(event)

    def close(self) -> None:
        """Let go of the journal."""
        self._journal.close()
