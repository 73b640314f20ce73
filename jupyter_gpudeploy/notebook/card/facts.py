"""What the head of a card says: the summary of its run as plain values, and what happened as lines."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from jupyter_gpudeploy.events.types import Notice, State
from jupyter_gpudeploy.notebook import view
from jupyter_gpudeploy.notebook.card.protocol import TASKS
from jupyter_gpudeploy.notebook.sheet import clean
from jupyter_gpudeploy.summary import remaining

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from jupyter_gpudeploy.events.status import Status
    from jupyter_gpudeploy.events.types import Event
    from jupyter_gpudeploy.notebook.sheet import Sheet
    from jupyter_gpudeploy.summary import Row, Summary

_VOLATILE = ("seconds", "eta", "gpu_hours")
_LABEL = 60


def card(
    summary: Summary,
    status: Status,
    record: Mapping[str, Any],
    *,
    notes: Sequence[Any] = (),
    notices: Sequence[str] = (),
    gpu_note: str = "",
) -> dict[str, Any]:
    """Return what is sent as CARD. `notices` are the card's own, beside those of the run."""
    said = view.card(summary, notes=notes)
    stale = clean(summary.stale)
    total = sum(summary.counts.values())
    return {
        "title": said.title,
        "name": clean(summary.name),
        "uid": summary.uid,
        "kind": clean(summary.kind),
        "backend": clean(summary.backend),
        "facts": [*said.facts, *_commit(record)],
        "state": str(summary.state),
        "reason": said.reason,
        "hint": said.way_out,
        "started": status.started,
        "seconds": summary.seconds,
        "live": not summary.state.is_final,
        "progress": {"text": said.progress, "total": total, "counts": _counts(summary)} if said.progress else None,
        "eta": remaining(summary, int(record.get("parallelism") or 1)),
        "url": said.url,
        "gpu_hours": summary.gpu_hours,
        "notices": [*(notice for notice in said.notices if notice != stale), *notices],
        "problem": said.problem,
        "stale": stale,
        "failures": list(said.failures),
        "sheet": _sheet(said.sheet, len(summary.rows)),
        "metric": summary.metric,
        "goal": summary.goal,
        "best": summary.best,
        "tasks": [[row.task, clean(row.name, _LABEL), str(row.state)] for row in _shown(summary.rows)],
        "can_stop": not summary.state.is_final and not summary.owner,
        "gpu_note": gpu_note,
    }


def differs(new: Mapping[str, Any], old: Mapping[str, Any]) -> bool:
    """Return whether a card says something else than before; time that goes by is told by the view itself."""
    if round(float(new["gpu_hours"]), 1) != round(float(old["gpu_hours"]), 1):
        return True
    return any(value != old.get(key) for key, value in new.items() if key not in _VOLATILE)


def event(happened: Event) -> list[Any]:
    """Return what is sent as EVENT: time, task, level, text."""
    if isinstance(happened, Notice):
        level = happened.level if happened.level in ("info", "warning", "error") else "info"
        return [happened.time, happened.task, level, clean(happened.message)]
    words = [str(happened.state)]
    if happened.attempt > 1:
        words.append(f"(attempt {happened.attempt})")
    if happened.reason:
        words.append(f": {clean(happened.reason)}")
    if happened.exit_code:
        words.append(f", exit code {happened.exit_code}")
    level = "error" if happened.state in (State.FAILED, State.LOST) else "state"
    return [happened.time, happened.task, level, " ".join(words).replace(" :", ":").replace(" ,", ",")]


def _commit(record: Mapping[str, Any]) -> list[str]:
    """Return which commit its files are of, where they are of a repository."""
    git = record.get("git")
    if not git:
        return []
    ref = git["ref"] if git.get("ref") not in (None, "", git["commit"]) else ""
    return [clean(f"git {ref + ' ' if ref else ''}{git['commit'][:12]}", _LABEL)]


def _counts(summary: Summary) -> dict[str, int]:
    return {str(state): count for state, count in summary.counts.items()}


def _sheet(sheet: Sheet | None, rows: int) -> dict[str, Any] | None:
    if sheet is None:
        return None
    cells = [column.cells for column in sheet.columns]
    return {
        "columns": [{"title": column.title, "numeric": column.numeric} for column in sheet.columns],
        "rows": [list(row) for row in zip(*cells, strict=True)],
        "states": [str(state) for state in sheet.states],
        "more": max(0, rows - len(sheet.states)),
    }


def _shown(rows: Sequence[Row]) -> Sequence[Row]:
    """Return the tasks that can be chosen: all, or of very many those that have begun last."""
    if len(rows) <= TASKS:
        return rows
    begun = [row for row in rows if row.state is not State.WAITING]
    waiting = [row for row in rows if row.state is State.WAITING]
    chosen = [*begun[-TASKS:], *waiting[: max(0, TASKS - len(begun))]]
    return sorted(chosen, key=lambda row: row.task)
