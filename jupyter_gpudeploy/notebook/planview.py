"""What the display of a plan says: what will start, where, with what, and what was decided."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING, NamedTuple

from jupyter_gpudeploy.events.types import State
from jupyter_gpudeploy.notebook.sheet import Column, Sheet, clean, fixed, trials
from jupyter_gpudeploy.plan.types import Slot
from jupyter_gpudeploy.quantities import format_memory, format_seconds
from jupyter_gpudeploy.summary import Row, Summary

if TYPE_CHECKING:
    from jupyter_gpudeploy.plan.types import Argv, Plan

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
    if plan.tasks:
        found.append(("command", clean(command_line(plan.tasks[0].argv))))
    if len(plan.tasks) > 1 and (same := fixed(_rows(plan))):
        found.append(("all with", same))
    if plan.requirements:
        found.append(("packages", clean(", ".join(plan.requirements))))
    found.append(("in folder", clean(plan.working_dir)))
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


def _starts(plan: Plan) -> str:
    count = len(plan.tasks)
    noun = {"sweep": "trial", "server": "replica"}.get(plan.kind, "process")
    plural = {"trial": "trials", "replica": "replicas", "process": "processes"}[noun]
    words = f"{count} {noun if count == 1 else plural}"
    words += f", {plan.parallelism} at a time" if plan.kind == "sweep" and plan.parallelism < count else ""
    words += f", {plan.retries} retr{'y' if plan.retries == 1 else 'ies'}" if plan.retries else ""
    return words + (f", at most {format_seconds(plan.max_seconds)}" if plan.max_seconds else "")


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
    left_out = len(rows) - TRIALS
    return Sheet(columns, more=f"… and {left_out} more trials" if left_out > 0 else "")


def _rows(plan: Plan) -> list[Row]:
    return [Row(task.number, task.name, task.parameters, State.WAITING, None, None, 1, "", {}) for task in plan.tasks]


def _summary(plan: Plan, rows: list[Row]) -> Summary:
    return Summary(
        plan.name, plan.title, "", plan.kind, plan.backend, State.WAITING, "", None, 0.0, None, {}, rows, (), (), None,
        None, None,
    )  # fmt: skip
