"""A Plan as files. Pure: the same plan gives the same text, and nothing is touched."""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

from jupyter_gpudeploy.backends.base import Rendering
from jupyter_gpudeploy.backends.local.layout import record_text
from jupyter_gpudeploy.plan.types import Slot

if TYPE_CHECKING:
    from jupyter_gpudeploy.plan.types import Argv, Plan, Task

VERSION = 1


def render(plan: Plan) -> Rendering:
    """Return the files of a run: `run.json`, `cell.txt`, and the program below `code/`."""
    files = {"run.json": record_text(record_of(plan))}
    if plan.cell:
        files["cell.txt"] = plan.cell
    files |= {f"code/{path}": text for path, text in plan.files.items()}
    return Rendering("local", plan.name, plan.fingerprint, files)


def record_of(plan: Plan) -> dict[str, Any]:
    """Return what `run.json` says of a plan; the uid and the time of creation come when it is launched."""
    content = asdict(replace(plan, tasks=(), files={}, cell=""))
    for apart in ("tasks", "files", "cell"):
        del content[apart]
    content["requirements"] = list(plan.requirements)
    if plan.warm is not None:
        content["warm"] = {"script": words_to_json((plan.warm.script,))[0], "preload": list(plan.warm.preload)}
    tasks = [_task(task) for task in plan.tasks]
    return {"version": VERSION, **content, "backend": "local", "tasks": tasks}


def words_to_json(argv: Argv) -> list[list[Any]]:
    """Return an argv as JSON; a slot is `{"slot": name}`, so no text can be taken for one."""
    return [[{"slot": part.value} if isinstance(part, Slot) else part for part in parts] for parts in argv]


def _task(task: Task) -> dict[str, Any]:
    return {
        "number": task.number,
        "name": task.name,
        "parameters": dict(task.parameters),
        "argv": words_to_json(task.argv),
        "environment": dict(task.environment),
        "metric_files": words_to_json(task.metric_files),
    }
