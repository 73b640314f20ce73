"""Events of the cluster (core/v1), copied into the journal before they vanish: a warning once, however often."""

from __future__ import annotations

from collections import OrderedDict, deque
from typing import TYPE_CHECKING, Any

from jupyter_gpudeploy.backends.kubernetes.facts import seconds
from jupyter_gpudeploy.events.types import Notice

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_HELD = 200
_ABOUT = 2000
_PER_OBJECT = 10
_MOST = 500
_LONGEST = 1000


class EventNotes:
    """The warnings about the objects of one run.

    An Event that comes before its object does is held for a while. `about` keeps the last few of each object.
    """

    def __init__(self) -> None:
        self._tasks: dict[str, int | None] = {}
        self._held: deque[Mapping[str, Any]] = deque(maxlen=_HELD)
        self._about: OrderedDict[str, dict[str, Mapping[str, Any]]] = OrderedDict()
        self._told: set[tuple[int | None, str]] = set()
        self._new: list[Notice] = []

    def know(self, uid: str, task: int | None) -> list[Mapping[str, Any]]:
        """Say that an object belongs to the run; return the Events about it that came before, to be fed again."""
        if uid in self._tasks:
            return []
        self._tasks[uid] = task
        early = [item for item in self._held if item["involvedObject"].get("uid") == uid]
        if early:
            self._held = deque((item for item in self._held if item not in early), maxlen=_HELD)
        return early

    def was_told(self, notice: Notice) -> None:
        """Take up what the journal holds."""
        self._told.add((notice.task, notice.message))

    def once(self, notice: Notice) -> list[Notice]:
        """Return the notice, unless it was told before."""
        key = notice.task, notice.message
        if key in self._told:
            return []
        self._told.add(key)
        return [notice]

    def add(self, notice: Notice) -> None:
        """Tell this, unless it was told before."""
        self._new += self.once(notice)

    def feed(self, item: Mapping[str, Any]) -> str | None:
        """Take in an Event; return the uid of the object of ours that it is about, or None."""
        uid = (item.get("involvedObject") or {}).get("uid", "")
        if uid not in self._tasks:
            self._held.append(item)
            return None
        events = self._about.setdefault(uid, {})
        self._about.move_to_end(uid)
        events.pop(item["metadata"]["uid"], None)
        events[item["metadata"]["uid"]] = item
        if len(events) > _PER_OBJECT:
            del events[next(iter(events))]
        if len(self._about) > _ABOUT:
            self._about.popitem(last=False)
        if item.get("type") == "Warning":
            self._tell(item, self._tasks[uid])
        return str(uid)

    def about(self, uid: str) -> Sequence[Mapping[str, Any]]:
        """Return the last Events about an object, the newest last."""
        return list(self._about.get(uid, {}).values())

    def take(self) -> list[Notice]:
        """Return what is new."""
        new, self._new = self._new, []
        return new

    def _tell(self, item: Mapping[str, Any], task: int | None) -> None:
        message = f"{item.get('reason', '')}: {item.get('message', '')}".strip(": ")[:_LONGEST]
        if (task, message) in self._told or len(self._told) > _MOST:
            return
        self._told.add((task, message))
        if len(self._told) > _MOST:
            message = f"more than {_MOST} warnings of the cluster: no further ones are kept"
        self._new.append(Notice(_time(item), message, task))


def _time(item: Mapping[str, Any]) -> float:
    series = item.get("series") or {}
    texts = [item.get(name) for name in ("eventTime", "firstTimestamp", "lastTimestamp")]
    texts += [series.get("lastObservedTime"), item["metadata"].get("creationTimestamp")]
    return next((time for text in texts if (time := seconds(text)) is not None), 0.0)
