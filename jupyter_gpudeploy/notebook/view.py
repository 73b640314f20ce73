"""What the display of a run says, decided once and drawn twice (html.py, text.py)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from jupyter_gpudeploy.events.types import State
from jupyter_gpudeploy.notebook.sheet import (
    BAD,
    METRICS,
    RUNNING,
    clean,
    fixed,
    noun,
    number,
    rounded,
    trials,
    value_text,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from jupyter_gpudeploy.notebook.sheet import Sheet
    from jupyter_gpudeploy.summary import Row, Summary

REASONS = 5
IMAGES = 2


class Figure(NamedTuple):
    """A picture of the run: SVG, what it shows in words, and what stands below it."""

    svg: str
    alt: str
    caption: str


class Spark(NamedTuple):
    """A curve for a terminal: its name, its values, the last one as text, and whose it is."""

    name: str
    values: Sequence[float]
    last: str
    whose: str = ""


@dataclass(frozen=True, slots=True)
class Card:
    """Everything one display of a run says, as plain text."""

    title: str
    facts: tuple[str, ...]
    state: State
    seconds: str
    progress: str
    shares: tuple[tuple[State, float], ...]
    reason: str
    url: str | None
    values: tuple[tuple[str, str], ...]
    sheet: Sheet | None
    failures: tuple[str, ...]
    notices: tuple[str, ...]
    log: tuple[str, ...]
    log_title: str = ""
    way_out: str = ""
    problem: str = ""
    figures: tuple[Figure, ...] = ()
    sparks: tuple[Spark, ...] = ()
    last: Sheet | None = None


def card(summary: Summary, *, notes: Sequence[Any] = (), problem: str = "") -> Card:
    """Return what the display of a run says. `notes` are those of its plan; `problem` why it is not up to date."""
    is_many = is_table(summary)
    row = summary.rows[0] if summary.rows and not is_many else None
    failures = _failures(summary) if is_many else ()
    has_log = not is_many or State.FAILED in summary.counts
    waits = row is not None and row.state is State.WAITING and row.attempt > 1
    reason = row.reason if row and (waits or not summary.reason) else summary.reason
    return Card(
        title=clean(summary.title or summary.name),
        facts=_facts(summary),
        state=summary.state,
        seconds=rounded(summary.seconds, live=not summary.state.is_final),
        progress=_progress(summary) if is_many else "",
        shares=_shares(summary) if is_many else (),
        reason=clean(reason) if reason not in (str(summary.state), "") else "",
        url=clean(summary.url or "", 2000) or None,
        values=(*_attempt(row, summary.tries), *_values(row)) if row else (),
        sheet=trials(summary) if is_many else None,
        failures=failures,
        notices=(*_warnings(notes), *(clean(notice) for notice in summary.notices[-REASONS:])),
        log=tuple(clean(line) for line in summary.log) if has_log else (),
        log_title=f"the last lines of a failed {noun(summary)}" if is_many else "",
        way_out=_way_out(summary, is_table=is_many),
        problem=clean(problem),
    )


def is_table(summary: Summary) -> bool:
    """Return whether a display shows the tasks as rows of a table."""
    return summary.kind == "sweep" or len(summary.rows) > 1


def settings(summary: Summary) -> tuple[tuple[str, str], ...]:
    """Return what is told of the only task beside its metrics."""
    row = summary.rows[0]._replace(metrics={})
    return (*_attempt(row, summary.tries), *_values(row))


def _facts(summary: Summary) -> tuple[str, ...]:
    facts = [clean(summary.name)] * (summary.name != summary.title) + [clean(summary.kind), clean(summary.backend)]
    if summary.gpu_hours:
        facts.append(f"{summary.gpu_hours:.2g} GPU h")
    facts += [_short(image) for image in summary.images[:IMAGES]]
    if len(summary.rows) > 1 and (same := fixed(summary.rows)):
        facts.append(same)
    return tuple(facts)


def _short(image: str) -> str:
    """Return the name of an image and the beginning of its digest, as tools print it."""
    name, _, digest = image.rpartition("@")
    return clean(f"{name.rpartition('/')[2]}@{digest[: len('sha256:') + 12]}")


def _progress(summary: Summary) -> str:
    count = summary.counts.get
    running = sum(count(state, 0) for state in RUNNING)
    total = sum(summary.counts.values())
    words = [f"{summary.done} of {total} done"]
    pairs = ((running, "running"), (count(State.WAITING, 0), "waiting"), (count(State.FAILED, 0), "failed"))
    words += [f"{number} {word}" for number, word in pairs if number]
    words += [f"{count(state)} {state}" for state in (State.STOPPED, State.LOST) if count(state)]
    if summary.best_so_far is not None:
        words.append(
            f"best {clean(summary.metric or '')} {number(summary.best_so_far)} in {noun(summary)} {summary.best}"
        )
    return ", ".join(words)


def _shares(summary: Summary) -> tuple[tuple[State, float], ...]:
    total = sum(summary.counts.values())
    order = (State.SUCCEEDED, State.FAILED, State.LOST, State.STOPPED, *RUNNING)
    return tuple((state, summary.counts[state] / total) for state in order if summary.counts.get(state))


def _failures(summary: Summary) -> tuple[str, ...]:
    """Return each reason once, with the trials that failed for it."""
    why: dict[str, list[str]] = {}
    for row in summary.rows:
        if row.state in BAD:
            known = "" if row.exit_code is None else f"exit code {row.exit_code}"
            why.setdefault(clean(row.reason) or known or str(row.state), []).append(str(row.task))
    lines = []
    for reason, tasks in list(why.items())[:REASONS]:
        more = f" and {len(tasks) - REASONS} more" if len(tasks) > REASONS else ""
        lines.append(f"{noun(summary)}{'s' * (len(tasks) > 1)} {', '.join(tasks[:REASONS])}{more}: {reason}")
    return (*lines, *([f"… and {len(why) - REASONS} more reasons"] if len(why) > REASONS else []))


def _way_out(summary: Summary, *, is_table: bool) -> str:
    bad = [row.task for row in summary.rows if row.state in BAD]
    is_undone = summary.state is State.STOPPED and summary.kind in ("job", "sweep") and State.STOPPED in summary.counts
    if summary.state is State.LOST or is_undone:
        return f"%deploy resume {clean(summary.name)}"
    if summary.hint or not bad:
        return clean(summary.hint)
    option = "--trial" if summary.kind == "sweep" else "--task"
    return f"%deploy logs {clean(summary.name)}" + (f" {option} {bad[0]}" if is_table else "")


def _warnings(notes: Iterable[Any]) -> tuple[str, ...]:
    found = []
    for note in notes:
        level, message, hint, name = (_get(note, key) for key in ("level", "message", "hint", "field"))
        if level in ("warning", "error"):
            found.append(clean(f"{name}: {message}" if name else message) + (f" → {clean(hint)}" if hint else ""))
    return tuple(found)


def _get(note: Any, key: str) -> str:  # noqa: ANN401 - a Note, or what a record kept of one
    return str((note.get(key) if isinstance(note, dict) else getattr(note, key, "")) or "")


def _attempt(row: Row, tries: int) -> tuple[tuple[str, str], ...]:
    """Return which attempt this is, where it is not the first."""
    if row.attempt == 1:
        return ()
    return (("attempt", f"{row.attempt} of {tries}" if row.attempt <= tries else str(row.attempt)),)


def _values(row: Row) -> tuple[tuple[str, str], ...]:
    pairs = [(clean(name), value_text(value)) for name, value in row.parameters.items()]
    return tuple(pairs + [(clean(name), number(value)) for name, value in row.metrics.items()][: 2 * METRICS])
