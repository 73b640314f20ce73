"""GPUs and processes over the time, as a plotly figure. Compute, then draw, as everywhere here."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import pandas as pd
import plotly.graph_objects as go

from jupyter_gpudeploy.figures.look import dressed, text
from jupyter_gpudeploy.frames.samples import NOTHING
from jupyter_gpudeploy.palette import COLOURS

_GAP_SECONDS = 15.0
_GAPS = 8  # looks
_CROWD = 20
_GIB = 2.0**30
_PANELS = (
    ("utilization", "GPU use, % of time", 1.0),
    ("memory_used", "GPU memory, GiB", _GIB),
    ("power", "power, W", 1.0),
    ("temperature", "temperature, °C", 1.0),
    ("cpu", "CPU, % of a core", 1.0),
    ("memory", "memory, GiB", _GIB),
)
_HEIGHT = 130


@dataclass(frozen=True, slots=True)
class Line:
    """One line of a panel; all of a `group` have one colour. `y` has None where nothing is known, or no look was."""

    panel: int
    task: str
    gpu: str
    group: int
    x: tuple[Any, ...]
    y: tuple[float | None, ...]


def gpu(frame: pd.DataFrame) -> go.Figure:
    """Return what `frames.gpu` tells, a panel for each thing that was ever known, a line a GPU or a task.

    The colour is the task's, the same in all panels. Where nothing is known, the line has a gap. A frame without rows
    gives an empty picture with a sentence.
    """
    panels = [panel for panel in _PANELS if frame[panel[0]].notna().any()]
    figure = go.Figure()
    lines = [line for place, panel in enumerate(panels) for line in _lines(frame, place, panel)]
    named: set[int] = set()
    for line in lines:
        colour = COLOURS[line.group % len(COLOURS)]
        axis = line.panel + 1
        name = text(f"{line.task} · GPU {line.gpu}" if line.gpu else line.task)
        figure.add_scatter(
            x=line.x, y=line.y, mode="lines", name=text(line.task), legendgroup=str(line.group), connectgaps=False,
            showlegend=line.group not in named, line={"color": colour, "width": 1.5},
            yaxis=f"y{axis}" if axis > 1 else "y",
            hovertext=[name] * len(line.x), hoverinfo="text+x+y",
        )  # fmt: skip
        named.add(line.group)
    figure.update_layout(**_layout(panels), showlegend=1 < len(named) <= _CROWD, hovermode="x")
    return dressed(figure, "" if lines else str(frame.attrs.get("note") or NOTHING))


def _layout(panels: list[tuple[str, str, float]]) -> dict[str, Any]:
    """Return the panels below each other, with one axis of time."""
    count = max(len(panels), 1)
    layout: dict[str, Any] = {"height": _HEIGHT * count + 120, "xaxis": {"title": {"text": "time (UTC)"}}}
    for place, (_, title, _) in enumerate(panels):
        top, bottom = 1 - place / count, 1 - (place + 1) / count
        domain = [bottom + 0.04 / count * (place < count - 1), top - 0.08 / count]
        layout[f"yaxis{place + 1}" if place else "yaxis"] = {
            "title": {"text": title}, "domain": domain, "rangemode": "tozero",
        }  # fmt: skip
    layout["xaxis"]["anchor"] = f"y{count}" if count > 1 else "y"
    return layout


def _lines(frame: pd.DataFrame, place: int, panel: tuple[str, str, float]) -> list[Line]:
    column, _, unit = panel
    is_of_gpu = column not in ("cpu", "memory")
    shown = frame[frame["gpu"].notna()] if is_of_gpu else frame.drop_duplicates(["time", "task"])
    tasks = {number: index for index, number in enumerate(sorted(frame["task"].dropna().unique()))}
    lines = []
    for key, rows in shown.groupby(["task", "gpu"] if is_of_gpu else ["task"], dropna=False, sort=True):
        if not rows[column].notna().any():
            continue
        name = str(rows["name"].iloc[0]) or (f"task {key[0]}" if key[0] in tasks else "the run")
        x, y = _with_gaps(rows, column, unit)
        lines.append(Line(place, name, str(key[1]) if is_of_gpu else "", tasks.get(key[0], len(tasks)), x, y))
    return lines


def _with_gaps(rows: pd.DataFrame, column: str, unit: float) -> tuple[tuple[Any, ...], tuple[float | None, ...]]:
    """Return the points of a line, with a None where looks are missing in between."""
    times = [moment.to_pydatetime() for moment in rows["time"]]
    steps = sorted((after - before).total_seconds() for before, after in pairwise(times))
    limit = max(_GAP_SECONDS, _GAPS * steps[len(steps) // 2]) if steps else _GAP_SECONDS
    x: list[Any] = []
    y: list[float | None] = []
    for moment, value in zip(times, rows[column], strict=True):
        if x and (moment - x[-1]).total_seconds() > limit:
            x.append(x[-1])
            y.append(None)
        x.append(moment)
        y.append(None if pd.isna(value) else float(value) / unit)
    return tuple(x), tuple(y)
