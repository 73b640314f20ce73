"""A display as HTML: inline styles only, no script, nothing loaded, right in light and dark.

Text is in the colour of the page, surfaces are transparent or a thin veil of grey, so nothing depends on the theme.
Every piece of text passes `html.escape` in `_tag`, `_cell` or `_link`; the rest is ours.
"""

from __future__ import annotations

import base64
from html import escape
from typing import TYPE_CHECKING

from jupyter_gpudeploy.events.types import State

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from jupyter_gpudeploy.notebook.planview import PlanCard
    from jupyter_gpudeploy.notebook.sheet import Column, Sheet
    from jupyter_gpudeploy.notebook.view import Card, Figure

GREEN, BLUE, RED, AMBER, GREY = "#1a7f37", "#0969da", "#cf222e", "#9a6700", "#6e7781"  # each 3:1 on white and on black
COLOURS = {
    State.WAITING: GREY,
    State.STARTING: BLUE,
    State.RUNNING: BLUE,
    State.READY: GREEN,
    State.SUCCEEDED: GREEN,
    State.FAILED: RED,
    State.STOPPED: AMBER,
    State.LOST: RED,
}
LEVELS = {"error": RED, "warning": AMBER, "info": GREY}
LINE = "1px solid rgba(128,128,128,.35)"  # a variable of the page would be taken out of an untrusted notebook
VEIL = "rgba(128,128,128,.1)"
MONO = "font-family:var(--jp-code-font-family,ui-monospace,monospace);font-size:12px"
QUIET = "opacity:.7"
TABLE = (
    "border-collapse:collapse;border:0;margin:0;width:auto;table-layout:auto;font-size:inherit;color:inherit;"
    "text-align:right;font-variant-numeric:tabular-nums"
)
LEFT = ";text-align:left;white-space:nowrap"  # numbers are on the right, as in all output of notebooks
CELL = "padding:3px 14px 3px 0"


def run_html(card: Card) -> str:
    """Return the display of a run."""
    parts = [
        _head(card.title, _chip(str(card.state), COLOURS[card.state]), card.facts, card.seconds),
        _bar(card.shares),
        _line(card.progress, f"margin-top:6px;{QUIET}"),
        _line(card.reason, "margin-top:6px"),
        _link(card.url),
        _values(card.values),
        *map(_figure, card.figures),
        sheet_html(card.last) if card.last else "",
        sheet_html(card.sheet) if card.sheet else "",
        _lines(card.failures, RED),
        _line(card.log_title, f"margin-top:8px;{QUIET}") if card.log else "",
        _log(card.log),
        _hint(card.way_out),
        _lines(card.notices, AMBER),
        _lines([card.problem] if card.problem else [], AMBER),
    ]
    return _frame(parts)


def plan_html(card: PlanCard) -> str:
    """Return the display of a plan."""
    parts = [
        _head(card.title, _chip("plan", GREY), card.facts, "nothing started"),
        _values(card.decisions, margin=8),
        sheet_html(card.sheet) if card.sheet else "",
        *(_lines([text], LEVELS.get(level, GREY)) for level, text in card.notes),
    ]
    return _frame(parts)


def list_html(sheet: Sheet, title: str, notices: Sequence[str] = ()) -> str:
    """Return the display of several runs."""
    told = [_line(f"! {notice}", f"margin-top:4px;{QUIET}") for notice in notices]
    return _frame([_line(title, "font-weight:600"), sheet_html(sheet), *told])


def sheet_html(sheet: Sheet) -> str:
    """Return a table; the row of the best is marked, each state has its colour beside its word."""
    head = "".join(
        _tag("th", column.title, f"{CELL};font-weight:500;{QUIET}{_side(column)}") for column in sheet.columns
    )
    rows = []
    for index in range(len(sheet.columns[0].cells) if sheet.columns else 0):
        weight = ";font-weight:600" if index == sheet.best else ""
        cells = "".join(
            f'<td style="{CELL}{_side(column)}{weight}">{_cell(sheet, column, index)}</td>' for column in sheet.columns
        )
        rows.append(f'<tr style="background:transparent">{cells}</tr>')
    table = (
        f'<table style="{TABLE}"><thead style="border-bottom:{LINE}"><tr style="background:transparent">{head}</tr>'
        f"</thead><tbody>{''.join(rows)}</tbody></table>"
    )
    table = f'<div style="overflow-x:auto;margin-top:8px">{table}</div>'
    return table + _line(sheet.more, f"margin-top:4px;{QUIET}")


def _frame(parts: Iterable[str]) -> str:
    return (
        f'<div style="border:{LINE};border-radius:6px;padding:10px 14px 12px;margin:2px 0;max-width:60em;'
        "font-family:var(--jp-ui-font-family,system-ui,sans-serif);font-size:13px;line-height:1.5;"
        f'color:inherit;background:transparent">{"".join(parts)}</div>'
    )


def _head(title: str, chip: str, facts: Iterable[str], right: str) -> str:
    return (
        '<div style="display:flex;flex-wrap:wrap;align-items:baseline;gap:2px 10px">'
        f"{_tag('span', title, 'font-weight:600;font-size:14px;overflow-wrap:anywhere')}{chip}"
        f"{_tag('span', ' · '.join(facts), QUIET)}"
        f"{_tag('span', right, f'margin-left:auto;{QUIET};font-variant-numeric:tabular-nums')}</div>"
    )


def _chip(text: str, colour: str) -> str:
    style = f"background:{colour};color:#fff;border-radius:9px;padding:1px 9px;font-size:11px;font-weight:600"
    return _tag("span", text, style)


def _bar(shares: Iterable[tuple[State, float]]) -> str:
    pieces = "".join(
        f'<div style="width:{share:.2%};background:{COLOURS[state]};opacity:{1 if state.is_final else 0.45}"></div>'
        for state, share in shares
    )
    style = "display:flex;height:4px;border-radius:2px;overflow:hidden;margin-top:9px;background:rgba(128,128,128,.25)"
    return f'<div style="{style}">{pieces}</div>' if pieces else ""


def _values(values: Iterable[tuple[str, str]], margin: int = 6) -> str:
    cells = "".join(
        f"{_tag('span', name, QUIET)}{_tag('span', value, 'overflow-wrap:anywhere;font-variant-numeric:tabular-nums')}"
        for name, value in values
    )
    style = f"display:grid;grid-template-columns:max-content 1fr;gap:1px 14px;margin-top:{margin}px"
    return f'<div style="{style}">{cells}</div>' if cells else ""


def _lines(lines: Iterable[str], colour: str) -> str:
    style = f"border-left:3px solid {colour};padding-left:9px;margin-top:6px;overflow-wrap:anywhere"
    inner = "".join(_tag("div", line) for line in lines)
    return f'<div style="{style}">{inner}</div>' if inner else ""


def _figure(figure: Figure) -> str:
    """Return a picture. Inline SVG would be taken out of a notebook that is not trusted; an image stays."""
    source = base64.b64encode(figure.svg.encode()).decode()
    picture = (
        f'<img alt="{escape(figure.alt)}" style="display:block;max-width:100%;height:auto;margin:0" '
        f'src="data:image/svg+xml;base64,{source}">'
    )
    caption = _tag("figcaption", figure.caption, f"margin-top:2px;{QUIET}") if figure.caption else ""
    return f'<figure style="margin:10px 0 0;padding:0">{picture}{caption}</figure>'


def _hint(command: str) -> str:
    return _tag("div", f"→ {command}", f"{MONO};padding-left:12px;margin-top:4px;{QUIET}") if command else ""


def _log(lines: Iterable[str]) -> str:
    text = "\n".join(lines)
    style = (
        f"{MONO};line-height:1.45;margin:8px 0 0;padding:6px 9px;border:0;border-radius:4px;background:{VEIL};"
        "color:inherit;white-space:pre-wrap;overflow-wrap:anywhere"
    )
    return _tag("pre", text, style) if text else ""


def _link(url: str | None) -> str:
    if not url or not url.startswith(("http://", "https://")):
        return ""
    address = escape(url)
    style = "color:var(--jp-content-link-color,#2f81f7)"
    return (
        f'<div style="margin-top:6px"><a href="{address}" target="_blank" rel="noopener noreferrer" style="{style}">'
        f"{address}</a></div>"
    )


def _cell(sheet: Sheet, column: Column, index: int) -> str:
    text = escape(column.cells[index])
    if column.role != "state" or index >= len(sheet.states):
        return text
    return f'<span style="color:{COLOURS[sheet.states[index]]}">●</span> {text}'


def _side(column: Column) -> str:
    return "" if column.numeric else LEFT


def _line(text: str, style: str) -> str:
    return _tag("div", text, f"{style};overflow-wrap:anywhere") if text else ""


def _tag(name: str, text: str, style: str = "") -> str:
    attribute = f' style="{style}"' if style else ""
    return f"<{name}{attribute}>{escape(text)}</{name}>"
