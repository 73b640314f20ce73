"""A run on a cluster, copied into its folder on this machine: states, warnings, logs, metrics, results.

The cluster is the truth. Of all processes that want the folder of a run kept, one holds it (a lock on `mirror.lock`)
and writes; the others wait, and one of them goes on when the holder is gone, however it ended. With nobody there
nothing is lost: what the cluster still has is copied by whoever comes next.
"""

from __future__ import annotations

import os
import threading
import time
from typing import TYPE_CHECKING, Any

from jupyter_gpudeploy.backends.kubernetes import marks, places
from jupyter_gpudeploy.backends.kubernetes.api.errors import ForbiddenError, NotFoundError
from jupyter_gpudeploy.backends.kubernetes.api.kinds import watched_kind
from jupyter_gpudeploy.backends.kubernetes.mirror import folder_lock, gauges
from jupyter_gpudeploy.backends.kubernetes.mirror.caretaker import Caretaker
from jupyter_gpudeploy.backends.kubernetes.mirror.copies import LogCopy
from jupyter_gpudeploy.backends.kubernetes.mirror.inbox import Inbox
from jupyter_gpudeploy.backends.kubernetes.mirror.kept import Kept
from jupyter_gpudeploy.backends.kubernetes.mirror.queued import Queue
from jupyter_gpudeploy.backends.kubernetes.mirror.reopened import reopened
from jupyter_gpudeploy.backends.kubernetes.mirror.searched import SearchStates
from jupyter_gpudeploy.backends.kubernetes.mirror.shared import SHARED, Shared
from jupyter_gpudeploy.backends.kubernetes.mirror.trials import Trials
from jupyter_gpudeploy.errors import BackendError
from jupyter_gpudeploy.events.store import Journal, JournalReader
from jupyter_gpudeploy.events.types import Notice, StateChange

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from jupyter_gpudeploy.backends.base import RunRef
    from jupyter_gpudeploy.backends.kubernetes.api.client import Cluster
    from jupyter_gpudeploy.backends.kubernetes.mirror.attempts import LogOrder
    from jupyter_gpudeploy.backends.kubernetes.mirror.reasons import Explain
    from jupyter_gpudeploy.backends.kubernetes.mirror.watch import Watcher
    from jupyter_gpudeploy.events.store import RunFolder

_TAKE_OVER_SECONDS = 1.0
_TICK_SECONDS = 0.5
_SETTLE_SECONDS = 0.05
_CLOSE_SECONDS = 2.0
_LOST_SECONDS = 3.0
_RETRY_SECONDS = 2.0


class Mirror(Inbox):
    """Keeps the folder of one run, in a thread of its own, from `start` until `close`, the run's end, or its loss.

    `explain` says why a pod, a Job or a Deployment is not where it should be (`diagnose.explain`).
    """

    def __init__(
        self, cluster: Cluster, folder: RunFolder, ref: RunRef, record: Mapping[str, Any], *,
        explain: Explain | None = None, shared: Shared = SHARED,
    ) -> None:  # fmt: skip
        super().__init__()
        self._cluster = shared.following(cluster)
        self._folder = folder
        self._ref = ref
        self._record = record
        self._explain = explain
        self._shared = shared
        self._pool = shared.pool(self._cluster)
        self._gauges = shared.gauges(self._cluster) if gauges.are_needed(record) else None
        self._queue = Queue(self._cluster)
        self._closed = threading.Event()
        self._caretaker = Caretaker(self._cluster, ref, record)
        self._trials = Trials(self._cluster, folder, ref, record) if record.get("search") else None
        self._thread: threading.Thread | None = None
        self._watching: dict[str, Watcher] = {}
        self._synced_at = 0.0
        self._handled_at = self._lost_at = 0.0
        self._trouble: tuple[float, str] | None = None
        self._is_held_elsewhere = False
        self.is_holder = False
        self.is_over = False
        self.lost: str | None = None

    @property
    def stale_since(self) -> float | None:
        """Since when (`time.time()`) the cluster was not heard of; None while all is well, or another process holds."""
        times = [watcher.stale_since for watcher in self._needed()]
        found = [time for time in [*times, self._trouble[0] if self._trouble else None] if time is not None]
        return min(found, default=None)

    @property
    def why_stale(self) -> str:
        """Why, as a sentence; empty while all is well."""
        if self._trouble is not None:
            return self._trouble[1]
        return next((watcher.why_stale for watcher in self._needed() if watcher.why_stale), "")

    def start(self) -> None:
        """Begin. Returns at once."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name=f"mirror {self._ref.name}", daemon=True)
            self._thread.start()

    def close(self) -> None:
        """Let go of the run, within two seconds. Nothing is written afterwards; the run itself goes on."""
        self._closed.set()
        self._wake.set()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join(_CLOSE_SECONDS)

    def wait_caught_up(self, timeout: float) -> bool:
        """Wait until the folder holds what the cluster had when this was called; False when that takes longer.

        True at once where another process holds the folder: it keeps it as well as we could.
        """
        begun = time.monotonic()
        while time.monotonic() - begun < timeout and not self._closed.is_set():
            if self.is_over or self.lost or self._is_held_elsewhere or self._is_caught_up(begun):
                return True
            self._wake.set()
            self._closed.wait(0.05)
        return False

    # The thread.

    def _run(self) -> None:
        while not (self._closed.is_set() or self.is_over or self.lost):
            lock = self._take_lock()
            self._is_held_elsewhere = lock is None
            if lock is None:
                if not self.lost:
                    self._closed.wait(_TAKE_OVER_SECONDS)
                continue
            try:
                self.is_holder = True
                self._hold(lock)
            except Exception as error:  # noqa: BLE001 - whatever is wrong is said, and it is begun anew
                self._say(f"the copy of the run stopped and goes on: {error!r}")
                self._closed.wait(_RETRY_SECONDS)
            finally:
                self.is_holder = False
                os.close(lock)

    def _needed(self) -> list[Watcher]:
        """Return the watchers without which the run is not up to date: Events only tell why."""
        return [watcher for kind, watcher in list(self._watching.items()) if kind != "Event"]

    def _take_lock(self) -> int | None:
        try:
            lock = folder_lock.take(self._folder.path)
        except FileNotFoundError:  # it was moved aside or deleted
            self.lost = self._why_replaced()
            return None
        if lock is not None and not folder_lock.is_whose(self._folder.path, self._ref.uid):
            os.close(lock)
            self.lost = self._why_replaced()
            return None
        return lock

    def _hold(self, lock: int) -> None:
        kept = Kept(self._folder, self._ref, self._record, self._explain)
        if kept.states.is_over:
            self.is_over = not self._has_begun_anew()
            if not self.is_over:
                numbers = [] if self._record["kind"] == "manual" else kept.states.numbers
                kept.tell(reopened(JournalReader(self._folder.events_file).poll(), numbers, time.time()))
            kept.close()
            if self.is_over:
                return
            kept = Kept(self._folder, self._ref, self._record, self._explain)
        self._inbox.clear()
        cron = ("CronJob",) if self._is_scheduled else ()
        kinds = ("ConfigMap", *cron, watched_kind(self._record), "Pod", "Event")
        try:
            for kind in kinds:
                self._watching[kind] = self._shared.subscribe(self._cluster, kind, self._ref.uid, self)
            self._sync(kept, kinds)
            while not (self._closed.is_set() or self.is_over or self._is_given_up):
                self._turn(kept, lock)
        finally:
            for kind in kinds:
                self._shared.unsubscribe(self._cluster, kind, self._ref.uid, self)
            self._watching = {}
            self._pool.remove(self._ref.uid)
            if self._gauges is not None:
                self._gauges.want(self._ref.uid, self._folder, ())
            if self._trials is not None:
                self._trials.close()
            self._take_in(kept)
            kept.close()

    def _sync(self, kept: Kept, kinds: tuple[str, ...]) -> None:
        """Take in all that the cluster has of the run; again and again, until it answers."""
        while not self._closed.is_set():
            try:
                for kind, item in self._everything(kinds):
                    kept.see(kind, item, gone=False)
            except NotFoundError:
                kept.states.root_gone = True
                self.lost, self._lost_at = self._why_lost(), time.monotonic()
            except BackendError as error:
                if self._trouble is None:
                    self._trouble = time.time(), error.message
                self._closed.wait(_RETRY_SECONDS)
                continue
            self._trouble = None
            self._synced_at = time.monotonic()
            return

    def _everything(self, kinds: tuple[str, ...]) -> Iterator[tuple[str, Mapping[str, Any]]]:
        """Yield (kind, object) of the run, owners first and pods in the order in which they were made."""
        root = self._cluster.get("ConfigMap", places.root_name(self._ref.name), bare=True)
        if root["metadata"]["uid"] != self._ref.uid:
            raise NotFoundError(f"{self._ref.name} is another run now")
        yield "ConfigMap", root
        ours = marks.selector(uid=self._ref.uid)
        for kind in kinds[1:]:
            labels, fields = ("", "type!=Normal") if kind == "Event" else (ours, "")
            try:
                items = self._cluster.list(kind, labels=labels, fields=fields).items
            except ForbiddenError:
                if kind != "Event":  # without them only some reasons stay unknown
                    raise
                continue
            for item in sorted(items, key=lambda item: item["metadata"].get("creationTimestamp") or ""):
                yield kind, item

    def _turn(self, kept: Kept, lock: int) -> None:
        """Wait for something to happen, then write what follows from it."""
        known = [kept.states.patience, self._caretaker.patience, self._trials.patience if self._trials else None]
        times = [time for time in known if time is not None]
        times += [_TICK_SECONDS] if self.lost else []
        self._wake.wait(_TICK_SECONDS if kept.is_behind else min(times, default=None))
        if self._closed.wait(_SETTLE_SECONDS):
            return
        self._wake.clear()
        if not folder_lock.is_held(self._folder.path, lock):
            self.lost, self._lost_at = self._why_replaced(), 0.0
            return
        begun = time.monotonic()
        self._queue.look(kept)
        self._take_in(kept)
        kept.tell(self._caretaker.look(kept.states))
        kept.tell(kept.states.changes(time.monotonic()))
        if self._trials is not None and isinstance(kept.states, SearchStates):
            kept.tell(self._trials.look(kept.states))
        for order in kept.states.orders():
            self._pool.order(self._ref.uid, order, self, self._copy)
        if self._gauges is not None:
            pods = () if kept.states.is_over else gauges.gauged(kept.states)
            self._gauges.want(self._ref.uid, self._folder, pods)
        lost = self._why_lost() if kept.states.root_gone and not kept.states.is_over else None
        self._lost_at = begun if lost and not self.lost else self._lost_at
        self.lost = lost
        self._handled_at = begun
        self.is_over = kept.states.is_over and not kept.is_behind

    def _copy(self, order: LogOrder) -> LogCopy:
        executes = self._record["kind"] == "manual"
        return LogCopy(
            self._folder, order.task, order.attempt, self._ref.uid, executes=executes, renumbers=self._is_scheduled
        )

    @property
    def _is_scheduled(self) -> bool:
        return bool((self._record.get("cluster") or {}).get("schedule"))

    def _is_caught_up(self, since: float) -> bool:
        if not self.is_holder or not self._synced_at or self._handled_at < since or self._inbox:
            return False
        return all(log.is_caught_up(since) for log in self._pool.of(self._ref.uid))

    def _has_begun_anew(self) -> bool:
        """Whether a run that was stopped goes on: it is not asked to stop any more."""
        try:
            root = self._cluster.get("ConfigMap", places.root_name(self._ref.name), bare=True)
        except BackendError:
            return False
        notes = root["metadata"].get("annotations") or {}
        return root["metadata"]["uid"] == self._ref.uid and self._was_stopped() and marks.STOPPED not in notes

    def _was_stopped(self) -> bool:
        changes = [event for event in JournalReader(self._folder.events_file).poll() if isinstance(event, StateChange)]
        return bool(changes) and changes[-1].task is None and changes[-1].state == "stopped"

    @property
    def _is_given_up(self) -> bool:
        """Whether the run is lost, and what was seen of it had its time to be written."""
        return bool(self.lost) and time.monotonic() - self._lost_at > _LOST_SECONDS

    def _why_replaced(self) -> str:
        return f"{self._ref.name} was removed, or another run has its name"

    def _why_lost(self) -> str:
        return f"{self._ref.name} was deleted from namespace {self._cluster.namespace}"

    def _say(self, message: str) -> None:
        """Write a notice into the journal; the folder is held."""
        try:
            journal = Journal(self._folder.events_file)
            journal.append(Notice(time.time(), message))
            journal.close()
        except OSError:
            return
