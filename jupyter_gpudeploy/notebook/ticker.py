"""The thread that keeps displays up to date: which of them is drawn when, and what becomes of them at the end."""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from jupyter_gpudeploy.notebook.live import Display
    from jupyter_gpudeploy.run import Run

LONGEST_WAIT = 1.0
LEAST_PAUSE = 0.04
LIVE_PER_RUN = 3
MOST_ENDED = 20  # runs that have ended, whose cards are still answered
OLD_PAUSE = 5.0  # further displays of the same run, in older cells
_log = logging.getLogger(__name__)


class Ticker:
    """Keeps displays up to date. Its thread lives while there is one to be kept."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._wake = threading.Event()
        self._displays: list[Display] = []
        self._unheard: deque[Display] = deque()
        self._thread: threading.Thread | None = None

    def add(self, display: Display) -> None:
        """Show it, and keep it up to date from now on."""
        with self._lock:
            if not display.draw():
                return
            self._displays.append(display)
            if self._thread is None:
                self._thread = threading.Thread(target=self._keep, name="jupyter_gpudeploy displays", daemon=True)
                self._thread.start()
        self._wake.set()

    def wake(self) -> None:
        """Look at the displays now: somebody said something. From any thread."""
        self._wake.set()

    def find(self, run: Run, cell: object) -> Display | None:
        """Return the display of this run that this execution of a cell made."""
        with self._lock:
            return next((one for one in self._displays if one.run.uid == run.uid and one.cell == cell), None)

    def settle(self, run: Run) -> None:
        """Bring every display of this run up to date before returning."""
        with self._lock:
            for display in [one for one in self._displays if one.run.uid == run.uid]:
                self._draw(display, display.settle)

    def repeat(self) -> None:
        """Send from within a cell what was sent last to displays that ended since: nbclient is deaf between cells."""
        while self._unheard:
            display = self._unheard.popleft()
            try:
                display.repeat()
            except Exception:  # noqa: BLE001 - it concerns no cell of the user
                _log.debug("display %s could not be repeated", display.id, exc_info=True)

    def close(self) -> None:
        """Let go of every display; each says where its run stood."""
        with self._lock:
            for display in self._displays:
                try:
                    display.leave()
                except Exception:  # noqa: BLE001 - the front end may be gone, and the others are still to be left
                    _log.debug("display %s could not be left", display.id, exc_info=True)
            self._displays.clear()
            self._wake.set()
            thread = self._thread
        if thread is not None and thread is not threading.current_thread():
            thread.join(timeout=2)

    def _keep(self) -> None:
        while True:
            self._wake.clear()
            with self._lock:
                for display in self._due():
                    self._draw(display, display.draw)
                if not self._displays:
                    self._thread = None
                    return
                next_one = min(display.due for display in self._displays) - time.monotonic()
            self._wake.wait(min(LONGEST_WAIT, max(next_one, LEAST_PAUSE)))

    def _due(self) -> list[Display]:
        """Return what may be drawn now. Of many displays of one run, the newest move and the others lag behind."""
        now, seen, due = time.monotonic(), dict[str, int](), []
        for display in [display for display in self._displays if display.is_ended][:-MOST_ENDED]:
            display.let_go()
        for display in reversed(self._displays):
            uid = display.run.uid
            seen[uid] = seen.get(uid, 0) + 1
            if display.is_called or display.due + (0 if seen[uid] <= LIVE_PER_RUN else OLD_PAUSE) <= now:
                due.append(display)
        return due

    def _draw(self, display: Display, draw: Callable[[], bool]) -> None:
        try:
            goes_on = draw()
        except Exception:  # noqa: BLE001 - logged, with its traceback
            _log.exception("the display of %s could not be sent", display.run.name)
            goes_on = False
        if not goes_on and display in self._displays:
            self._displays.remove(display)
            if threading.current_thread() is self._thread:
                self._unheard.append(display)
