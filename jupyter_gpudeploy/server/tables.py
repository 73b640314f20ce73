"""The results of a run as plain values: its trials, the best first where it is about a metric."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from jupyter_gpudeploy.events.text import one_line

if TYPE_CHECKING:
    from jupyter_gpudeploy.run import Run

ROWS = 1000


def results(run: Run) -> dict[str, Any]:
    """Return the `columns` and `rows` of the trials, of many the first ROWS; `sorted_by`: of which column they are."""
    frame = run.trials().reset_index()
    metric = run.record.get("metric") or {}
    by = f"best_{metric.get('name')}"
    is_sorted = by in frame and bool(frame[by].notna().any())
    if is_sorted:
        frame = frame.sort_values(by, ascending=metric.get("goal") != "maximize", na_position="last", kind="stable")
    shown = frame.head(ROWS).astype(object).itertuples(index=False, name=None)
    return {
        "columns": [one_line(str(name)) for name in frame.columns],
        "rows": [[_plain(value) for value in row] for row in shown],
        "total": len(frame),
        "sorted_by": one_line(by) if is_sorted else None,
    }


def _plain(value: Any) -> str | float | bool | None:  # noqa: ANN401 - whatever a cell of a table holds
    if isinstance(value, bool):
        return value
    if isinstance(value, int | float):
        if math.isnan(value):
            return None
        return value if math.isfinite(value) else str(float(value))
    if value is None or str(value) == "<NA>":
        return None
    if hasattr(value, "item"):  # one of numpy's
        return _plain(value.item())
    return one_line(str(value))
