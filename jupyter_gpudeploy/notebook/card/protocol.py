"""The messages between a card's model and its views, and how much of them there may be. One place for both sides.

To the views go `snapshot`, `append`, `card`, `events`, `lines`, `log`, `stopping`, `error` and `bye`, each with a `seq`
that counts from 1. Points travel beside the message in three little-endian buffers: time (f8), step (f8, NaN: none)
and value (f4, NaN: a gap), the points of one series after those of the other. From the views come the tuples below.
"""

from __future__ import annotations

import math
import sys
from array import array
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

MESSAGES_A_SECOND = 12
BYTES_A_SECOND = 300_000
ENVELOPE = 700  # bytes that the kernel's protocol adds to a message
LINE_CHARACTERS = 2000
TICK_BYTES = 20_000  # of lines
LOG_BYTES = 60_000  # of lines in one answer
LOG_LINES = 300
SERIES = 300
TASKS = 300
EVENTS = 500
SNAPSHOT_POINTS = 9_000
APPEND_POINTS = 1_500
UNSEEN_MESSAGES = 40
SILENCE_SECONDS = 5.0
LEVELS = ("debug", "info", "warning", "error")
_LONGEST_TEXT = 1000
_LATEST = 1e11  # seconds since the epoch

Message = dict[str, Any]
Cursor = list[list[int]]


class Line(NamedTuple):
    """One line of a log, ready to be shown. `number`: in its file, from 1; 0: not known. `cut`: characters left out."""

    number: int
    task: int
    attempt: int
    time: float | None
    level: str | None
    text: str
    cut: int


class Log(NamedTuple):
    """Lines in the order of their time. `before`: where older ones are found, None for nowhere."""

    lines: Sequence[Line]
    before: Cursor | None = None
    hidden: int = 0
    note: str = ""
    files: Sequence[tuple[int, str]] = ()

    def message(self) -> Message:
        """Return it as it is sent."""
        return {**self._asdict(), "lines": [list(line) for line in self.lines], "files": [list(f) for f in self.files]}


class Points(NamedTuple):
    """Points of one series."""

    time: array[float]
    step: array[float]
    value: array[float]


class Hello(NamedTuple):
    """A view was opened, or opened again."""

    view: str


class Ack(NamedTuple):
    """All messages up to `seq` are drawn."""

    seq: int


class Visible(NamedTuple):
    """Whether any view can be seen."""

    visible: bool


class Left(NamedTuple):
    """No view is there any more."""


class Filter(NamedTuple):
    """Only these lines are wanted from now on: of a task, with a text or pattern, of a level or worse."""

    request: int = 0
    task: int | None = None
    text: str = ""
    regex: bool = False
    level: str | None = None

    @property
    def is_open(self) -> bool:
        """Whether everything passes."""
        return self.task is None and not self.text and self.level is None


class Page(NamedTuple):
    """Older lines are wanted."""

    request: int
    before: Cursor


class Jump(NamedTuple):
    """The lines of that moment are wanted."""

    request: int
    time: float


class FullLog(NamedTuple):
    """Where does the whole log lie?"""

    request: int
    task: int


class Stop(NamedTuple):
    """A person asked to end the run, and confirmed it."""


Ask = Hello | Ack | Visible | Left | Filter | Page | Jump | FullLog | Stop


def parse(content: object) -> Ask:
    """Return what a view asks. Raises ValueError for what is no message: a notebook's output can send anything."""
    if not isinstance(content, dict):
        raise ValueError("no message")  # noqa: TRY004 - as for every other content
    try:
        ask: Ask = _MAKERS[content["type"]](content)
    except (KeyError, TypeError, AttributeError, OverflowError) as error:
        raise ValueError(f"no message of a card: {error!r}") from error
    return ask


def encode(points: Sequence[Points]) -> list[bytes]:
    """Return the three buffers, one series after the other."""
    buffers = [array("d"), array("d"), array("f")]
    for each in points:
        for buffer, part in zip(buffers, each, strict=True):
            buffer.extend(part)
    if sys.byteorder == "big":
        for buffer in buffers:
            buffer.byteswap()
    return [buffer.tobytes() for buffer in buffers]


def snapshot(
    card: Message, series: Iterable[Message], points: Sequence[tuple[int, Points]], events: Sequence[Any], log: Log
) -> tuple[Message, list[bytes]]:
    """Return everything there is to show."""
    message = {"type": "snapshot", "card": card, "series": list(series), "points": _counts(points)}
    return {**message, "events": list(events), "log": log.message()}, encode([each for _, each in points])


def append(series: Iterable[Message], points: Sequence[tuple[int, Points]]) -> tuple[Message, list[bytes]]:
    """Return points that are new, and the series that were not sent before."""
    message = {"type": "append", "series": list(series), "points": _counts(points)}
    return message, encode([each for _, each in points])


def _counts(points: Sequence[tuple[int, Points]]) -> list[list[int]]:
    return [[number, len(each.value)] for number, each in points]


def _whole(value: object, low: int = 0, high: int = 2**53) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise ValueError(f"{value!r:.80} is no number of that kind")
    return value


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise ValueError("no text")  # noqa: TRY004 - as for every other content
    return value[:_LONGEST_TEXT]


def _filter(content: Mapping[str, Any]) -> Filter:
    task, level = content.get("task"), content.get("level")
    if level is not None and level not in LEVELS:
        raise ValueError(f"no level: {level!r:.80}")
    return Filter(
        _whole(content["request"]),
        None if task is None else _whole(task),
        _text(content.get("text") or ""),
        bool(content.get("regex")),
        level,
    )


def _page(content: Mapping[str, Any]) -> Page:
    places = [[_whole(each) for each in place] for place in content["before"]]
    if any(len(place) != 3 for place in places):  # noqa: PLR2004 - task, attempt, offset
        raise ValueError("no cursor of ours")
    return Page(_whole(content["request"]), places)


def _jump(content: Mapping[str, Any]) -> Jump:
    time = float(content["time"])
    if not math.isfinite(time) or not 0 <= time < _LATEST:
        raise ValueError(f"no time: {time!r}")
    return Jump(_whole(content["request"]), time)


_MAKERS: Mapping[str, Any] = {
    "hello": lambda content: Hello(_text(content.get("view") or "")),
    "ack": lambda content: Ack(_whole(content["seq"])),
    "visible": lambda content: Visible(bool(content["visible"])),
    "left": lambda _content: Left(),
    "filter": _filter,
    "page": _page,
    "jump": _jump,
    "full_log": lambda content: FullLog(_whole(content["request"]), _whole(content["task"])),
    "stop": lambda _content: Stop(),
}
