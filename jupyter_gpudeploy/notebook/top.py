"""`%deploy top`: the running runs, what each uses of its GPUs, and which use nothing of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from jupyter_gpudeploy.notebook.sheet import Column, Sheet, clean, rounded
from jupyter_gpudeploy.quantities import format_memory

if TYPE_CHECKING:
    from collections.abc import Sequence

    from jupyter_gpudeploy.using import Use

IDLE = "idle"


def table(uses: Sequence[Use], left_out: int) -> Sheet:
    """Return one row a run. Columns in which nothing is known are left out."""
    columns = [
        Column("name", tuple(clean(use.name) for use in uses)),
        Column("state", tuple(f"{use.state}, {IDLE}" if use.is_idle else str(use.state) for use in uses), role="state"),
        Column("GPUs", tuple(str(use.gpus) if use.gpus else "" for use in uses), numeric=True),
        Column("GPU use", tuple(_gpu_use(use) for use in uses), numeric=True),
        Column("GPU memory", tuple(_of(use.memory_used, use.memory_total) for use in uses), numeric=True, rank=1),
        Column("CPU", tuple(_percent(use.cpu) for use in uses), numeric=True, rank=3),
        Column("memory", tuple(_memory(use.memory) for use in uses), numeric=True, rank=2),
        Column("age", tuple(rounded(use.seconds, live=False) for use in uses), numeric=True, role="time"),
        Column("GPU h", tuple(f"{use.gpu_hours:.2g}" if use.gpus else "" for use in uses), numeric=True),
        Column("cost", tuple("" if use.cost is None else f"{use.cost:.2f}" for use in uses), numeric=True, rank=1),
        Column("owner", tuple(clean(use.owner) for use in uses), rank=4),
        Column("backend", tuple(clean(use.backend) for use in uses), rank=5),
    ]
    kept = tuple(column for column in columns if any(column.cells))
    more = f"… and {left_out} more runs" if left_out else ""
    return Sheet(kept or tuple(columns[:1]), tuple(use.state for use in uses), more=more)


def title(uses: Sequence[Use]) -> str:
    """Return the line above it."""
    if not uses:
        return "no run is running"
    gpus, idle = sum(use.gpus for use in uses), sum(use.is_idle for use in uses)
    words = [f"{len(uses)} running", f"{gpus} GPU{'s' * (gpus != 1)}" if gpus else "", f"{idle} idle" if idle else ""]
    return " · ".join(filter(None, words))


def notices(uses: Sequence[Use]) -> list[str]:
    """Return what should be done about those that use nothing."""
    names = [use.name for use in uses if use.is_idle]
    if not names:
        return []
    what = "uses" if len(names) == 1 else "use"
    return [f"{', '.join(map(clean, names))} {what} less than 5 % of the GPUs held, for 10 minutes: %deploy stop NAME"]


def _gpu_use(use: Use) -> str:
    return _percent(use.utilization) or ("unknown" if use.gpus else "")


def _percent(value: float | None) -> str:
    return "" if value is None else f"{value:.0f} %"


def _memory(size: int | None) -> str:
    return "" if size is None else format_memory(size)


def _of(used: int | None, total: int | None) -> str:
    return _memory(used) if not total else f"{_memory(used) or '?'} of {_memory(total)}"
