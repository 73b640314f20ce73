"""The parts of the form beside its controls: the sections they stand in, what is there, and what comes out."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING, Any

import ipywidgets as w

from jupyter_gpudeploy.notebook.reprs import plan_bundle
from jupyter_gpudeploy.notebook.sheet import clean
from jupyter_gpudeploy.notebook.wizard import fields, preview
from jupyter_gpudeploy.notebook.wizard.controls import button, told

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from jupyter_gpudeploy.backends.base import Capabilities
    from jupyter_gpudeploy.errors import Problem
    from jupyter_gpudeploy.notebook.wizard.fields import Field
    from jupyter_gpudeploy.notebook.wizard.preview import Preview
    from jupyter_gpudeploy.report import Report, Row

PATIENCE = 4.0
COPY = "This front end lets no form write cells: copy the text from the tab Cell into a new cell."


class Place:
    """What there is where it would run."""

    def __init__(self) -> None:
        self.widget = w.HTML(layout=w.Layout(margin="0"))
        self._line, self._details = "", ""

    def ask(self) -> None:
        """Forget what was shown of another place; the answer may take as long as a cluster is silent."""
        self._line, self._details = "looking at what is there …", ""
        self._put()

    def show(self, can: Capabilities | None) -> None:
        """Show what the backend can do."""
        self._line = "" if can is None else escape(clean(preview.place_text(can)))
        self._put()

    def show_report(self, report: Report | None) -> None:
        """Show what was found there."""
        sections = report.sections if report else ()
        rows = [row for section in sections if section.title != "Packages" for row in section.rows]
        cells = "".join(_row(row) for row in rows)
        self._details = f"<details><summary>what is there</summary><table>{cells}</table></details>" if rows else ""
        self._put()

    def _put(self) -> None:
        text = f'<div class="gd-place"><span class="gd-help">{self._line}</span>{self._details}</div>'
        if self.widget.value != text:
            self.widget.value = text


class Sections:
    """The controls under their headings; those that matter less are made when they are asked for."""

    def __init__(self, widget_of: Callable[[Field], w.Widget], place: Place) -> None:
        self._widget_of, self._place = widget_of, place
        self._main, self._rest = w.VBox(), w.VBox()
        self._asked: list[Field] = []
        self.names: set[str] = set()
        self.more = w.Accordion(children=(self._rest,), titles=("More settings",), selected_index=None)
        self.more.observe(lambda _change: self._fill_rest(), "selected_index")
        self.widget = w.VBox([self._main, self.more])

    def arrange(self, asked: Sequence[Field]) -> None:
        """Show these fields at once, all others under "More settings"."""
        self._asked = list(asked)
        self.names = {field.name for field in asked}
        self._main.children = self._under_headings(self._asked)
        self._rest.children = ()
        self._fill_rest()

    def _fill_rest(self) -> None:
        if self.more.selected_index is None or self._rest.children:
            return
        rest = [field for field in fields.fields() if field.name not in self.names and field.name != "mode"]
        self._rest.children = self._under_headings(rest)

    def _under_headings(self, asked: Sequence[Field]) -> tuple[w.Widget, ...]:
        made: list[w.Widget] = []
        for section in dict.fromkeys(field.section for field in asked):
            made.append(w.HTML(f'<h3 class="gd-section">{escape(section)}</h3>', layout=w.Layout(margin="0")))
            made += [self._widget_of(field) for field in asked if field.section == section]
            if section == "Resources" and asked is self._asked:
                made.append(self._place.widget)
        return tuple(made)


class Outcome:
    """The text of the cell, its plan, its files, and the buttons that put it into the notebook."""

    def __init__(self, press: Callable[..., None], *, replaces: bool) -> None:
        verb = "Replace" if replaces else "Insert"
        self._replaces, self._press = replaces, press
        self.cell, self.plan, self.files = (w.HTML(layout=w.Layout(width="auto")) for _ in range(3))
        self.tabs = w.Tab(children=(self.cell, self.plan, self.files), titles=("Cell", "Plan", "Files"))
        self.insert = button(f"{verb} cell", "write the cell; nothing starts", lambda: press(run=False), "")
        self.run = button(f"{verb} and run", "write the cell and run it", lambda: press(run=True), "primary")
        self.status = w.HTML()
        self.mistakes = w.HTML(layout=w.Layout(margin="4px 0 0 0"))
        self.bridge: Any = None
        self._waiting = preview.Debounced(PATIENCE)
        bar = w.HBox([self.insert, self.run, self.status], layout=w.Layout(margin="8px 0 0 0", flex_flow="row wrap"))
        self.widget = w.VBox([self.tabs, self.mistakes, bar])
        self._has_mistakes = self._has_errors = self._wanted_run = False

    def belongs_to(self, root: w.VBox) -> None:
        """Learn the form of which this is a part; the way into the notebook is added to it where it can be."""
        try:
            from jupyter_gpudeploy.notebook.wizard.bridge import Bridge
        except ImportError:
            return
        self.bridge = Bridge(self._answered)
        self.bridge.root = root.model_id
        root.children = (*root.children, self.bridge)

    def show_cell(self, text: str) -> None:
        """Show the text of the cell."""
        self.cell.value = _text(text.rstrip("\n"), "the text of the cell")

    def show_mistakes(self, problems: Sequence[Problem], rest: Sequence[Problem], *, is_fresh: bool) -> None:
        """Show the mistakes that stand at no field; how many there are in all."""
        self._has_mistakes = bool(problems)
        labelled = [
            problem if not problem.field or problem.message.startswith(problem.field)
            else problem._replace(message=f"{problem.field}: {problem.message}")
            for problem in rest
        ]  # fmt: skip
        if is_fresh:
            hints = "; ".join(f"{problem.message} → {problem.hint}" for problem in labelled)
            self.mistakes.value = f'<div class="gd-help">Still missing: {escape(clean(hints))}</div>' if hints else ""
            self._say("")
        else:
            self.mistakes.value = told(labelled)
            count = len(problems)
            self._say(f"{count} mistake{'s' * (count != 1)} to mend" if count else "")
        self._enable()

    def show_preview(self, seen: Preview) -> None:
        """Show the plan and the files, or why there are none."""
        self._has_errors = any(plan.errors for plan in seen.plans)
        no_plan = (
            f'<div class="gd-help">{escape(clean(seen.trouble or "There is a plan when nothing is missing."))}</div>'
        )
        self.plan.value = "".join(plan_bundle(plan)["text/html"] for plan in seen.plans) or (
            told([_as_problem(seen.trouble)]) if seen.trouble and "git" not in seen.trouble else no_plan
        )
        self.files.value = _text(seen.files, "the files that launching would write") if seen.files else no_plan
        self._enable()

    def put(self, text: str, *, run: bool) -> None:
        """Put the text into the notebook; say so when the front end does not let us."""
        if self.bridge is None:
            self._unanswered()
            return
        self._waiting.call(lambda: None, lambda _nothing: self._unanswered())
        self.bridge.put(text, replace=self._replaces, run=run)
        self._wanted_run = run

    def close(self) -> None:
        """Wait for no answer any more."""
        self._waiting.close()

    def _answered(self, content: dict[str, Any]) -> None:
        self._waiting.close()
        if content.get("done") not in ("inserted", "replaced"):
            self._unanswered()
        elif self._wanted_run and not content.get("ran"):
            self._say(f"The cell was {content['done']}: run it with Shift+Enter.")
        else:
            self._say(f"The cell was {content['done']}{' and runs' if content.get('ran') else ''}.")

    def _unanswered(self) -> None:
        self.tabs.selected_index = 0
        self._say(COPY)

    def _say(self, text: str) -> None:
        self.status.value = f'<span class="gd-status" role="status">{escape(text)}</span>'

    def _enable(self) -> None:
        self.run.disabled = self._has_mistakes or self._has_errors


def _row(row: Row) -> str:
    hint = f'<div class="gd-hint">{escape(clean(row.hint))}</div>' if row.hint and row.level != "ok" else ""
    return f"<tr><td>{escape(clean(row.subject))}</td><td>{escape(clean(row.value))}{hint}</td></tr>"


def _as_problem(text: str) -> Problem:
    from jupyter_gpudeploy.errors import Problem

    return Problem(text)


def _text(text: str, label: str) -> str:
    return f'<pre class="gd-text" tabindex="0" aria-label="{label}">{escape(text)}</pre>'
