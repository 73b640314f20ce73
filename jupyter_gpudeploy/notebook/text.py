"""A display as plain text, for terminals and for notebooks read without a browser: aligned, at most 100 columns."""

from __future__ import annotations

import math
import textwrap
import unicodedata
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from jupyter_gpudeploy.notebook.planview import PlanCard
    from jupyter_gpudeploy.notebook.sheet import Column, Sheet
    from jupyter_gpudeploy.notebook.view import Card, Spark

WIDTH = 100
CELL_WIDTH = 28
GAP = "  "
SPARK = 28
BLOCKS = "▁▂▃▄▅▆▇█"
CROSS = "\N{MULTIPLICATION SIGN}"


def run_text(card: Card) -> str:
    """Return the display of a run."""
    lines = [_cut(_joined(f"{card.title}: {card.state}", card.seconds, *card.facts))]
    lines += [card.progress] * bool(card.progress)
    lines += _wrapped("", [card.reason] * bool(card.reason))
    lines += [card.url] if card.url and card.url.startswith(("http://", "https://")) else []
    lines += _pairs(card.values)
    lines += _block(_with_curves(card.last, card.sparks)) if card.last else _curves(card.sparks)
    lines += _block(card.sheet)
    lines += _wrapped("! ", card.failures)
    lines += [f"{card.log_title}:"] if card.log and card.log_title else []
    lines += [_cut(f"| {line}") for line in card.log]
    lines += [f"  → {card.way_out}"] * bool(card.way_out)
    lines += _wrapped("! ", card.notices)
    lines += _wrapped("! ", [card.problem] * bool(card.problem))
    return "\n".join(lines)


def plan_text(card: PlanCard) -> str:
    """Return the display of a plan."""
    lines = [_cut(_joined(f"{card.title}: plan, nothing started", *card.facts))]
    lines += _pairs(card.decisions)
    lines += _block(card.sheet)
    for level, text in card.notes:
        lines += _wrapped(f"{level}: ", [text])
    return "\n".join(lines)


def list_text(sheet: Sheet, title: str, notices: Sequence[str] = ()) -> str:
    """Return the display of several runs."""
    return "\n".join([title, *(_block(sheet) if sheet.columns[0].cells else ()), *_wrapped("! ", notices)])


def sheet_text(sheet: Sheet, width: int = WIDTH) -> list[str]:
    """Return the lines of a table; columns for which there is no room are left out, the least important first."""
    columns, hidden = _fitting(sheet.columns, width)
    widths = [_column_width(column) for column in columns]
    lines = [GAP.join(_pad(_clip(column.title), size, column) for column, size in zip(columns, widths, strict=True))]
    for index in range(len(columns[0].cells)):
        cells = (_pad(_clip(column.cells[index]), size, column) for column, size in zip(columns, widths, strict=True))
        lines.append(GAP.join(cells))
    more = [sheet.more] * bool(sheet.more) + [f"({hidden} columns not shown)"] * bool(hidden)
    return [line.rstrip() for line in [*lines, " ".join(more)] if line.strip()]


def sparkline(values: Sequence[float], size: int = SPARK) -> str:
    """Return a curve as blocks, at most `size` of them; a cross where there was no finite number."""
    count = min(size, len(values))
    parts = [values[len(values) * place // count : len(values) * (place + 1) // count] for place in range(count)]
    finite = [[value for value in part if math.isfinite(value)] for part in parts]
    means = [sum(value / len(part) for value in part) if part else None for part in finite]
    known = [mean for mean in means if mean is not None]
    low, half = min(known, default=0.0), max(known, default=0.0) / 2 - min(known, default=0.0) / 2
    top = len(BLOCKS) - 1
    level = [BLOCKS[top // 2]] * len(BLOCKS) if half == 0 else BLOCKS
    return "".join(
        CROSS if mean is None else level[round(max(0.0, (mean / 2 - low / 2) / (half or 1.0)) * top)] for mean in means
    )


def _curves(sparks: Sequence[Spark]) -> list[str]:
    if not sparks:
        return []
    drawn = [sparkline(spark.values) for spark in sparks]
    names = [_clip(spark.name) for spark in sparks]
    columns = [max(map(_width, column)) for column in (names, drawn, [spark.last for spark in sparks])]
    lines = []
    for name, curve, spark in zip(names, drawn, sparks, strict=True):
        cells = [name + " " * (columns[0] - _width(name)), curve.ljust(columns[1]), spark.last.rjust(columns[2])]
        lines.append(_cut(GAP.join([*cells, spark.whose]).rstrip()))
    return ["", *lines]


def _with_curves(sheet: Sheet, sparks: Sequence[Spark]) -> Sheet:
    """Return the table of last values with the curves in it, beside the names."""
    curves = {spark.name: sparkline(spark.values) for spark in sparks}
    first, *others = sheet.columns
    drawn = tuple(curves.get(name, "") for name in first.cells)
    return sheet._replace(columns=(first, first._replace(cells=drawn, rank=1), *others))


def _block(sheet: Sheet | None) -> list[str]:
    return ["", *sheet_text(sheet)] if sheet else []


def _fitting(columns: Sequence[Column], width: int) -> tuple[list[Column], int]:
    kept = [column for column in columns if column.title or any(column.cells)]
    while len(kept) > 1 and sum(map(_column_width, kept)) + len(GAP) * (len(kept) - 1) > width:
        kept.remove(max(reversed(kept), key=lambda column: column.rank))
    return kept, sum(1 for column in columns if column.title or any(column.cells)) - len(kept)


def _column_width(column: Column) -> int:
    return max((_width(_clip(text)) for text in (column.title, *column.cells)), default=0)


def _pad(text: str, size: int, column: Column) -> str:
    blanks = " " * (size - _width(text))
    return blanks + text if column.numeric else text + blanks


def _clip(text: str) -> str:
    return _cut(text, CELL_WIDTH)


def _cut(text: str, width: int = WIDTH) -> str:
    if _width(text) <= width:
        return text
    while text and _width(text) > width - 1:
        text = text[: max(0, len(text) - max(1, (_width(text) - width + 1) // 2))]
    return text + "…"


def _width(text: str) -> int:
    """Return how many columns of a terminal the text takes: wide characters two, combining ones none."""
    if text.isascii():
        return len(text)
    return sum(
        0 if unicodedata.combining(sign) else 2 if unicodedata.east_asian_width(sign) in "WF" else 1 for sign in text
    )


def _pairs(values: Iterable[tuple[str, str]]) -> list[str]:
    values = list(values)
    size = max((_width(_clip(name)) for name, _ in values), default=0)
    lines = []
    for name, value in values:
        label = _clip(name) + " " * (size - _width(_clip(name)))
        lines += textwrap.wrap(f"{label}{GAP}{value}", WIDTH, subsequent_indent=" " * (size + len(GAP))) or [label]
    return lines


def _wrapped(start: str, lines: Iterable[str]) -> list[str]:
    indent = " " * len(start)
    return [part for line in lines for part in textwrap.wrap(start + line, WIDTH, subsequent_indent=indent)]


def _joined(*parts: str) -> str:
    return " · ".join(part for part in parts if part)
