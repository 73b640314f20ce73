"""The axes as widgets: the options that the script takes, and a row an axis."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING, Any

import ipywidgets as w

from jupyter_gpudeploy.notebook.sheet import clean
from jupyter_gpudeploy.notebook.wizard import axes, fields
from jupyter_gpudeploy.notebook.wizard.controls import LABEL, Note, button
from jupyter_gpudeploy.plan.option_forms import Option

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from jupyter_gpudeploy.errors import Problem
    from jupyter_gpudeploy.plan.options import Options

MOST = 40


class Row:
    """One axis. `changed(name, value)` and `removed(name)` are called when a person did so."""

    def __init__(
        self,
        name: str,
        value: Any,  # noqa: ANN401 - any YAML
        changed: Callable[[str, Any], None],
        removed: Callable[[str], None],
    ) -> None:
        self.name, self._changed, self._value = name, changed, value
        self._is_filling = False
        half = w.Layout(width="auto", flex="1 1 90px", margin="0", min_width="60px")
        self.kind = w.Dropdown(
            options=[("list of values", "list"), ("range", "range")], description=f"{name}:",
            style=LABEL, layout=w.Layout(width="244px", margin="0"),
        )  # fmt: skip
        self.values = w.Text(
            description="values", tooltip=f"the values of {name}, with commas between", placeholder="0.1, 0.01, 0.001",
            style=LABEL, layout=w.Layout(width="auto", flex="1 1 240px", margin="0"),
        )  # fmt: skip
        narrow = {"description_width": "34px"}
        self.low = w.Text(description="min", style=LABEL, layout=w.Layout(width="auto", flex="1 1 190px", margin="0"))
        self.high = w.Text(description="max", style=narrow, layout=half)
        drawn = [
            ("evenly", ""),
            *((word.replace("_", " "), word) for word in fields.distributions() if word != "uniform"),
        ]
        self.distribution = w.Dropdown(options=drawn, description="drawn", style={"description_width": "44px"},
                                       layout=w.Layout(width="150px", margin="0"))  # fmt: skip
        self.remove = button("✕", f"remove the axis {name}", lambda: removed(name))
        self.remove.add_class("gd-quiet")
        self.note = Note()
        self._line = w.HBox(layout=w.Layout(flex_flow="row wrap", align_items="center"))
        self._line.add_class("gd-row")
        self.fill(value)
        for one in (self.kind, self.values, self.low, self.high, self.distribution):
            one.observe(self._on_value, "value")
        self.widget = w.VBox([self._line, self.note.widget], layout=w.Layout(margin="0 0 4px 0"))

    def fill(self, value: Any) -> None:  # noqa: ANN401 - any YAML
        """Show this value."""
        self._value, form = value, axes.form_of(value)
        self._is_filling = True
        try:
            self.kind.value = "range" if form.is_range else "list"
            self.values.value, self.low.value, self.high.value = form.values, form.low, form.high
            known = [choice for _, choice in self.distribution.options]
            said = "" if form.distribution == "uniform" else form.distribution
            if said not in known:
                self.distribution.options = (*self.distribution.options, (said, said))
            self.distribution.value = said
        finally:
            self._is_filling = False
        self._arrange()

    def _arrange(self) -> None:
        inputs = [self.low, self.high, self.distribution] if self.kind.value == "range" else [self.values]
        self._line.children = (self.kind, *inputs, self.remove)

    def _on_value(self, change: Any) -> None:  # noqa: ANN401 - a bunch of traitlets
        if self._is_filling:
            return
        form = axes.AxisForm(self.kind.value == "range", self.values.value, self.low.value, self.high.value,
                             self.distribution.value)  # fmt: skip
        if change["owner"] is self.kind:
            self._arrange()
        self._value = axes.value_of(form, self._value)
        self._changed(self.name, self._value)

    def says(self, value: Any) -> bool:  # noqa: ANN401 - any YAML
        """Return whether the row shows this value."""
        return fields.same(self._value, value)


class AxesEditor:
    """All axes of the cell, and the ways to have more of them."""

    def __init__(
        self,
        changed: Callable[[str, Any], None],
        added: Callable[[Option], None],
        removed: Callable[[str], None],
    ) -> None:
        self._changed, self._added, self._removed = changed, added, removed
        self.rows: dict[str, Row] = {}
        self.chips: list[w.Button] = []
        self._offered: Any = None
        self._rows = w.VBox()
        self._told = w.HTML(layout=w.Layout(margin="0"))
        self._told.add_class("gd-note")
        self._chips = w.HBox(layout=w.Layout(flex_flow="row wrap"))
        self._chips.add_class("gd-chips")
        self.name = w.Text(description="another axis", placeholder="its name", style=LABEL,
                           layout=w.Layout(width="260px", margin="0"))  # fmt: skip
        self.add = button("Add", "add an axis of that name", self._add_named)
        self.hours = w.Text(description="one run takes", placeholder="hours, a guess", style=LABEL,
                            layout=w.Layout(width="260px", margin="0"))  # fmt: skip
        self.cost = w.HTML(layout=w.Layout(margin="0 0 0 10px"))
        self.note = Note()
        self.widget = w.VBox([
            self._told, self._chips, self._rows,
            w.HBox([self.name, self.add], layout=w.Layout(align_items="center")),
            w.HBox([self.hours, self.cost], layout=w.Layout(align_items="center", flex_flow="row wrap")),
            self.note.widget,
        ], layout=w.Layout(margin="0 0 6px 0"))  # fmt: skip
        self.widget.add_class("gd-field")
        self.widget.add_class("gd-axes")

    def fill(self, parameters: Any) -> None:  # noqa: ANN401 - any YAML
        """Show the axes of the cell; a row that shows its value already is left alone, cursor and all."""
        known = parameters if isinstance(parameters, dict) else {}
        for name in list(self.rows):
            if name not in known:
                del self.rows[name]
        for name, value in known.items():
            if name not in self.rows:
                self.rows[name] = Row(name, value, self._changed, self._removed)
            elif not self.rows[name].says(value):
                self.rows[name].fill(value)
        children = tuple(self.rows[name].widget for name in known)
        if self._rows.children != children:
            self._rows.children = children
        self._hide_used()

    def offer(self, options: Options | None, trouble: str) -> None:
        """Offer the options of the script, each as a button that makes it an axis."""
        if (options, trouble) == self._offered:
            return
        self._offered = (options, trouble)
        self.chips = [
            self._chip(option) for option in (options.options if options else ())[:MOST] if not option.is_list
        ]
        words = [] if trouble or options is None else ["the script takes these: choose what to vary"] * bool(self.chips)
        words += [trouble] if trouble else list(options.notes) if options else []
        words += ["no options were found in the script"] if options and not self.chips and not options.notes else []
        self._told.value = "".join(f'<div class="gd-help">{escape(clean(text))}</div>' for text in words)
        self._hide_used()

    def say(self, problems: Sequence[Problem]) -> None:
        """Show each mistake at its axis."""
        rest: list[Problem] = []
        found: dict[str, list[Problem]] = {name: [] for name in self.rows}
        for problem in problems:
            name = problem.field.removeprefix("parameters.").partition("[")[0]
            name = name if name in found else name.rpartition(".")[0]
            found.get(name, rest).append(problem)
        for name, row in self.rows.items():
            row.note.say(found[name])
        self.note.say(rest)

    def _chip(self, option: Option) -> w.Button:
        kind = {"integer": "whole number"}.get(option.kind, option.kind)
        default = "" if option.default is None else f", {option.default} unless said"
        told = f"{option.flag or option.name}: {kind}{default}" + (f". {option.help}" if option.help else "")
        chip = button(f"+ {option.name}", clean(told), lambda: self._added(option))
        chip.option_name = option.name
        chip.add_class("gd-chip")
        return chip

    def _hide_used(self) -> None:
        children = tuple(chip for chip in self.chips if chip.option_name not in self.rows)
        if self._chips.children != children:
            self._chips.children = children

    def _add_named(self) -> None:
        if name := self.name.value.strip():
            self.name.value = ""
            self._added(Option(name, f"--{name}"))
