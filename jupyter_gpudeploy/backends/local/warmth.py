"""The warm start of one run, as the supervisor's loop sees it: preparing, then a template to fork from, or none."""

from __future__ import annotations

from typing import TYPE_CHECKING

from jupyter_gpudeploy.backends.local.warm import Template
from jupyter_gpudeploy.errors import BackendError

if TYPE_CHECKING:
    from collections.abc import Callable

    from jupyter_gpudeploy.backends.local.loop import Loop
    from jupyter_gpudeploy.backends.local.program import Program
    from jupyter_gpudeploy.backends.local.states import Chronicle


class WarmStart:
    """Prepares a template without blocking. Where there is none to be had, that is said, and tasks start cold."""

    def __init__(self, loop: Loop, program: Program, chronicle: Chronicle, on_change: Callable[[], None]) -> None:
        record = program.record
        self._loop = loop
        self._chronicle = chronicle
        self._on_change = on_change
        self._process = Template(
            program.python,
            program.script(),
            record["warm"]["preload"],
            record["working_dir"],
            program.shared_environment(),
        )
        self.template: Template | None = None
        self.is_preparing = False
        self._is_watched = False
        try:
            self._process.start()
        except BackendError as error:
            self._give_up(error)
        else:
            self.is_preparing = self._is_watched = True
            self._loop.adopt(self._process.pid, self._process.has_ended, watch=False)
            self._loop.watch(self._process.fileno(), self._on_news)

    def close(self) -> None:
        """End the template."""
        if self._is_watched:
            self._loop.unwatch(self._process.fileno())
        self._is_watched = self.is_preparing = False
        self.template = None
        pid = self._process.pid
        self._process.close()
        self._loop.disown(pid)

    def look(self) -> None:
        """See whether there is a template to fork from now."""
        if not self.is_preparing and self.template is None:
            return
        try:
            if self._process.is_ready:
                self.template = self._process
                self.is_preparing = False
        except BackendError as error:
            self._give_up(error)

    def _on_news(self) -> None:
        was_preparing = self.is_preparing
        for pid, code in self._process.poll():
            self._loop.child_ended(pid, code)
        self.look()
        if was_preparing and not self.is_preparing:
            self._on_change()

    def _give_up(self, error: BackendError) -> None:
        """Start cold from now on; what was forked already goes on, and how it ends is still told."""
        self.template = None
        self.is_preparing = False
        self._chronicle.notice(f"{error.message}: each task is started afresh")
