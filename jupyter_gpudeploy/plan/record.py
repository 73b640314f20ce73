"""A Plan written down: what `run.json` says of it, on every backend."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from jupyter_gpudeploy.plan.types import Slot

if TYPE_CHECKING:
    from jupyter_gpudeploy.plan.types import Argv, Plan, Task

VERSION = 1
_APART = ("tasks", "files", "cell")


def record_of(plan: Plan) -> dict[str, Any]:
    """Return what `run.json` says of a plan; the uid and the time of creation come when it is launched."""
    content = {name: _plain(value) for name, value in plan._asdict().items() if name not in _APART}
    content["requirements"] = list(plan.requirements)
    if plan.warm is not None:
        content["warm"] = {"script": words_to_json((plan.warm.script,))[0], "preload": list(plan.warm.preload)}
    if plan.search is not None:
        content["search"]["template"]["lead"] = words_to_json(plan.search.template.lead)
    tasks = [task_record(task) for task in plan.tasks]
    return {"version": VERSION, **content, "tasks": tasks}


def record_text(record: Mapping[str, Any]) -> str:
    """Return a record as text: one key a line, one task a line; the same record gives the same text."""
    lines = []
    for key, value in record.items():
        if key == "tasks" and value:
            tasks = ",\n  ".join(json.dumps(task, default=str) for task in value)
            lines.append(f' "tasks": [\n  {tasks}\n ]')
        else:
            lines.append(f" {json.dumps(key)}: {json.dumps(value, default=str)}")
    return "{\n" + ",\n".join(lines) + "\n}\n"


def words_to_json(argv: Argv) -> list[list[Any]]:
    """Return an argv as JSON; a slot is `{"slot": name}`, so no text can be taken for one."""
    return [[{"slot": part.value} if isinstance(part, Slot) else part for part in parts] for parts in argv]


def _plain(value: Any) -> Any:  # noqa: ANN401 - any part of a plan
    """Return a value of a plan as JSON has it: what has named fields is a dict of them, a set is sorted."""
    if hasattr(value, "_asdict"):
        value = value._asdict()
    if isinstance(value, Mapping):
        return {name: _plain(part) for name, part in value.items()}
    if isinstance(value, frozenset):
        return sorted(value)
    return [_plain(part) for part in value] if isinstance(value, tuple | list) else value


def task_record(task: Task) -> dict[str, Any]:
    """Return what the record says of a task."""
    return {
        "number": task.number,
        "name": task.name,
        "parameters": dict(task.parameters),
        "argv": words_to_json(task.argv),
        "environment": dict(task.environment),
        "metric_files": words_to_json(task.metric_files),
    }
