"""What happened, as pandas DataFrames: `metrics` (long), `trials` (one row a task), `compare` (several runs), `logs`.

Every function is given what it needs (the run's record, its status, its collected metrics) and touches nothing else.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from jupyter_gpudeploy.collect import SOURCES, Collector
from jupyter_gpudeploy.errors import GpuDeployError
from jupyter_gpudeploy.events.follow import Tail, last_lines
from jupyter_gpudeploy.events.status import TaskStatus
from jupyter_gpudeploy.events.text import plain
from jupyter_gpudeploy.names import point_name

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from jupyter_gpudeploy.collect import Goal
    from jupyter_gpudeploy.events.status import Status
    from jupyter_gpudeploy.events.store import RunFolder

    Part = tuple[Mapping[str, Any], Status, Collector]

OUTCOME = ("state", "seconds", "exit_code", "attempt", "reason")
_RESERVED = frozenset({"run", "trial", *OUTCOME})


def metrics(record: Mapping[str, Any], collector: Collector) -> pd.DataFrame:
    """Return every reported value, one row each, of all attempts.

    Columns: `trial` (its number), `name` (the trial's), `metric`, `step`, `epoch`, `value` (NaN and infinity are kept),
    `time` (UTC, NaT where the source keeps none), `attempt`, `source` (log, file or stdout).
    """
    columns = collector.columns()
    trial = np.array(columns.trial, dtype="int64")
    tasks = _tasks(record)
    numbers = np.unique(trial)
    trial_names = np.array([_name(tasks.get(int(number), {}), int(number)) for number in numbers], dtype=object)
    return pd.DataFrame(
        {
            "trial": trial,
            "name": pd.Series(trial_names[np.searchsorted(numbers, trial)], dtype="str"),
            "metric": pd.Series(
                np.array(columns.names, dtype=object)[np.array(columns.metric, dtype="int64")], dtype="str"
            ),
            "step": np.array(columns.step, dtype="float64"),
            "epoch": np.array(columns.epoch, dtype="float64"),
            "value": np.array(columns.value, dtype="float64"),
            "time": pd.to_datetime(pd.Series(columns.time, dtype="float64"), unit="s", utc=True),
            "attempt": np.array(columns.attempt, dtype="int64"),
            "source": pd.Series(np.array(SOURCES, dtype=object)[np.array(columns.source, dtype="int64")], dtype="str"),
        }
    )


def trials(record: Mapping[str, Any], status: Status, collector: Collector, now: float | None = None) -> pd.DataFrame:
    """Return one row a task, in their order; the index `trial` is its number.

    Columns: each parameter; the last value of each metric, NaN or not; `best_<metric>` of the metric that the run is
    about, the best finite value; then `state`, `seconds` (so far, while it runs), `exit_code`, `attempt`, `reason`. A
    parameter called like one of these is `<name> (parameter)`, a metric called like a column before it
    `<name> (metric)`.
    """
    tasks, latest = _tasks(record), collector.latest()
    numbers = sorted({*tasks, *status.tasks})
    states = [status.tasks.get(number, TaskStatus(number)) for number in numbers]
    frame: dict[str, Any] = {}
    for name in _ordered(tasks[number].get("parameters", {}) for number in numbers if number in tasks):
        values = [tasks.get(number, {}).get("parameters", {}).get(name) for number in numbers]
        frame[_free(name, _RESERVED, "parameter")] = pd.Series(values, dtype=object).infer_objects()
    best = _best_column(record, collector)
    taken = _RESERVED | best.keys()
    for name in _ordered(latest.get(number, {}) for number in numbers):
        values = [point.value if (point := latest.get(number, {}).get(name)) else None for number in numbers]
        frame[_free(name, taken | frame.keys(), "metric")] = pd.Series(values, dtype="float64")
    for name, found in best.items():
        frame[_free(name, frame.keys(), "metric")] = pd.Series(
            [found.get(number) for number in numbers], dtype="float64"
        )
    moment = time.time() if now is None else now
    frame["state"] = pd.Series([str(task.state) for task in states], dtype="str")
    frame["seconds"] = pd.Series([task.seconds(moment) for task in states], dtype="float64")
    frame["exit_code"] = pd.Series([task.exit_code for task in states], dtype="Int64")
    frame["attempt"] = pd.Series([task.attempt for task in states], dtype="int64")
    frame["reason"] = pd.Series([task.reason for task in states], dtype="str")
    return pd.DataFrame(frame).set_index(pd.Index(numbers, name="trial", dtype="int64"))


def compare(parts: Sequence[Part], now: float | None = None) -> pd.DataFrame:
    """Return the trials of several runs below each other; the first column `run` is the run's name."""
    frames = []
    for record, status, collector in parts:
        frame = trials(record, status, collector, now)
        frame.insert(0, "run", pd.Series(record["name"], index=frame.index, dtype="str"))
        frames.append(frame)
    if not frames:
        raise GpuDeployError("there is no run to compare", hint="name at least one")
    together = pd.concat(frames)
    outcome = [name for name in OUTCOME if name in together]
    return together[[name for name in together if name not in outcome] + outcome]


def best(
    record: Mapping[str, Any],
    status: Status,
    collector: Collector,
    metric: str | None = None,
    goal: Goal | None = None,
) -> dict[str, Any]:
    """Return the best trial: `trial`, `name`, `parameters`, `metric`, `goal`, `value`, `state`. Of equals the first.

    The metric and the goal are those of the run where none are given; else the only metric that was seen, and the goal
    that goes with its name. NaN and infinity are never best. Raises GpuDeployError for a metric that was never
    reported, naming those that were.
    """
    objective = record.get("metric") or {}
    metric = metric or objective.get("name") or only(collector.names())
    if metric is None:
        raise GpuDeployError("which metric?", hint=f"metric: in the cell, or metric=; {_seen(collector)}")
    goal = goal or (objective.get("goal") if metric == objective.get("name") else None) or _likely_goal(metric)
    if metric not in collector.names():
        raise GpuDeployError(f"metric {metric!r} was never printed; {_seen(collector)}")
    task = collector.best_task(metric, goal)
    if task is None:
        raise GpuDeployError(f"metric {metric!r} was never finite", hint="it was NaN or infinite in every trial")
    found = _tasks(record).get(task, {})
    return {
        "trial": task,
        "name": _name(found, task),
        "parameters": dict(found.get("parameters", {})),
        "metric": metric,
        "goal": goal,
        "value": collector.best(metric, goal)[task],
        "state": str(status.tasks[task].state),
    }


def logs(
    record: Mapping[str, Any], folder: RunFolder, task: int | None = None, last: int | None = None
) -> pd.DataFrame:
    """Return what was printed, one row a line: `trial`, `name`, `attempt`, `line`, `text` (nothing hidden in it).

    `last` leaves out all but the last lines of each attempt; `line` then counts among those that are shown.
    """
    tasks = _tasks(record)
    rows = [
        (number, _name(tasks.get(number, {}), number), attempt, line, plain(text))
        for number in (sorted(tasks) if task is None else [task])
        for attempt, file in folder.log_files(number)
        for line, text in enumerate(_lines(Tail(file)) if last is None else last_lines(file, last), 1)
    ]
    frame = pd.DataFrame(rows, columns=["trial", "name", "attempt", "line", "text"])
    return frame.astype({"trial": "int64", "name": "str", "attempt": "int64", "line": "int64", "text": "str"})


def only(names: Sequence[str]) -> str | None:
    """Return the one metric where only one was seen: then nobody need say which."""
    return names[0] if len(names) == 1 else None


def _likely_goal(metric: str) -> Goal:
    from jupyter_gpudeploy.spec.parts import likely_goal

    return likely_goal(metric)


def _lines(tail: Tail) -> Iterator[str]:
    while lines := tail.lines(ended=True):
        yield from lines


def _tasks(record: Mapping[str, Any]) -> dict[int, Mapping[str, Any]]:
    return {task["number"]: task for task in record.get("tasks", ())}


def _name(task: Mapping[str, Any], number: int) -> str:
    return task.get("name") or point_name(task.get("parameters", {})) or str(number)


def _ordered(mappings: Iterable[Mapping[str, Any]]) -> list[str]:
    """Return every key, in the order in which they come."""
    return list(dict.fromkeys(name for mapping in mappings for name in mapping))


def _free(name: str, taken: Iterable[str], kind: str) -> str:
    taken = set(taken)
    while name in taken:
        name = f"{name} ({kind})"
    return name


def _best_column(record: Mapping[str, Any], collector: Collector) -> dict[str, dict[int, float]]:
    objective = record.get("metric")
    return {f"best_{objective['name']}": collector.best(objective["name"], objective["goal"])} if objective else {}


def _seen(collector: Collector) -> str:
    names = collector.names()
    return f"seen: {', '.join(names)}" if names else "no metric was seen at all"
