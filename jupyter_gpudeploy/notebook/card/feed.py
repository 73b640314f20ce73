"""What all cards of one run are fed from: the run's folder, read as it grows, once for all of them.

Two threads come here. The looker (looker.py) calls `look` about once a second: where the run stands, its metrics, what
was measured; that may take long. The ticker of live.py calls `pump` several times a second: the journal and the logs,
which take next to nothing. What both touch is held under `lock`.
"""

from __future__ import annotations

import time
from threading import RLock
from typing import TYPE_CHECKING, Any

from jupyter_gpudeploy.errors import RunNotFoundError
from jupyter_gpudeploy.events.samples import SampleReader
from jupyter_gpudeploy.events.store import JournalReader, RunFolder
from jupyter_gpudeploy.notebook.card import facts
from jupyter_gpudeploy.notebook.card.curves import Curves
from jupyter_gpudeploy.notebook.card.protocol import EVENTS, SERIES
from jupyter_gpudeploy.notebook.card.tail import LogTail

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from jupyter_gpudeploy.events.status import Status
    from jupyter_gpudeploy.notebook.card.session import Session
    from jupyter_gpudeploy.notebook.card.tail import Chunk
    from jupyter_gpudeploy.run import Run

PUMP_SECONDS = 0.05
LOOK_SECONDS = 1.0
IDLE_SHARE = 10  # a look that took 0.2 s is not repeated before 2 s
LONGEST_PAUSE = 30.0
NO_GPU = "no GPU visible on this machine: CPU and memory of the run's processes"
_Attempt = tuple[int, int]


class Feed:
    """Everything that is known of one run, as it comes.

    `card` is None before the first look. `events` holds the last EVENTS. `is_gone` says that the run was replaced or
    deleted, `is_over` that nothing more comes. What is new is handed to `sessions`.
    """

    def __init__(self, run: Run, wake: Callable[[], None] = lambda: None) -> None:
        self.run = run
        self._wake = wake
        self.lock = RLock()
        self.card: dict[str, Any] | None = None
        self.curves = Curves()
        self.events: list[list[Any]] = []
        self.sessions: list[Session] = []
        self._pumped = 0.0
        self.is_gone = self.is_over = False
        self.due = 0.0
        self.folder = RunFolder(run.folder)
        self._identity = self._record_identity()
        self._journal = JournalReader(self.folder.events_file)
        self._samples = SampleReader(self.folder.samples_file)
        self._tails: dict[_Attempt, LogTail] = {}
        self._living: set[_Attempt] = set()
        self._leaving: set[_Attempt] = set()
        self._pause = LOOK_SECONDS

    @property
    def is_wanted(self) -> bool:
        """Whether a view looks at it, or the first look is still to come."""
        return self.card is None or any(session.greeted for session in tuple(self.sessions))

    def tails(self, task: int | None = None) -> list[LogTail]:
        """Return the logs there are, of one task or of all."""
        with self.lock:
            return [tail for (number, _), tail in self._tails.items() if task in (None, number)]

    def tail(self, task: int, attempt: int) -> LogTail | None:
        """Return one log."""
        with self.lock:
            return self._tails.get((task, attempt))

    def hurry(self) -> None:
        """Ask for a look now. From any thread."""
        self.due = 0.0
        self._wake()

    def pump(self, now: float) -> None:
        """Hand what is new to every session, unless that was done a moment ago. `now`: time.monotonic()."""
        if now - self._pumped < PUMP_SECONDS:
            return
        self._pumped = now
        events, chunks = self._tick(time.time())
        for session in self.sessions:
            session.take(events, chunks)

    def _tick(self, now: float) -> tuple[list[list[Any]], list[Chunk]]:
        """Return the events and the output that are new. Asks for a look when something has happened."""
        happened = self._journal.poll()
        if happened:
            self.hurry()
        made = [facts.event(each) for each in happened]
        with self.lock:
            made += self._odd(now)
            self.events = [*self.events, *made][-EVENTS:]
            living = [self._tails[key] for key in self._living if key in self._tails]
        chunks = [chunk for tail in living if (chunk := tail.poll(now)) is not None]
        with self.lock:
            self._living -= self._leaving
            self._leaving.clear()
        return made, chunks

    def look(self) -> None:
        """See where the run stands. Never fails: what goes wrong is told by the card, and tried again."""
        started = time.monotonic()
        problem = ""
        try:
            self._look()
        except RunNotFoundError:
            self.is_gone = True
        except Exception as error:  # noqa: BLE001 - whatever it is, the card says it and goes on
            problem = f"cannot be followed at the moment: {type(error).__name__}: {error}"
            with self.lock:
                if self.card is not None:
                    self.card = {**self.card, "problem": problem}
        cost = time.monotonic() - started
        calm = LONGEST_PAUSE if self.is_over else LOOK_SECONDS
        self._pause = min(self._pause * 2, LONGEST_PAUSE) if problem else max(calm, IDLE_SHARE * cost)
        self.due = time.monotonic() + self._pause

    def _look(self) -> None:
        if self._record_identity() != self._identity:
            raise RunNotFoundError(f"{self.run.name} was replaced or deleted", hint="%deploy ls")
        self._move(RunFolder(self.run.folder))
        is_first = self.card is None
        record, status, collector = self.run.parts()
        summary = self.run.summary(log_lines=0)
        samples = self._samples.poll()
        self._follow(status)
        with self.lock:
            self.curves.best = summary.best
            self.curves.labels = {row.task: row.name for row in summary.rows}
            self.curves.measure(samples)
            self.curves.collect(collector, self._when, None if is_first else time.time())
            self.card = facts.card(
                summary, status, record, notes=self.run.notes, gpu_note=self._gpu_note(), notices=self._hidden()
            )
            self.is_over = status.state.is_final

    def _move(self, folder: RunFolder) -> None:
        """Go on in another place, into which the folder was moved."""
        if folder.path == self.folder.path:
            return
        self.folder = folder
        self._journal.file, self._samples.file = folder.events_file, folder.samples_file
        with self.lock:
            for tail in self._tails.values():
                tail.file = folder.log_file(tail.task, tail.attempt)

    def _follow(self, status: Status) -> None:
        """Know every log there is, and which of them still grow."""
        for task in status.tasks.values():
            for attempt, file in self.folder.log_files(task.task):
                key = task.task, attempt
                grows = not task.state.is_final and attempt == task.attempt
                if key not in self._tails:
                    self._open(key, LogTail(*key, file, task.started if attempt == task.attempt else None))
                with self.lock:
                    if grows:
                        self._living.add(key)
                    elif key in self._living:
                        self._leaving.add(key)

    def _open(self, key: _Attempt, tail: LogTail) -> None:
        """Take what is in a log already as read: views ask for it."""
        tail.catch_up()
        with self.lock:
            self._tails[key] = tail

    def _when(self, task: int, attempt: int, line: int) -> float | None:
        tail = self._tails.get((task, attempt))
        return tail.clock.of_line(line) if tail is not None else None

    def _odd(self, now: float) -> Iterable[list[Any]]:
        odd, self.curves.odd = self.curves.odd, []
        return [[when or now, task, "warning", text] for when, task, text in odd]

    def _gpu_note(self) -> str:
        return NO_GPU if self.curves.has_processes and not self.curves.has_gpu else ""

    def _hidden(self) -> list[str]:
        count = len(self.curves.series) - SERIES
        return [f"{count} more curves are not drawn; run.metrics() has all of them"] if count > 0 else []

    def _record_identity(self) -> int | None:
        """Return what changes when another run takes this one's place under the same name."""
        try:
            return (self.run.folder / "run.json").stat().st_ino
        except OSError:
            return None
