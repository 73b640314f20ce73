"""A card that is shown: the feed of its run, its session, its widget, tied together. For the ticker of live.py only."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from jupyter_gpudeploy.notebook.card.looker import looker
from jupyter_gpudeploy.notebook.card.session import Session

if TYPE_CHECKING:
    from collections.abc import Callable

    from jupyter_gpudeploy.notebook.card.protocol import Message
    from jupyter_gpudeploy.run import Run

VIEW = "application/vnd.jupyter.widget-view+json"
_log = logging.getLogger(__name__)


class Form:
    """The live form of one display.

    Raises ImportError or FileNotFoundError, when it is made, where there is no anywidget or no front end was built.
    """

    def __init__(self, run: Run, wake: Callable[[], None], is_deaf: Callable[[], bool]) -> None:
        from jupyter_gpudeploy.notebook.card import widget

        self.feed = looker.take(run)
        self._is_closed = False
        self.session = Session(self.feed, self._send, wake, is_deaf)
        try:
            self._widget = widget.make(run.name, self._receive)
        except BaseException:
            looker.leave(self.feed)
            raise
        self.feed.sessions.append(self.session)

    @property
    def mime(self) -> dict[str, Any]:
        """What of a bundle makes a front end show the widget."""
        return {VIEW: {"version_major": 2, "version_minor": 0, "model_id": self._widget.model_id}}

    def tick(self, now: float) -> None:
        """Send what is due. `now`: time.monotonic()."""
        self.feed.pump(now)
        self.session.tick(now)

    def close(self, message: str) -> None:
        """Say goodbye and let go of everything; of the widget when its last view has gone, which would be blank."""
        self._is_closed = True
        self.feed.sessions.remove(self.session)
        looker.leave(self.feed)
        try:
            self.session.bye(message)
            if not self.has_views:
                self._widget.close()
        except Exception:  # noqa: BLE001 - the front end may be gone
            _log.debug("a card could not be closed", exc_info=True)

    @property
    def has_views(self) -> bool:
        """Whether a page may still show it, as far as is known."""
        return self.session.greeted and not self.session.has_left

    def _receive(self, content: object) -> None:
        self.session.receive(content)
        if self._is_closed and content == {"type": "left"}:
            self._widget.close()

    def _send(self, message: Message, buffers: list[bytes]) -> None:
        self._widget.send(message, buffers)
