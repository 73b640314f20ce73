"""What was measured of a run from outside, as pandas DataFrames: `gpu`, and `server` for a server's own metrics."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pandas as pd

from jupyter_gpudeploy.events.samples import SampleReader
from jupyter_gpudeploy.events.types import GpuSample, MetricPoint, ProcessSample
from jupyter_gpudeploy.names import point_name

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from jupyter_gpudeploy.events.store import RunFolder
    from jupyter_gpudeploy.events.types import Sample

NOTHING = (
    "nothing was measured of this run: samples are taken once a second from a second after its start on, "
    "unless JUPYTER_GPUDEPLOY_SAMPLING is off"
)
_VALUES = ("utilization", "memory_used", "memory_total", "power", "temperature", "cpu", "memory")
_OF_GPU = GpuSample._fields[3:]


def gpu(record: Mapping[str, Any], folder: RunFolder) -> pd.DataFrame:
    """Return one row a GPU and look; where a task holds no GPU that can be seen, one row a look.

    Columns: `time` (UTC); `task` (its number; missing for what the run itself holds); `name` (the task's); `gpu` (the
    word that chooses it, missing where there is none); `utilization` (share of the time in which a kernel ran, %; it
    says nothing of how much of the GPU was busy); `memory_used`, `memory_total` (of the GPU, bytes); `power` (W);
    `temperature` (°C); `cpu` (of the task's processes, % of one core), `memory` (what they hold, bytes). What is not
    known, as the utilisation of a part of a GPU in MIG mode, is NaN, never 0. A table without rows says in
    `attrs["note"]` why.
    """
    rows = _rows(SampleReader(folder.samples_file).poll())
    frame = pd.DataFrame(rows, columns=["time", "task", "gpu", *_VALUES])
    names = {
        task["number"]: task.get("name") or point_name(task.get("parameters", {})) for task in record.get("tasks", ())
    }
    frame.insert(2, "name", pd.Series([names.get(number, "") for number in frame["task"]], dtype="str"))
    frame = frame.astype({"task": "Int64", "gpu": "str", **dict.fromkeys(_VALUES, "float64")})
    frame["time"] = _moments(frame["time"])
    if frame.empty:
        frame.attrs["note"] = NOTHING
    return frame


def server(folder: RunFolder) -> pd.DataFrame:
    """Return what a server said of itself, one row a value: `time` (UTC), `replica`, `metric`, `value`.

    `metric` is a name of the server's preset: a gauge as it stood, `<counter>_per_second`, or the mean of what a
    histogram took in since the look before (`ttft_seconds`, `latency_seconds`).
    """
    samples = SampleReader(folder.samples_file).poll()
    rows = [(one.time, one.task, one.name, one.value) for one in samples if isinstance(one, MetricPoint)]
    frame = pd.DataFrame(rows, columns=["time", "replica", "metric", "value"])
    frame = frame.astype({"replica": "int64", "metric": "str", "value": "float64"})
    frame["time"] = _moments(frame["time"])
    if frame.empty:
        frame.attrs["note"] = "no metrics page of this server was read"
    return frame


def _moments(seconds: pd.Series[Any]) -> pd.Series[Any]:
    """Return times to the millisecond, as they are kept."""
    return pd.to_datetime((seconds.astype("float64") * 1000).round().astype("int64"), unit="ms", utc=True)


def _rows(samples: Iterable[Sample]) -> list[tuple[Any, ...]]:
    """Return (time, task, gpu, values): what one look tells of a task's processes stands beside each of its GPUs."""
    gpus: dict[tuple[float, int | None], list[GpuSample]] = {}
    tasks: dict[tuple[float, int | None], ProcessSample | None] = {}
    for sample in samples:
        if isinstance(sample, GpuSample):
            gpus.setdefault((sample.time, sample.task), []).append(sample)
            tasks.setdefault((sample.time, sample.task), None)
        elif isinstance(sample, ProcessSample):
            tasks[sample.time, sample.task] = sample
    rows: list[tuple[Any, ...]] = []
    for (time, task), usage in tasks.items():
        beside = (None, None) if usage is None else (usage.cpu, usage.memory)
        held = gpus.get((time, task))
        rows += [(time, task, one.gpu, *one[3:], *beside) for one in held] if held else [
            (time, task, None, *(None for _ in _OF_GPU), *beside)
        ]  # fmt: skip
    return rows
