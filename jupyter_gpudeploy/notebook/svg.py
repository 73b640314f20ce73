"""Small line charts as SVG text, made for an `<img>`: nothing is loaded, no script, no style of the page is seen.

An image cannot know whether its page is light or dark, so it has no background, and every colour is seen on both.
What is drawn is thinned to the least and the greatest value of each pixel or two, so a chart of any length has the
same size and shows every peak. Whatever the values, the result is well-formed and every coordinate finite.
"""

from __future__ import annotations

import math
import re
from html import escape
from typing import TYPE_CHECKING, NamedTuple

from jupyter_gpudeploy.notebook import ticks
from jupyter_gpudeploy.notebook.strokes import FINE, Frame, Line, curve, place, placed, stroke

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

__all__ = ["HALF", "HIGH", "LOW", "WIDTH", "Chart", "Line", "bounds", "draw"]
WIDTH, GUTTER = 720.0, 28.0
HALF = (WIDTH - GUTTER) / 2
LOW, HIGH = 150.0, 180.0  # the height of a chart beside another, and of one alone
TEXT = "#767d89"  # 4:1 on white and on black
GRID = "#8a919d"
_TOP, _BOTTOM, _RIGHT = 26, 22, 10
_DIGIT = 6.3  # of a line of 11 pixels
_LETTER = 6.0
_LEGEND = 20
_SWATCH = 15
_ROW = 10
_LONGEST = 28
_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


class Chart(NamedTuple):
    """Lines on one pair of axes, the bold ones on top. `holds`: values that the y axis must show, as 0 and 100.

    `time`: x is in seconds, from 0 on. `log`: y is drawn as powers of ten where all of it is above 0. `crosses`: a gap
    in `y` is marked, as it was reported.
    """

    title: str
    lines: Sequence[Line]
    x_title: str = ""
    time: bool = False
    log: bool = False
    holds: Sequence[float] = ()
    crosses: bool = False


def draw(charts: Sequence[Chart], title: str, description: str, *, names: str = "", points: int = 1100) -> str:
    """Return the charts as one image: the first alone on its row where their number is odd, the others in pairs.

    Below them stand the names of the lines, after the word `names`; nothing for a single one.
    `points` is about how many points are drawn in all, which is what decides its size: about 4 bytes each.
    """
    wide = len(charts) % 2
    pieces: list[str] = []
    top = 0.0
    share = max(1, points // max(1, sum(len(chart.lines) for chart in charts)))
    for index, chart in enumerate(charts):
        alone = index < wide
        width, height = (WIDTH, HIGH) if alone else (HALF, LOW)
        left = 0.0 if alone or (index - wide) % 2 == 0 else width + GUTTER
        pieces.append(f'<g transform="translate({left:g} {top:g})">{_chart(chart, width, height, share)}</g>')
        top += height + _ROW if alone or left or index == len(charts) - 1 else 0
    top -= _ROW
    legend, height = _legend(charts, names, top + 14)
    size = f'width="{WIDTH:g}" height="{top + height:g}" viewBox="0 0 {WIDTH:g} {top + height:g}"'
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" role="img" {size} fill="none" '
        'font-family="system-ui,sans-serif" font-size="11">'
        f"<title>{_text(title)}</title><desc>{_text(description)}</desc>{''.join(pieces)}{legend}</svg>"
    )


def bounds(columns: Iterable[Sequence[float]]) -> tuple[float, float] | None:
    """Return the least and the greatest of all that is finite; None where nothing is."""
    return ticks.bounds(end for column in columns for end in _extremes(column))


def _chart(chart: Chart, width: float, height: float, share: int) -> str:
    lines = [_ordered(line) for line in chart.lines]
    frame = _frame(chart, lines, width, height)
    head = f'<text x="0" y="11" font-weight="600" fill="{TEXT}">{_text(_cut(chart.title, int(width / 7)))}</text>'
    if frame is None:
        return f'{head}<text x="0" y="40" fill="{TEXT}">no value yet</text>'
    lines.sort(key=lambda line: line.is_bold)
    curves = "".join(curve(line, frame, share, crosses=chart.crosses) for line in lines)
    notes = _notes(lines, frame)
    return (
        f'{head}{_axes(frame, chart.x_title)}<g transform="translate({frame.left:g} {_TOP}) scale(.5)" '
        f'stroke-width="3" stroke-opacity=".85" stroke-linejoin="round">{curves}</g>{notes}'
    )


def _ordered(line: Line) -> Line:
    """Return the line with `x` ascending, without what has no place on it."""
    x, y = line.x, line.y
    if not math.isfinite(sum(x)):
        pairs = [(at, value) for at, value in zip(x, y, strict=True) if math.isfinite(at)]
        x, y = [at for at, _ in pairs], [value for _, value in pairs]
    if sorted(x) != list(x):
        order = sorted(range(len(x)), key=x.__getitem__)
        x, y = [x[place] for place in order], [y[place] for place in order]
    return line._replace(x=x, y=y)


def _frame(chart: Chart, lines: Sequence[Line], width: float, height: float) -> Frame | None:
    """Return where things go; None where there is no finite value."""
    seen = bounds(line.y for line in lines)
    if seen is None:
        return None
    low, high = min(*seen, *chart.holds), max(*seen, *chart.holds)
    plot_height = height - _TOP - _BOTTOM
    y = ticks.logarithmic(low, high) if chart.log and low > 0 else ticks.linear(low, high)
    left = 8 + _DIGIT * max(len(label) for _, label in y.marks)
    right = max((14 + _DIGIT * len(line.note) for line in lines if line.note), default=_RIGHT)
    plot_width = width - left - right
    from_x, to_x = (line.x[place] for line, place in zip(_ends(lines), (0, -1), strict=True))
    count = max(2, int(plot_width / 75))
    if chart.time:
        x = ticks.duration(min(from_x, 0.0), to_x, count)
    else:
        x = ticks.linear(from_x, to_x, count, whole=all(float(end).is_integer() for end in (from_x, to_x)))
    return Frame(left, plot_width, plot_height, x, y)


def _ends(lines: Sequence[Line]) -> tuple[Line, Line]:
    """Return the line that begins first and the one that ends last."""
    drawn = [line for line in lines if line.x]
    return min(drawn, key=lambda line: line.x[0]), max(drawn, key=lambda line: line.x[-1])


def _extremes(values: Sequence[float]) -> Sequence[float]:
    if len(values) and math.isfinite(sum(values)):
        return min(values), max(values)
    return ticks.bounds(values) or ()


def _axes(frame: Frame, x_title: str) -> str:
    bottom = _TOP + frame.height
    rows, labels = [], []
    for y, label in frame.y.marks:
        at = bottom - place(frame.y, y, frame.height)
        rows.append(f"M{frame.left:g} {at:.0f}h{frame.width:.0f}")
        labels.append(f'<text x="{frame.left - 6:g}" y="{at + 4:.0f}" text-anchor="end">{_text(label)}</text>')
    title_width = _LETTER * len(x_title) + 10 if x_title else 0
    edge = frame.left + frame.width
    free = edge - title_width
    for x, label in frame.x.marks:
        at = frame.left + place(frame.x, x, frame.width)
        half = _DIGIT * len(label) / 2
        if at + half <= free:
            labels.append(f'<text x="{at:.0f}" y="{bottom + 15:g}" text-anchor="middle">{_text(label)}</text>')
    if x_title:
        labels.append(f'<text x="{edge:g}" y="{bottom + 15:g}" text-anchor="end">{_text(x_title)}</text>')
    return f'<path stroke="{GRID}" stroke-opacity=".3" d="{"".join(rows)}"/><g fill="{TEXT}">{"".join(labels)}</g>'


def _notes(lines: Sequence[Line], frame: Frame) -> str:
    """Return what stands at the ends of curves, each on a line of its own."""
    found = []
    for line in lines:
        last = next((place for place in reversed(range(len(line.y))) if math.isfinite(line.y[place])), None)
        if line.note and last is not None:
            ((_, height),) = placed([(line.x[last], line.y[last])], frame)
            found.append((height / FINE, line))
    found.sort(key=lambda pair: pair[0])
    pieces, free = [], -math.inf
    for y, line in found:
        at = max(y, free)
        free = at + 12
        weight = ' font-weight="600"' if line.is_bold else ""
        place = f'x="{frame.left + frame.width + 6:.0f}" y="{_TOP + at + 4:.0f}"'
        pieces.append(f'<text {place} fill="{line.colour}"{weight}>{_text(line.note)}</text>')
    return "".join(pieces)


def _legend(charts: Sequence[Chart], names: str, top: float) -> tuple[str, float]:
    """Return the names of the lines, each once, and the height they take."""
    lines = {line.label: line for chart in charts for line in chart.lines if line.label}
    if len(lines) <= 1:
        return "", 0
    words = [f'<text x="0" y="{top:g}">{_text(names)}</text>'] if names else []
    strokes = []
    start = x = _LETTER * len(names) + 12 if names else 0.0
    y = top
    for label, line in lines.items():
        name = _cut(label, _LONGEST)
        size = _SWATCH + 5 + _LETTER * len(name) + 14
        if x > start and x + size > WIDTH:
            x, y = start, y + _LEGEND
        strokes.append(f'<path {stroke(line)} d="M{2 * x:.0f} {2 * y - 8:g}h{2 * _SWATCH}"/>')
        weight = ' font-weight="600"' if line.is_bold else ""
        words.append(f'<text x="{x + _SWATCH + 5:.0f}" y="{y:g}"{weight}>{_text(name)}</text>')
        x += size
    drawn = f'<g transform="scale(.5)" stroke-width="3" stroke-opacity=".85">{"".join(strokes)}</g>'
    return f'<g fill="{TEXT}">{"".join(words)}</g>{drawn}', y - top + _LEGEND


def _cut(text: str, limit: int) -> str:
    return text if len(text) <= limit else text[: limit - 1] + "…"


def _text(text: str) -> str:
    return escape(_NOT_XML.sub("�", text), quote=False)
