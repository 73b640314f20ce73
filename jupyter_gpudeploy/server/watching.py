"""The one look for all who listen. It goes on while somebody does, at the pace of the most impatient."""

from __future__ import annotations

import asyncio
import json
import logging
from contextlib import suppress
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    from jupyter_gpudeploy.server.threads import Threads

LISTENERS = 16
LEAST_SECONDS = 1.0
MOST_SECONDS = 60.0
_LOG = logging.getLogger(__name__)


class FullError(Exception):
    """As many listen as may."""


class Listener:
    """One stream. `every`: how often it wants to be looked, in seconds."""

    def __init__(self, watching: Watching, every: float) -> None:
        self.every = every
        self._watching = watching
        self._told = ""
        self._changed = asyncio.Event()
        self.is_closed = False

    async def next(self, seconds: float) -> str | None:
        """Return the newest listing as JSON once it is another than the last; None after so many `seconds`."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while not self.is_closed:
                    self._changed.clear()
                    if self._watching.version != self._told:
                        self._told = self._watching.version
                        return self._watching.text
                    await self._changed.wait()
        return None

    def wake(self) -> None:
        """Look whether there is something new."""
        self._changed.set()

    def close(self) -> None:
        """Nobody listens any more."""
        self.is_closed = True
        self._changed.set()


class Watching:
    """Belongs to the server's loop; `look` is called in a thread. `version` is the last listing without its time."""

    def __init__(self, look: Callable[[], dict[str, Any]], threads: Threads) -> None:
        self._look = look
        self._threads = threads
        self._listeners: set[Listener] = set()
        self._task: asyncio.Task[None] | None = None
        self._hurry = asyncio.Event()
        self.text = ""
        self.version = ""

    def join(self, every: float) -> Listener:
        """Return a new listener, to be given back by `leave`. Raises FullError."""
        if len(self._listeners) >= LISTENERS:
            raise FullError
        listener = Listener(self, min(max(every, LEAST_SECONDS), MOST_SECONDS))
        self._listeners.add(listener)
        if self._task is None or self._task.done():
            self.text = self.version = ""  # what was seen last may be old
            self._task = asyncio.get_running_loop().create_task(self._keep())
        self.hurry()
        return listener

    def leave(self, listener: Listener) -> None:
        """Give a listener back; nobody looks any more when all have."""
        listener.close()
        self._listeners.discard(listener)
        self.hurry()

    def hurry(self) -> None:
        """Look now: somebody came, or did something."""
        self._hurry.set()

    async def _keep(self) -> None:
        has_failed = False
        while self._listeners:
            self._hurry.clear()
            try:
                self._take(await self._threads.do(self._look))
                has_failed = False
            except Exception:  # noqa: BLE001 - told once, and the next look is another one
                _LOG.log(logging.DEBUG if has_failed else logging.ERROR, "the runs could not be listed", exc_info=True)
                has_failed = True
            every = min((listener.every for listener in self._listeners), default=0.0)
            with suppress(TimeoutError):
                async with asyncio.timeout(every):
                    await self._hurry.wait()

    def _take(self, listing: dict[str, Any]) -> None:
        version = json.dumps({**listing, "time": 0.0}, ensure_ascii=False)
        if version != self.version:
            self.text = json.dumps(listing, ensure_ascii=False)
            self.version = version
            for listener in self._listeners:
                listener.wake()
