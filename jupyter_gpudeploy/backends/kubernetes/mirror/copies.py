"""The copy of one attempt's log in the run's folder: every line once, whatever happens to the connection or to us.

What the program printed goes to `logs/<task>.<attempt>.log`, byte for byte and without the node's stamps; the records
that travel with it are kept by a Receiver, to which they may come again. Beside the log lie the positions
(positions.py), from which another process goes on when this one is killed.
"""

from __future__ import annotations

import errno
import os
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from jupyter_gpudeploy.backends.kubernetes.mirror import folder_lock
from jupyter_gpudeploy.backends.kubernetes.mirror.moments import Moments, by_seconds
from jupyter_gpudeploy.backends.kubernetes.mirror.positions import Position, Positions
from jupyter_gpudeploy.backends.kubernetes.mirror.rounds import RoundFolder
from jupyter_gpudeploy.backends.kubernetes.mirror.stamps import Taken, Unstamper
from jupyter_gpudeploy.events.receive import Receiver
from jupyter_gpudeploy.events.times import times_file
from jupyter_gpudeploy.events.wire import Decoder, Record
from jupyter_gpudeploy.names import safe_name

if TYPE_CHECKING:
    from collections.abc import Mapping

    from jupyter_gpudeploy.events.store import RunFolder
    from jupyter_gpudeploy.events.types import Event

_MOVED = "the folder of the run was moved away"
_POSITION_SECONDS = 2.0
_IDLE_SECONDS = 10.0
_POSITION_BYTES = 1 << 16


class Written(NamedTuple):
    """What a piece of the log brought: new lines, what belongs into the journal, and a gap, in words."""

    lines: int
    events: list[Event]
    gap: str = ""


class LogCopy:
    """One attempt's log. `restore` before the first `begin`; one stream of the container's log after the other.

    `token` marks the records of the run; `executes`: the pod is a manual run's, which executes commands; `renumbers`:
    it counts its attempts anew, as each round of a schedule does, and what it leaves is kept apart (rounds.py).

    Raises OSError when the disk is full: `restore` then goes back to the last position. One thread at a time.
    """

    def __init__(
        self, folder: RunFolder, task: int, attempt: int, token: str, *, executes: bool = False, renumbers: bool = False
    ) -> None:
        self._folder = folder
        self._results = RoundFolder(folder.path, attempt) if renumbers else folder
        self._task = task
        self._attempt = attempt
        self._file = folder.log_file(task, attempt)
        self._positions = Positions(self._file)
        self._moments = Moments(self._file)
        self._token = token
        self._executes = executes
        self._renumbers = renumbers
        self._receiver = Receiver(self._results, task, executes=executes)
        self._events: list[Event] = []
        self._decoder = Decoder(token)
        self._stream: Unstamper | None = None
        self._descriptor = -1
        self._identity: tuple[int, int] | None = None
        self._place = _identity(folder.path.stat()) if folder.path.exists() else None
        self._size = 0
        self._lines = 0
        self._kept = Position()
        self._kept_at = 0.0
        self.end: Mapping[str, Any] | None = None

    @property
    def is_complete(self) -> bool:
        """Whether the whole log was copied, by whomever."""
        return self._positions.is_complete()

    @property
    def since(self) -> str | None:
        """From which time on the container's log is to be read, as RFC 3339; None for all of it."""
        return self._taken.since

    @property
    def has_lines(self) -> bool:
        """Whether any line was copied."""
        return self._lines > 0

    @property
    def is_past(self) -> bool:
        """Whether the stream has brought all that was copied before."""
        return self._stream is not None and self._stream.is_past

    @property
    def pending(self) -> bytes:
        """The beginning of a line whose end the stream has not brought."""
        return self._stream.pending if self._stream is not None else b""

    def restore(self, pod_uid: str, container_id: str) -> None:
        """Go back to the last position, cutting off what was written after it; make the file where there is none.

        What lies there of another pod is moved aside. Earlier attempts get a file, too: readers count them.
        """
        is_same = self._place is None or _identity(self._folder.path.stat()) == self._place
        if not (is_same and folder_lock.is_whose(self._folder.path, self._token)):
            raise OSError(errno.ESTALE, _MOVED)
        self._file.parent.mkdir(exist_ok=True, mode=0o700)  # not the run's folder: one that was moved aside stays so
        for attempt in range(1, self._attempt):
            self._folder.log_file(self._task, attempt).touch(mode=0o600)
        if isinstance(self._results, RoundFolder):
            self._results.begin(self._task)
        owner = self._positions.owner()
        if owner is not None and owner[0] != pod_uid:
            for file in (self._file, self._positions.file, Path(times_file(str(self._file)))):
                with suppress(FileNotFoundError):
                    file.rename(file.with_name(f"{file.stem}.{safe_name(owner[0])}{file.suffix}"))
        if owner is None or owner[0] != pod_uid:
            self._positions.begin(pod_uid, container_id)
        position = self._positions.last()
        self._identity = _cut(self._file, position.log)
        self._decoder, self._receiver = (
            Decoder(self._token),
            Receiver(self._results, self._task, executes=self._executes),
        )
        self._stream = None
        self._size, self._lines = position.log, position.lines
        self._kept, self._kept_at = position, time.monotonic()

    def begin(self) -> None:
        """A stream begins that was opened from `since` on. What was left of a line of the last one comes again."""
        self._stream = Unstamper(self._taken)

    @property
    def _taken(self) -> Taken:
        """Which lines are in the copy."""
        return self._stream.taken if self._stream is not None else self._kept.taken

    def write(self, data: bytes) -> Written:
        """Take bytes of the stream."""
        stream = self._stream
        assert stream is not None, "no stream was begun"  # noqa: S101 - a mistake of ours
        had_gap, before = stream.gap, stream.lines
        for piece in by_seconds(data):
            self._write(stream, piece)
        gap = str(stream.gap) if stream.gap is not None and had_gap is None else ""
        return Written(stream.lines - before, self._take_events(), gap)

    def _write(self, stream: Unstamper, piece: bytes) -> None:
        """Copy what is new in bytes of the stream, and note when it was printed."""
        had_gap, before = stream.gap, stream.lines
        printed = stream.feed(piece)
        if stream.gap is not None and had_gap is None:
            self._append(f"[jupyter_gpudeploy: {stream.gap}]\n".encode())
        self._append_decoded(printed)
        self._lines += stream.lines - before
        if printed:
            self._moments.note(piece, self._size)
        self._keep_now_and_then()

    def finish(self) -> list[Event]:
        """The container has ended and its log was read to the end, where a newline may be missing."""
        if self._stream is not None:
            self._append_decoded(self._stream.rest())
        self._append(self._decoder.rest())
        self._keep()
        self._positions.finish()
        self.close()
        return self._take_events()

    def pause(self) -> None:
        """Keep the position and hold no file open; `begin` goes on."""
        self._keep()
        self.close()

    def close(self) -> None:
        """Hold no file open. What was written since the last position is taken again by whoever goes on."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def _append_decoded(self, data: bytes) -> None:
        if not data:
            return
        for found in self._decoder.feed(data):
            if isinstance(found, Record):
                self._take(found)
            else:
                self._append(found)

    def _take(self, record: Record) -> None:
        if record.kind == "ended" and isinstance(record.payload, dict) and "exec" not in record.payload:
            self.end = record.payload
        self._events += self._receiver.receive(self._renumbered(record) if self._renumbers else record)

    def _renumbered(self, record: Record) -> Record:
        """Return a record as one of this attempt, whatever number the pod gave it."""
        if not isinstance(record.payload, dict):
            return record
        mine, payload = {"attempt": self._attempt}, dict(record.payload)
        if isinstance(payload.get("rows"), list):
            payload["rows"] = [{**row, **mine} if isinstance(row, dict) else row for row in payload["rows"]]
        return record._replace(payload={**payload, **mine} if "attempt" in payload else payload)

    def _take_events(self) -> list[Event]:
        events, self._events = self._events, []
        return events

    def _append(self, data: bytes) -> None:
        if not data:
            return
        if self._descriptor < 0:
            self._descriptor = self._open()
        view = memoryview(data)
        while view:
            written = os.write(self._descriptor, view)
            self._size += written
            view = view[written:]

    def _open(self) -> int:
        """Open the copy, which is the file that `restore` made or found: another run's may be in its place by now."""
        descriptor = os.open(self._file, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)
        if _identity(os.fstat(descriptor)) != self._identity:
            os.close(descriptor)
            raise OSError(errno.ESTALE, _MOVED)
        return descriptor

    def _is_in_place(self) -> bool:
        try:
            return _identity(self._file.stat()) == self._identity
        except OSError:
            return False

    def _keep_now_and_then(self) -> None:
        age = time.monotonic() - self._kept_at
        if age > _IDLE_SECONDS or (age > _POSITION_SECONDS and self._size - self._kept.log > _POSITION_BYTES):
            self._keep()

    def _keep(self) -> None:
        """Keep the position, if this is a place from which one can go on."""
        if not self._decoder.is_whole:
            return
        position = Position(self._size, self._lines, self._taken)
        if position.taken != self._kept.taken and self._is_in_place():
            self._positions.append(position)
        self._kept, self._kept_at = position, time.monotonic()


def _cut(file: Path, size: int) -> tuple[int, int]:
    """Make a file that has so many bytes; return what tells it from others."""
    descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        os.ftruncate(descriptor, size)
        return _identity(os.fstat(descriptor))
    finally:
        os.close(descriptor)


def _identity(status: os.stat_result) -> tuple[int, int]:
    return status.st_dev, status.st_ino
