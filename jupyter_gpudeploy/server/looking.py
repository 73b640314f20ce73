"""What the panel is told: all runs as plain values, looked at again and again at little cost.

A run that has ended is described once, until its journal changes. One that is alive and of this person is followed, as
`attach` does it, so that its progress is known; that begins in a thread, since a cluster takes its time. Whatever
cannot be read or asked is said where it belongs, and hides nothing else.
"""

from __future__ import annotations

import logging
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from jupyter_gpudeploy import launching, using
from jupyter_gpudeploy._version import __version__
from jupyter_gpudeploy.backends.base import Answer
from jupyter_gpudeploy.errors import GpuDeployError
from jupyter_gpudeploy.events.store import RunFolder
from jupyter_gpudeploy.events.text import one_line
from jupyter_gpudeploy.events.types import State
from jupyter_gpudeploy.server.facts import Read, facts
from jupyter_gpudeploy.settings_file import settings_file
from jupyter_gpudeploy.summary import unseen

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from jupyter_gpudeploy.run import Run
    from jupyter_gpudeploy.summary import Summary
    from jupyter_gpudeploy.using import Use

API = 1
ENDED = 200
_USE_SECONDS = 10.0
_AT_ONCE = 4
_BEGUN = (State.STARTING, State.RUNNING, State.READY)
_LOG = logging.getLogger(__name__)


@dataclass
class Known:
    """What is known of one run from look to look. `problem`: what could not be done with it."""

    run: Run
    said: dict[str, Any] | None = None
    stamp: tuple[int, int] | None = None
    use: Use | None = None
    used_at: float = 0.0
    is_stopping: bool = False
    is_begun: bool = False
    problem: str = ""


class Looking:
    """All runs. Its methods may take seconds and be called from any thread; one looks, the others wait for it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._known: dict[str, Known] = {}
        self._room = threading.Semaphore(_AT_ONCE)
        _say_once("jupyter_gpudeploy.backends.local.backend", "jupyter_gpudeploy.launching")

    def listing(self) -> dict[str, Any]:
        """Return what the panel shows: `runs`, newest first, and `places` that were asked for them."""
        with self._lock:
            return self._look()

    def known(self, uid: str) -> Known | None:
        """Return the run of that id; None for whatever is none. It is looked for once more where it is not known."""
        found = self._known.get(uid)
        if found is None:
            self.listing()
            found = self._known.get(uid)
        return found

    def describe(self, known: Known) -> dict[str, Any]:
        """Return what is said of one run."""
        with self._lock:
            return self._described(known, _prices([]))

    def _look(self) -> dict[str, Any]:
        places: list[dict[str, Any]] = []
        prices = _prices(places)
        runs = [run for backend in _backends() for run in self._asked(backend, places)]
        runs.sort(key=lambda run: run.ref.created, reverse=True)
        self._known = {run.uid: self._known.get(run.uid) or Known(run) for run in runs}
        said, ended = [], 0
        for known in self._known.values():
            if ended >= ENDED and self._has_ended(known):
                ended += 1
                continue
            said.append(self._described(known, prices))
            ended += said[-1]["is_over"]
        return {
            "api": API,
            "version": __version__,
            "time": time.time(),
            "runs": said,
            "places": places,
            "more": max(0, ended - ENDED),
        }

    def _asked(self, backend: str, places: list[dict[str, Any]]) -> Sequence[Run]:
        """Return the runs of a backend, and add which of its places answered."""
        try:
            found = launching.runs(backend, known={uid: known.run for uid, known in self._known.items()})
        except Exception as error:  # noqa: BLE001 - one backend must not hide the others
            places.append(_place(backend, Answer(backend, *_told(error))))
            return ()
        places.extend(_place(backend, answer) for answer in found.answers)
        return found

    def _described(self, known: Known, prices: Mapping[str, float]) -> dict[str, Any]:
        try:
            said = self._said(known, prices)
            problem = known.problem
        except Exception as error:  # noqa: BLE001 - one broken run must not hide the others
            message, hint = _told(error)
            problem = f"{message}: {hint}" if hint else message
            said = facts(known.run.ref, unseen(known.run.ref, None, problem, ""))
            said |= {"can_stop": False, "stop_costs": ""}
        if said["is_over"]:
            known.is_stopping = False
        return {**said, "is_stopping": known.is_stopping, "problem": one_line(problem)}

    def _said(self, known: Known, prices: Mapping[str, float]) -> dict[str, Any]:
        run = known.run
        if not run.is_followed:
            known.stamp = None
            summary = run.glance()
            if not summary.state.is_final and not summary.owner:
                self._begin(known)
            return facts(run.ref, summary)
        stamp = _stamp(run)
        if known.said is not None and known.stamp == stamp and known.said["is_over"]:
            return known.said
        summary = run.summary(log_lines=0, metrics=bool(run.record.get("metric")))
        read = Read(run.record, run.status(), _use(known, summary, prices), prices)
        known.said, known.stamp = facts(run.ref, summary, read), stamp
        if summary.state.is_final:
            run.forget()
        return known.said

    def _has_ended(self, known: Known) -> bool:
        try:
            return known.run.glance().state.is_final
        except Exception:  # noqa: BLE001 - told where it is described
            return False

    def _begin(self, known: Known) -> None:
        """Begin to follow a run that lives elsewhere; a few at once."""
        if known.is_begun or not self._room.acquire(blocking=False):
            return
        known.is_begun = True

        def begin() -> None:
            try:
                known.run.catch_up()
            except GpuDeployError as error:
                _LOG.info("%s cannot be followed: %s", known.run.name, error)
            finally:
                known.is_begun = False
                self._room.release()

        threading.Thread(target=begin, name="jupyter_gpudeploy follow", daemon=True).start()


def _backends() -> list[str]:
    """Return those in use; this machine alone where the settings cannot be read, which is said elsewhere."""
    try:
        return launching.backends_in_use()
    except GpuDeployError:
        return [launching.LOCAL]


def _prices(places: list[dict[str, Any]]) -> Mapping[str, float]:
    """Return the prices, and add the settings file where it cannot be read."""
    try:
        return using.known_prices()
    except GpuDeployError as error:
        places.append(_place("settings", Answer(str(settings_file()), *_told(error))))
        return {}


def _place(backend: str, answer: Answer) -> dict[str, Any]:
    return {
        "backend": one_line(backend),
        "name": one_line(answer.place),
        "ok": not answer.problem,
        "problem": one_line(answer.problem),
        "hint": one_line(answer.hint),
    }


def _told(error: Exception) -> tuple[str, str]:
    if isinstance(error, GpuDeployError):
        return error.message, error.hint
    _LOG.debug("a look failed", exc_info=error)
    return f"{type(error).__name__}: {error}", ""


def _use(known: Known, summary: Summary, prices: Mapping[str, float]) -> Use | None:
    """Return what a living run uses; that is read now and then, for it is minutes of samples."""
    if summary.state not in _BEGUN:
        known.use = None
    elif known.use is None or time.monotonic() - known.used_at >= _USE_SECONDS:
        known.use, known.used_at = using.use(known.run, summary, prices), time.monotonic()
    return known.use


def _stamp(run: Run) -> tuple[int, int]:
    """Return what changes with the journal."""
    try:
        found = RunFolder(run.folder).events_file.stat()
    except FileNotFoundError:
        return 0, 0
    return found.st_mtime_ns, found.st_size


class _Once(logging.Filter):
    """Lets each message through once: what is wrong with a folder is found again at every look."""

    def __init__(self) -> None:
        super().__init__()
        self._said: set[str] = set()

    def filter(self, record: logging.LogRecord) -> bool:
        message = record.getMessage()
        is_new = message not in self._said
        self._said.add(message)
        return is_new


def _say_once(*names: str) -> None:
    for name in names:
        logger = logging.getLogger(name)
        if not any(isinstance(each, _Once) for each in logger.filters):
            logger.addFilter(_Once())
