"""What a pod sent home becomes files of the run's folder: metrics, results, and the lines of executed commands.

Nothing of it is trusted: a pod can send anything. Nothing is written outside the run's folder, no link is made or
followed, and there is a limit to everything. The run's folder itself is not made: one that was moved away stays away.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import os
import re
import stat
import time
import zlib
from collections import deque
from typing import TYPE_CHECKING, Any

from jupyter_gpudeploy.events.receive_samples import SampleReceiver
from jupyter_gpudeploy.events.store import write_atomically
from jupyter_gpudeploy.events.types import Notice, State, StateChange

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from jupyter_gpudeploy.events.store import RunFolder
    from jupyter_gpudeploy.events.types import Event
    from jupyter_gpudeploy.events.wire import Record

FIRST_EXECUTED = 1000
"""Commands executed in a manual run are tasks from here on."""

FILE_LIMIT = 1 << 26
TASK_LIMIT = 1 << 28
MOST_FILES = 20_000
_MOST_EVENTS = 10_000
_LAST_MOMENT = 1e11
_LOG_LIMIT = 1 << 30
_GAP_LIMIT = 1 << 24
_TEXT_LIMIT = 2000
_PATH_LIMIT = 1024
_NAME_LIMIT = 200
_RECENT = 1 << 13
_TIME = re.compile(rb'"time":([0-9.e+]{1,30})')
_LEVELS = frozenset({"info", "warning", "error"})


class Receiver:
    """Writes what the pod of one task sends, in the order in which it was sent. `executes`: it is a manual run's pod.

    Records may come again, from any earlier point on: what the folder holds afterwards is the same. Only one Receiver
    may write for a task at a time; the caller sees to that. Nothing is held open in between.
    """

    def __init__(self, folder: RunFolder, task: int, *, executes: bool = False) -> None:
        self._folder = folder
        self._task = task
        self._executes = executes
        self._rows: dict[int, _Rows] = {}
        self._samples = SampleReceiver(folder, None if executes else task)
        self._sizes: dict[Path, int] = {}
        self._told: set[tuple[object, ...]] = set()

    def receive(self, record: Record) -> list[Event]:
        """Take one record; return what belongs into the journal, with the times of the pod.

        Notices; the states of executed commands. `began` and `ended` of the task itself are the caller's to read. An
        event is returned once by one Receiver; another one that gets the same records returns equal events. A record
        that makes no sense gives a Notice. Raises OSError, as for a full disk: the record is then to be given again.
        """
        try:
            task = self._executed(record.payload["exec"]) if "exec" in record.payload else self._task
            events = self._taken(record.kind, task, record.payload)
        except (ValueError, TypeError, KeyError, AttributeError, OverflowError, binascii.Error, zlib.error) as error:
            message = f"something the pod sent was not kept ({record.kind:.20}: {error!s:.200})"
            events = [Notice(time.time(), message, self._task)]
        new = [event for event in events if _key(event) not in self._told]
        self._told.update(map(_key, new))
        return new if len(self._told) <= _MOST_EVENTS else []

    def _executed(self, number: object) -> int:
        if not self._executes or not isinstance(number, int) or not FIRST_EXECUTED <= number < 1 << 31:
            raise ValueError(f"no number of a command: {number!r:.40}")
        return number

    def _taken(self, kind: str, task: int, payload: Mapping[str, Any]) -> list[Event]:
        if kind == "metrics":
            self._metrics(task, payload["rows"])
        elif kind == "samples":
            self._samples.receive(payload)
        elif kind == "file":
            return self._file(task, payload)
        elif kind == "notice":
            level = payload["level"] if payload["level"] in _LEVELS else "warning"
            return [Notice(_moment(payload.get("time")), str(payload["message"])[:_TEXT_LIMIT], task, level)]
        elif kind == "output":
            self._output(task, int(payload["at"]), payload["text"].encode("utf-8", "surrogateescape"))
        elif kind == "outputs":
            self._balance(task, payload)
        elif kind == "exec":
            details = {"log": f"logs/{task}.1.log"}
            self._folder.log_file(task).parent.mkdir(exist_ok=True)
            self._folder.log_file(task).touch(mode=0o600)
            return [StateChange(_moment(payload["time"]), State.RUNNING, task, details=details)]
        elif kind == "ended" and task != self._task:
            code = int(payload["exit_code"])
            state = State.FAILED if code else State.SUCCEEDED
            reason = str(payload["reason"])[:_TEXT_LIMIT] or (f"exit code {code}" if code else "")
            return [StateChange(_moment(payload["time"]), state, task, reason=reason, exit_code=code)]
        return []

    def _metrics(self, task: int, rows: list[Any]) -> None:
        if task not in self._rows:
            self._rows[task] = _Rows(self._folder.metrics_file(task))
        self._rows[task].add([json.dumps(row, separators=(",", ":")).encode() + b"\n" for row in rows if _is_row(row)])

    def _output(self, task: int, at: int, data: bytes) -> None:
        """Put the lines of an executed command where they belong; what is missing before them shows as `?`."""
        if task == self._task or not 0 <= at <= _LOG_LIMIT:
            raise ValueError("no place in a log")
        file = self._folder.log_file(task)
        file.parent.mkdir(exist_ok=True)
        descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            size = os.fstat(descriptor).st_size
            if at - size > _GAP_LIMIT:
                raise ValueError(f"{at - size} bytes before it are missing")
            while size < at:
                size += os.pwrite(descriptor, b"?" * min(at - size, 1 << 20), size)
            _write_at(descriptor, data, at)
        finally:
            os.close(descriptor)

    def _balance(self, task: int, payload: Mapping[str, Any]) -> None:
        files = payload["files"]
        content = {
            "attempt": int(payload["attempt"]),
            "files": None if files is None else [[str(name), int(size), str(digest)] for name, size, digest in files],
            "left": [[str(name), int(size)] for name, size in payload["left"]],
            "left_count": int(payload["left_count"]),
            "left_size": int(payload["left_size"]),
        }
        file = self._folder.balance_file(task)
        file.parent.mkdir(exist_ok=True)
        write_atomically(file, json.dumps(content))

    def _file(self, task: int, payload: Mapping[str, Any]) -> list[Event]:
        name, size = payload["path"], int(payload["size"])
        file = self._place(task, name)
        if "data" not in payload:
            if _sum_of(file) != payload["sha256"]:
                return [_incomplete(name, task)]
            return []
        self._make_room(file, size)
        if "at" in payload:
            at = int(payload["at"])
            if at < 0:
                raise ValueError(f"{name} has no place {at}")
            if not _put(file, at, _unpacked(payload["data"], size - at)):
                return [_incomplete(name, task)]
        else:
            content = _unpacked(payload["data"], size)
            if hashlib.sha256(content).hexdigest() != payload["sha256"]:
                raise ValueError(f"{name} is not what its sum says")
            if _sum_of(file) != payload["sha256"]:
                write_atomically(file, content)
        self._sizes[file] = size
        return []

    def _place(self, task: int, name: str) -> Path:
        """Return where a file of the pod is kept, and make its folder. Raises ValueError for a place outside."""
        words = name.split("/")
        plain = all(word not in ("", ".", "..") and len(word.encode()) <= _NAME_LIMIT for word in words)
        if not plain or "\0" in name or len(name.encode()) > _PATH_LIMIT:
            raise ValueError(f"no place for a file: {name!r:.200}")
        folder = self._folder.output(task)
        folder.parent.mkdir(exist_ok=True)
        folder.mkdir(exist_ok=True)
        for word in words[:-1]:
            folder /= word
            if not stat.S_ISDIR(_mode(folder) or stat.S_IFDIR):
                raise ValueError(f"{name!r:.200}: {word!r} is no folder")
            folder.mkdir(exist_ok=True)
        file = folder / words[-1]
        if not stat.S_ISREG(_mode(file) or stat.S_IFREG):
            raise ValueError(f"{name!r:.200} is no plain file here")
        return file

    def _make_room(self, file: Path, size: int) -> None:
        others = sum(self._sizes.values()) - self._sizes.get(file, 0)
        if not 0 <= size <= FILE_LIMIT or others + size > TASK_LIMIT or len(self._sizes) >= MOST_FILES:
            raise ValueError(f"{file.name} is too much: {size} bytes, after {others} in {len(self._sizes)} files")


class _Rows:
    """Appends rows to metrics/<task>.jsonl, each once.

    A row that is younger than all that the file held when it was opened was not in it. Others are looked for: they come
    in the order of the file, so the next one is nearly always where the one before it ended.
    """

    def __init__(self, file: Path) -> None:
        self._file = file
        file.parent.mkdir(exist_ok=True)
        file.touch(mode=0o600)
        held = file.read_bytes()
        whole = held.rfind(b"\n") + 1
        if whole < len(held):
            os.truncate(file, whole)
        self._held_size = whole
        self._youngest = max((_float(match[1]) for match in _TIME.finditer(held)), default=-1.0)
        self._held: bytes | None = None
        self._next = 0
        self._recent: deque[int] = deque(maxlen=_RECENT)
        self._recent_set: set[int] = set()

    def add(self, rows: list[bytes]) -> None:
        """Append those that are new. Raises OSError; then none of them was appended."""
        new = [row for row in rows if not (self._was_held(row) or hash(row) in self._recent_set)]
        if not new:
            return
        _append(self._file, b"".join(new))
        for row in new:
            if len(self._recent) == _RECENT:
                self._recent_set.discard(self._recent[0])
            self._recent.append(hash(row))
            self._recent_set.add(hash(row))

    def _was_held(self, row: bytes) -> bool:
        match = _TIME.search(row)
        if not self._held_size or (match and _float(match[1]) > self._youngest):
            self._held = None
            return False
        if self._held is None:
            self._held = self._file.read_bytes()[: self._held_size]
        if not self._held.startswith(row, self._next):
            found = self._held.find(row)
            if found < 0:
                return False
            self._next = found
        self._next += len(row)
        return True


def _append(file: Path, data: bytes) -> None:
    """Append all of it, or raise OSError and leave the file as it was."""
    descriptor = os.open(file, os.O_WRONLY | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        size = os.fstat(descriptor).st_size
        try:
            _write_at(descriptor, data, size)
        except OSError:
            os.ftruncate(descriptor, size)
            raise
    finally:
        os.close(descriptor)


def _put(file: Path, at: int, data: bytes) -> bool:
    """Put bytes into a growing file; what follows them there and is not the same is cut off. False where some miss."""
    descriptor = os.open(file, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        if os.fstat(descriptor).st_size < at:
            return False
        if os.pread(descriptor, len(data), at) != data:
            os.ftruncate(descriptor, at)
            _write_at(descriptor, data, at)
        return True
    finally:
        os.close(descriptor)


def _write_at(descriptor: int, data: bytes, at: int) -> None:
    done = 0
    while done < len(data):
        done += os.pwrite(descriptor, data[done:], at + done)


def _unpacked(text: str, size: int) -> bytes:
    """Return `size` bytes. Raises ValueError where it is more or less, before more is made."""
    unpacker = zlib.decompressobj()
    data = unpacker.decompress(base64.b64decode(text, validate=True), max(size, 0) + 1)
    if len(data) != size or not unpacker.eof:
        raise ValueError(f"not the {size} bytes that were announced")
    return data


def _sum_of(file: Path) -> str:
    try:
        with file.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except FileNotFoundError:
        return ""


def _mode(path: Path) -> int:
    """Return what a path is, links not followed; 0 for nothing."""
    try:
        return path.lstat().st_mode
    except FileNotFoundError:
        return 0


def _is_row(row: object) -> bool:
    return isinstance(row, dict) and isinstance(row.get("metrics"), dict)


def _float(text: bytes) -> float:
    try:
        return float(text)
    except ValueError:
        return -1.0


def _incomplete(name: str, task: int) -> Notice:
    return Notice(time.time(), f"{name} is not complete here: some of it was lost on the way", task)


def _moment(given: object) -> float:
    """Return a time of the pod's, or now for what is none."""
    return float(given) if isinstance(given, int | float) and 0 < given < _LAST_MOMENT else time.time()


def _key(event: Event) -> tuple[object, ...]:
    """Return what tells events apart: of a notice its text, of a change all but its details."""
    return (event.task, event.message) if isinstance(event, Notice) else event[:-1]
