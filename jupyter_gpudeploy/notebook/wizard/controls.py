"""The widgets of one field: an input with its label, the help, and the mistakes right below it."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING, Any

import ipywidgets as w

from jupyter_gpudeploy.notebook.sheet import clean
from jupyter_gpudeploy.notebook.wizard import fields

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from jupyter_gpudeploy.errors import Problem
    from jupyter_gpudeploy.notebook.wizard.fields import Field

WIDE = {"width": "auto", "margin": "2px 0 0 0"}
LABEL = {"description_width": "116px"}
_LINES = 2


def told(problems: Iterable[Problem]) -> str:
    """Return mistakes as HTML that is read out when it appears; nothing for none."""
    lines = "".join(
        f"<div>{escape(clean(problem.message))}"
        + (f'<span class="gd-hint"> → {escape(clean(problem.hint))}</span>' if problem.hint else "")
        + "</div>"
        for problem in problems
    )
    return f'<div class="gd-error" role="alert">{lines}</div>' if lines else ""


class Note:
    """Text below an input: help, then mistakes. It is sent only when it changes."""

    def __init__(self, help_text: str = "") -> None:
        self._help = f'<div class="gd-help">{escape(help_text)}</div>' if help_text else ""
        self.widget = w.HTML(self._help, layout=w.Layout(margin="0", width="auto"))
        self.widget.add_class("gd-note")

    def say(self, problems: Sequence[Problem]) -> None:
        """Show these mistakes, and no others."""
        text = self._help + told(problems)
        if self.widget.value != text:
            self.widget.value = text


class Control:
    """The input of one field. `changed(path, value)` is called when a person changed it, None for an empty one."""

    def __init__(self, field: Field, changed: Callable[[fields.Path, Any], None], options: Sequence[str] = ()) -> None:
        self.field = field
        self._changed = changed
        self._is_filling = False
        self._shown: Any = None
        self.parts = [Control(part, changed, options) for part in field.parts]
        self.note = Note(field.help if len(field.path) == 1 else "")
        self.input = None if self.parts else _input(field, options)
        if self.input is None:
            inputs = [part.input for part in self.parts]
        else:
            inputs = [self.input]
            self.input.observe(self._on_value, "value")
        self.widget = w.VBox([*inputs, self.note.widget], layout=w.Layout(margin="0 0 6px 0"))
        self.widget.add_class("gd-field")

    def fill(self, value: Any) -> None:  # noqa: ANN401 - any YAML
        """Show the value of the field's key."""
        for part in self.parts:
            part.fill(value)
        if self.input is None:
            return
        own = fields.read_value(self.field, value)
        if fields.same(own, self._shown):
            return
        self._shown = own
        self._is_filling = True
        try:
            self._put(own)
        finally:
            self._is_filling = False

    def offer(self, options: Sequence[str]) -> None:
        """Offer these words while one types."""
        if isinstance(self.input, w.Combobox) and self.input.options != tuple(options):
            self.input.options = tuple(options)

    def _put(self, value: Any) -> None:  # noqa: ANN401 - any YAML
        if isinstance(self.input, w.Checkbox):
            self.input.value = value is True
            return
        text = fields.show(self.field, value)
        if isinstance(self.input, w.Dropdown) and text not in [choice for _, choice in self.input.options]:
            self.input.options = (*self.input.options, (text, text))
        self.input.value = text  # type: ignore[union-attr]

    def _on_value(self, change: Any) -> None:  # noqa: ANN401 - a bunch of traitlets
        if self._is_filling:
            return
        value = (change["new"] or None) if self.field.kind == "switch" else fields.parse(self.field, change["new"])
        self._shown = value
        self._changed(self.field.path, value)


def button(label: str, tip: str, press: Callable[[], None], kind: str = "") -> w.Button:
    """Return a button."""
    made = w.Button(description=label, tooltip=tip, button_style=kind, layout=w.Layout(width="auto"))
    made.on_click(lambda _button: press())
    return made


def _input(field: Field, options: Sequence[str]) -> Any:  # noqa: ANN401 - one of several widgets
    shared: dict[str, Any] = {"description": field.label, "style": LABEL, "layout": w.Layout(**WIDE)}
    if field.kind == "switch":
        return w.Checkbox(value=False, indent=True, **shared)
    if field.kind == "choice":
        return w.Dropdown(options=[("(not set)", ""), *((word, word) for word in field.choices)], value="", **shared)
    hint = field.default or (f"for example {field.example}" if field.example else "")
    if field.kind in ("lines", "pairs") or field.name == "description":
        return w.Textarea(placeholder=_placeholder(field, hint), rows=_LINES, **shared)
    if options or field.name == "run":
        return w.Combobox(options=tuple(options), ensure_option=False, placeholder=hint, **shared)
    return w.Text(placeholder=hint, **shared)


def _placeholder(field: Field, hint: str) -> str:
    example = field.example.strip("{}[]").replace('"', "")
    return f"one a line, for example {example}" if field.example else hint or "one a line"
