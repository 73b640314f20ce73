"""What the rounds of a schedule leave, kept apart: `rounds/<task>.<attempt>/`, and `out/<task>` leads to the newest.

A schedule has no end, so only the last rounds are kept.
"""

from __future__ import annotations

import re
import shutil
from contextlib import suppress
from typing import TYPE_CHECKING

from jupyter_gpudeploy.events.store import RunFolder

if TYPE_CHECKING:
    from pathlib import Path

KEPT_ROUNDS = 10
"""Of each task, the newest among them."""

_NAME = re.compile(r"(\d+)\.(\d+)")


class RoundFolder(RunFolder):
    """The folder of a run as one attempt at one of its tasks sees it: its results are its own."""

    def __init__(self, path: Path | str, attempt: int) -> None:
        super().__init__(path)
        self.attempt = attempt

    def output(self, task: int) -> Path:
        """Return the folder of this attempt."""
        return self.path / "rounds" / f"{task}.{self.attempt}"

    def balance_file(self, task: int) -> Path:
        """Return what says which of its files were sent here."""
        return self.path / "rounds" / f"{task}.{self.attempt}.json"

    def begin(self, task: int) -> None:
        """Make the folder of this attempt; where it is the newest, let `out/<task>` lead there. Safe to do again."""
        self.output(task).parent.mkdir(exist_ok=True, mode=0o700)
        self.output(task).mkdir(exist_ok=True, mode=0o700)
        plain = RunFolder(self.path)
        known = _attempts(self.path, task)
        if self.attempt == known[-1]:
            _lead(plain.output(task), self.output(task), known[0])
            _lead(plain.balance_file(task), self.balance_file(task), known[0])
        for attempt in known[:-KEPT_ROUNDS]:
            old = RoundFolder(self.path, attempt)
            shutil.rmtree(old.output(task), ignore_errors=True)
            old.balance_file(task).unlink(missing_ok=True)


def _attempts(run: Path, task: int) -> list[int]:
    """Return the attempts of a task that have a folder, in order."""
    names = (_NAME.fullmatch(entry.name) for entry in (run / "rounds").iterdir())
    return sorted(int(name[2]) for name in names if name is not None and int(name[1]) == task)


def _lead(link: Path, target: Path, first: int) -> None:
    """Make `link` lead to `target` beside its folder. What lies there and is no link is moved to before the first."""
    link.parent.mkdir(exist_ok=True, mode=0o700)
    if link.exists() and not link.is_symlink():
        link.rename(target.with_name(f"{link.name}.before-{first}"))
    draft = link.with_name(f".{link.name}.new")
    with suppress(FileNotFoundError):
        draft.unlink()
    draft.symlink_to(f"../{target.parent.name}/{target.name}")
    draft.replace(link)
