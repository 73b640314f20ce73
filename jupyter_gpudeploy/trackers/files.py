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
import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jupyter_gpudeploy.events.follow import Tail
from jupyter_gpudeploy.events.store import JournalReader
from jupyter_gpudeploy.events.types import State, StateChange
from jupyter_gpudeploy.trackers._rows import EPOCH_NAMES, STEP_NAMES, Row, flatten, number, numbers, row

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from jupyter_gpudeploy.events.store import RunFolder
    from jupyter_gpudeploy.events.types import MetricPoint

JSON_LIMIT = 1 << 26
_HISTORIES = ("log_history", "history")
Rows = list[tuple[Row, int]]


class _LinesFile:
    """A csv or jsonl file: only what was appended is read, all of it again where it was rewritten."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self.is_csv = file.suffix.lower() in (".csv", ".tsv")
        self._start()

    def _start(self) -> None:
        self._tail = Tail(self.file)
        self._seen: os.stat_result | None = None
        self._head = b""
        self._columns: list[str] = []
        self._delimiter = ","
        self._line = 0

    def poll(self, now: os.stat_result, *, ended: bool) -> tuple[bool, Rows]:
        """Return whether the file was written anew, and the rows that are new (then: all of them)."""
        is_anew = self._seen is not None and self._was_rewritten(self._seen, now)
        if is_anew:
            self._start()
        self._seen = now
        rows: Rows = []
        for line in self._tail.until_now(ended=ended):
            if not self._line:
                self._head = line
            self._line += 1
            found = self._row(line.decode("utf-8", "replace").lstrip("\ufeff"))
            if found is not None and found.metrics:
                rows.append((found, self._line))
        return is_anew, rows

    def _was_rewritten(self, seen: os.stat_result, now: os.stat_result) -> bool:
        if now.st_ino != seen.st_ino or now.st_size < self._tail.offset:
            return True
        if now.st_mtime_ns == seen.st_mtime_ns:
            return False
        if now.st_size == seen.st_size:
            return True
        with self.file.open("rb") as stream:
            return stream.read(len(self._head)) != self._head

    def _row(self, line: str) -> Row | None:
        if not self.is_csv:
            content = _loads(line)
            return row(numbers(content)) if isinstance(content, dict) else None
        if not self._columns:
            self._delimiter = max(",;\t", key=line.count)
        cells = [cell.strip() for cell in next(csv.reader([line], delimiter=self._delimiter), [])]
        if not self._columns:
            self._columns = cells
            return None
        found = {name: value for name, cell in zip(self._columns, cells, strict=False) if _is_value(cell)
                 and (value := number(cell)) is not None}  # fmt: skip
        return row(found)


class _JsonFile:
    """A json file: read whole whenever it has changed."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self._seen: tuple[int, int, int] | None = None

    def poll(self, now: os.stat_result, *, ended: bool) -> tuple[bool, Rows]:  # noqa: ARG002 - parallel to the other
        """Return whether the file was written anew, and all its rows then."""
        seen = (now.st_ino, now.st_size, now.st_mtime_ns)
        if seen == self._seen or now.st_size > JSON_LIMIT:
            return False, []
        self._seen = seen
        content = _loads(self.file.read_bytes())
        if content is None:
            return False, []
        return True, [(found, line) for line, found in enumerate(_json_rows(content), 1) if found.metrics]


class _Reader:
    """Reads the metric files of one task. All of a file belongs to the attempt that wrote to it last."""

    def __init__(self, folder: RunFolder, task: Mapping[str, Any]) -> None:
        self.generation = 0
        self._folder = folder
        self._task: int = task["number"]
        self._words = list(task.get("metric_files") or ())
        self._files: list[_LinesFile | _JsonFile] | None = None
        self._attempts: list[int] = []

    def poll(self, *, ended: bool) -> Sequence[MetricPoint]:
        """Return the points that are new; all of them again where `generation` has grown."""
        if not self._words:
            return ()
        if self._files is None:
            self._files = list(_known_files(self._folder, self._task, self._words))
        points: list[MetricPoint] = []
        attempts = [self._attempt(file.file) for file in self._files]
        if attempts != self._attempts and self._attempts:
            return self._anew(attempts, ended=ended)
        self._attempts = attempts
        for file, attempt in zip(self._files, attempts, strict=True):
            is_anew, rows = _poll(file, ended=ended)
            if is_anew and (self.generation or points or self._has_points):
                return self._anew(attempts, ended=ended)
            for found, line in rows:
                points.extend(found.points(self._task, attempt, "file", line))
        return points
