"""What changes in a namespace, as it changes: list, watch, and list again, whatever happens on the way.

One Watcher a cluster, namespace and kind serves every run of the process (shared.py). A watch that stays open and says
nothing is not trusted: what is listed is compared every half a minute with what was told. After a lost connection, a
5xx or a 410 it goes on by itself; meanwhile the last good state stands, and `stale_since` says since when.
"""

from __future__ import annotations

import random
import threading
import time
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from jupyter_gpudeploy.backends.kubernetes import marks
from jupyter_gpudeploy.backends.kubernetes.api.errors import (
    ApiError,
    CredentialsError,
    ForbiddenError,
    GoneError,
    NotFoundError,
    ThrottledError,
)
from jupyter_gpudeploy.errors import BackendError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from jupyter_gpudeploy.backends.kubernetes.api.client import Cluster

RELIST_SECONDS = 30.0
_EVENTS_SECONDS = 120.0
_FIRST_PAUSE, _LONGEST_PAUSE = 0.5, 15.0
_HOPELESS_PAUSE = 60.0
_SHORT_WATCH = 1.0
_SINGLY = 20
_PATIENCE_SECONDS = 3.0
_ALIVE = "status.phase!=Succeeded,status.phase!=Failed"
_OURS = f"{marks.MANAGED_BY}={marks.MANAGER}"


class Inbox(Protocol):
    """Who is told. Called from the threads of the watchers; must not block."""

    def put(self, kind: str, item: Mapping[str, Any], *, gone: bool) -> None:
        """Take an object as it is now, or as it was last, when it is `gone`."""

    def trouble(self, message: str) -> None:
        """Take what went wrong in a watcher itself: a mistake of ours."""


class Selection(NamedTuple):
    """What is watched of a kind. `relisted`: the fields by which lists leave out what changes no more.

    A subscriber lists that itself, once. `bare`: metadata is enough.
    """

    labels: str = _OURS
    fields: str = ""
    relisted: str = ""
    seconds: float = RELIST_SECONDS
    bare: bool = False


SELECTIONS = {
    "ConfigMap": Selection(f"{_OURS},{marks.PART}={marks.ROOT}", bare=True),
    "Pod": Selection(relisted=_ALIVE),
    "Event": Selection(labels="", fields="type!=Normal", seconds=_EVENTS_SECONDS),
}


class Known(NamedTuple):
    """What is kept of an object that was told: enough to tell that it is gone."""

    name: str
    version: str
    run: str


class Watcher:
    """Lists and watches one kind in one namespace, in a thread of its own, while anybody is subscribed."""

    def __init__(self, cluster: Cluster, kind: str, selection: Selection | None = None) -> None:
        self._cluster = cluster
        self._kind = kind
        self._selection = selection or SELECTIONS.get(kind, Selection())
        self._lock = threading.Lock()
        self._inboxes: dict[str, list[Inbox]] = {}
        self._known: dict[str, Known] = {}
        self._closed = threading.Event()
        self._thread: threading.Thread | None = None
        self._stream: Any = None
        self._version = ""
        self._relist_at = 0.0
        self._failures = 0
        self._failing_since: float | None = None
        self.why_stale = ""

    @property
    def stale_since(self) -> float | None:
        """Since when (`time.time()`) nothing is known of this kind; None while all is well, or was moments ago."""
        since = self._failing_since
        return since if since is not None and time.time() - since > _PATIENCE_SECONDS else None

    def subscribe(self, run: str, inbox: Inbox) -> None:
        """Tell `inbox` of every change of the objects of this run from now on, and of every Event."""
        with self._lock:
            self._inboxes.setdefault(run, []).append(inbox)
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name=f"watch {self._kind}", daemon=True)
                self._thread.start()

    def unsubscribe(self, run: str, inbox: Inbox) -> bool:
        """Tell it no more. Return whether somebody is still told something."""
        with self._lock:
            left = [other for other in self._inboxes.get(run, []) if other is not inbox]
            self._inboxes[run] = left
            if not left:
                del self._inboxes[run]
            return bool(self._inboxes)

    def close(self) -> None:
        """End the thread, soon."""
        self._closed.set()
        stream = self._stream
        if stream is not None:
            stream.close()

    def _run(self) -> None:
        while not self._closed.is_set():
            try:
                pause = self._turn()
            except Exception as error:  # noqa: BLE001 - whatever is wrong is said, and the watching goes on
                self._failures += 1
                for inbox in self._everybody():
                    inbox.trouble(f"watching {self._kind} objects failed and goes on: {error!r}")
                pause = _backoff(self._failures)
            if pause:
                self._closed.wait(pause)

    def _turn(self) -> float:
        """List if that is due, watch until it is due again. Return how long to pause."""
        begun = time.monotonic()
        try:
            if begun >= self._relist_at:
                self._list()
            self._watch()
        except GoneError:
            self._relist_at = 0.0
            self._failures += time.monotonic() - begun < _SHORT_WATCH
            return _backoff(self._failures) if self._failures > 1 else 0.0
        except ThrottledError as error:
            self._fail(error)
            return max(error.retry_after, _backoff(self._failures))
        except (ForbiddenError, CredentialsError) as error:
            self._fail(error)
            return _HOPELESS_PAUSE * _jitter()
        except (ApiError, BackendError) as error:
            self._fail(error)
            return _backoff(self._failures)
        is_short = time.monotonic() - begun < _SHORT_WATCH and time.monotonic() < self._relist_at
        return _backoff(1) if is_short else 0.0

    def _list(self) -> None:
        selection = self._selection
        fields = selection.relisted or selection.fields
        listing = self._cluster.list(self._kind, labels=selection.labels, fields=fields, bare=selection.bare)
        self._well()
        seen = set()
        for item in listing.items:
            seen.add(item["metadata"]["uid"])
            self._tell(item)
        missing = [uid for uid in self._known if uid not in seen]
        self._version = listing.resource_version
        self._look_up(missing)
        self._relist_at = time.monotonic() + selection.seconds * _jitter()

    def _look_up(self, missing: list[str]) -> None:
        """Tell what became of objects that a list does not show any more."""
        if not self._selection.relisted or len(missing) > _SINGLY:
            found = {}
            if missing and self._selection.relisted:
                everything = self._cluster.list(self._kind, labels=self._selection.labels)
                found = {item["metadata"]["uid"]: item for item in everything.items}
            for uid in missing:
                if uid in found:
                    self._tell(found[uid])
                else:
                    self._tell_gone(uid)
            return
        for uid in missing:
            try:
                item = self._cluster.get(self._kind, self._known[uid].name)
            except NotFoundError:
                item = {"metadata": {"uid": ""}}
            if item["metadata"]["uid"] == uid:
                self._tell(item)
            else:
                self._tell_gone(uid)

    def _watch(self) -> None:
        seconds = max(1, int(self._relist_at - time.monotonic()) + 1)
        selection = self._selection
        self._stream = self._cluster.watch(
            self._kind, labels=selection.labels, fields=selection.fields, resource_version=self._version,
            timeout_seconds=seconds, bare=selection.bare,
        )  # fmt: skip
        if self._closed.is_set():
            self._stream.close()
        try:
            for event in self._events(self._stream):
                self._take(event)
                if self._closed.is_set() or time.monotonic() > self._relist_at + _SHORT_WATCH:
                    return
        finally:
            _close(self._stream)
            self._stream = None

    def _events(self, stream: Any) -> Iterator[Mapping[str, Any]]:  # noqa: ANN401 - any iterator of events
        """Yield the events; whatever came in between, the stream was well until it broke."""
        for event in stream:
            self._well()
            yield event
        self._well()

    def _take(self, event: Mapping[str, Any]) -> None:
        item = event["object"]
        self._version = item["metadata"].get("resourceVersion", self._version)
        if event["type"] == "DELETED":
            self._known.pop(item["metadata"]["uid"], None)
            self._send(item, gone=True)
        elif event["type"] != "BOOKMARK":
            self._tell(item)

    def _tell(self, item: Mapping[str, Any]) -> None:
        """Tell an object, unless it was told like this."""
        metadata = item["metadata"]
        before = self._known.get(metadata["uid"])
        version = metadata.get("resourceVersion", "")
        if before is not None and before.version == version:
            return
        if self._selection.relisted and (item.get("status") or {}).get("phase") in ("Succeeded", "Failed"):
            self._known.pop(metadata["uid"], None)
        else:
            self._known[metadata["uid"]] = Known(metadata.get("name", ""), version, _run_of(item))
        self._send(item, gone=False)

    def _tell_gone(self, uid: str) -> None:
        known = self._known.pop(uid)
        metadata = {"uid": uid, "name": known.name, "labels": {marks.UID: known.run}}
        if self._kind != "Event":
            self._send({"metadata": metadata}, gone=True)

    def _send(self, item: Mapping[str, Any], *, gone: bool) -> None:
        if self._closed.is_set():
            return
        with self._lock:
            inboxes = list(self._inboxes.get(_run_of(item), ()))
        for inbox in self._everybody() if self._kind == "Event" else inboxes:
            inbox.put(self._kind, item, gone=gone)

    def _everybody(self) -> list[Inbox]:
        with self._lock:
            return [inbox for inboxes in self._inboxes.values() for inbox in inboxes]

    def _well(self) -> None:
        self._failures = 0
        self._failing_since = None
        self.why_stale = ""

    def _fail(self, error: BackendError) -> None:
        self._failures += 1
        if self._failing_since is None:
            self._failing_since = time.time()
        self.why_stale = error.message


def _run_of(item: Mapping[str, Any]) -> str:
    """Return the uid of the run that an object belongs to; the root's own uid is the run's."""
    metadata = item["metadata"]
    labels = metadata.get("labels") or {}
    return str(labels.get(marks.UID) or metadata["uid"])


def _close(stream: Any) -> None:  # noqa: ANN401 - any iterator of events
    close = getattr(stream, "close", None)
    if close is not None:
        close()


def _backoff(failures: int) -> float:
    return min(_LONGEST_PAUSE, _FIRST_PAUSE * 2.0 ** min(failures, 10)) * random.uniform(0.5, 1.0)  # noqa: S311 - jitter


def _jitter() -> float:
    return random.uniform(0.8, 1.0)  # noqa: S311 - jitter
