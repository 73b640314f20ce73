"""The points of a sweep that are chosen while it runs: asked for one at a time, written down, then started.

The supervisor alone writes them down; what chooses them is a child of it that can be killed at any time, and is
started anew. A supervisor that was killed leaves a file of points, and the next one goes on with the same history.
"""

from __future__ import annotations

import os
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from jupyter_gpudeploy.backends.asking import Answer, Asker
from jupyter_gpudeploy.events import points

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from jupyter_gpudeploy.backends.local.layout import LocalFolder
    from jupyter_gpudeploy.backends.local.loop import Loop
    from jupyter_gpudeploy.backends.local.states import Chronicle

_MOST_FAILURES = 4
_PAUSE_SECONDS = 0.25
_FULL_SECONDS = 0.5


class Chooser:
    """Of a run of `total` tasks, those that have a point; asks for the next one.

    `on_point` is called with a point that is on the disk, `on_failure` with a sentence when there will be none.
    """

    def __init__(
        self, loop: Loop, folder: LocalFolder, record: Mapping[str, Any], chronicle: Chronicle, *,
        on_point: Callable[[Mapping[str, Any]], None], on_failure: Callable[[str], None],
    ) -> None:  # fmt: skip
        self._loop = loop
        self._folder = folder
        self._python: str = record["python"]
        self._chronicle = chronicle
        self._on_point = on_point
        self._on_failure = on_failure
        self._total = len(record["tasks"])
        self._file = points.Points(folder.points_file)
        self._next = len(points.read(folder.points_file))
        self._asker: Asker | None = None
        self._is_asking = False
        self._is_closed = False
        self._failures = 0

    @property
    def left(self) -> range:
        """The numbers that have no point yet and are to have one."""
        return range(self._total, self._total) if self._is_closed else range(self._next, self._total)

    def ask(self) -> None:
        """Have the next point chosen, unless that is under way or there is none."""
        if self.left and not self._is_asking:
            self._is_asking = True
            self._ask()

    def close(self) -> None:
        """Choose no more."""
        if not self._is_closed:
            self._is_closed = True
            self._let_go()
            self._file.close()

    def _ask(self) -> None:
        if self._is_closed:
            return
        try:
            if self._asker is None:
                self._asker = Asker(self._folder.path, self._python, os.environ)
                self._loop.adopt(self._asker.pid, lambda _code: None)
                self._loop.watch(self._asker.descriptor, self._on_answer)
        except OSError as error:
            self._failed(f"{self._python} cannot be started: {error.strerror}")
            return
        if not self._asker.ask(self._next):
            self._failed("what chooses the points has ended")

    def _on_answer(self) -> None:
        answer = self._asker.answer() if self._asker is not None else None
        if answer is None:
            return
        if answer.is_dead:
            if self._is_asking:
                self._failed("what chooses the points was killed, or cannot run: the supervisor's log tells more")
            else:
                self._let_go()
        elif answer.chosen is None or answer.chosen.number != self._next:
            self._failed(answer.error or "the wrong point was chosen")
        else:
            self._take(answer)

    def _take(self, answer: Answer) -> None:
        if answer.chosen is not None:
            self._failures = 0
            self._file.add(answer.chosen)
            self._settle(answer.chosen.task)

    def _settle(self, task: Mapping[str, Any]) -> None:
        """Hand the point on as soon as it is on the disk."""
        if self._is_closed:
            return
        if not self._file.retry():
            self._loop.after(_FULL_SECONDS, lambda: self._settle(task))
            return
        self._next += 1
        self._is_asking = False
        self._on_point(task)

    def _failed(self, why: str) -> None:
        """Try again with a fresh process, a few times."""
        self._let_go()
        self._failures += 1
        if self._failures > _MOST_FAILURES:
            self._on_failure(f"no further point could be chosen: {why}")
            return
        self._loop.after(_PAUSE_SECONDS * 2 ** (self._failures - 1), self._ask)

    def _let_go(self) -> None:
        if self._asker is not None:
            with suppress(OSError):
                self._loop.unwatch(self._asker.descriptor)
            self._asker.close()
            self._asker = None
