"""What a run's folder tells, as it grows: state changes and log lines. Polled; no file stays open in between."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

from jupyter_gpudeploy.events.follow import Tail
from jupyter_gpudeploy.events.store import JournalReader, decode
from jupyter_gpudeploy.events.types import LogLine, State, StateChange

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from jupyter_gpudeploy.events.store import RunFolder

_POLL_SECONDS = 0.05
_LOST_SECONDS = 1.0
_LAST_RECORDS = 1 << 15  # more than a record whose reason has `states.LONGEST_REASON` characters
_BLOCK = 1 << 16

Lost = str | None


def follow_states(folder: RunFolder, lost: Callable[[], Lost], stop: threading.Event) -> Iterator[StateChange]:
    """Yield the state changes until the run has ended, is lost or gone, or `stop` is set."""
    reader = JournalReader(folder.events_file)
    look_again = 0.0
    while True:
        stopping = stop.is_set()
        reason = None
        if stopping or time.monotonic() >= look_again:
            reason = lost()
            look_again = time.monotonic() + _LOST_SECONDS
        ended = False
        for event in reader.poll():
            if isinstance(event, StateChange):
                ended = event.state.is_final if event.task is None else ended  # a stopped run may have been resumed
                yield event
        if reason is not None and not ended:
            yield StateChange(time.time(), State.LOST, reason=reason)
        if ended or stopping or reason is not None or not folder.path.exists():
            return
        stop.wait(_POLL_SECONDS)


def follow_logs(
    folder: RunFolder, task: int, lost: Callable[[], Lost], stop: threading.Event, since: int | None
) -> Iterator[LogLine]:
    """Yield what a task printed, attempt by attempt, until it has ended, the run is lost or gone, or `stop` is set."""
    progress = _Progress(folder, task, lost)
    attempt, offset = (1, 0) if since is None else _start(folder, task, since)
    tail = Tail(folder.log_file(task, attempt), offset)
    while True:
        stopping = stop.is_set()
        progress.look(now=stopping)
        over = progress.has_ended or attempt < progress.attempt
        lines = tail.lines(ended=over)
        while lines:
            for text in lines:
                yield LogLine(task, text, attempt)
            lines = tail.lines(ended=over)
        if attempt < progress.attempt and folder.log_file(task, attempt + 1).exists():
            attempt += 1
            tail = Tail(folder.log_file(task, attempt))
        elif progress.has_ended or stopping or not folder.path.exists():
            return
        else:
            stop.wait(_POLL_SECONDS)


class _Progress:
    """How far a task is. What it says is at least as old as the log that is read after asking."""

    def __init__(self, folder: RunFolder, task: int, lost: Callable[[], Lost]) -> None:
        self._folder = folder
        self._reader = JournalReader(folder.events_file)
        self._task = task
        self._lost = lost
        self._look_again = 0.0
        self.attempt = 1
        self.has_ended = False

    def look(self, *, now: bool) -> None:
        is_lost = False
        if now or time.monotonic() >= self._look_again:
            is_lost = self._lost() is not None
            self._look_again = time.monotonic() + _LOST_SECONDS
        for event in self._reader.poll():
            if isinstance(event, StateChange) and event.task == self._task:
                self.attempt = max(self.attempt, event.attempt)
                self.has_ended = event.state.is_final
            elif isinstance(event, StateChange) and event.task is None:
                self.has_ended = self.has_ended or event.state.is_final
        if is_lost:
            self.attempt = max(self.attempt, len(self._folder.log_files(self._task)))
            self.has_ended = True


def has_final_record(journal: Path) -> bool:
    """Return whether the run's end is in the journal, where it is the last record; only the end of it is read."""
    try:
        with journal.open("rb", buffering=0) as stream:
            size = os.fstat(stream.fileno()).st_size
            data = os.pread(stream.fileno(), _LAST_RECORDS, max(size - _LAST_RECORDS, 0))
    except FileNotFoundError:
        return False
    for line in reversed(data[: data.rfind(b"\n") + 1].split(b"\n")):
        event = decode(line)
        if isinstance(event, StateChange):
            return event.task is None and event.state.is_final
    return False


def _start(folder: RunFolder, task: int, count: int) -> tuple[int, int]:
    """Return (attempt, offset) from which the last `count` lines of a task follow."""
    for attempt, file in reversed(folder.log_files(task)):
        found, offset = _offset_of_last(file, count)
        if found >= count or attempt == 1:
            return attempt, offset
        count -= found
    return 1, 0


def _offset_of_last(file: Path, count: int) -> tuple[int, int]:
    """Return (how many of the last `count` lines there are, where they begin). An unfinished last line counts."""
    with file.open("rb", buffering=0) as stream:
        position = size = os.fstat(stream.fileno()).st_size
        if count == 0 or size == 0:
            return 0, size
        found = 1
        while position:
            start = max(position - _BLOCK, 0)
            block = os.pread(stream.fileno(), position - start, start)
            end = len(block) - (position == size and block.endswith(b"\n"))
            while (newline := block.rfind(b"\n", 0, end)) >= 0:
                if found == count:
                    return found, start + newline + 1
                found += 1
                end = newline
            position = start
        return found, 0
