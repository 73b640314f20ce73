"""The logs of all runs of a process that live on one cluster, read by few threads and with few requests.

At most sixteen logs are followed; what runs beyond those is read in turns, where each was left. A container that has
ended comes first, since the end of its task waits for the end of its log. Together it is at most fifty requests for
logs a second, as many as kubectl sends, so with a thousand pods at once the turns become longer.
"""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

from jupyter_gpudeploy.backends.kubernetes.mirror.logs import Listener, PodLog

if TYPE_CHECKING:
    from collections.abc import Callable

    from jupyter_gpudeploy.backends.kubernetes.api.client import Cluster
    from jupyter_gpudeploy.backends.kubernetes.mirror.attempts import LogOrder
    from jupyter_gpudeploy.backends.kubernetes.mirror.copies import LogCopy

FOLLOWED = 16
READERS = 8
REQUESTS_A_SECOND = 50.0

_LOGS_A_READER = 150
_SHORTEST_TURN = 2.0
_SHARE = 0.6  # of the requests goes to logs that are read in turns; the rest is for ends and new streams
_IDLE_SECONDS = 5.0
_NUDGE_SECONDS = 2.0
_LOOK_SECONDS = 0.5
_MISTAKE_PAUSE = 5.0


class Limiter:
    """Lets `rate` callers a second pass, after a first burst of as many."""

    def __init__(self, rate: float) -> None:
        self._rate = rate
        self._lock = threading.Lock()
        self._next = 0.0

    def wait(self) -> None:
        """Return when it is the caller's turn."""
        with self._lock:
            now = time.monotonic()
            self._next = max(self._next, now - 1.0) + 1.0 / self._rate
            pause = self._next - now
        if pause > 0:
            time.sleep(pause)


class LogPool:
    """Copies logs. Threads begin when there is work and end when there is none. Safe from several threads."""

    def __init__(
        self, cluster: Cluster, *, followed: int = FOLLOWED, readers: int = READERS, rate: float = REQUESTS_A_SECOND
    ) -> None:
        self._cluster = cluster
        self._rate = rate
        self._limiter = Limiter(rate)
        self._most = {True: followed, False: readers}
        self._threads = {True: 0, False: 0}
        self._logs: dict[tuple[str, int, int], PodLog] = {}
        self._keys: dict[PodLog, tuple[str, int, int]] = {}
        self._changed = threading.Condition()

    def order(self, run: str, order: LogOrder, listener: Listener, make: Callable[[LogOrder], LogCopy]) -> None:
        """Copy a log, or take in what has changed about one that is being copied.

        Of one task, the log of an attempt is read only when that of the one before it is complete.
        """
        key = (run, order.task, order.attempt)
        with self._changed:
            log = self._logs.get(key)
            if log is None:
                self._logs[key] = PodLog(self._cluster, order, make(order), listener, self._limiter.wait)
                self._keys[self._logs[key]] = key
            else:
                if order == log.order:
                    return
                log.order = order
                log.next_visit = 0.0
            self._changed.notify_all()
            for follows in (True, False):
                self._start_thread(follows=follows)

    def remove(self, run: str) -> None:
        """Copy nothing of a run any more. When this returns, nothing of it is written."""
        with self._changed:
            keys = [key for key in self._logs if key[0] == run]
            logs = [self._logs.pop(key) for key in keys]
            for log in logs:
                del self._keys[log]
            self._changed.notify_all()
        for log in logs:
            log.close()

    def of(self, run: str) -> list[PodLog]:
        """Return the logs of a run that are not complete."""
        with self._changed:
            return [log for key, log in self._logs.items() if key[0] == run]

    def _start_thread(self, *, follows: bool) -> None:
        """Start one more thread if there is more work than threads. The lock is held."""
        count = len(self._logs)
        wanted = count if follows else count and 1 + (count > self._most[True]) + count // _LOGS_A_READER
        if self._threads[follows] < min(self._most[follows], wanted):
            self._threads[follows] += 1
            name = "follow logs" if follows else "read logs"
            threading.Thread(target=self._work, args=(follows,), name=name, daemon=True).start()

    def _work(self, follows: bool) -> None:  # noqa: FBT001 - the argument of a thread
        """Take one log after the other until there was none for a while."""
        while (log := self._next(follows=follows)) is not None:
            pause, before = 0.0, log.order
            try:
                pause = log.step(follow=follows)
            except Exception as error:  # noqa: BLE001 - whatever is wrong is said, and the others are read on
                log.listener.note(f"reading the log of attempt {log.order.attempt} failed: {error!r}", log.order.task)
                pause = _MISTAKE_PAUSE
            self._put_back(log, pause if log.order is before else 0.0, follows=follows)

    def _put_back(self, log: PodLog, pause: float, *, follows: bool) -> None:
        with self._changed:
            log.is_busy = False
            now = time.monotonic()
            is_turn = not (follows or log.order.ended)
            log.next_visit = now + (max(pause, self._turn()) if is_turn else pause)
            if log.is_drained and log in self._keys:
                del self._logs[self._keys.pop(log)]
            self._changed.notify_all()

    def _turn(self) -> float:
        """Return how long a round of all logs that are read in turns takes."""
        return max(_SHORTEST_TURN, (len(self._logs) - self._most[True]) / (self._rate * _SHARE))

    def _next(self, *, follows: bool) -> PodLog | None:
        """Wait for a log to read; None when there was none for a while, and the thread is to end."""
        with self._changed:
            idle = time.monotonic()
            while True:
                now = time.monotonic()
                log = self._choose(now, follows=follows)
                if log is not None:
                    log.is_busy = True
                    log.is_followed = follows and not log.order.ended
                    return log
                if now - idle > _IDLE_SECONDS and not (self._logs and not follows):
                    self._threads[follows] -= 1
                    return None
                if not follows:
                    for other in self._logs.values():
                        other.nudge(_NUDGE_SECONDS)
                self._changed.wait(self._pause(now))

    def _pause(self, now: float) -> float:
        due = [log.next_visit - now for log in self._logs.values() if log.next_visit > now]
        return min([_LOOK_SECONDS, *due])

    def _choose(self, now: float, *, follows: bool) -> PodLog | None:
        """Return the log that is to be read next: one that has ended, else the one that waits longest."""
        free = self._readable(now)
        if follows:
            ended = [log for log in free if log.order.ended]
            if len(ended) > self._threads[False]:  # more than those can take who read them: a storm of ends
                return min(ended, key=lambda log: log.next_visit)
            running = [log for log in free if not log.order.ended]
            return min(running, key=lambda log: log.looked_at, default=None) or min(
                free, key=lambda log: log.next_visit, default=None
            )
        followers = self._most[True] - sum(log.is_busy and log.is_followed for log in self._logs.values())
        ended = [log for log in free if log.order.ended]
        if ended:
            return min(ended, key=lambda log: log.next_visit)
        return min(free, key=lambda log: log.next_visit, default=None) if followers <= 0 else None

    def _readable(self, now: float) -> list[PodLog]:
        first: dict[tuple[str, int], int] = {}
        for run, task, attempt in self._logs:
            first[run, task] = min(attempt, first.get((run, task), attempt))
        return [
            log
            for (run, task, attempt), log in self._logs.items()
            if not log.is_busy and log.next_visit <= now and first[run, task] == attempt
        ]
