"""The only writer of displays: each follows its run until the run ends, from one daemon thread for all of them.

A display is updated by its id, so it stays in the cell that made it whatever runs meanwhile; nothing here prints.
Every PAUSE at most, and only when what it says has changed. What is left when a run ends, when the kernel ends or when
the extension is unloaded is a plain static bundle, kept in the notebook file.

What goes wrong while a run is looked at is said in its display and tried again, ever more slowly.
"""

from __future__ import annotations

import atexit
import logging
import threading
import time
import uuid
from typing import TYPE_CHECKING, Any

from jupyter_gpudeploy.errors import RunNotFoundError
from jupyter_gpudeploy.notebook.reprs import bundle

if TYPE_CHECKING:
    from collections.abc import Callable

    from IPython.core.interactiveshell import InteractiveShell

    from jupyter_gpudeploy.notebook.reprs import Bundle
    from jupyter_gpudeploy.run import Run
    from jupyter_gpudeploy.summary import Summary

PAUSE = 0.5
IDLE_SHARE = 10  # a look that took 0.2 s is not repeated before 2 s
LONGEST_PAUSE = 30.0
LIVE_PER_RUN = 3
OLD_PAUSE = 5.0  # further displays of the same run, in older cells
GONE = "this run was replaced or deleted; the display stays as it was"
LEFT = "the notebook ended here, the run goes on: %deploy attach {name} shows it again"
_log = logging.getLogger(__name__)


class Display:
    """One output of one cell that shows one run. Used under the ticker's lock only, once it is there."""

    def __init__(self, shell: InteractiveShell, run: Run, *, plain: bool = False) -> None:
        self.run = run
        self.id = uuid.uuid4().hex
        self.cell = _cell_of(shell)
        self.due = 0.0
        self._plain = plain
        self._pause = PAUSE
        self._publish: Callable[..., object] = shell.display_pub.publish
        self._identity = self._file_identity()
        self._summary: Summary | None = None
        self._sent: Bundle = {}

    def draw(self) -> bool:
        """Show where the run stands now, if that has changed. Return whether there is more to come."""
        if self._sent and self._file_identity() != self._identity:
            self._send(GONE)
            return False
        started, problem = time.monotonic(), ""
        try:
            self._summary = self.run.summary()
        except RunNotFoundError:
            self._send(GONE)
            return False
        except Exception as error:  # noqa: BLE001 - whatever it is, the display says it and goes on
            problem = f"cannot be followed at the moment: {type(error).__name__}: {error}"
        self._send(problem)
        cost = time.monotonic() - started
        self._pause = min(self._pause * 2, LONGEST_PAUSE) if problem else max(PAUSE, IDLE_SHARE * cost)
        self.due = time.monotonic() + self._pause
        return bool(problem) or not self._is_over

    def leave(self) -> None:
        """Show for the last time where the run stands."""
        if self.draw():
            self._send(LEFT.format(name=self.run.name))

    @property
    def _is_over(self) -> bool:
        return self._summary is not None and self._summary.state.is_final

    def _send(self, problem: str) -> None:
        new = self._bundle(problem)
        if new == self._sent:
            return
        self._publish(data=new, metadata={}, transient={"display_id": self.id}, update=bool(self._sent))
        self._sent = new

    def _bundle(self, problem: str) -> Bundle:
        if self._summary is None:
            return {"text/plain": f"{self.run.name}: {problem}"}
        try:
            made = bundle(self._summary, notes=self.run.notes, problem=problem)
        except Exception as error:  # noqa: BLE001 - logged, with its traceback
            _log.exception("%s cannot be drawn", self.run.name)
            return {"text/plain": f"{self.run.name}: cannot be drawn: {type(error).__name__}: {error}"}
        return {"text/plain": made["text/plain"]} if self._plain else made

    def _file_identity(self) -> int | None:
        """Return what changes when another run takes this one's place under the same name."""
        try:
            return (self.run.folder / "run.json").stat().st_ino
        except OSError:
            return None


class Ticker:
    """The thread that keeps displays up to date. It lives while there is one to be kept."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._wake = threading.Event()
        self._displays: list[Display] = []
        self._thread: threading.Thread | None = None

    def add(self, display: Display) -> None:
        """Show it, and keep it up to date from now on."""
        with self._lock:
            if not display.draw():
                return
            self._displays.append(display)
            if self._thread is None:
                self._wake.clear()
                self._thread = threading.Thread(target=self._keep, name="jupyter_gpudeploy displays", daemon=True)
                self._thread.start()

    def find(self, run: Run, cell: object) -> Display | None:
        """Return the display of this run that this execution of a cell made."""
        with self._lock:
            return next((one for one in self._displays if one.run.uid == run.uid and one.cell == cell), None)

    def settle(self, run: Run) -> None:
        """Bring every display of this run up to date before returning."""
        with self._lock:
            for display in [one for one in self._displays if one.run.uid == run.uid]:
                self._draw(display)

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
            with self._lock:
                for display in self._due():
                    self._draw(display)
                if not self._displays:
                    self._thread = None
                    return
            self._wake.wait(PAUSE)

    def _due(self) -> list[Display]:
        """Return what may be drawn now. Of many displays of one run, the newest move and the others lag behind."""
        now, seen, due = time.monotonic(), dict[str, int](), []
        for display in reversed(self._displays):
            uid = display.run.uid
            seen[uid] = seen.get(uid, 0) + 1
            if display.due + (0 if seen[uid] <= LIVE_PER_RUN else OLD_PAUSE) <= now:
                due.append(display)
        return due

    def _draw(self, display: Display) -> None:
        try:
            goes_on = display.draw()
        except Exception:  # noqa: BLE001 - logged, with its traceback
            _log.exception("the display of %s could not be sent", display.run.name)
            goes_on = False
        if not goes_on and display in self._displays:
            self._displays.remove(display)


_ticker = Ticker()
_at_exit = False


def show(shell: InteractiveShell, run: Run, *, plain: bool = False) -> None:
    """Show a run in the cell that is running. Where displays can be updated, it is kept up to date; once a cell."""
    global _at_exit  # noqa: PLW0603 - one handler a process
    if not can_update(shell):
        Display(shell, run, plain=plain).draw()
        return
    if _ticker.find(run, _cell_of(shell)) is not None:
        _ticker.settle(run)
        return
    if not _at_exit:
        _at_exit = True
        atexit.register(_ticker.close)
    _ticker.add(Display(shell, run, plain=plain))


def settle(shell: InteractiveShell, run: Run, *, plain: bool = False) -> None:
    """Make sure that what is shown of the run is how it stands now; a terminal shows it anew."""
    if can_update(shell):
        _ticker.settle(run)
    else:
        Display(shell, run, plain=plain).draw()


def close() -> None:
    """Let go of every display of this process."""
    _ticker.close()


def can_update(shell: InteractiveShell) -> bool:
    """Return whether an output can be replaced here. A terminal prints each update below the last."""
    from IPython.core.displaypub import DisplayPublisher

    return type(shell.display_pub) is not DisplayPublisher


def _cell_of(shell: InteractiveShell) -> object:
    """Return what is the same for everything one execution of a cell shows, and for nothing else."""
    parent: dict[str, Any] = getattr(shell, "get_parent", dict)() or {}
    return parent.get("header", {}).get("msg_id") or shell.execution_count
