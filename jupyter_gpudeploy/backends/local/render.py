"""A Plan as files. Pure: the same plan gives the same text, and nothing is touched."""

from __future__ import annotations

from typing import TYPE_CHECKING

from jupyter_gpudeploy.backends.base import Rendering
from jupyter_gpudeploy.plan.record import record_of, record_text

if TYPE_CHECKING:
    from jupyter_gpudeploy.plan.types import Plan


def render(plan: Plan) -> Rendering:
    """Return the files of a run: `run.json`, `cell.txt`, and the program below `code/`."""
    files = {"run.json": record_text(record_of(plan))}
    if plan.cell:
        files["cell.txt"] = plan.cell
    files |= {f"code/{path}": text for path, text in plan.files.items()}
    return Rendering("local", plan.name, plan.fingerprint, files)
