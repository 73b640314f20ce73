"""One report of a program, whatever it was written in: names with numbers, and where in the training it stands."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

STEP_NAMES = frozenset({"step", "global_step", "train_step", "iter", "iteration"})
EPOCH_NAMES = frozenset({"epoch"})
TIME_NAMES = frozenset({"time", "timestamp", "ts", "wall_time", "_timestamp"})
NO_METRICS = frozenset(
    {"address", "addr", "build", "code", "cuda", "cudnn", "date", "device", "eta", "gid", "host", "id", "ip", "line"}
    | {"lineno", "local_rank", "localhost", "node_rank", "nproc", "pid", "port", "ppid", "python", "rank", "remaining"}
    | {"seed", "status", "thread", "tid", "timestamp", "trial", "ts", "uid", "v_num", "version", "world_size", "year"}
    | {"epochs", "errno", "iterations", "iters", "max_steps", "num_epochs", "steps", "total_steps"}
    | {"levelno", "process", "_timestamp", "_runtime"}
)
_CLOCK = 1e9  # a "time" from here on is a moment, not a duration
_DEPTH = 20


class Row(NamedTuple):
    """What one line or record says. `step`, `epoch` and `time` are None where it does not say."""

    metrics: dict[str, float]
    step: float | None = None
    epoch: float | None = None
    time: float | None = None


def number(value: object) -> float | None:
    """Return a number, also one in quotes, or None for anything else; booleans are no numbers."""
    if isinstance(value, bool) or not isinstance(value, int | float | str) or value == "":
        return None
    if isinstance(value, str) and "_" in value:
        return None
    try:
        return float(value)
    except (ValueError, OverflowError):
        return None


def row(values: Mapping[str, float]) -> Row:
    """Return names with numbers as a row: step, epoch and moment apart, what is surely no metric left out."""
    metrics: dict[str, float] = {}
    found: dict[str, float] = {}
    for name, value in values.items():
        key = name.lower()
        role = _role(key, value)
        if role:
            found.setdefault(role, value)
        elif key not in NO_METRICS:
            metrics[name] = value
    return Row(metrics, found.get("step"), found.get("epoch"), found.get("time"))


def flatten(values: Mapping[str, object], above: str = "", depth: int = 0) -> Iterator[tuple[str, object]]:
    """Yield every leaf with its path, joined by `/`; what is nested deeper than 20 is left out."""
    for key, value in values.items():
        name = f"{above}{key}"
        if isinstance(value, dict):
            if depth < _DEPTH:
                yield from flatten(value, f"{name}/", depth + 1)
        else:
            yield name, value


def numbers(values: Mapping[str, object]) -> dict[str, float]:
    """Return the leaves that are numbers."""
    return {name: found for name, value in flatten(values) if (found := number(value)) is not None}


def _role(key: str, value: float) -> str | None:
    if key in STEP_NAMES:
        return "step"
    if key in EPOCH_NAMES:
        return "epoch"
    return "time" if key in TIME_NAMES and value >= _CLOCK else None
