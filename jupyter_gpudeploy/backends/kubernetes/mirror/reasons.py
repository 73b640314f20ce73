"""Why an object is not where it should be: asked of `diagnose.explain`, and asked anew only when something changed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from jupyter_gpudeploy.backends.kubernetes.facts import seconds

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from jupyter_gpudeploy.backends.kubernetes.mirror.notes import EventNotes

    Explain = Callable[[Mapping[str, Any], Sequence[Mapping[str, Any]], Mapping[str, Any]], "Found | None"]

PLACE = "positionInClusterQueue"
"""The key under which a Workload has its place in the queue, which is no part of it."""
PATIENCE_SECONDS = 5.0
"""A pod may be pending for so long before a reason is looked for."""


class Found(Protocol):
    """What `diagnose.explain` found: why, in one sentence, and the way out."""

    @property
    def sentence(self) -> str:
        """Why."""

    @property
    def hint(self) -> str:
        """The way out."""


class Reason(NamedTuple):
    """Why, and the way out; empty where nobody knows."""

    sentence: str = ""
    hint: str = ""


class Reasons:
    """The objects of a run that may need an explanation, and what was found about them."""

    def __init__(self, record: Mapping[str, Any], explain: Explain | None, notes: EventNotes) -> None:
        self._record = record
        self._explain = explain
        self._notes = notes
        self._items: dict[str, Mapping[str, Any]] = {}
        self._found: dict[str, tuple[tuple[object, int], Reason]] = {}

    def __iter__(self) -> Iterator[str]:
        return iter(self._items)

    def keep(self, item: Mapping[str, Any]) -> None:
        """Keep an object as it is now."""
        self._items[item["metadata"]["uid"]] = item

    def drop(self, uid: str) -> None:
        """Forget an object: it is where it should be."""
        self._items.pop(uid, None)
        self._found.pop(uid, None)

    def of(self, uid: str, now: float) -> Reason:
        """Return why, by the cluster's clock `now`."""
        item = self._items.get(uid)
        if item is None or self._explain is None or _is_young(item, now):
            return Reason()
        events = self._notes.about(uid)
        version = f"{item['metadata'].get('resourceVersion')} {item.get(PLACE)}"
        key = (version, sum(event.get("count") or 1 for event in events))
        if uid not in self._found or self._found[uid][0] != key:
            finding = self._explain(item, events, self._record)
            self._found[uid] = key, Reason(finding.sentence, finding.hint) if finding is not None else Reason()
        return self._found[uid][1]


def _is_young(item: Mapping[str, Any], now: float) -> bool:
    if item.get("kind") != "Pod" or (item.get("status") or {}).get("phase", "Pending") != "Pending":
        return False
    return now - (seconds(item["metadata"].get("creationTimestamp")) or 0.0) < PATIENCE_SECONDS
