"""The static form of a run's display: what needs no kernel, no widget and no script, and stays in the notebook file.

It says what the live card says: the same state, table and log, its curves as a picture, its last values as numbers.
Untrusted notebooks, `nbconvert` and plain front ends show it; a terminal gets the curves as a line of blocks.

Under way (`final=False`) a display of an ordinary sweep has less than 14 kB, so that it can be sent every second; the
last one is drawn finer. What has not changed is neither read nor drawn again.
"""

from __future__ import annotations

import dataclasses
import logging
import math
from typing import TYPE_CHECKING, NamedTuple

from jupyter_gpudeploy.notebook import history, sheet, svg, view
from jupyter_gpudeploy.notebook.sheet import clean, noun, number
from jupyter_gpudeploy.notebook.usage import usage
from jupyter_gpudeploy.palette import colour, dash

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from jupyter_gpudeploy.collect import Collector, Goal
    from jupyter_gpudeploy.events.status import Status
    from jupyter_gpudeploy.notebook.history import Curve, History, Latest
    from jupyter_gpudeploy.notebook.reprs import Bundle
    from jupyter_gpudeploy.notebook.view import Card, Figure, Spark
    from jupyter_gpudeploy.run import Run
    from jupyter_gpudeploy.summary import Summary

METRICS = 4
CURVES, FEWER = 12, 8  # in the last picture, and in those that are sent every second
NEWEST = 4  # of the curves, where there are too many
POINTS, FINAL_POINTS = 300, 2400
_DECADES = 100.0
_log = logging.getLogger(__name__)
_Curves = dict[int, dict[str, "Curve"]]


class Pictures(NamedTuple):
    """What is added to a display: pictures, curves for a terminal, and a table of last values where none is there."""

    figures: tuple[Figure, ...] = ()
    sparks: tuple[Spark, ...] = ()
    values: sheet.Sheet | None = None


def static_bundle(
    run: Run, summary: Summary, *, final: bool, notes: Sequence[object] = (), problem: str = ""
) -> Bundle:
    """Return the display of a run with its pictures. `final`: it is what stays."""
    from jupyter_gpudeploy.notebook.reprs import bundle

    return bundle(summary, notes=notes, problem=problem, run=run, final=final)


def pictured(card: Card, run: Run, summary: Summary, *, final: bool) -> Card:
    """Return the display with the pictures of its run: those of before where the run can no longer be read.

    What cannot be drawn is said among its notices.
    """
    try:
        found = pictures(run, summary, final=final)
    except Exception as error:  # noqa: BLE001 - the display without its pictures is better than none
        _log.debug("the curves of %s cannot be drawn", summary.name, exc_info=True)
        before = history.drawn(run)
        if before is None:
            notice = clean(f"the curves cannot be drawn: {type(error).__name__}: {error}")
            return dataclasses.replace(card, notices=(*card.notices, notice))
        found = before
    values = card.values if found.values is None else view.settings(summary)
    return dataclasses.replace(card, figures=found.figures, sparks=found.sparks, last=found.values, values=values)


def pictures(run: Run, summary: Summary, *, final: bool) -> Pictures:
    """Return the pictures of a run, as they were made when nothing was added since."""
    kept, status = history.of(run)
    with kept.lock:
        kept.poll()
        latest = kept.collector.latest()
        tasks = _chosen(summary, kept.collector, latest, CURVES if final else FEWER)
        marks = tuple((task, history.mark(latest[task])) for task in tasks)
        key = (final, summary.best, len(latest), marks, kept.looks)
        if kept.drawn[0] != key:
            kept.drawn = key, _draw(summary, status, kept, latest, tasks, final=final)
        made: Pictures = kept.drawn[1]
        return made


def _draw(
    summary: Summary,
    status: Status,
    kept: History,
    latest: Latest,
    tasks: Sequence[int],
    *,
    final: bool,
) -> Pictures:
    curves = kept.curves(tasks, latest)
    points = FINAL_POINTS if final else POINTS
    names = _metrics(summary, curves)
    figure = _figure(summary, curves, names, len(latest), points) if names else None
    is_table = view.is_table(summary)
    used = usage(summary, kept, status.started, points, final=final, is_told=figure is not None)
    sparks = _sparks(summary, curves)
    figures = tuple(each for each in (figure, used.figure) if each is not None)
    if is_table:
        return Pictures(figures, (*sparks, *used.sparks))
    rows = [*_last(summary, curves), *used.rows] if figures else []
    return Pictures(figures, (*sparks, *used.sparks), _table(rows) if rows else None)


def _chosen(summary: Summary, collector: Collector, latest: Mapping[int, object], most: int) -> tuple[int, ...]:
    """Return the tasks whose curves are drawn: all, or the best and the newest, in their order."""
    known = [row.task for row in summary.rows if row.task in latest]
    if len(known) <= most:
        return tuple(known)
    living = {row.task: row.state in sheet.RUNNING for row in summary.rows}
    newest = sorted(known, key=lambda task: (not living[task], -task))
    ranked = newest
    if summary.metric:
        goal: Goal = "maximize" if summary.goal == "maximize" else "minimize"
        sign = -1 if goal == "maximize" else 1
        best = collector.best(summary.metric, goal)
        ranked = sorted((task for task in known if task in best), key=lambda task: (sign * best[task], task))
    chosen = dict.fromkeys([*ranked[: most - NEWEST], *newest[:NEWEST], *ranked, *newest])
    return tuple(sorted(list(chosen)[:most]))


def _metrics(summary: Summary, curves: _Curves) -> list[str]:
    """Return the metrics that are curves: the one the run is about first. One value is no curve."""
    seen = dict.fromkeys(name for by_name in curves.values() for name in by_name)
    first = [summary.metric] if summary.metric in seen else []
    names = [*first, *(name for name in seen if name not in first)]
    return [name for name in names if any(len(each[name].value) > 1 for each in curves.values() if name in each)]


def _figure(summary: Summary, curves: _Curves, names: Sequence[str], reported: int, points: int) -> Figure:
    drawn = names[:METRICS]
    charts, told = [], []
    for name in drawn:
        chart = _chart(summary, name, {task: each[name] for task, each in curves.items() if name in each})
        charts.append(chart)
        told.append(_told(chart, clean(name), summary, len(curves)))
    title = f"{summary.name}: {', '.join(chart.title for chart in charts)}"
    alt = " ".join(told)
    caption = []
    what = noun(summary)
    if reported > len(curves):
        best = f"the best {len(curves) - NEWEST} and the newest {NEWEST}" if summary.metric else "the newest"
        caption.append(f"{len(curves)} of {reported} {what}s: {best}")
    if len(names) > METRICS:
        caption.append(f"not shown: {', '.join(clean(name, 40) for name in names[METRICS : 2 * METRICS])}")
    return view.Figure(svg.draw(charts, clean(title), alt, names=what, points=points), alt, " · ".join(caption))


def _chart(summary: Summary, name: str, curves: Mapping[int, Curve]) -> svg.Chart:
    x_title, places = _places(list(curves.values()))
    lines = []
    for (task, curve), x in zip(curves.items(), places, strict=True):
        is_bold = task == summary.best or len(curves) == 1
        label = f"{task}" + " ★" * (task == summary.best)
        note = number(_end(curve.value)) if is_bold else ""
        lines.append(svg.Line(label, x, curve.value, colour(task), dash(task), is_bold, note))
    is_log = _is_log([curve.value for curve in curves.values()], is_main=name == summary.metric, goal=summary.goal)
    return svg.Chart(clean(name), lines, x_title, log=is_log, crosses=True)


def _places(curves: Sequence[Curve]) -> tuple[str, list[Sequence[float]]]:
    """Return what x is, and x of each curve: the step or the epoch where all said it, else the number of the report."""
    for title in ("step", "epoch"):
        found = [getattr(curve, title) for curve in curves]
        if not any(map(math.isnan, (value for column in found for value in column))):
            return title, found
    return "report", [[float(place) for place in range(1, len(curve.value) + 1)] for curve in curves]


def _is_log(columns: Sequence[Sequence[float]], *, is_main: bool, goal: str | None) -> bool:
    """Return whether values shrink over decades, so that a level axis would show their beginning only."""
    ends = svg.bounds(columns)
    if ends is None or ends[0] <= 0 or (is_main and goal == "maximize"):
        return False
    return ends[1] / ends[0] >= (_DECADES if is_main else 10 * _DECADES)


def _told(chart: svg.Chart, name: str, summary: Summary, count: int) -> str:
    """Return in words what the picture shows."""
    ends = svg.bounds([line.y for line in chart.lines])
    if ends is None:
        return f"{name}: no finite value."
    many = f" of {count} {noun(summary)}s" if count > 1 else ""
    scale = ", logarithmic" if chart.log else ""
    said = f"{name} over {chart.x_title}{many}{scale}: {number(ends[0])} to {number(ends[1])}"
    bold = next((line for line in chart.lines if line.is_bold), None)
    if bold is None:
        return f"{said}."
    whose = f"; best {noun(summary)} {summary.best}" if many else ""
    return f"{said}{whose}, last {bold.note}."


def _last(summary: Summary, curves: _Curves) -> list[tuple[str, str, str, str]]:
    """Return name, last, lowest and highest value of each metric of the only task."""
    found = []
    for row in summary.rows[:1]:
        for name, value in list(row.metrics.items())[: 2 * sheet.METRICS]:
            curve = curves.get(row.task, {}).get(name)
            ends = svg.bounds([curve.value]) if curve is not None else None
            found.append((clean(name), number(value), *(("", "") if ends is None else map(number, ends))))
    return [(name, last, low, high) for name, last, low, high in found]


def _table(rows: Sequence[tuple[str, str, str, str]]) -> sheet.Sheet:
    names, *columns = zip(*rows, strict=True)
    titled = zip(("last", "lowest", "highest"), columns, strict=True)
    numbers = [sheet.Column(title, cells, numeric=True) for title, cells in titled]
    return sheet.Sheet((sheet.Column("", names), *numbers))


def _sparks(summary: Summary, curves: _Curves) -> tuple[Spark, ...]:
    """Return the curves for a terminal: of the only task each metric, of many the metric of the best and the newest."""
    if not view.is_table(summary):
        pairs = [(task, name) for task, each in curves.items() for name in each][:METRICS]
    else:
        main = summary.metric or next(iter(_metrics(summary, curves)), None)
        tasks = [task for task in curves if main in curves[task]]
        living = {row.task for row in summary.rows if row.state in sheet.RUNNING}
        tasks.sort(key=lambda task: (task != summary.best, task not in living, -task))
        shown = tasks[:METRICS] if living else tasks[:1]
        pairs = [(task, main) for task in shown if main is not None]
    found = []
    for task, name in pairs:
        values = curves[task][name].value
        if len(values) > 1:
            whose = f"{noun(summary)} {task}" + ", the best" * (task == summary.best) if view.is_table(summary) else ""
            found.append(view.Spark(clean(name), values, number(values[-1]), whose))
    return tuple(found)


def _end(values: Sequence[float]) -> float:
    return next((value for value in reversed(values) if math.isfinite(value)), math.nan)
