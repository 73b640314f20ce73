"""Metrics out of files that a program writes: csv, json and jsonl, named in the cell as `metric_files`.

Only text is read, by its suffix: nothing is unpickled, whatever a file holds. A file that is half written or not
understood gives nothing new until it is.

::

    *.csv *.tsv          a header, then rows; empty cells are left out; a header that was rewritten is followed
    *.jsonl *.ndjson     an object a line
    *.json               a list of objects, an object of lists, or final values, nested names joined with `/`
"""

from __future__ import annotations

import csv
import json
import stat
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jupyter_gpudeploy.events.follow import Tail
from jupyter_gpudeploy.events.store import JournalReader
from jupyter_gpudeploy.events.types import State, StateChange
from jupyter_gpudeploy.events.wire import POD, kept_as, working_folder
from jupyter_gpudeploy.trackers._columns import Columns
from jupyter_gpudeploy.trackers._rows import EPOCH_NAMES, STEP_NAMES, Row, flatten, number, numbers, row
from jupyter_gpudeploy.trackers.base import Problem

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from jupyter_gpudeploy.events.store import RunFolder

JSON_LIMIT = 1 << 26
NO_NUMBER = "no number is in it"
NEVER_WRITTEN = "it was never written"
ONLY_THESE = "only .csv, .tsv, .jsonl, .ndjson and .json are read"
_LINES = (".csv", ".tsv", ".jsonl", ".ndjson")
_HISTORIES = ("log_history", "history")
Numbered = tuple[Row, int]


class _LinesFile:
    """A csv or jsonl file: only what was appended is read, all of it again where it was written anew."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self._is_csv = file.suffix.lower() in (".csv", ".tsv")
        self._seen: os.stat_result | None = None
        self.restart()

    def restart(self) -> None:
        """Read from the beginning, next time."""
        self._tail = Tail(self.file)
        self._head = b""
        self._columns: list[str] = []
        self._delimiter = ","
        self._line = 0
        self._has_numbers = False
        self._complaint = self._empty = ""

    def was_rewritten(self, now: os.stat_result) -> bool:
        """Return whether what was read before is no longer what the file says."""
        seen, self._seen = self._seen, now
        if seen is None or now.st_mtime_ns == seen.st_mtime_ns:
            return False
        if now.st_ino != seen.st_ino or now.st_size < self._tail.offset or now.st_size == seen.st_size:
            return True
        with self.file.open("rb") as stream:
            return stream.read(len(self._head)) != self._head

    def rows(self, *, ended: bool) -> Iterator[Numbered]:
        """Yield the rows that are new, each with its line."""
        for line in self._tail.until_now(ended=ended):
            if not self._line:
                self._head = line
            self._line += 1
            text = line.decode("utf-8", "replace").lstrip("\ufeff")
            content = self._cells(text) if self._is_csv else _loads(text, dict)
            if text.strip():
                self._judge(content)
            yield row(numbers(content or {})), self._line

    def complaint(self) -> str:
        """Return what is wrong with the file, told by its first line that is."""
        return self._complaint or ("" if self._has_numbers else self._empty or NO_NUMBER)

    def _judge(self, content: dict[str, float] | None) -> None:
        self._has_numbers = self._has_numbers or bool(content)
        if content is None:
            self._complaint = self._complaint or f"line {self._line} is no JSON object"
        elif self._is_csv and self._line == 1:
            if any(number(name) is not None for name in self._columns):
                self._complaint = "line 1 holds numbers, where the names of the columns belong"
        elif not content and not self._empty:
            self._empty = f"line {self._line} has no number" + " below the names of the columns" * self._is_csv

    def _cells(self, line: str) -> dict[str, float]:
        if not self._columns:
            self._delimiter = max(",;\t", key=line.count)
        cells = [cell.strip() for cell in next(csv.reader([line], delimiter=self._delimiter), [])]
        if not self._columns:
            self._columns = cells
        pairs = zip(self._columns, cells, strict=False)
        return {name: value for name, cell in pairs if name and (value := number(cell)) is not None}


class _JsonFile:
    """A json file: read whole whenever it has changed. While it is half written, what it said before counts."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self._seen: tuple[int, int, int] | None = None
        self._rows: list[Numbered] = []
        self._complaint = ""
        self.restart()

    def restart(self) -> None:
        """Give all rows again, next time."""
        self._is_given = False

    def was_rewritten(self, now: os.stat_result) -> bool:
        """Return whether what was read before is no longer what the file says; reads it if it has changed."""
        seen = (now.st_ino, now.st_size, now.st_mtime_ns)
        if seen == self._seen:
            return False
        if now.st_size > JSON_LIMIT:
            self._complaint = f"it has more than {JSON_LIMIT >> 20} MiB: {self.file.suffix}l is read line by line"
            return False
        data = self.file.read_bytes()
        content = _loads(data, (dict, list))
        self._complaint = _json_complaint(data) if content is None else ""
        if content is None:
            return False
        was_read, self._seen = self._seen is not None, seen
        self._rows = [(found, line) for line, found in enumerate(_json_rows(content), 1)]
        self._is_given = False
        return was_read

    def complaint(self) -> str:
        """Return what is wrong with the file as it is now."""
        return self._complaint or ("" if any(found.metrics for found, _ in self._rows) else NO_NUMBER)

    def rows(self, *, ended: bool) -> Iterator[Numbered]:  # noqa: ARG002 - parallel to the files of lines
        """Yield all rows, once."""
        if not self._is_given:
            self._is_given = True
            yield from self._rows


class _Reader:
    """Reads the metric files of one task. All of a file belongs to the attempt that wrote to it last."""

    def __init__(self, folder: RunFolder, task: Mapping[str, Any]) -> None:
        self.generation = 0
        self._folder = folder
        self._task: int = task["number"]
        self._words: Sequence[Any] = task.get("metric_files") or ()
        self._files: list[_LinesFile | _JsonFile] | None = None
        self._unknown: list[Path] = []
        self._attempts: dict[Path, int] = {}
        self._starts: list[float] = []

    def files(self) -> Sequence[Path]:
        """Return the files of a known kind, there or not."""
        return [file.file for file in self._known()]

    def poll(self, *, ended: bool) -> Columns:
        """Return the points that are new; all of them again where `generation` has grown."""
        points = Columns()
        files = self._known()
        there = [(file, found) for file in files if (found := _regular(file.file)) is not None]
        attempts = {file.file: self._attempt(found.st_mtime) for file, found in there}
        changed = [file for file, found in there if file.was_rewritten(found)]
        if changed or any(attempts.get(file, attempt) != attempt for file, attempt in self._attempts.items()):
            self.generation += 1
            for file in files:
                file.restart()
        self._attempts |= attempts
        for file, _ in there:
            for said, line in file.rows(ended=ended):
                points.add(said, attempts[file.file], line)
        return points.mark(self._task, "file")

    def problems(self) -> list[Problem]:
        """Return what is wrong with the files."""
        problems = [Problem(str(path), ONLY_THESE) for path in self._unknown]
        for file in self._known():
            if _regular(file.file) is not None:
                what = file.complaint()
            else:
                what = "it is no plain file" if file.file.exists() or file.file.is_symlink() else NEVER_WRITTEN
            problems += [Problem(str(file.file), what, is_missing=what == NEVER_WRITTEN)] * bool(what)
        return problems

    def _known(self) -> list[_LinesFile | _JsonFile]:
        if self._files is None:
            found = [(path, _file(path)) for path in _paths(self._folder, self._task, self._words)]
            self._files = [file for _, file in found if file is not None]
            self._unknown = [path for path, file in found if file is None]
        return self._files

    def _attempt(self, written: float) -> int:
        """Return which attempt was running at that moment."""
        count = len(self._folder.log_files(self._task))
        if count > 1 and len(self._starts) < count:
            self._starts = _starts(self._folder, self._task)
        return max(1, sum(start <= written + _CLOCK_STEP for start in self._starts) or count)


class FilesTracker:
    """The metrics in files that the cell names."""

    def environment(self, tracking: Mapping[str, Any], task: Mapping[str, Any]) -> Mapping[str, str]:  # noqa: ARG002 - the seam
        """Nothing: the program writes its files anyway."""
        return {}

    def reader(self, folder: RunFolder, task: Mapping[str, Any]) -> _Reader:
        """Return a reader of one task."""
        return _Reader(folder, task)


EXPORT = FilesTracker()
_CLOCK_STEP = 0.05  # seconds that a file's time may lag behind the clock


def _paths(folder: RunFolder, task: int, words: Iterable[Any]) -> Iterator[Path]:
    """Yield where the files lie; a relative path lies under the run's working directory.

    Of a run in a cluster they come from the pod, with the results of the task.
    """
    if not words:
        return
    record = folder.record()
    work, slots = record.get("working_dir", "."), {"output": str(folder.output(task)), "code": str(folder.code)}
    if record.get("cluster"):
        slots = {"output": f"{POD}/out/{task}", "code": f"{POD}/code", "sources": f"{POD}/work"}
        work = working_folder(work, record.get("base", "."), slots["sources"])
    for word in words:
        parts = [part if isinstance(part, str) else slots.get(part.get("slot"), "") for part in word]
        path = "".join(parts)
        yield folder.output(task) / kept_as(path, slots["output"], work) if record.get("cluster") else Path(work) / path


def _file(path: Path) -> _LinesFile | _JsonFile | None:
    """Return a reader by the file's suffix."""
    if path.suffix.lower() in _LINES:
        return _LinesFile(path)
    return _JsonFile(path) if path.suffix.lower() == ".json" else None


def _regular(file: Path) -> os.stat_result | None:
    """Return what is known of a plain file; None for none, and for pipes, devices and folders."""
    try:
        found = file.stat()
    except OSError:
        return None
    return found if stat.S_ISREG(found.st_mode) else None


def _starts(folder: RunFolder, task: int) -> list[float]:
    """Return when each attempt of the task began: when it was first told to do anything but wait or end."""
    starts: dict[int, float] = {}
    for event in JournalReader(folder.events_file).poll():
        if not isinstance(event, StateChange) or event.task != task:
            continue
        if event.state is not State.WAITING and not event.state.is_final:
            starts.setdefault(event.attempt, event.time)
    return sorted(starts.values())


def _json_rows(content: Any) -> Iterator[Row]:  # noqa: ANN401 - whatever the file holds
    """Yield the rows of a whole json file."""
    if isinstance(content, dict):
        histories = (content[name] for name in _HISTORIES if name in content)
        content = next((history for history in histories if _is_rows(history)), content)
    if isinstance(content, list):
        yield from (row(numbers(entry)) for entry in content if isinstance(entry, dict))
        return
    series = {name: value for name, value in flatten(content) if isinstance(value, list)}
    yield row(numbers(content))
    has_place = any(name.lower() in STEP_NAMES | EPOCH_NAMES for name in series)
    for index in range(max(map(len, series.values()), default=0)):
        values = {name: value[index] for name, value in series.items() if index < len(value)}
        found = row(numbers(values))
        yield found if has_place else found._replace(step=float(index))


def _is_rows(content: object) -> bool:
    return isinstance(content, list) and all(isinstance(entry, dict) for entry in content)


def _loads(text: str | bytes, kind: type | tuple[type, ...]) -> Any:  # noqa: ANN401 - whatever the file holds
    """Return the JSON if it is whole and of that kind, else None."""
    try:
        content = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return content if isinstance(content, kind) else None


def _json_complaint(data: bytes) -> str:
    try:
        json.loads(data)
    except json.JSONDecodeError as error:
        return f"line {error.lineno} is no JSON: it ends too early, or is damaged"
    except (ValueError, RecursionError):
        return "it is no JSON"
    return "it is neither an object nor a list"
