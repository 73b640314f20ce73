"""What a run uses of its machine, as a picture: GPUs where it has some, else processors and memory of its processes."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

from jupyter_gpudeploy.notebook import svg, view
from jupyter_gpudeploy.notebook.history import GPU, GPU_MEMORY, MEMORY, PROCESSOR
from jupyter_gpudeploy.notebook.sheet import clean, noun
from jupyter_gpudeploy.palette import colour, dash
from jupyter_gpudeploy.quantities import format_memory

if TYPE_CHECKING:
    from collections.abc import Sequence

    from jupyter_gpudeploy.notebook.history import History, Use
    from jupyter_gpudeploy.notebook.view import Figure, Spark
    from jupyter_gpudeploy.summary import Summary

LINES = 60
OWN = 4  # numbers that a server tells of itself
_UNITS: tuple[tuple[str, float], ...] = (
    ("TiB", 1 << 40),
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
    ("B", 1),
)
_PERCENT = 100.0
_ONE_BY_ONE = 8  # uses that are told each by itself


class Usage(NamedTuple):
    """A picture, curves for a terminal, and rows of (name, last, lowest, highest)."""

    figure: Figure | None = None
    sparks: tuple[Spark, ...] = ()
    rows: tuple[tuple[str, str, str, str], ...] = ()


def usage(summary: Summary, kept: History, started: float | None, points: int, *, final: bool, is_told: bool) -> Usage:
    """Return what was measured of the run, drawn with about so many points.

    While it is not `final`, the first of the charts, and of the processes of many tasks none. `is_told`: another
    picture says already which colour is which task.
    """
    kinds = _kinds(kept)
    measured = [use for uses in kinds.values() for use in uses]
    many = len({use.task for use in measured}) > 1
    if not measured or (many and not final and PROCESSOR in kinds):
        return Usage()
    start = started or min(use.time[0] for use in measured)
    labels = not (many and is_told)
    drawn = [
        _chart(what, uses, start, kept, labels=labels) for what, uses in list(kinds.items())[: None if final else 1]
    ]
    caption = _caption(noun(summary) if many else "", measured, kept)
    alt = caption if len(measured) > _ONE_BY_ONE else " ".join(_said(use, kept) for use in measured)
    title = clean(f"{summary.name}: {', '.join(chart.title for chart in drawn)}")
    picture = svg.draw(drawn, title, alt, names=noun(summary) if many else "", points=points)
    figure = view.Figure(picture, alt, caption)
    if many:
        return Usage(figure)
    told = measured[:_ONE_BY_ONE]
    sparks = tuple(view.Spark(_name(use), use.value, "") for use in told)
    return Usage(figure, sparks, tuple((_name(use), *_words(use)) for use in told))


def _kinds(kept: History) -> dict[str, list[Use]]:
    """Return what is drawn: what a server tells of itself, then GPUs, or processes where there is no GPU."""
    found: dict[str, list[Use]] = {}
    for use in kept.uses.values():
        if len(use.value) > 1 and svg.bounds([use.value]) is not None:
            found.setdefault(use.what, []).append(use)
    own = [what for what in found if what not in (GPU, GPU_MEMORY, PROCESSOR, MEMORY)][:OWN]
    machine = (GPU, GPU_MEMORY) if any(use.gpu for use in kept.uses.values()) else (PROCESSOR, MEMORY)
    order = [what for what in (*own, *machine) if what in found]
    return {what: sorted(found[what], key=lambda use: (use.task or 0, use.gpu))[-LINES:] for what in order}


def _chart(what: str, uses: Sequence[Use], start: float, kept: History, *, labels: bool) -> svg.Chart:
    many = len({use.task for use in uses}) > 1
    gpus = sorted({use.gpu for use in uses})
    total = max(kept.totals.get(use.gpu, 0) for use in uses) if what == GPU_MEMORY else 0
    unit, size = _unit(what, max(total, _highest(uses)))
    lines = []
    for use in uses:
        place = (use.task or 0) if many else gpus.index(use.gpu)
        label = (str(use.task) if many else _gpu(use.gpu)) if labels else ""
        values = use.value if size == 1 else [value / size for value in use.value]
        times = [at - start for at in use.time]
        lines.append(svg.Line(label, times, values, colour(place), dash(place), is_bold=len(uses) == 1))
    holds = {GPU: (0.0, _PERCENT), GPU_MEMORY: (0.0, total / size)}.get(what, (0.0,))
    return svg.Chart(clean(f"{what}, {unit}" if unit else what), lines, time=True, holds=holds)


def _highest(uses: Sequence[Use]) -> float:
    ends = svg.bounds([use.value for use in uses])
    return 0.0 if ends is None else ends[1]


def _unit(what: str, highest: float) -> tuple[str, float]:
    """Return what the numbers of an axis are, and how many of what was measured make one."""
    if what in (MEMORY, GPU_MEMORY):
        return next(((unit, size) for unit, size in _UNITS if highest >= size), _UNITS[-1])
    return {GPU: "%", PROCESSOR: "% of a core"}.get(what, ""), 1


def _caption(each: str, uses: Sequence[Use], kept: History) -> str:
    """Return the mean and the greatest of what was used; `each`: what one task is called, where there are many."""
    gpus = sorted({use.gpu for use in uses if use.gpu})
    if gpus:
        name = _gpu(gpus[0]) if len(gpus) == 1 else f"{len(gpus)} GPUs"
        return f"{name}: {_load(uses, kept)}"
    said = []
    for what, word in ((PROCESSOR, "of a core"), (MEMORY, "of memory")):
        ends = svg.bounds([use.value for use in uses if use.what == what])
        if ends is not None:
            said.append(f"{_text(what, ends[1])} {word}")
    return f"its processes: at most {' and '.join(said)}" + f" a {each}" * bool(each) if said else ""


def _load(uses: Sequence[Use], kept: History) -> str:
    loads = [value for use in uses if use.what == GPU for value in use.value if math.isfinite(value)]
    memory = svg.bounds([use.value for use in uses if use.what == GPU_MEMORY])
    total = max((kept.totals.get(use.gpu, 0) for use in uses), default=0)
    load = f"{sum(loads) / len(loads):.0f} % busy on average" if loads else "utilization N/A"
    if memory is None:
        return load
    each = " each" if len({use.gpu for use in uses}) > 1 else ""
    return f"{load}, at most {format_memory(memory[1])}" + (f" of {format_memory(total)}{each}" if total else each)


def _said(use: Use, kept: History) -> str:
    last, low, high = _words(use)
    total = f" of {format_memory(kept.totals[use.gpu])}" if use.what == GPU_MEMORY and use.gpu in kept.totals else ""
    return f"{_name(use)}: {low} to {high}{total}, last {last}."


def _words(use: Use) -> tuple[str, str, str]:
    """Return the last finite value, the least and the greatest."""
    low, high = svg.bounds([use.value]) or (math.nan, math.nan)
    last = next((value for value in reversed(use.value) if math.isfinite(value)), math.nan)
    return _text(use.what, last), _text(use.what, low), _text(use.what, high)


def _name(use: Use) -> str:
    return clean(f"{_gpu(use.gpu)} {use.what.removeprefix('GPU ')}" if use.gpu else use.what)


def _gpu(gpu: str) -> str:
    return clean(f"GPU {gpu}", 24) if gpu else ""


def _text(what: str, value: float) -> str:
    if what in (MEMORY, GPU_MEMORY):
        return format_memory(value)
    return f"{value:.0f} %" if what in (GPU, PROCESSOR) else f"{value:.4g}"
