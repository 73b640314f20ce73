"""Metrics out of what a program prints, with nothing changed in the program.

Most lines of a log hold no metric, so a line is first looked at as bytes (`is_candidate`), and only parsed if there is
a number behind an equals sign or a colon. What is read is told in `_parse.py`; lines that come again and again with
other numbers are read by their shape (`_shapes.py`).
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from jupyter_gpudeploy.events.follow import Tail, text
from jupyter_gpudeploy.trackers._columns import Columns
from jupyter_gpudeploy.trackers._parse import Parsed, parse_line
from jupyter_gpudeploy.trackers._shapes import Shapes

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from jupyter_gpudeploy.events.store import RunFolder
    from jupyter_gpudeploy.trackers.base import Problem

__all__ = ["EXPORT", "Parsed", "is_candidate", "parse_line"]

_CANDIDATE = re.compile(
    rb"[=:]"
    rb"(?:[ \t]{1,80}|(?<==)|(?<=[A-Za-z_)'\"\]]:))"  # loss = 1, loss: 1, loss=1, loss:1, but not 12:30
    rb"['\"]?(?:[-+]?(?:[0-9]|\.[0-9]|nan|inf|NaN|NAN|Inf|INF)|np\.|numpy\.|tensor\(|\x1b)"
)


def is_candidate(line: bytes) -> bool:
    """Return whether the line could hold a metric: a number behind a separator, or a row of a table."""
    return _CANDIDATE.search(line) is not None or line.startswith(b"|")


class _Reader:
    """Reads every attempt's log of one task, one after the other."""

    generation = 0

    def __init__(self, folder: RunFolder, task: Mapping[str, Any]) -> None:
        self._folder = folder
        self._task: int = task["number"]
        self._attempt = 1
        self._shapes = Shapes(_parsed)
        self._open()

    def files(self) -> Sequence[Path]:
        """Return the logs that are there."""
        return [file for _, file in self._folder.log_files(self._task)]

    def poll(self, *, ended: bool) -> Columns:
        """Return the points that are new."""
        points = Columns()
        while self._folder.log_file(self._task, self._attempt + 1).exists():
            self._read(points, ended=True)
            self._attempt += 1
            self._open()
        self._read(points, ended=ended)
        return points.mark(self._task, "stdout")

    def problems(self) -> Sequence[Problem]:
        """Nothing: whatever is printed is a log."""
        return ()

    def _open(self) -> None:
        self._tail = Tail(self._folder.log_file(self._task, self._attempt))
        self._line = 0

    def _read(self, points: Columns, *, ended: bool) -> None:
        for block in self._tail.blocks(ended=ended):
            if _may_hold_some(block):
                lines = block.split(b"\n")
                self._shapes.read(lines, self._line + 1, self._attempt, points)
                self._line += len(lines)
            else:
                self._line += block.count(b"\n") + 1


def _may_hold_some(lines: bytes) -> bool:
    """Return whether any of these lines could hold a metric; a flood of others is counted, and not even split."""
    if b"=" in lines or b":" in lines:
        return True
    return b"|" in lines and (lines.startswith(b"|") or b"\n|" in lines)  # one byte is found ten times as fast as two


def _parsed(line: bytes) -> Parsed | None:
    return parse_line(text(line)) if is_candidate(line) else None


class StdoutTracker:
    """The metrics that a program prints."""

    def environment(self, tracking: Mapping[str, Any], task: Mapping[str, Any]) -> Mapping[str, str]:  # noqa: ARG002 - the seam
        """Nothing: what is printed is kept anyway."""
        return {}

    def reader(self, folder: RunFolder, task: Mapping[str, Any]) -> _Reader:
        """Return a reader of one task."""
        return _Reader(folder, task)


EXPORT = StdoutTracker()
