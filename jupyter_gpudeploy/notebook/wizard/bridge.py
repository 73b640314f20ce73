"""The way of the text from the form into the notebook.

A widget's callback cannot use IPython's `set_next_input`: its payload travels with the reply to an executed cell, and
a callback is none, so the text would appear with whatever cell runs next. The front end's own model of the notebook is
reached through the widget manager instead (bridge.js); where there is none, the form says so.
"""

from __future__ import annotations

import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anywidget
import traitlets

if TYPE_CHECKING:
    from collections.abc import Callable

SCRIPT = Path(__file__).with_name("bridge.js")


class Bridge(anywidget.AnyWidget):
    """An invisible part of the form. `answered(content)` is told what became of the text."""

    root = traitlets.Unicode().tag(sync=True)

    def __init__(self, answered: Callable[[dict[str, Any]], None]) -> None:
        self._esm = SCRIPT.read_text("utf-8")
        super().__init__()
        self._asked = ""
        self.on_msg(lambda _widget, content, _buffers: self._answer(content, answered))

    def put(self, text: str, *, replace: bool, run: bool) -> str:
        """Ask the front end to put the text into the notebook; return the question's id."""
        self._asked = uuid.uuid4().hex
        self.send({"do": "put", "id": self._asked, "text": text, "replace": replace, "run": run})
        return self._asked

    def _answer(self, content: object, answered: Callable[[dict[str, Any]], None]) -> None:
        if isinstance(content, dict) and content.get("id") == self._asked:
            answered(content)
