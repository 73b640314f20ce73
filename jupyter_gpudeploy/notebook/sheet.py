"""A table of runs or trials: which rows, which columns, which words. Drawn by html.py and by text.py."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from jupyter_gpudeploy.events.text import one_line
from jupyter_gpudeploy.events.types import State
from jupyter_gpudeploy.names import shortest
from jupyter_gpudeploy.quantities import format_seconds

if TYPE_CHECKING:
    from collections.abc import Sequence

    from jupyter_gpudeploy.summary import Row, Summary

ROWS = 20
PARAMETERS = 6
METRICS = 4
clean = one_line
RUNNING = (State.RUNNING, State.READY, State.STARTING)
BAD = (State.FAILED, State.LOST)


class Column(NamedTuple):
    """One column of a table. Where there is no room, the columns of the highest `rank` go first."""

    title: str
    cells: tuple[str, ...]
    numeric: bool = False
    rank: int = 0
    role: Literal["", "state", "time"] = ""


class Sheet(NamedTuple):
    """A table as text. `states` and `best` (an index) colour its rows; `more` says what is not shown."""

    columns: tuple[Column, ...]
    states: tuple[State, ...] = ()
    best: int | None = None
    more: str = ""


def trials(summary: Summary) -> Sheet:
    """Return one row a task: all of them in their order, or of many those that matter now."""
    rows = _chosen(summary)
    parameters = _varying(summary.rows)
    metrics = _metric_names(summary)
    left_out = len(summary.rows) - len(rows)
    hidden = len(parameters[PARAMETERS:]) + len(metrics[METRICS:])
    columns = [Column("", tuple("★" if row.task == summary.best else "" for row in rows), numeric=True)]
    columns += [Column(noun(summary), tuple(str(row.task) for row in rows), numeric=True)]
    columns += [_parameter_column(name, rows, rank) for rank, name in enumerate(parameters[:PARAMETERS], start=1)]
    if not parameters:
        columns += [Column("name", tuple(clean(row.name) for row in rows), rank=1)]
    columns += [_metric_column(name, rows, rank) for rank, name in enumerate(metrics[:METRICS])]
    columns += [Column("state", tuple(_state_words(row) for row in rows), role="state")]
    columns += [Column("time", tuple(_time(row) for row in rows), numeric=True, rank=2, role="time")]
    more = [f"{left_out} more {noun(summary)}s"] * bool(left_out) + [f"{hidden} more columns"] * bool(hidden)
    best = next((index for index, row in enumerate(rows) if row.task == summary.best), None)
    return Sheet(tuple(columns), tuple(row.state for row in rows), best, f"… and {' and '.join(more)}" if more else "")


def listing(summaries: Sequence[Summary], left_out: int) -> Sheet:
    """Return one row a run."""
    columns = (
        Column("name", tuple(clean(summary.name) for summary in summaries)),
        Column("kind", tuple(clean(summary.kind) for summary in summaries), rank=2),
        Column("state", tuple(_standing(summary) for summary in summaries), role="state"),
        Column("done", tuple(_share(summary) for summary in summaries), numeric=True, rank=1),
        Column("time", tuple(rounded(summary.seconds, live=False) for summary in summaries), numeric=True, role="time"),
        Column("GPU h", tuple(f"{summary.gpu_hours:.2g}" for summary in summaries), numeric=True, rank=3),
        Column("owner", tuple(clean(summary.owner) for summary in summaries), rank=2),
        Column("backend", tuple(clean(summary.backend) for summary in summaries), rank=4),
        Column("url", tuple(clean(summary.url or "") for summary in summaries), rank=5),
    )
    kept = tuple(column for column in columns if any(text.strip("0") for text in column.cells))
    states = tuple(summary.state for summary in summaries)
    return Sheet(kept or columns[:1], states, more=f"… and {left_out} more runs" if left_out else "")


def _standing(summary: Summary) -> str:
    return str(summary.state) if summary.is_seen else "not looked at"


def number(value: float) -> str:
    """Return a metric for a table: four digits that count, `NaN` and `inf` by name."""
    if math.isnan(value):
        return "NaN"
    return f"{value:.4g}"


def rounded(seconds: float | None, *, live: bool) -> str:
    """Return a duration. A live one moves in steps that grow with it, so that a still display need not be redrawn."""
    if seconds is None:
        return ""
    if not live:
        return format_seconds(seconds)
    step = next((step for limit, step in ((60, 1), (600, 5), (3600, 30)) if seconds < limit), 60)
    whole = max(0, int(seconds // step * step))
    return f"{whole} s" if whole < 60 else format_seconds(float(whole))  # noqa: PLR2004 - a minute


def fixed(rows: Sequence[Row]) -> str:
    """Return the parameters that are the same in every row: `epochs=20, seed=1`."""
    if not rows:
        return ""
    varying = set(_varying(rows))
    same = {name: value for name, value in rows[0].parameters.items() if name not in varying}
    return ", ".join(f"{clean(name)}={value_text(value)}" for name, value in same.items())


def _share(summary: Summary) -> str:
    total, failed = sum(summary.counts.values()), summary.counts.get(State.FAILED, 0)
    return "" if total <= 1 else f"{summary.done} of {total}" + (f", {failed} failed" if failed else "")


def noun(summary: Summary) -> str:
    """Return what one task of this run is called."""
    return {"sweep": "trial", "server": "replica"}.get(summary.kind, "task")


def _chosen(summary: Summary) -> list[Row]:
    """Of many rows: running first, then the best, then the failed, then what waits; each has its share."""
    rows = list(summary.rows)
    if len(rows) <= ROWS:
        return rows
    running = [row for row in rows if row.state in RUNNING]
    failed = [row for row in rows if row.state in BAD]
    ended = _ranked([row for row in rows if row.state.is_final and row not in failed], summary)
    waiting = [row for row in rows if row.state is State.WAITING]
    chosen = [*running[: ROWS // 2], *ended[: ROWS // 4], *failed[: ROWS // 4]]
    for row in (*running, *ended, *failed, *waiting):
        if len(chosen) >= ROWS:
            break
        if row not in chosen:
            chosen.append(row)
    return [row for group in (running, ended, failed, waiting) for row in group if row in chosen]


def _ranked(rows: list[Row], summary: Summary) -> list[Row]:
    sign = -1.0 if summary.goal == "maximize" else 1.0

    def place(row: Row) -> tuple[bool, bool, float]:
        value = row.metrics.get(summary.metric or "", math.nan)
        return row.task != summary.best, math.isnan(value), 0.0 if math.isnan(value) else sign * value

    return sorted(rows, key=place)


def _varying(rows: Sequence[Row]) -> list[str]:
    names = list(dict.fromkeys(name for row in rows for name in row.parameters))
    if len(rows) == 1:
        return names
    known = [row.parameters for row in rows if row.parameters]  # others have no point yet
    return [name for name in names if len({value_text(point.get(name)) for point in known}) > 1]


def _metric_names(summary: Summary) -> list[str]:
    seen = dict.fromkeys(name for row in summary.rows for name in row.metrics)
    first = [summary.metric] if summary.metric in seen else []
    return [*first, *(name for name in seen if name not in first)]


def _parameter_column(name: str, rows: Sequence[Row], rank: int) -> Column:
    known = [row.parameters.get(name) for row in rows if row.parameters]
    numeric = all(isinstance(value, int | float) and not isinstance(value, bool) for value in known)
    cells = tuple(value_text(row.parameters.get(name)) if row.parameters else "" for row in rows)
    return Column(clean(name), cells, numeric=numeric, rank=rank)


def _metric_column(name: str, rows: Sequence[Row], rank: int) -> Column:
    return Column(clean(name), _aligned([row.metrics.get(name) for row in rows]), numeric=True, rank=2 * rank)


def _aligned(values: Sequence[float | None]) -> tuple[str, ...]:
    """Return numbers with as many decimals each, so that their points stand below each other."""
    texts = [None if value is None else number(value) for value in values]
    points = [len(text.partition(".")[2]) for text in texts if text]
    if not points or any("e" in (text or "") for text in texts):
        return tuple(text or "" for text in texts)
    return tuple("" if value is None else f"{value:.{max(points)}f}".replace("nan", "NaN") for value in values)


def _state_words(row: Row) -> str:
    return f"{row.state}, attempt {row.attempt}" if row.attempt > 1 else str(row.state)


def _time(row: Row) -> str:
    return rounded(row.seconds, live=not row.state.is_final)


def value_text(value: Any) -> str:  # noqa: ANN401 - a parameter of any type
    """Return a parameter's value as it is shown."""
    return clean(shortest(value))
