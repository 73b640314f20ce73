"""The seam for metrics that a program reports itself.

A reader is polled, again and again, while a run lives and after: it reads only what is new since the last poll, holds
no file open in between, and can be thrown away at any time, since a new one reads everything again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from jupyter_gpudeploy.events.store import RunFolder
    from jupyter_gpudeploy.trackers._columns import Columns


class Problem(NamedTuple):
    """Why a file gave no metrics, or not all: `what` is a sentence without its subject, the file."""

    file: str
    what: str
    is_missing: bool = False


class Reader(Protocol):
    """The metrics of one task from one source, as they come.

    `generation` grows when the source was written anew: the points handed out before it grew count no more.
    """

    @property
    def generation(self) -> int:
        """How often the source was written anew."""

    def files(self) -> Sequence[Path]:
        """Return the files that are read: while none of them changes, a new reader would say the same."""

    def poll(self, *, ended: bool) -> Columns:
        """Return the points that are new. `ended` says that the task writes no more, so a last half line counts."""

    def problems(self) -> Sequence[Problem]:
        """Return what was wrong with the files that were read, once the task has ended."""


class Tracker(Protocol):
    """One way in which metrics come back."""

    def environment(self, tracking: Mapping[str, Any], task: Mapping[str, Any]) -> Mapping[str, str]:
        """Return the environment variables that make a program report this way, for one task."""

    def reader(self, folder: RunFolder, task: Mapping[str, Any]) -> Reader:
        """Return a reader of one task of `record()["tasks"]`."""
