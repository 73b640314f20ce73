"""The points of a sweep that are chosen while it runs: `points.jsonl`, a line each, in the order of their numbers.

A line holds the whole task, as the record would, and what the search method knew and had not known at the point
before: `told`, the values of trials that had ended, None for one without a value. So the file is the whole memory of
the search: asking again with what it tells gives the same points. A point is written down before its trial starts.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, NamedTuple

from jupyter_gpudeploy.events.store import Journal, record_lines

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path


class Chosen(NamedTuple):
    """One point. `told`: (number of a trial, its value or None), as the metric was measured."""

    task: Mapping[str, Any]
    told: tuple[tuple[int, float | None], ...] = ()

    @property
    def number(self) -> int:
        """The number of its trial."""
        return int(self.task["number"])


class Points(Journal):
    """The one writer of a file of points. `read` what an earlier one wrote before anything is added."""

    def add(self, chosen: Chosen) -> bool:
        """Write a point down. Return whether all is on the disk; else `retry` says when it is."""
        return self.write(line_of(chosen).encode() + b"\n")


class PointsReader:
    """Reads a file of points from where it stopped last time; holds no file open in between."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self.offset = 0

    def poll(self) -> list[Chosen]:
        """Return the points that are new and whole."""
        try:
            with self.file.open("rb") as stream:
                stream.seek(self.offset)
                lines, size = record_lines(stream.read())
        except FileNotFoundError:
            return []
        self.offset += size
        return [of_line(line) for line in lines]


def read(file: Path) -> list[Chosen]:
    """Return all points of a file."""
    return PointsReader(file).poll()


def line_of(chosen: Chosen) -> str:
    """Return a point as one line of JSON, without the newline."""
    return json.dumps({"task": dict(chosen.task), "told": list(chosen.told)}, separators=(",", ":"))


def of_line(line: str | bytes | Mapping[str, Any]) -> Chosen:
    """Return the point of one line. Raises ValueError, KeyError or TypeError for what is none."""
    content: Mapping[str, Any] = json.loads(line) if isinstance(line, str | bytes) else line
    told = tuple((int(number), None if value is None else float(value)) for number, value in content["told"])
    return Chosen(dict(content["task"]), told)


def overlaid(tasks: Iterable[Mapping[str, Any]], chosen: Iterable[Chosen]) -> list[Mapping[str, Any]]:
    """Return the tasks of a record, with those that were chosen since in their places."""
    known = {one.number: one.task for one in chosen}
    return [known.get(task["number"], task) for task in tasks]
