"""One container's log, read until nothing more can come.

The end of a stream is not the end of a log: load balancers, the API server and the kubelet end streams as they like.
Only a container that was terminated has a complete log, and only after one more read has brought nothing new.
"""

from __future__ import annotations

import enum
import threading
import time
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from jupyter_gpudeploy.backends.kubernetes.api.errors import (
    ApiError,
    ForbiddenError,
    NotFoundError,
    ThrottledError,
    UnreachableError,
)
from jupyter_gpudeploy.backends.kubernetes.facts import pod_facts
from jupyter_gpudeploy.errors import BackendError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from jupyter_gpudeploy.backends.kubernetes.api.client import Cluster
    from jupyter_gpudeploy.backends.kubernetes.mirror.attempts import LogOrder
    from jupyter_gpudeploy.backends.kubernetes.mirror.copies import LogCopy
    from jupyter_gpudeploy.events.types import Event

READ_BYTES = 1 << 16
_TRIES = 3
_CONFIRMED = 2
_CONFIRM_SECONDS = 0.2
_SHORT_ENDS = 50
_QUIET_SECONDS = 0.3


class Listener(Protocol):
    """Who wants the log. Called from the threads that read; must not block."""

    def drained(self, task: int, attempt: int, end: Mapping[str, Any] | None) -> None:
        """The log was read to its end, or can be read no more. `end`: what the pod itself said of its end."""

    def told(self, events: list[Event]) -> None:
        """The log brought what belongs into the journal."""

    def note(self, message: str, task: int | None, level: str = "warning") -> None:
        """Something about a log that a person should know."""


class How(enum.Enum):
    """How a stream of a log ended."""

    END = "end"
    BROKEN = "broken"
    GONE = "gone"
    REFUSED = "refused"
    OTHER = "other container"
    FULL = "disk full"


class Reading(NamedTuple):
    """What one stream brought: how it ended, lines that are new, what went wrong, and bytes in all."""

    how: How
    lines: int = 0
    why: str = ""
    pause: float = 0.0
    size: int = 0


class PodLog:
    """One log that is being copied. `step` reads a stream of it; one thread at a time calls that.

    `close` may be called from any thread: once it has returned, nothing is written any more.
    """

    def __init__(
        self, cluster: Cluster, order: LogOrder, copy: LogCopy, listener: Listener, limit: Callable[[], None]
    ) -> None:
        self._cluster = cluster
        self._limit = limit
        self._lock = threading.Lock()
        self._stream: Any = None
        self._is_restored = False
        self._is_forbidden = False
        self._tries = self._short_ends = 0
        self._quiet_ends: list[bytes] = []
        self.order = order
        self.copy = copy
        self.listener = listener
        self.is_closed = False
        self.is_drained = False
        self.is_busy = False
        self.is_followed = False
        self.next_visit = 0.0
        self.looked_at = 0.0
        self.moved_at = time.monotonic()
        self.pauses = 0

    @property
    def key(self) -> tuple[int, int]:
        """The task and its attempt."""
        return self.order.task, self.order.attempt

    def is_caught_up(self, since: float) -> bool:
        """Whether all that the log held at `since` (time.monotonic()) was copied by now, as far as one can tell."""
        if self.is_drained or self.is_closed:
            return True
        if self._stream is not None:
            return time.monotonic() - max(self.moved_at, self.looked_at, since) > _QUIET_SECONDS
        return self.looked_at > since

    def nudge(self, seconds: float) -> None:
        """Close a stream of a container that has ended, when it was silent for so long."""
        stream = self._stream
        if stream is not None and self.order.ended and time.monotonic() - self.moved_at > seconds:
            stream.close()

    def close(self) -> None:
        """Write nothing any more; what was written can be gone on from."""
        with self._lock:
            if self.is_closed:
                return
            self.is_closed = True
            try:
                self.copy.pause()
            except OSError:
                self.copy.close()
        stream = self._stream
        if stream is not None:
            stream.close()

    def step(self, *, follow: bool) -> float:
        """Read one stream of the log. Return after how many seconds to come again."""
        ended = self.order.ended
        if self._needs_no_look(ended=ended):
            return 0.0
        reading = self._read(follow=follow and not ended)
        if self.is_closed:
            return 0.0
        self.pauses = 0 if reading.lines else min(self.pauses + 1, 5)
        if ended:
            return self._after_the_end(reading)
        if reading.how is How.GONE and not self.order.ended:
            return 1.0  # the watch tells what became of it
        return max(reading.pause, 0.25 * 2.0**self.pauses)

    def _needs_no_look(self, *, ended: bool) -> bool:
        """Whether the log is complete, or can be had no more, without reading it again."""
        if self._is_complete():
            return True
        if self.order.gone:
            self._give_up("the pod is gone")
        elif ended and self.copy.end is not None and not self.copy.pending:
            self._finish()
        else:
            return False
        return True

    def _after_the_end(self, reading: Reading) -> float:
        """The container had ended before the stream was opened: a stream that ended has brought all there is."""
        if reading.how is How.END:
            return self._after_an_end(reading)
        if reading.how is How.BROKEN:
            return 0.25 * 2.0**self.pauses
        self._tries += reading.how is not How.FULL
        if reading.how is How.GONE or self._tries >= _TRIES:
            self._give_up(reading.why)
        return max(reading.pause, 0.5 * 4.0**self._tries)

    def _after_an_end(self, reading: Reading) -> float:
        """Decide whether a stream that ended brought all: the API server ends one as well when it has lost the node.

        The pod's own last word tells; else that nothing new came several times, each time after what was copied before.
        """
        if self.copy.end is not None and not self.copy.pending:
            self._finish()
            return 0.0
        if reading.lines or not (self.copy.is_past or not reading.size):
            self._quiet_ends.clear()
            self._short_ends += not reading.lines
        else:
            self._quiet_ends.append(self.copy.pending)
        needed = _CONFIRMED if self.copy.is_past else _CONFIRMED + 1
        if len(self._quiet_ends) >= needed and len(set(self._quiet_ends[-needed:])) == 1:
            self._finish()
        elif self._short_ends >= _SHORT_ENDS:
            self._give_up("it was never sent to its end")
        return 0.0 if reading.lines else _CONFIRM_SECONDS

    def _is_complete(self) -> bool:
        """Take up what is there already; return whether that is all."""
        if not self._is_restored:
            try:
                if self.copy.is_complete:
                    self._done()
                else:
                    self.copy.restore(self.order.pod_uid, self.order.container_id)
                self._is_restored = True
            except OSError:
                return False
        return self.is_drained

    def _read(self, *, follow: bool) -> Reading:
        if not self._is_restored:
            return Reading(How.FULL, pause=5.0)
        self._limit()
        try:
            stream = self._open(follow=follow)
        except BackendError as error:
            if isinstance(error, ForbiddenError) and not self._is_forbidden:  # said while it runs, not at its end alone
                self._is_forbidden = True
                self.listener.note(error.message, self.order.task)
            return _refused(error)
        if stream is None:
            return Reading(How.OTHER, pause=0.5)
        try:
            return self._drain(stream)
        finally:
            self._stream = None
            stream.close()

    def _open(self, *, follow: bool) -> Any:  # noqa: ANN401 - a LogStream
        """Return a stream of this container; None when another start of it has taken its place meanwhile."""
        order = self.order
        stream = self._cluster.open_log(
            order.pod, order.container, follow=follow, since_time=self.copy.since, previous=order.previous
        )
        self._stream = stream
        self.looked_at = time.monotonic() if follow else self.looked_at
        if not order.shared:
            return stream
        try:
            pod = pod_facts(self._cluster.get("Pod", order.pod))
        except BaseException:
            stream.close()
            raise
        if pod.uid == order.pod_uid and pod.restarts == order.restart + order.previous:
            return stream
        stream.close()
        return None

    def _drain(self, stream: Any) -> Reading:  # noqa: ANN401 - a LogStream
        """Copy what the stream brings until it ends."""
        begun = time.monotonic()
        lines = size = 0
        try:
            with self._lock:
                if self.is_closed:
                    return Reading(How.BROKEN)
                self.copy.begin()
            while data := stream.read(READ_BYTES):
                lines += self._write(data)
                size += len(data)
        except UnreachableError as error:
            return Reading(How.BROKEN, lines, error.message)
        except OSError as error:
            self._is_restored = False
            self.copy.close()
            self.listener.note(f"{error.strerror}: logging paused, the task goes on", self.order.task)
            return Reading(How.FULL, lines, str(error.strerror), 5.0)
        self.looked_at = max(begun, self.looked_at)
        return Reading(How.BROKEN if stream.closed else How.END, lines, size=size)  # closed: by `nudge`

    def _write(self, data: bytes) -> int:
        """Copy what a stream brought; return how many lines are new."""
        self.moved_at = time.monotonic()
        with self._lock:
            if self.is_closed:
                return 0
            written = self.copy.write(data)
        if written.events:
            self.listener.told(written.events)
        if written.gap:
            self.listener.note(written.gap, self.order.task)
        return written.lines

    def _finish(self) -> None:
        with self._lock:
            if self.is_closed:
                return
            try:
                events = self.copy.finish()
            except OSError:
                self._is_restored = False
                return
        self.listener.told(events)
        self._done()

    def _give_up(self, why: str) -> None:
        if self.copy.has_lines or self.order.gone:
            what = f"the last log lines of attempt {self.order.attempt} could not be read: {why}"
        else:
            what = f"the log of attempt {self.order.attempt} could not be read: {why}"
        self.listener.note(what, self.order.task)
        self._finish()

    def _done(self) -> None:
        self.is_drained = True
        self.listener.drained(*self.key, self.copy.end)


def _refused(error: BackendError) -> Reading:
    """Return what it means that a log could not be opened."""
    if isinstance(error, NotFoundError):
        return Reading(How.GONE, why=error.message, pause=1.0)
    if isinstance(error, ThrottledError):
        return Reading(How.BROKEN, why=error.message, pause=max(1.0, error.retry_after))
    if isinstance(error, ForbiddenError):
        return Reading(How.REFUSED, why=error.message, pause=30.0)
    if isinstance(error, ApiError):
        return Reading(How.REFUSED, why=error.said or error.message, pause=1.0)
    return Reading(How.BROKEN, why=error.message)
