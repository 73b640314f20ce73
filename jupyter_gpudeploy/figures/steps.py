"""One metric over the steps, a line a trial. Compute, then draw."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import plotly.graph_objects as go

from jupyter_gpudeploy.errors import GpuDeployError
from jupyter_gpudeploy.figures.look import CROWD, dressed, text
from jupyter_gpudeploy.frames.results import only
from jupyter_gpudeploy.names import shortest
from jupyter_gpudeploy.palette import COLOURS

if TYPE_CHECKING:
    import pandas as pd

_CROWDED = 30  # points from which marks hide the line

Goal = Literal["minimize", "maximize"]


@dataclass(frozen=True, slots=True)
class Curve:
    """One trial over its steps. `gaps` are the places of NaN and infinity: x, where to draw the mark, what it was."""

    name: str
    x: tuple[float, ...]
    y: tuple[float | None, ...]
    gaps: tuple[tuple[float, float, str], ...]
    best: float


def one(
    metrics: pd.DataFrame, metric: str | None, trials: pd.DataFrame | None = None, goal: Goal | None = None
) -> go.Figure:
    """Return the metric over the steps, a line a trial, the best one on top and first in the legend.

    A NaN or infinity is a gap with a mark. Of several attempts the last is shown. `goal` is told by the `best_` column
    of `trials` where it is not given. None as a metric is the only one that was seen. Raises GpuDeployError for a
    metric that was never reported.
    """
    metric = metric or only(list(dict.fromkeys(metrics["metric"])))
    found, x_title = _curves(metrics, metric, goal or _goal(metrics, metric, trials))
    figure = go.Figure()
    for place, curve in reversed(list(enumerate(found))):  # what is drawn last is on top
        _draw_curve(figure, curve, place)
    figure.update_layout(
        xaxis={"title": {"text": x_title}}, yaxis={"title": {"text": text(metric)}}, showlegend=len(found) <= CROWD,
        legend={"traceorder": "reversed"}, hovermode="closest",
    )  # fmt: skip
    return dressed(figure, "")


def _curves(metrics: pd.DataFrame, metric: str | None, goal: Goal) -> tuple[list[Curve], str]:
    """Return the curves, best first, and what their x is."""
    seen = list(dict.fromkeys(metrics["metric"]))
    metric = _known_metric(metric, seen)
    chosen = metrics[metrics["metric"] == metric]
    chosen = chosen[chosen["attempt"] == chosen.groupby("trial")["attempt"].transform("max")]
    x_title = next((name for name in ("step", "epoch") if bool(chosen[name].notna().all())), "report")
    found = [_curve(rows, x_title, goal) for _, rows in chosen.groupby("trial")]
    sign = -1 if goal == "maximize" else 1
    return sorted(found, key=lambda curve: (math.isnan(curve.best), sign * curve.best)), x_title


def _known_metric(metric: str | None, seen: list[str]) -> str:
    listed = f"seen: {', '.join(seen)}" if seen else "no metric was seen at all"
    if metric is None:
        raise GpuDeployError("which metric?", hint=f"metric: in the cell, or metric=; {listed}")
    if metric not in seen:
        raise GpuDeployError(f"metric {metric!r} was never printed; {listed}")
    return metric


def _curve(rows: pd.DataFrame, x_title: str, goal: Goal) -> Curve:
    x = range(1, len(rows) + 1) if x_title == "report" else rows[x_title]
    values = [float(value) for value in rows["value"]]
    finite = [value for value in values if math.isfinite(value)]
    height = finite[0] if finite else 0.0
    gaps = []
    for at, value in zip(x, values, strict=True):
        if math.isfinite(value):
            height = value
        else:
            gaps.append((float(at), height, str(value).replace("nan", "NaN")))
    y = tuple(value if math.isfinite(value) else None for value in values)
    best = (max if goal == "maximize" else min)(finite, default=math.nan)
    return Curve(str(rows["name"].iloc[0]), tuple(float(at) for at in x), y, tuple(gaps), best)


def _goal(metrics: pd.DataFrame, metric: str | None, trials: pd.DataFrame | None) -> Goal:
    """Return which end is better, told by the best values that the trials have."""
    if trials is None or f"best_{metric}" not in trials:
        return "minimize"
    ends = metrics[metrics["metric"] == metric].groupby("trial")["value"].agg(["max", "min"])
    best = trials[f"best_{metric}"].dropna()
    at_top, at_bottom = (int((best == ends[end].reindex(best.index)).sum()) for end in ("max", "min"))
    return "maximize" if at_top > at_bottom else "minimize"


def _draw_curve(figure: go.Figure, curve: Curve, place: int) -> None:
    colour, name = COLOURS[place % len(COLOURS)], text(curve.name)
    figure.add_scatter(
        x=curve.x, y=curve.y, mode="lines+markers" if len(curve.x) < _CROWDED else "lines", name=name,
        legendgroup=str(place), line={"color": colour, "width": 2.5 if place == 0 else 1.5}, connectgaps=False,
        hovertext=[name] * len(curve.x), hoverinfo="text+x+y",
    )  # fmt: skip
    if curve.gaps:
        at, height, what = zip(*curve.gaps, strict=True)
        figure.add_scatter(
            x=at, y=height, mode="markers", name=name, legendgroup=str(place), showlegend=False, hoverinfo="text",
            marker={"color": colour, "symbol": "x-thin", "size": 9, "line": {"color": colour, "width": 2}},
            hovertext=[f"{name}<br>{value} at {shortest(x)}" for x, value in zip(at, what, strict=True)],
        )  # fmt: skip
