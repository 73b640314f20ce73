"""The form: the controls of one cell, its text, its mistakes, its plan. It starts nothing.

Its handlers may be called on any thread, and none waits: what takes time is done in the background, and what comes of
it is shown when it is there.
"""

from __future__ import annotations

import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import ipywidgets as w

from jupyter_gpudeploy.notebook.wizard import axes, fields, intents, offers, preview
from jupyter_gpudeploy.notebook.wizard.axes_editor import AxesEditor
from jupyter_gpudeploy.notebook.wizard.controls import Control
from jupyter_gpudeploy.notebook.wizard.panels import Outcome, Place, Sections
from jupyter_gpudeploy.notebook.wizard.style import STYLE
from jupyter_gpudeploy.spec.edit import CellText, opened

if TYPE_CHECKING:
    from collections.abc import Mapping

    from jupyter_gpudeploy.notebook.wizard.fields import Field
    from jupyter_gpudeploy.notebook.wizard.preview import Preview
    from jupyter_gpudeploy.plan.option_forms import Option
    from jupyter_gpudeploy.report import Report

PLAIN = "The deploy wizard is a form: it needs a front end that shows widgets (JupyterLab, Notebook, VS Code, Colab)."


class Wizard:
    """A form for one cell. `text` is the cell; `widget` is what is shown.

    `cell`: the text below a magic line from which the form is filled; none begins a new one. `replaces`: the form
    stands in the output of that cell, which the text replaces. Raises SpecError for a cell whose YAML cannot be read.
    """

    def __init__(
        self, cell: str = "", *, base: Path | str | None = None, line: str = "%%deploy", replaces: bool = False
    ) -> None:
        self._lock = threading.RLock()
        self._base, self._line, self._replaces = Path(base or Path.cwd()), line, replaces
        self._cell = opened(cell)
        self._default = {"backend": offers.default_backend()}
        self._is_fresh = not self._cell.values and self._cell.code is None
        self.intent = intents.intent_of(self._cell.values)
        self._seen = preview.Preview()
        self._looking = preview.Debounced()
        self._asking = preview.Debounced()
        self._listing = preview.Debounced(0)
        self._asked_place: Any = None
        self.controls: dict[str, Control] = {}
        self.axes = AxesEditor(self._axis_changed, self._axis_added, self._axis_removed)
        self.axes.hours.observe(lambda _change: self._tell_cost(), "value")
        self.place = Place()
        self.outcome = Outcome(self._put, replaces=replaces)
        self.sections = Sections(self._widget_of, self.place)
        self.goals = w.ToggleButtons(
            options=[(one.label, one.name) for one in intents.INTENTS], value=self.intent.name,
            tooltips=[one.help for one in intents.INTENTS],
        )  # fmt: skip
        self.goals.observe(lambda change: self.choose(change["new"]), "value")
        self._goal_help = w.HTML(layout=w.Layout(margin="0"))
        self.widget = self._assembled()
        self._arrange()
        self._show(self._cell)
        self._listing.call(lambda: offers.scripts(self._base), self._offer_scripts)

    @property
    def text(self) -> str:
        """The whole cell, as it would be inserted."""
        text = self._cell.text
        return f"{self._line}\n{text}" if text else f"{self._line}\n"

    @property
    def values(self) -> Mapping[str, Any]:
        """What its header says, key by key."""
        return self._cell.values

    def choose(self, name: str) -> None:
        """Begin from what the person wants."""
        with self._lock:
            before, self.intent = self.intent, intents.by_name(name)
            cell = self._cell
            for key, value in intents.settings_of(before).items():
                if cell.values.get(key) == value:
                    cell = cell.with_value((key,), None)
            for key, value in intents.settings_of(self.intent).items():
                if key not in cell.values:
                    cell = cell.with_value((key,), value)
            self._cell = cell
            if self.goals.value != name:
                self.goals.value = name
            self._arrange()
            self._show(cell)

    def change(self, path: fields.Path, value: Any) -> None:  # noqa: ANN401 - any YAML
        """Give a key, or a key inside one, this value; None takes it out."""
        with self._lock:
            self._is_fresh = False
            was_cluster = intents.on_cluster({**self._default, **self._cell.values})
            self._show(_with(self._cell, path, value))
            if was_cluster != intents.on_cluster({**self._default, **self._cell.values}):
                self._arrange()

    def settled(self, timeout: float | None = 60) -> bool:
        """Wait until the plan and everything else of the background is shown."""
        return all(one.settled(timeout) for one in (self._looking, self._asking, self._listing))

    def close(self) -> None:
        """Drop what is left to do in the background, and the widgets."""
        for one in (self._looking, self._asking, self._listing):
            one.close()
        self.outcome.close()
        self.widget.close()

    def _repr_mimebundle_(self, **_kwargs: object) -> dict[str, Any]:
        shown: Any = self.widget._repr_mimebundle_()
        data = shown[0] if isinstance(shown, tuple) else shown
        return {**data, "text/plain": PLAIN}

    def _assembled(self) -> w.VBox:
        title = "Edit the deployment" if self._replaces or self._cell.values else "New deployment"
        lead = "It writes a cell; nothing starts before you run it."
        head = w.HTML(f'{STYLE}<div class="gd-title" role="heading" aria-level="2">{title}</div>'
                      f'<div class="gd-lead">{lead}</div>')  # fmt: skip
        left = w.VBox([self.sections.widget], layout=w.Layout(flex="6 1 410px", min_width="280px"))
        right = w.VBox([self.outcome.widget], layout=w.Layout(flex="5 1 330px", min_width="260px"))
        right.add_class("gd-right")
        columns = w.HBox([left, right], layout=w.Layout(flex_flow="row wrap", align_items="flex-start"))
        columns.add_class("gd-columns")
        root = w.VBox([head, self.goals, self._goal_help, columns])
        root.add_class("gd-wizard")
        self.outcome.belongs_to(root)
        return root

    def _arrange(self) -> None:
        self._goal_help.value = f'<div class="gd-lead">{self.intent.help}</div>'
        known = {**self._default, **self._cell.values}
        asked = [field for field in fields.fields() if intents.matters(field, self.intent, known)]
        self.sections.arrange(asked)

    def _widget_of(self, field: Field) -> w.Widget:
        """Return the widget of a field, made when it is first shown."""
        if field.kind == "axes":
            return self.axes.widget
        if field.name not in self.controls:
            control = Control(field, self.change, offers.words(field.name))
            control.fill(self._cell.values.get(field.name))
            self.controls[field.name] = control
        return self.controls[field.name].widget

    def _axis_changed(self, name: str, value: Any) -> None:  # noqa: ANN401 - any YAML
        self.change(("parameters", name), value)

    def _axis_added(self, option: Option) -> None:
        with self._lock:
            self._is_fresh = False
            self._show(axes.with_axis(self._cell, option))

    def _axis_removed(self, name: str) -> None:
        with self._lock:
            option = self._seen.options.named(name) if self._seen.options else None
            self._show(axes.without_axis(self._cell, name, option))

    def _show(self, cell: CellText) -> None:
        """Show this cell: its text and its mistakes now, its plan in a moment."""
        self._cell = cell
        self.outcome.show_cell(self.text)
        values = cell.values
        for control in list(self.controls.values()):
            control.fill(values.get(control.field.name))
        self.axes.fill(values.get("parameters"))
        problems = preview.mistakes(cell.text)
        found = preview.by_key(problems)
        for name, control in self.controls.items():
            control.note.say(found.get(name, []))
        self.axes.say(found.get("parameters", []))
        seen = self.sections.names
        rest = [problem for key, several in found.items() if key not in seen for problem in several]
        self.outcome.show_mistakes(problems, rest, is_fresh=self._is_fresh)
        self._looking.call(lambda: preview.look(cell.text, values, self._base), self._looked)
        self._ask_place(values)

    def _ask_place(self, values: Mapping[str, Any]) -> None:
        place = [values.get(key) for key in ("backend", "cluster", "namespace")]
        if place != self._asked_place:
            self._asked_place = place
            self.place.ask()
            self._asking.call(lambda: preview.examined(values), self._examined)

    def _looked(self, seen: Preview) -> None:
        with self._lock:
            self._seen = seen
            self.outcome.show_preview(seen)
            self.axes.offer(seen.options, seen.script)
            self.place.show(seen.can)
            self._tell_cost()

    def _examined(self, report: Report | None) -> None:
        with self._lock:
            self.place.show_report(report)

    def _tell_cost(self) -> None:
        plan = self._seen.plans[0] if self._seen.plans else None
        text = "" if plan is None else preview.cost(plan, _hours(self.axes.hours.value), self._seen.prices)
        self.axes.cost.value = f'<span role="status">{text}</span>'

    def _offer_scripts(self, found: list[str]) -> None:
        with self._lock:
            if "run" in self.controls:
                self.controls["run"].offer(found)

    def _put(self, *, run: bool) -> None:
        with self._lock:
            self.outcome.put(self.text.removesuffix("\n"), run=run)


def _with(cell: CellText, path: fields.Path, value: Any) -> CellText:  # noqa: ANN401 - any YAML
    """Return the cell with one part changed; a short form stays short where it can."""
    if len(path) == 1:
        return cell.with_value(path, value)
    if path[0] == "parameters":
        return cell.with_value(path, value)
    parts = fields.named(path[0]).parts
    short = next((part.path[1] for part in parts if part.short), None)
    before = cell.value(path[:1])
    known = before if isinstance(before, dict) else {} if before is None or short is None else {short: before}
    after = {key: item for key, item in {**known, path[1]: value}.items() if item is not None}
    if short is not None and list(after) == [short] and not isinstance(before, dict):
        return cell.with_value(path[:1], after[short])
    if isinstance(before, dict) and after:
        return cell.with_value(path, value)
    return cell.with_value(path[:1], after or None)


def _hours(text: str) -> float | None:
    from jupyter_gpudeploy.quantities import parse_seconds

    try:
        text = text.strip().replace(",", ".")
        hours = float(text) if text.replace(".", "", 1).isdigit() else parse_seconds(text) / 3600
    except ValueError:
        return None
    return hours or None
