"""How far the copy of a container's log has come, kept beside the copy: `logs/<task>.<attempt>.pos`.

::

    {"pod": "<uid>", "container": "containerd://..."}        whose log it is
    [log bytes, lines, floor, last, [[time, lines], ...]]
    ...
    {"complete": true}                                       there is no more to come

Append-only, a line every few seconds in which something was printed, so it is also a sparse index from times to places
in the log. A writer that was killed has written more of the log than the last line here says: whoever goes on cuts the
log back to it, and takes the lines after it once more.
"""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any, NamedTuple

from jupyter_gpudeploy.backends.kubernetes.mirror.stamps import Taken

if TYPE_CHECKING:
    from pathlib import Path

_FIELDS = 5


class Position(NamedTuple):
    """A place in the copy of a log between two lines of it.

    `log`: bytes of the copy; `lines`: lines of the container's log, marked ones too.
    """

    log: int = 0
    lines: int = 0
    taken: Taken = Taken()


class Positions:
    """The positions of one attempt. One writer at a time; no file stays open in between."""

    def __init__(self, log: Path) -> None:
        self.file = log.with_suffix(".pos")
        self._log = log

    def begin(self, pod: str, container: str) -> None:
        """Say whose log follows."""
        self._append({"pod": pod, "container": container})

    def append(self, position: Position) -> None:
        """Keep a position. What it counts is written already."""
        taken = position.taken
        self._append([position.log, position.lines, taken.floor, taken.last, taken.recent])

    def finish(self) -> None:
        """Say that the log is complete."""
        self._append({"complete": True})

    def owner(self) -> tuple[str, str] | None:
        """Return (pod uid, container id) of whose log this is; None before `begin`."""
        for record in self._records():
            if isinstance(record, dict) and "pod" in record:
                return str(record["pod"]), str(record["container"])
        return None

    def is_complete(self) -> bool:
        """Return whether the log is complete."""
        return any(isinstance(record, dict) and record.get("complete") is True for record in self._records())

    def last(self) -> Position:
        """Return the last position that the files reach; the beginning where there is none."""
        try:
            size = self._log.stat().st_size
        except FileNotFoundError:
            return Position()
        for record in reversed(self._records()):
            position = _position(record)
            if position is not None and position.log <= size:
                return position
        return Position()

    def at(self, time: int) -> Position:
        """Return the last position before this time (nanoseconds since the epoch): from there on it is to be found."""
        found = Position()
        for record in self._records():
            position = _position(record)
            if position is not None:
                if position.taken.last >= time:
                    break
                found = position
        return found

    def _records(self) -> list[Any]:
        try:
            data = self.file.read_bytes()
        except FileNotFoundError:
            return []
        records = []
        for line in data[: data.rfind(b"\n") + 1].splitlines():
            try:
                records.append(json.loads(line))
            except ValueError:
                continue
        return records

    def _append(self, record: object) -> None:
        """Write one line in one write; first a newline where a killed writer left half a line."""
        line = json.dumps(record, separators=(",", ":")).encode() + b"\n"
        descriptor = os.open(self.file, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            size = os.fstat(descriptor).st_size
            if size and os.pread(descriptor, 1, size - 1) != b"\n":
                line = b"\n" + line
            os.write(descriptor, line)
        finally:
            os.close(descriptor)


def _position(record: object) -> Position | None:
    if not isinstance(record, list) or len(record) != _FIELDS:
        return None
    log, lines, floor, last, recent = record
    return Position(log, lines, Taken(tuple((time, count) for time, count in recent), floor, last))
