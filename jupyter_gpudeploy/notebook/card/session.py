"""What one card says to its views, and how fast: never more than the protocol allows, and nothing to nobody.

Messages come in on any thread and wait in an inbox. Everything else happens in `tick`, on one thread: it takes what
the feed brought and sends what is due. A view that does not answer is sent nothing; when it answers again, or can be
seen again, a snapshot brings it up to date.
"""

from __future__ import annotations

import json
import time
from collections import deque
from typing import TYPE_CHECKING, Any, NamedTuple

from jupyter_gpudeploy.notebook.card import facts, protocol
from jupyter_gpudeploy.notebook.card import lines as looks
from jupyter_gpudeploy.notebook.card.rate import Rate
from jupyter_gpudeploy.notebook.card.requests import Requests
from jupyter_gpudeploy.notebook.card.series import RING, Series, shares

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from jupyter_gpudeploy.notebook.card.curves import Curves
    from jupyter_gpudeploy.notebook.card.feed import Feed
    from jupyter_gpudeploy.notebook.card.protocol import Ask, Line, Message
    from jupyter_gpudeploy.notebook.card.tail import Chunk

LINES_SECONDS = 0.1
POINTS_SECONDS = 0.5
CARD_SECONDS = 1.0
CHOOSE_SECONDS = 10.0
HEARTBEAT_SECONDS = 10.0
BLIND_SECONDS = 600.0
SNAPSHOT_BYTES = 260_000
_ASKED = 200
_SNAPSHOT_EVENTS = 200


class _Sent(NamedTuple):
    """What the views have by now. `points`: of each series, how many of all that ever came."""

    points: dict[int, int]
    generation: int
    chosen_at: float


class Session:
    """One card: its views taken together. `send` is called from `tick` and `bye` only."""

    def __init__(
        self,
        feed: Feed,
        send: Callable[[Message, list[bytes]], None],
        wake: Callable[[], None],
        is_deaf: Callable[[], bool] = lambda: False,
    ) -> None:
        self._feed = feed
        self._send = send
        self._inbox: deque[Ask] = deque(maxlen=_ASKED)
        self._wake = wake
        self._is_deaf = is_deaf
        self._requests = Requests(feed, wake)
        self._rate = Rate()
        self._seq = self._acked = 0
        self._unseen_since = 0.0
        self._visible = True
        self._needs_snapshot = False
        self._sent = _Sent({}, 0, 0.0)
        self._card: Message | None = None
        self._events: list[Any] = []
        self._lines: deque[Line] = deque()
        self._lines_size = 0
        self._hidden = 0
        self._due = dict.fromkeys(("lines", "points", "card", "events"), 0.0)
        self.greeted = self.has_left = False
        self.moved = 0.0

    # --- from any thread

    def receive(self, content: object) -> None:
        """Take what a view said. What is no message of ours is passed over."""
        try:
            ask = protocol.parse(content)
        except ValueError:
            return
        self._inbox.append(ask)
        self._wake()

    # --- from the ticker

    @property
    def has_news(self) -> bool:
        """Whether a view said something, or an answer to it is ready."""
        return bool(self._inbox) or self._requests.is_ready

    def take(self, events: Sequence[Any], chunks: Sequence[Chunk]) -> None:
        """Take what is new."""
        if not self.greeted or self._needs_snapshot or not self._visible:
            return
        self._events += events
        for chunk in chunks:
            self._take_chunk(chunk)

    def tick(self, now: float) -> None:
        """Send what is due. `now`: time.monotonic()."""
        while self._inbox:
            self._hear(self._inbox.popleft(), now)
        if self.greeted:
            self._speak(now)

    def bye(self, message: str) -> None:
        """Say that nothing more comes, and let go of what is held."""
        self._requests.close()
        if self.greeted:
            self._post({"type": "bye", "message": message}, [], time.monotonic())

    def forget(self) -> None:
        """Take no view as there any more, until one says hello again."""
        self.greeted = False

    def _hear(self, ask: Ask, now: float) -> None:
        if isinstance(ask, protocol.Hello):
            self.greeted = self._visible = self._needs_snapshot = True
            self.has_left = False
            self._requests.reset()
            self._feed.hurry()
            self._is_answered(self._seq, now)
        elif isinstance(ask, protocol.Ack):
            self._needs_snapshot |= self._is_stalled(now)
            self._is_answered(ask.seq, now)
        elif isinstance(ask, protocol.Visible):
            self._needs_snapshot |= ask.visible and not self._visible
            self._visible = ask.visible
            self._is_answered(self._seq, now)
        elif isinstance(ask, protocol.Left):
            self.has_left = True
        else:
            self._requests.ask(ask)

    def _is_answered(self, seq: int, now: float) -> None:
        self._acked = max(self._acked, min(seq, self._seq))
        self._unseen_since = now

    def _is_stalled(self, now: float) -> bool:
        """Return whether the views are behind, or gone. While a cell computes none can be heard: they get less then."""
        unseen, silent = self._seq - self._acked, now - self._unseen_since
        if unseen and self._is_deaf():
            self._rate.slow = unseen > protocol.UNSEEN_MESSAGES // 2
            return silent > BLIND_SECONDS
        self._rate.slow = False
        return unseen > protocol.UNSEEN_MESSAGES or (unseen > 0 and silent > protocol.SILENCE_SECONDS)

    def _speak(self, now: float) -> None:
        if self._is_stalled(now):
            self._needs_snapshot = True
            self._drop()
            return
        for answer in self._requests.answers(lambda: self._rate.has_room(now)):
            self._post(answer, [], now)
        if self._visible and self._needs_snapshot:
            self._send_snapshot(now)
        elif self._visible:
            for part in (self._say_lines, self._say_points, self._say_events):
                part(now)
        self._say_card(now)

    def _drop(self) -> None:
        self._hidden += len(self._lines)
        self._lines.clear()
        self._lines_size = 0
        self._events.clear()

    # --- what is said

    def _send_snapshot(self, now: float) -> None:
        feed = self._feed
        if feed.card is None or not self._rate.has_room(now, SNAPSHOT_BYTES):
            return
        log = self._requests.newest()
        if log is None:  # it is being searched
            return
        self._drop()
        with feed.lock:
            chosen = choose(feed.curves)
            given = shares([len(each) for each in chosen], protocol.SNAPSHOT_POINTS)
            points = [(each.number, each.since(0, max(share, 2))) for each, share in zip(chosen, given, strict=True)]
            self._sent = _Sent({each.number: each.total for each in chosen}, feed.curves.generation, now)
            series = [each.message() for each in chosen]
            self._card, events = feed.card, feed.events[-_SNAPSHOT_EVENTS:]
        self._needs_snapshot = False
        self._hidden = 0
        self._post(*protocol.snapshot(self._card, series, points, events, log), now)

    def _say_lines(self, now: float) -> None:
        if not self._lines or now < self._due["lines"] or not self._rate.has_room(now, self._lines_size):
            return
        self._due["lines"] = now + LINES_SECONDS
        message = {"type": "lines", "lines": [list(line) for line in self._lines], "hidden": self._hidden}
        self._lines.clear()
        size, self._lines_size = self._lines_size, 0
        self._post(message, [], now, size)

    def _say_points(self, now: float) -> None:
        if now < self._due["points"] or not self._rate.has_room(now):
            return
        self._due["points"] = now + POINTS_SECONDS
        with self._feed.lock:
            curves = self._feed.curves
            if curves.generation != self._sent.generation or self._misses_better(curves, now):
                self._needs_snapshot = True
                return
            new, points = self._fresh(curves)
        if points:
            self._post(*protocol.append(new, points), now)

    def _fresh(self, curves: Curves) -> tuple[list[Message], list[tuple[int, protocol.Points]]]:
        sent = self._sent.points
        room = protocol.SERIES - len(sent)
        candidates = [each for number, each in curves.series.items() if each.total != sent.get(number, 0)]
        known = [each for each in candidates if each.number in sent]
        added = [each for each in candidates if each.number not in sent][: max(room, 0)]
        moving = [*known, *added]
        waiting = [each.total - sent.get(each.number, 0) for each in moving]
        given = shares(waiting, protocol.APPEND_POINTS)
        is_little = sum(waiting) <= protocol.SNAPSHOT_POINTS and max(waiting, default=0) <= RING // 2
        take = Series.after if is_little else Series.since  # what is left of a little goes next
        points = []
        for each, count, share in zip(moving, waiting, given, strict=True):
            seen = each.total - count
            points.append((each.number, take(each, seen, max(share, 2))))
            sent[each.number] = seen + len(points[-1][1].value) if is_little else each.total
        return [each.message() for each in added], points

    def _misses_better(self, curves: Curves, now: float) -> bool:
        """Return whether other curves should be drawn by now than those that are."""
        if len(curves.series) <= protocol.SERIES or now - self._sent.chosen_at < CHOOSE_SECONDS:
            return False
        return {each.number for each in choose(curves)} != self._sent.points.keys()

    def _say_events(self, now: float) -> None:
        if self._events and now >= self._due["events"] and self._rate.has_room(now):
            self._due["events"] = now + CARD_SECONDS
            events, self._events = self._events[-protocol.EVENTS :], []
            self._post({"type": "events", "events": events}, [], now)

    def _say_card(self, now: float) -> None:
        card = self._feed.card
        if card is None or self._card is None or now < self._due["card"]:
            return
        is_quiet = now - self.moved > HEARTBEAT_SECONDS  # the views would ask whether anybody is there
        if (is_quiet or facts.differs(card, self._card)) and self._rate.has_room(now):
            self._due["card"] = now + CARD_SECONDS
            self._card = card
            self._post({"type": "card", "card": card}, [], now)

    def _post(self, message: Message, buffers: list[bytes], now: float, size: int = 0) -> None:
        """Send a message. `size`: at most so many bytes are in it, where that is known already."""
        if self._seq == self._acked:
            self._unseen_since = now
        self._seq += 1
        message = {**message, "seq": self._seq}
        size = size or len(json.dumps(message)) + sum(map(len, buffers))
        self._rate.spend(now, size + protocol.ENVELOPE)
        self.moved = now
        self._send(message, buffers)

    # --- lines

    def _take_chunk(self, chunk: Chunk) -> None:
        """Take what came into a log: its end, as far as it passes the filter and fits."""
        made, count = self._requests.passing(chunk)
        self._hidden += count - len(made)
        if chunk.rest is not None and self._requests.passes_rest(chunk):
            made.append(looks.line(chunk.rest, chunk.number + chunk.whole, chunk.task, chunk.attempt, chunk.time))
        for line in made:
            self._lines.append(line)
            self._lines_size += looks.size([line])
        while self._lines and self._lines_size > protocol.TICK_BYTES:
            self._lines_size -= looks.size([self._lines.popleft()])
            self._hidden += 1


def choose(curves: Curves) -> list[Series]:
    """Return the series that are sent: all, or of each chart its share, those that moved last."""
    every = list(curves.series.values())
    if len(every) <= protocol.SERIES:
        return every
    charts: dict[str, list[Series]] = {}
    for each in every:
        charts.setdefault(each.chart, []).append(each)
    given = shares([len(found) for found in charts.values()], protocol.SERIES)
    chosen = []
    for found, share in zip(charts.values(), given, strict=True):
        chosen += sorted(found, key=lambda each: (each.task != curves.best or each.task is None, -each.newest))[:share]
    return sorted(chosen, key=lambda each: each.number)
