"""What the display of a plan says: what will start, where, with what, and what was decided."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from jupyter_gpudeploy.events.types import State
from jupyter_gpudeploy.notebook.sheet import Column, Sheet, clean, fixed, trials, value_text
from jupyter_gpudeploy.plan.types import Slot
from jupyter_gpudeploy.quantities import format_memory, format_seconds
from jupyter_gpudeploy.summary import Row, Summary

if TYPE_CHECKING:
    from collections.abc import Sequence

    from jupyter_gpudeploy.plan.types import Argv, Plan, Search, Task
    from jupyter_gpudeploy.samplers.base import Axis

TRIALS = 12


class PlanCard(NamedTuple):
    """Everything the display of a plan says, as plain text. `notes` are (level, sentence)."""

    title: str
    facts: tuple[str, ...]
    decisions: tuple[tuple[str, str], ...]
    sheet: Sheet | None
    notes: tuple[tuple[str, str], ...]


def plan_card(plan: Plan) -> PlanCard:
    """Return what the display of a plan says."""
    facts = (*([plan.name] if plan.name != plan.title else []), plan.kind, plan.backend)
    notes = tuple(
        (note.level, clean(f"{note.field}: {note.message}") + (f" → {clean(note.hint)}" if note.hint else ""))
        for note in sorted(plan.notes, key=lambda note: ("error", "warning", "info").index(note.level))
    )
    return PlanCard(clean(plan.title), tuple(map(clean, facts)), _decisions(plan), _sheet(plan), notes)


def command_line(argv: Argv) -> str:
    """Return a command for reading, never for running: slots in braces, words quoted where they must be."""
    words = []
    for parts in argv:
        if parts and parts[0] is Slot.SOURCES:
            parts = (str(parts[1]).removeprefix("/"), *parts[2:])  # noqa: PLW2901 - a person knows the folder
        text = "".join(f"{{{part}}}" if isinstance(part, Slot) else clean(part) for part in parts)
        is_plain = not any(isinstance(part, Slot) for part in parts)
        words.append(shlex.quote(text) if is_plain else text)
    return " ".join(words)


def _decisions(plan: Plan) -> tuple[tuple[str, str], ...]:
    found = [("starts", _starts(plan)), ("each with", _resources(plan))]
    if shown := _shown(plan):
        found.append(("command", clean(command_line(shown[0].argv))))
    if plan.search is not None:
        found.append(("searches", clean(_space(plan.search))))
        found.append(("chooses", f"each point by {plan.search.method} while it runs, from what came of those before"))
    elif len(plan.tasks) > 1 and (same := fixed(_rows(plan))):
        found.append(("all with", same))
    if plan.requirements:
        found.append(("packages", clean(", ".join(plan.requirements))))
    found.append(("in folder", clean(_folder(plan))))
    if plan.git is not None:
        found.append(("files of", clean(str(plan.git))))
    if plan.target is not None and plan.cluster is not None:
        found.append(("on", f"{clean(plan.target.cluster)}, namespace {clean(plan.target.namespace)}"))
        found.append(("image", clean(plan.cluster.image)))
    if plan.service:
        ready = plan.service.health.path or "a listening socket"
        found.append(("port", f"{plan.service.port}, ready when {clean(ready)} answers"))
    if plan.secrets:
        found.append(("secrets", clean(", ".join(f"{name} from {ref.source}" for name, ref in plan.secrets.items()))))
    if plan.metric:
        found.append(("compares", f"{clean(plan.metric.name)}, {plan.metric.goal}"))
    return tuple(found)


def _folder(plan: Plan) -> str:
    """Return where the program runs; of a repository, where in it."""
    if plan.git is None or not Path(plan.working_dir).is_relative_to(plan.base):
        return plan.working_dir
    return str(Path(plan.git.path or ".") / Path(plan.working_dir).relative_to(plan.base))


def _starts(plan: Plan) -> str:
    count = len(plan.tasks)
    noun = {"sweep": "trial", "server": "replica"}.get(plan.kind, "process")
    plural = {"trial": "trials", "replica": "replicas", "process": "processes"}[noun]
    words = f"{count} {noun if count == 1 else plural}"
    words += f", {plan.parallelism} at a time" if plan.kind == "sweep" and plan.parallelism < count else ""
    words += f", {plan.retries} retr{'y' if plan.retries == 1 else 'ies'}" if plan.retries else ""
    words += f", at most {format_seconds(plan.max_seconds)}" if plan.max_seconds else ""
    return words + (f", until idle for {format_seconds(plan.idle_seconds)}" if plan.idle_seconds else "")


def _resources(plan: Plan) -> str:
    asked = plan.resources
    words = ["no GPU" if not asked.gpus else "1 GPU" if asked.gpus == 1 else f"{asked.gpus} GPUs"]
    words += [f"{asked.cpu:g} processors"] if asked.cpu is not None else []
    words += [f"{format_memory(asked.memory)} of memory"] if asked.memory is not None else []
    return ", ".join(words)


def _sheet(plan: Plan) -> Sheet | None:
    if plan.kind != "sweep":
        return None
    rows = _rows(plan)
    every = trials(_summary(plan, rows))
    columns = tuple(
        Column(column.title, column.cells[:TRIALS], numeric=column.numeric, rank=column.rank)
        for column in every.columns
        if column.title and not column.role
    )
    left_out = len(plan.tasks) - min(len(rows), TRIALS)
    later = ", chosen while it runs" if plan.search is not None else ""
    return Sheet(columns, more=f"… and {left_out} more trials{later}" if left_out > 0 else "")


def _rows(plan: Plan) -> list[Row]:
    return [Row(task.number, task.name, task.parameters, State.WAITING, None, None, 1, "", {}) for task in _shown(plan)]


def _shown(plan: Plan) -> Sequence[Task]:
    """Return the tasks, or of those that are chosen while it runs the first ones."""
    if plan.search is None:
        return plan.tasks
    from jupyter_gpudeploy.plan.adaptive import task

    return [task(plan.search, number, point) for number, point in enumerate(plan.search.first)]


def _space(search: Search) -> str:
    return "; ".join(f"{name} {_axis(axis)}" for name, axis in search.space.items())


def _axis(axis: Axis) -> str:
    if axis.is_listed:
        return ", ".join(value_text(value) for value in axis.values)
    ends = [value_text(end) for end in (axis.minimum, axis.maximum) if end is not None]
    words = [" to ".join(ends)] if len(ends) > 1 else []
    if axis.distribution in ("normal", "log_normal"):
        words.append(f"{axis.distribution} ({value_text(axis.mean)} ± {value_text(axis.deviation)})")
    elif axis.distribution == "log_uniform":
        words.append("log_uniform")
    words += ["whole"] if axis.integer else []
    words += [f"in steps of {value_text(axis.q)}"] if axis.q is not None else []
    return " ".join(words)


def _summary(plan: Plan, rows: list[Row]) -> Summary:
    return Summary(
        plan.name, plan.title, "", plan.kind, plan.backend, State.WAITING, "", None, 0.0, None, {}, rows, (), (), None,
        None, None,
    )  # fmt: skip
