"""The thread that looks at runs for the cards: one for all, so that a slow look never holds up what is sent."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

from jupyter_gpudeploy.notebook.card.feed import Feed

if TYPE_CHECKING:
    from jupyter_gpudeploy.run import Run

_LONGEST = 60.0


class Looker:
    """Keeps the feeds that somebody uses. Its thread lives while there is one."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._feeds: dict[str, tuple[Feed, int]] = {}
        self._thread: threading.Thread | None = None
        self._wake = threading.Event()

    def take(self, run: Run) -> Feed:
        """Return the feed of a run, to be given back by `leave`."""
        with self._lock:
            feed, users = self._feeds.get(run.uid) or (Feed(run, self._wake.set), 0)
            self._feeds[run.uid] = feed, users + 1
            if self._thread is None:
                self._thread = threading.Thread(target=self._keep, name="jupyter_gpudeploy looker", daemon=True)
                self._thread.start()
        self._wake.set()
        return feed

    def leave(self, feed: Feed) -> None:
        """Give a feed back; nobody looks at its run any more when all have."""
        with self._lock:
            _, users = self._feeds.pop(feed.run.uid, (feed, 1))
            if users > 1:
                self._feeds[feed.run.uid] = feed, users - 1
        self._wake.set()

    def _keep(self) -> None:
        while True:
            with self._lock:
                feeds = [feed for feed, _ in self._feeds.values()]
                if not feeds:
                    self._thread = None
                    return
            self._wake.clear()
            feeds = [feed for feed in feeds if not feed.is_gone]
            for feed in feeds:
                if feed.due <= time.monotonic() and feed.is_wanted:
                    feed.look()
            longest = time.monotonic() + _LONGEST
            next_one = min((feed.due for feed in feeds if feed.is_wanted), default=longest)
            self._wake.wait(max(0.0, next_one - time.monotonic()))


looker = Looker()
