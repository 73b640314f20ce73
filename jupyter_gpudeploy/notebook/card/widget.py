"""The widget: one anywidget whose model speaks the messages of protocol.py. Imported when a card is shown."""

from __future__ import annotations

import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anywidget
import traitlets

if TYPE_CHECKING:
    from collections.abc import Callable

STATIC = Path(__file__).parents[1] / "static"


class DeployCard(anywidget.AnyWidget):
    """The model of a card. Its state holds no logs and no values: they travel as messages."""

    uid = traitlets.Unicode().tag(sync=True)
    run_name = traitlets.Unicode().tag(sync=True)

    def __init__(self, run_name: str, script: str, style: str, receive: Callable[[object], None]) -> None:
        self._esm, self._css = script, style
        super().__init__(uid=uuid.uuid4().hex, run_name=run_name)
        self.on_msg(lambda _widget, content, _buffers: receive(content))


def make(run_name: str, receive: Callable[[object], None]) -> Any:  # noqa: ANN401 - a DeployCard
    """Return a widget. Raises FileNotFoundError while the front end's part is not built."""
    script = (STATIC / "card.js").read_text("utf-8")
    style = STATIC / "card.css"
    return DeployCard(run_name, script, style.read_text("utf-8") if style.exists() else "", receive)
