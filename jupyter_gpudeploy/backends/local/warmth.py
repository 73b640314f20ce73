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
        self._is_over = False
        try:
            self._process.start()
        except BackendError as error:
            self._give_up(error)
        else:
            self.is_preparing = True
            self._loop.watch(self._process.fileno(), self._look)

    def close(self) -> None:
        """End the template."""
        if not self._is_over:
            self._loop.unwatch(self._process.fileno())
        self._is_over = True
        self.is_preparing = False
        self.template = None
        self._process.close()

    def _look(self) -> None:
        for pid, code in self._process.poll():
            self._loop.child_ended(pid, code)
        if self._is_over or (self.template is None and not self.is_preparing):
            return
        try:
            if self._process.is_ready and self.is_preparing:
                self.template = self._process
                self.is_preparing = False
                self._on_change()
        except BackendError as error:
            self._give_up(error)
            self._on_change()

    def _give_up(self, error: BackendError) -> None:
        """Start cold from now on. The template's descriptor is another file now, which tells how its tasks end."""
        was_watched = self.is_preparing or self.template is not None
        self.template = None
        self.is_preparing = False
        self._chronicle.notice(f"{error.message}: each task is started afresh")
        if was_watched:
            self._loop.rewatch(self._process.fileno())
        else:
            self._is_over = True
