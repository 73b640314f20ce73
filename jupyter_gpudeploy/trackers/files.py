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
from jupyter_gpudeploy.trackers._rows import EPOCH_NAMES, STEP_NAMES, Row, flatten, number, numbers, row

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from jupyter_gpudeploy.events.store import RunFolder
    from jupyter_gpudeploy.events.types import MetricPoint

JSON_LIMIT = 1 << 26
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
            yield row(self._cells(text) if self._is_csv else numbers(_loads(text, dict) or {})), self._line

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
        self.restart()

    def restart(self) -> None:
        """Give all rows again, next time."""
        self._is_given = False

    def was_rewritten(self, now: os.stat_result) -> bool:
        """Return whether what was read before is no longer what the file says; reads it if it has changed."""
        seen = (now.st_ino, now.st_size, now.st_mtime_ns)
        if seen == self._seen or now.st_size > JSON_LIMIT:
            return False
        content = _loads(self.file.read_bytes(), (dict, list))
        if content is None:
            return False
        was_read, self._seen = self._seen is not None, seen
        self._rows = [(found, line) for line, found in enumerate(_json_rows(content), 1)]
        self._is_given = False
        return was_read

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
        self._attempts: dict[Path, int] = {}
        self._starts: list[float] = []

    def poll(self, *, ended: bool) -> Sequence[MetricPoint]:
        """Return the points that are new; all of them again where `generation` has grown."""
        if not self._words:
            return ()
        if self._files is None:
            self._files = list(_known_files(self._folder, self._task, self._words))
        there = [(file, found) for file in self._files if (found := _regular(file.file)) is not None]
        attempts = {file.file: self._attempt(found.st_mtime) for file, found in there}
        changed = [file for file, found in there if file.was_rewritten(found)]
        if changed or any(attempts.get(file, attempt) != attempt for file, attempt in self._attempts.items()):
            self.generation += 1
            for file in self._files:
                file.restart()
        self._attempts |= attempts
        return [
            point
            for file, _ in there
            for found, line in file.rows(ended=ended)
            for point in found.points(self._task, attempts[file.file], "file", line)
        ]

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


def _known_files(folder: RunFolder, task: int, words: Iterable[Any]) -> Iterator[_LinesFile | _JsonFile]:
    """Yield a reader of each file whose suffix is known; a relative path lies under the run's working directory."""
    slots = {"output": str(folder.output(task)), "code": str(folder.code)}
    for word in words:
        parts = [part if isinstance(part, str) else slots.get(part.get("slot"), "") for part in word]
        path = Path("".join(parts))
        if not path.is_absolute():
            path = Path(folder.record().get("working_dir", ".")) / path
        if path.suffix.lower() in _LINES:
            yield _LinesFile(path)
        elif path.suffix.lower() == ".json":
            yield _JsonFile(path)


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
