"""The curves of a run's metrics as a plotly figure: of one metric, or of each where none is the one it is about."""

from __future__ import annotations

from typing import TYPE_CHECKING

from plotly.subplots import make_subplots

from jupyter_gpudeploy.figures.look import CROWD, dressed, text
from jupyter_gpudeploy.figures.steps import one
from jupyter_gpudeploy.palette import colour

if TYPE_CHECKING:
    import pandas as pd
    import plotly.graph_objects as go

MOST = 8
_HEIGHT = 280


def curves(metrics: pd.DataFrame, metric: str | None, trials: pd.DataFrame) -> go.Figure:
    """Return the metric over the steps, a line a trial; without a metric each of them, the first MOST, side by side.

    A trial has one colour in all of them. Raises GpuDeployError for a metric that was never reported, and where none
    was.
    """
    names = [metric] if metric else list(dict.fromkeys(metrics["metric"]))[:MOST]
    if len(names) <= 1:
        return one(metrics, names[0] if names else None, trials)
    rows = -(-len(names) // 2)
    figure = make_subplots(rows=rows, cols=2, subplot_titles=[text(name) for name in names])
    places: dict[str, int] = {}
    for index, name in enumerate(names):
        part = one(metrics, name, trials)
        row, column = index // 2 + 1, index % 2 + 1
        for trace in reversed(part.data):
            place = places.setdefault(trace.name, len(places))
            _mark(trace, place)
            trace.showlegend = trace.mode != "markers" and index == 0
        figure.add_traces(part.data, rows=row, cols=column)
        figure.update_xaxes(title=part.layout.xaxis.title, row=row, col=column)
    figure.update_layout(height=_HEIGHT * rows + 60, showlegend=1 < len(places) <= CROWD,
                         legend={"traceorder": "reversed"}, hovermode="closest")  # fmt: skip
    return dressed(figure, "")


def _mark(trace: go.Scatter, place: int) -> None:
    """Give a trial the same colour and the same entry in the legend everywhere."""
    trace.legendgroup = str(place)
    if trace.mode == "markers":
        trace.marker.color = trace.marker.line.color = colour(place)
    else:
        trace.line.color = colour(place)
