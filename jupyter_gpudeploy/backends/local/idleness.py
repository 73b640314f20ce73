"""The end of a server or an environment in which nothing happens for so long as its cell says."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jupyter_gpudeploy.backends.local import processes
from jupyter_gpudeploy.programs._idle import Idle

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping

    from jupyter_gpudeploy.backends.local.layout import LocalFolder
    from jupyter_gpudeploy.backends.local.loop import Loop
    from jupyter_gpudeploy.backends.local.starter import Live

_LOOK_SECONDS = 1.0


class Idleness:
    """Looks once a second until closed; `on_idle` is called once, with the reason.

    `living` gives what runs. What a command of an environment prints, its beginning and its end count as something; of
    a server, its requests do, and what it prints does not: it logs health checks.
    """

    def __init__(
        self,
        loop: Loop,
        folder: LocalFolder,
        record: Mapping[str, Any],
        living: Callable[[], Collection[Live]],
        on_idle: Callable[[str], None],
    ) -> None:
        self._loop = loop
        self._folder = folder
        self._is_server = bool(record["service"])
        self._living = living
        self._run: str = record["uid"]
        self._on_idle = on_idle
        self._idle = Idle(record["idle_seconds"], gpus=() if record["resources"]["gpus"] else None)
        self._seen: dict[str, int] = {}
        self._is_closed = False
        self._look()

    def close(self) -> None:
        """Look no more."""
        self._is_closed = True
        self._idle.close()

    def _look(self) -> None:
        if self._is_closed:
            return
        living = list(self._living())
        if self._is_server:
            self._idle.ports = [live.port for live in living if live.port is not None]
            if not living:
                self._idle.happened()  # it is being started again
        elif self._has_printed(living):
            self._idle.happened()
        if reason := self._idle.look(processes.descendants([os.getpid()], self._run)):
            self.close()
            self._on_idle(reason)
        else:
            self._loop.after(_LOOK_SECONDS, self._look)

    def _has_printed(self, living: Collection[Live]) -> bool:
        """Whether a command has begun, ended or printed something since the last look."""
        before, self._seen = self._seen, {live.log: -1 for live in living}
        for name in self._seen:
            with suppress(OSError):
                self._seen[name] = (Path(self._folder.path) / name).stat().st_size
        return before != self._seen
