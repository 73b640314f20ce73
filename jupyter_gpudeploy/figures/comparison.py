"""Trials over their parameters. Compute, then draw: what is shown is worked out as plain values, then drawn."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pandas as pd
import plotly.graph_objects as go

from jupyter_gpudeploy.errors import GpuDeployError
from jupyter_gpudeploy.figures.look import CROWD, TEXT, dressed, text
from jupyter_gpudeploy.names import shortest
from jupyter_gpudeploy.palette import COLOURS
from jupyter_gpudeploy.registry import did_you_mean

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

_CELLS = "Viridis"
_LINES = [[0.0, "#3b82f6"], [0.5, "#d946a8"], [1.0, "#f5a524"]]  # thin marks must be seen on black and on white
_DECADES = 50.0  # a spread from which a logarithmic axis shows more
_MOST_CELLS = 30


@dataclass(frozen=True, slots=True)
class Axis:
    """One direction of a picture. `data` are finite numbers, or texts of a category, in the order of the trials."""

    title: str
    data: tuple[Any, ...]
    is_number: bool

    @property
    def is_log(self) -> bool:
        """Whether the values span decades."""
        numbers: tuple[float, ...] = self.data if self.is_number else ()
        return bool(numbers) and 0 < min(numbers) * _DECADES <= max(numbers)

    @property
    def layout(self) -> dict[str, Any]:
        """How plotly is to draw it."""
        kind = "category" if not self.is_number else "log" if self.is_log else "linear"
        return {"title": {"text": text(self.title)}, "type": kind}

    @property
    def shown(self) -> tuple[Any, ...]:
        """The same, as plotly is to be given it."""
        return self.data if self.is_number else tuple(map(text, self.data))

    @property
    def order(self) -> list[Any]:
        """The different values, sorted where they are numbers."""
        different = list(dict.fromkeys(self.data))
        return sorted(different) if self.is_number else different


@dataclass(frozen=True, slots=True)
class Points:
    """Trials with a finite value of the metric. `texts` is what is shown when one is pointed at."""

    metric: Axis
    parameters: tuple[Axis, ...]
    texts: tuple[str, ...]


def compare(trials: pd.DataFrame, metric: str | None, parameters: Sequence[str] | None = None) -> go.Figure:
    """Return the metric of each trial over the parameters that differ.

    None: a bar a trial. One: values over it. Two: a heat map of a full grid, else coloured points. More: parallel
    coordinates. A parameter that is the same in all trials is left out. Trials without a finite value are not shown.
    Raises GpuDeployError for a metric or a parameter that the trials do not have.
    """
    points = _points(trials, metric, parameters)
    draw = {0: _draw_bars, 1: _draw_line, 2: _draw_plane}.get(len(points.parameters), _draw_parallel)
    figure = go.Figure(draw(points))
    left_out = len(trials) - len(points.texts)
    return dressed(figure, f"{left_out} of {len(trials)} trials have no finite value" if left_out else "")


def _points(trials: pd.DataFrame, metric: str | None, parameters: Sequence[str] | None) -> Points:
    metric = _known(metric, trials.columns)
    chosen = [_known(name, trials.columns) for name in parameters or ()]
    shown = trials[pd.to_numeric(trials[metric], errors="coerce").astype("float64").map(math.isfinite)]
    axes = [_axis(shown[name], name) for name in chosen]
    axes = [axis for axis in axes if len(set(axis.data)) > 1] or axes[:1]
    texts = []
    for (number, values), (_, settings) in zip(shown[metric].items(), shown[chosen].iterrows(), strict=True):
        named = "<br>".join(f"{text(name)} = {text(shortest(value))}" for name, value in settings.items())
        texts.append(f"trial {number}<br>{named}<br>{text(metric)} = {text(f'{values:.6g}')}")
    return Points(_axis(shown[metric], metric), tuple(axes), tuple(texts))


def _axis(column: pd.Series[Any], title: str) -> Axis:
    """Return a column as an axis: of numbers where all are finite numbers, else of texts."""
    is_number = pd.api.types.is_numeric_dtype(column) and not pd.api.types.is_bool_dtype(column)
    is_number = is_number and all(map(math.isfinite, column.astype("float64")))
    values = (float(value) for value in column) if is_number else (shortest(value) for value in column)
    return Axis(title, tuple(values), is_number)


def _known(name: str | None, columns: Iterable[Any]) -> str:
    known = [str(column) for column in columns]
    if name is None:
        raise GpuDeployError("which metric?", hint=f"metric: in the cell, or metric=; {did_you_mean('', known)}")
    if name not in known:
        raise GpuDeployError(f"the trials have no column {name!r}", hint=did_you_mean(name, known))
    return name


def _draw_bars(points: Points) -> dict[str, Any]:
    names = [shown.partition("<br>")[0] for shown in points.texts]
    bar = go.Bar(x=names, y=points.metric.data, hovertext=points.texts, hoverinfo="text", marker_color=COLOURS[0])
    return {"data": [bar], "layout": {"xaxis": {"type": "category"}, "yaxis": points.metric.layout}}


def _draw_line(points: Points) -> dict[str, Any]:
    """Draw every trial, and a line through the mean of those with the same value."""
    (axis,) = points.parameters
    pairs = list(zip(axis.data, points.metric.data, strict=True))
    groups = [(x, [value for at, value in pairs if at == x]) for x in axis.order]
    line = go.Scatter(
        x=[x if axis.is_number else text(x) for x, _ in groups], y=[sum(values) / len(values) for _, values in groups],
        mode="lines", line={"color": COLOURS[0], "width": 1.5}, opacity=0.5, hoverinfo="skip",
    )  # fmt: skip
    marks = go.Scatter(x=axis.shown, y=points.metric.data, mode="markers", hovertext=points.texts, hoverinfo="text",
                       marker={"color": COLOURS[0], "size": 9})  # fmt: skip
    layout = {"xaxis": axis.layout, "yaxis": points.metric.layout, "showlegend": False}
    return {"data": [line, marks], "layout": layout}


def _draw_plane(points: Points) -> dict[str, Any]:
    """Draw a heat map of a full grid, a point a trial otherwise."""
    across, up = points.parameters
    bar = {"title": {"text": text(points.metric.title)}, "outlinewidth": 0}
    places = list(zip(across.data, up.data, strict=True))
    layout = {"xaxis": across.layout, "yaxis": up.layout}
    is_grid = len(across.order) * len(up.order) == len(set(places))
    if not is_grid or max(len(across.order), len(up.order)) > _MOST_CELLS:
        marker = {"color": points.metric.data, "colorscale": _LINES, "size": 13, "colorbar": bar}
        marks = go.Scatter(x=across.shown, y=up.shown, mode="markers", marker=marker, hovertext=points.texts,
                           hoverinfo="text")  # fmt: skip
        return {"data": [marks], "layout": layout}
    cells = _cells(points, places)
    heat = go.Heatmap(
        x=[text(shortest(x)) for x in across.order], y=[text(shortest(y)) for y in up.order],
        z=[[cells[x, y][0] for x in across.order] for y in up.order], colorscale=_CELLS, colorbar=bar,
        hovertext=[[cells[x, y][1] for x in across.order] for y in up.order], hoverinfo="text",
        texttemplate="%{z:.4g}", xgap=2, ygap=2,
    )  # fmt: skip
    layout = {name: {**axis, "type": "category"} for name, axis in layout.items()}
    return {"data": [heat], "layout": layout}


def _cells(points: Points, places: list[tuple[Any, Any]]) -> dict[tuple[Any, Any], tuple[float, str]]:
    """Return the mean of each cell's trials, and their texts."""
    found: dict[tuple[Any, Any], tuple[list[float], list[str]]] = {}
    for place, value, shown in zip(places, points.metric.data, points.texts, strict=True):
        values, texts = found.setdefault(place, ([], []))
        values.append(value)
        texts.append(shown)
    return {place: (sum(values) / len(values), "<br>".join(texts)) for place, (values, texts) in found.items()}


def _draw_parallel(points: Points) -> dict[str, Any]:
    dimensions = [_dimension(axis) for axis in (*points.parameters, points.metric)]
    line = {"color": points.metric.data, "colorscale": _LINES, "showscale": True}
    lines = go.Parcoords(line=line, dimensions=dimensions, labelfont={"color": TEXT},
                         tickfont={"color": TEXT, "shadow": "none"}, rangefont={"color": "rgba(0,0,0,0)"})  # fmt: skip
    return {"data": [lines], "layout": {}}


def _dimension(axis: Axis) -> dict[str, Any]:
    """Return one axis of parallel coordinates, which knows neither logarithms nor categories, nor markup in ticks."""
    label = text(axis.title)
    if not axis.is_number:
        order = axis.order
        places = [order.index(value) for value in axis.data]
        return {"label": label, "values": places, "tickvals": list(range(len(order))), "ticktext": order}
    if not axis.is_log:
        return {"label": label, "values": axis.data}
    low, high = math.ceil(math.log10(min(axis.data))), math.floor(math.log10(max(axis.data)))
    ticks = axis.order if len(axis.order) <= CROWD else [10.0**power for power in range(low, high + 1)]
    return {
        "label": label,
        "values": [math.log10(value) for value in axis.data],
        "tickvals": [math.log10(tick) for tick in ticks],
        "ticktext": [shortest(tick) for tick in ticks],
    }
