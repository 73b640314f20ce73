"""The folder of a run: the truth, for every kernel and every process.

::

    <root>/<name>/
      run.json          what was launched; written once, before anything starts
      cell.txt          the text of the cell
      code/             the program, where it came in the cell
      events.jsonl      the journal: one Event a line, appended by one writer
      points.jsonl      of a sweep whose points are chosen while it runs: those that were (events/points.py)
      logs/             <task>.<attempt>.log, what each task printed, byte for byte; .times, when (events/times.py)
      metrics/          <task>.jsonl, what jupyter_gpudeploy.log() was given
      samples.jsonl     what was measured from outside, once a second: GPUs, processes, a server's own metrics
      out/<task>/       where a task may leave files
      rounds/<task>.<attempt>/   of a schedule, what each of its last rounds left; out/<task> leads to the newest
      out/<task>.json   of a task elsewhere: which of its files are here, and which are not
      cache/            <task>.points, metrics that were read already; by readers, may be deleted at any time

A journal is append-only. A writer that was killed can leave half a line: it is cut off when the next writer opens
the file, so that nothing is ever glued to it, and readers stop at the last newline.
"""

from __future__ import annotations

import json
import os
from _thread import get_native_id
from pathlib import Path
from typing import Any

from jupyter_gpudeploy.events.types import Event, Notice, State, StateChange


def state_root() -> Path:
    """Return where everything is kept: JUPYTER_GPUDEPLOY_HOME, else below the user's state folder."""
    home = os.environ.get("JUPYTER_GPUDEPLOY_HOME")
    if home:
        return Path(home).expanduser().absolute()
    state = os.environ.get("XDG_STATE_HOME")
    return (Path(state) if state else Path.home() / ".local" / "state") / "jupyter_gpudeploy"


class RunFolder:
    """Where each thing of one run lies. Nothing is created by looking."""

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)

    def __repr__(self) -> str:
        return f"RunFolder({str(self.path)!r})"

    @property
    def record_file(self) -> Path:
        """`run.json`."""
        return self.path / "run.json"

    @property
    def events_file(self) -> Path:
        """`events.jsonl`."""
        return self.path / "events.jsonl"

    @property
    def points_file(self) -> Path:
        """`points.jsonl`."""
        return self.path / "points.jsonl"

    @property
    def code(self) -> Path:
        """The folder of the cell's program."""
        return self.path / "code"

    def log_file(self, task: int, attempt: int = 1) -> Path:
        """Return what the task printed in that attempt."""
        return self.path / "logs" / f"{task}.{attempt}.log"

    def log_files(self, task: int) -> list[tuple[int, Path]]:
        """Return (attempt, file) of every attempt that has a log, in order. Attempts count from 1 without a gap."""
        found: list[tuple[int, Path]] = []
        while (file := self.log_file(task, len(found) + 1)).exists():
            found.append((len(found) + 1, file))
        return found

    def metrics_file(self, task: int) -> Path:
        """Return what the task gave to `jupyter_gpudeploy.log`."""
        return self.path / "metrics" / f"{task}.jsonl"

    @property
    def samples_file(self) -> Path:
        """`samples.jsonl` (events/samples.py)."""
        return self.path / "samples.jsonl"

    def cache_file(self, task: int) -> Path:
        """Return where the metrics of a task that has ended are kept once they were read."""
        return self.path / "cache" / f"{task}.points"

    def output(self, task: int) -> Path:
        """Return the folder in which the task may leave files."""
        return self.path / "out" / str(task)

    def balance_file(self, task: int) -> Path:
        """Return what says which of the task's files were sent here: the record `outputs` of its last attempt."""
        return self.path / "out" / f"{task}.json"

    def record(self) -> dict[str, Any]:
        """Return what was launched, with the points that were chosen since.

        Raises FileNotFoundError, and ValueError for a file that is no record.
        """
        loaded = json.loads(self.record_file.read_text("utf-8"))
        if not isinstance(loaded, dict):
            raise ValueError(f"{self.record_file} holds no record")  # noqa: TRY004 - a wrong file, to the caller
        if loaded.get("search"):
            from jupyter_gpudeploy.events import points

            loaded["tasks"] = points.overlaid(loaded["tasks"], points.read(self.points_file))
        return loaded


class Journal:
    """The one writer of a journal. Opening it cuts off what a killed writer left unfinished.

    A full disk does not stop the writer: `append` keeps the record and tries again with the next one or at `retry`.
    """

    def __init__(self, file: Path) -> None:
        self.dropped = repair(file)
        self._descriptor = os.open(file, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        self._waiting = bytearray()

    @property
    def is_behind(self) -> bool:
        """Whether records wait for room on the disk."""
        return bool(self._waiting)

    def append(self, event: Event) -> bool:
        """Write one record. Return whether everything is on the disk."""
        return self.write(encode(event))

    def write(self, line: bytes) -> bool:
        """Write one line that holds a JSON object. Return whether everything is on the disk."""
        self._waiting += line
        return self.retry()

    def retry(self) -> bool:
        """Try to write what waits. Return whether everything is on the disk."""
        while self._waiting:
            try:
                written = os.write(self._descriptor, self._waiting)
            except OSError:
                return False
            del self._waiting[:written]
        return True

    def close(self) -> None:
        """Write what can be written, make it durable, and close."""
        self.retry()
        try:
            os.fsync(self._descriptor)
        except OSError:
            pass
        finally:
            os.close(self._descriptor)


class JournalReader:
    """Reads a journal from where it stopped last time; holds no file open in between.

    It stops before lines at the end that are no records, as `repair` cuts there, and reads on when others follow.
    """

    def __init__(self, file: Path) -> None:
        self.file = file
        self.offset = 0

    def poll(self) -> list[Event]:
        """Return the events that are new and whole. A journal that is not there yet has none."""
        try:
            with self.file.open("rb") as stream:
                stream.seek(self.offset)
                data = stream.read()
        except FileNotFoundError:
            return []
        end = _end_of_records(data)
        self.offset += end
        return [event for line in data[:end].split(b"\n") if (event := decode(line)) is not None]


def encode(event: Event) -> bytes:
    """Return the event as one line of JSON."""
    kind = "state" if isinstance(event, StateChange) else "notice"
    content = {
        name: value
        for name, value in zip(event._fields, event, strict=True)
        if value is not None and value != {} and (name, value) != ("reason", "")
    }
    return json.dumps({"event": kind, **content}, separators=(",", ":"), default=str).encode() + b"\n"


def decode(line: bytes) -> Event | None:
    """Return the event of one line, or None for a line that is no event that this version knows."""
    content = _record(line)
    if content is None:
        return None
    try:
        kind: type[StateChange | Notice] = {"state": StateChange, "notice": Notice}[content["event"]]
        values = {key: value for key, value in content.items() if key in kind._fields}
        if kind is StateChange:
            values["state"] = State(values["state"])
        event: Event = kind(**values)
    except (ValueError, KeyError, TypeError):
        return None
    return event


def repair(file: Path) -> int:
    """Cut off what follows the last whole record. Return the bytes dropped.

    A record of a later version is a record: any line that holds a JSON object stays.
    """
    try:
        with file.open("rb+") as stream:
            data = stream.read()
            end = _end_of_records(data)
            if end < len(data):
                stream.truncate(end)
            return len(data) - end
    except FileNotFoundError:
        return 0


def record_lines(data: bytes) -> tuple[list[bytes], int]:
    """Return the lines at the beginning of `data` that are whole records, and how many bytes these are."""
    end = _end_of_records(data)
    return [line for line in data[:end].split(b"\n") if _record(line) is not None], end


def _end_of_records(data: bytes) -> int:
    """Return where the last line that is a record ends: after it come only torn writes and what a crash left."""
    end = data.rfind(b"\n") + 1
    while end:
        start = data.rfind(b"\n", 0, end - 1) + 1
        if _record(data[start:end]) is not None:
            break
        end = start
    return end


def _record(line: bytes) -> dict[str, Any] | None:
    try:
        content = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return content if isinstance(content, dict) else None


def write_atomically(file: Path, content: str | bytes, mode: int = 0o600) -> None:
    """Write a whole file or nothing: to a neighbour, then renamed over it. Safe from several threads."""
    neighbour = file.with_name(f".{file.name}.{os.getpid()}.{get_native_id()}")
    descriptor = os.open(neighbour, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, mode)
    try:
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(content.encode() if isinstance(content, str) else content)
        neighbour.replace(file)
    except BaseException:
        neighbour.unlink(missing_ok=True)
        raise
