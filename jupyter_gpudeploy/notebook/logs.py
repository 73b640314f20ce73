"""What `%deploy logs` shows of a log: all of a short one, the end of a long one, and what it left out."""

from __future__ import annotations

from typing import TYPE_CHECKING

from jupyter_gpudeploy.events.store import RunFolder
from jupyter_gpudeploy.events.text import plain

if TYPE_CHECKING:
    from pathlib import Path

    from jupyter_gpudeploy.run import Run

LINES = 2000
CHARACTERS = 1_000_000
_LEAST = 5  # lines of each of very many tasks
_BLOCK = 1 << 20


def shown(run: Run, task: int | None) -> str:
    """Return the log as it is shown where nobody said how much: a front end chokes on a hundred megabytes.

    Of several tasks each gets its share of the lines.
    """
    numbers = [task] if task is not None else sorted(run.status().tasks)
    share = max(LINES // max(len(numbers), 1), _LEAST)
    lines = [plain(line) for line in run.logs(task, share).split("\n")]
    size = sum(map(len, lines))
    first = 0
    while size > CHARACTERS:
        size -= len(lines[first])
        first += 1
    hidden = count(run, numbers) - (len(lines) - first)
    return "\n".join([note(run, numbers, hidden)] * (hidden > 0) + lines[first:])


def note(run: Run, numbers: list[int], hidden: int) -> str:
    """Return what is said of lines that are not shown."""
    files = _files(run, numbers)
    where = files[-1] if len(files) == 1 else run.folder / "logs"
    return f"[{hidden:,} lines hidden, full log at {where}; --all or --tail N shows more]"


def count(run: Run, numbers: list[int]) -> int:
    """Return how many lines these tasks have printed."""
    return sum(map(_count, _files(run, numbers)))


def _files(run: Run, numbers: list[int]) -> list[Path]:
    folder = RunFolder(run.folder)
    return [file for number in numbers for _, file in folder.log_files(number)]


def _count(file: Path) -> int:
    found, last = 0, b"\n"
    with file.open("rb", buffering=0) as stream:
        while block := stream.read(_BLOCK):
            found += block.count(b"\n")
            last = block[-1:]
    return found + (last != b"\n")
