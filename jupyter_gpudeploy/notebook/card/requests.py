"""What views ask for that takes time: searched, stopped and answered on threads of their own, one a session."""

from __future__ import annotations

import logging
import threading
from collections import deque
from typing import TYPE_CHECKING, NamedTuple

from jupyter_gpudeploy.notebook.card import lines as looks
from jupyter_gpudeploy.notebook.card import match as matching
from jupyter_gpudeploy.notebook.card import pages, protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from jupyter_gpudeploy.notebook.card.feed import Feed
    from jupyter_gpudeploy.notebook.card.match import Match
    from jupyter_gpudeploy.notebook.card.protocol import Ask, Filter, Line, Log, Message
    from jupyter_gpudeploy.notebook.card.tail import Chunk

NEWEST_LINES = 200
FLOOD = 1000  # lines at once; nobody reads them as they go by
_FLOOD_LINES = 60  # of which so many are shown
_WAITING = 50
_log = logging.getLogger(__name__)


class _Newest(NamedTuple):
    """The newest lines that pass are wanted, for a snapshot."""


class Requests:
    """The questions of one session. `ask`, `answers` and `passing` are for the ticker; the rest happens elsewhere."""

    def __init__(self, feed: Feed, wake: Callable[[], None]) -> None:
        self._feed = feed
        self._wake = wake
        self._lock = threading.Lock()
        self._waiting: deque[Ask | _Newest] = deque(maxlen=_WAITING)
        self._answers: deque[Message] = deque(maxlen=_WAITING)
        self._thread: threading.Thread | None = None
        self._stopping: threading.Thread | None = None
        self._wanted = protocol.Filter()
        self._live: Match = matching.Plain()
        self._newest: Log | None = None
        self._is_closed = False

    def ask(self, ask: Ask | _Newest) -> None:
        """Begin to answer. Of filters only the last one counts."""
        if isinstance(ask, protocol.Stop):
            self._stop()
            return
        with self._lock:
            if isinstance(ask, protocol.Filter):
                left = [each for each in self._waiting if not isinstance(each, protocol.Filter)]
                self._waiting = deque(left, maxlen=_WAITING)
            self._waiting.append(ask)
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name="jupyter_gpudeploy answers", daemon=True)
                self._thread.start()

    def reset(self) -> None:
        """Every line is wanted again, as by a view that was just opened."""
        self._take_filter(protocol.Filter(), matching.Plain())

    def _take_filter(self, wanted: Filter, live: Match) -> None:
        with self._lock:
            old = self._live
            if self._is_closed:
                old = live
            else:
                self._wanted, self._live, self._newest = wanted, live, None
        old.close()

    @property
    def is_ready(self) -> bool:
        """Whether there is an answer."""
        return bool(self._answers) or self._newest is not None

    def answers(self, may: Callable[[], bool]) -> Iterator[Message]:
        """Yield what is ready, while there is room for it."""
        while self._answers and may():
            yield self._answers.popleft()

    def newest(self) -> Log | None:
        """Return the newest lines that pass; None while they are being searched."""
        if self._live.is_open:
            return pages.newest(self._feed.tails(self._wanted.task), self._live, NEWEST_LINES)
        found, self._newest = self._newest, None
        if found is None and not any(isinstance(each, _Newest) for each in tuple(self._waiting)):
            self.ask(_Newest())
        return found

    def passing(self, chunk: Chunk) -> tuple[list[Line], int]:
        """Return the new lines of a log that pass, and how many of its lines would, were all of them looked at."""
        if self._wanted.task not in (None, chunk.task):
            return [], 0
        match = self._live
        few = chunk.lines if chunk.whole <= FLOOD else chunk.lines[-_FLOOD_LINES:]
        raws = _fitting(few) if match.is_open else chunk.lines
        chosen = match.select(b"\n".join(raws), raws) or ()
        first = chunk.number + chunk.whole - len(raws)
        made = [looks.line(raws[index], first + index, chunk.task, chunk.attempt, chunk.time) for index in chosen]
        if made and chunk.extra and len(raws) == len(chunk.lines) and chosen[0] == 0:
            made[0] = made[0]._replace(cut=made[0].cut + chunk.extra)
        return made, chunk.whole if match.is_open else len(made)

    def passes_rest(self, chunk: Chunk) -> bool:
        """Return whether the line that has no end yet is wanted."""
        if not chunk.rest or self._wanted.task not in (None, chunk.task):
            return False
        return self._live.is_open or bool(self._live.select(chunk.rest, [chunk.rest]))

    def close(self) -> None:
        """Let go of what is held."""
        with self._lock:
            self._is_closed = True
            self._waiting.clear()
        self._live.close()

    def _work(self) -> None:
        while True:
            with self._lock:
                if not self._waiting:
                    self._thread = None
                    return
                ask = self._waiting.popleft()
            try:
                answer = self._answer(ask)
                if answer is not None:
                    self._answers.append(answer)
            except Exception as error:  # noqa: BLE001 - told where it was asked
                _log.debug("a request could not be answered", exc_info=True)
                self._answers.append({"type": "error", "message": f"{type(error).__name__}: {error}"})
            self._wake()

    def _answer(self, ask: Ask | _Newest) -> Message | None:
        wanted = ask if isinstance(ask, protocol.Filter) else self._wanted
        match = matching.of(wanted)
        try:
            log = self._find(ask, wanted, match)
            if match.problem:
                log = log._replace(note=match.problem)
        except BaseException:
            match.close()
            raise
        if isinstance(ask, protocol.Filter):
            self._take_filter(wanted, match)  # from now on, of new lines too
        else:
            match.close()
        if isinstance(ask, _Newest):
            self._newest = log
            return None
        return {"type": "log", "request": getattr(ask, "request", 0), "log": log.message()}

    def _find(self, ask: Ask | _Newest, wanted: Filter, match: Match) -> Log:
        tails = self._feed.tails(wanted.task)
        if isinstance(ask, protocol.Page):
            known = ((self._feed.tail(task, attempt), end) for task, attempt, end in ask.before)
            return pages.Reading([(tail, end) for tail, end in known if tail is not None], match).backwards()
        if isinstance(ask, protocol.Jump):
            return pages.moment(tails, ask.time, match)
        if isinstance(ask, protocol.FullLog):
            files = [(tail.task, str(tail.file)) for tail in self._feed.tails(ask.task)]
            where = files[-1][1] if files else "nothing was printed yet"
            return protocol.Log((), note=f"the whole log, on the kernel's machine: {where}", files=files)
        return pages.newest(tails, match)

    def _stop(self) -> None:
        if self._stopping is None or not self._stopping.is_alive():
            self._answers.append({"type": "stopping"})
            self._stopping = threading.Thread(target=self._end_run, name="jupyter_gpudeploy stop", daemon=True)
            self._stopping.start()

    def _end_run(self) -> None:
        try:
            self._feed.run.stop()
        except Exception as error:  # noqa: BLE001 - told where it was asked
            self._answers.append({"type": "error", "message": str(error) or type(error).__name__})
        self._feed.hurry()
        self._wake()


def _fitting(raws: list[bytes]) -> list[bytes]:
    """Return the last lines, about as many as fit into a tick."""
    room, first = protocol.TICK_BYTES, len(raws)
    while first and room > 0:
        first -= 1
        room -= min(len(raws[first]), protocol.LINE_CHARACTERS) + 40
    return raws[first:]
