"""MIME bundles: what is sent to a front end and kept in the notebook file. Each works without a kernel.

`register` tells IPython's formatters about our types by name, so nothing is imported before one is shown.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from IPython.core.interactiveshell import InteractiveShell

    from jupyter_gpudeploy.plan.types import Plan
    from jupyter_gpudeploy.run import Run, RunList
    from jupyter_gpudeploy.summary import Summary
    from jupyter_gpudeploy.using import Top

Bundle = dict[str, str]
RUNS = 30
LONGEST_NOTICE = 1000
_RUN = "jupyter_gpudeploy.run.Run"


class Text(str):
    """Text that a notebook shows as it is, lines and all, instead of its repr."""

    __slots__ = ()

    def _repr_pretty_(self, printer: Any, cycle: bool) -> None:  # noqa: ANN401, FBT001 - IPython's signature
        del cycle
        printer.text(str(self))


def bundle(
    summary: Summary,
    *,
    notes: Sequence[Any] = (),
    problem: str = "",
    run: Run | None = None,
    final: bool | None = None,
) -> Bundle:
    """Return the display of a run.

    `notes` are those of its plan, as Note or as the record keeps them. `problem` says why the display is not up to
    date. With `run`, the pictures of its curves are in it (twin.py): fine ones where it is `final`, what stays, and
    small ones for a display that is sent again and again. Not said, it is final when the run has ended.
    """
    from jupyter_gpudeploy.notebook import html, text, view

    card = view.card(summary, notes=notes, problem=problem)
    if run is not None:
        from jupyter_gpudeploy.notebook import twin

        card = twin.pictured(card, run, summary, final=summary.state.is_final if final is None else final)
    return {"text/plain": text.run_text(card), "text/html": html.run_html(card)}


def plan_bundle(plan: Plan) -> Bundle:
    """Return the display of a plan: what would start, where, with what, and the notes with their way out."""
    from jupyter_gpudeploy.notebook import html, planview, text

    card = planview.plan_card(plan)
    return {"text/plain": text.plan_text(card), "text/html": html.plan_html(card)}


def list_bundle(runs: RunList) -> Bundle:
    """Return the display of several runs, one a row, the first RUNS of them."""
    from jupyter_gpudeploy.notebook import html, sheet, text

    shown = [run.glance() for run in runs[:RUNS]]
    table = sheet.listing(shown, left_out=len(runs) - len(shown))
    title = f"{len(runs)} run{'s' * (len(runs) != 1)}" if shown else "no runs"
    notices = [sheet.clean(notice, LONGEST_NOTICE) for notice in runs.notices]
    return {
        "text/plain": text.list_text(table, title, notices),
        "text/html": html.list_html(table, title, notices),
    }


def top_bundle(found: Top) -> Bundle:
    """Return the display of what the running runs use."""
    from jupyter_gpudeploy.notebook import html, sheet, text, top

    table, title = top.table(found[:RUNS], max(len(found) - RUNS, 0)), top.title(found)
    notices = [*top.notices(found), *(sheet.clean(notice, LONGEST_NOTICE) for notice in found.notices)]
    return {
        "text/plain": text.list_text(table, title, notices),
        "text/html": html.list_html(table, title, notices),
    }


def register(shell: InteractiveShell) -> None:
    """Teach this shell to show our types. A Run that is shown follows the run."""

    def show_run(run: Any) -> bool:  # noqa: ANN401 - a Run, which is not imported for this
        from jupyter_gpudeploy.notebook import live

        live.show(shell, run)
        return True

    display: Any = shell.display_formatter
    display.ipython_display_formatter.for_type_by_name(*_split(_RUN), show_run)
    for name, make in _BUNDLES.items():
        display.formatters["text/plain"].for_type_by_name(*_split(name), _plain_printer(make))
        display.formatters["text/html"].for_type_by_name(*_split(name), _html_maker(make))


def unregister(shell: InteractiveShell) -> None:
    """Take back what `register` did."""
    display: Any = shell.display_formatter
    display.ipython_display_formatter.pop(_RUN, None)
    for name in _BUNDLES:
        for mime in ("text/plain", "text/html"):
            display.formatters[mime].pop(name, None)


_BUNDLES: dict[str, Callable[[Any], Bundle]] = {
    "jupyter_gpudeploy.run.RunList": list_bundle,
    "jupyter_gpudeploy.using.Top": top_bundle,
    "jupyter_gpudeploy.plan.types.Plan": plan_bundle,
    "jupyter_gpudeploy.summary.Summary": bundle,
}


def _plain_printer(make: Callable[[Any], Bundle]) -> Callable[[Any, Any, bool], None]:
    return lambda value, printer, _cycle: printer.text(make(value)["text/plain"])


def _html_maker(make: Callable[[Any], Bundle]) -> Callable[[Any], str]:
    return lambda value: make(value)["text/html"]


def _split(name: str) -> tuple[str, str]:
    module, _, kind = name.rpartition(".")
    return module, kind
