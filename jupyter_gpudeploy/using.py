"""What the running runs use now: `top`. Read from what was measured of them; nothing is measured here."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from jupyter_gpudeploy import launching
from jupyter_gpudeploy.errors import GpuDeployError
from jupyter_gpudeploy.events.samples import last_samples
from jupyter_gpudeploy.events.store import RunFolder
from jupyter_gpudeploy.events.types import GpuSample, ProcessSample, State
from jupyter_gpudeploy.settings_file import settings_file

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from jupyter_gpudeploy.events.types import Sample
    from jupyter_gpudeploy.run import Run
    from jupyter_gpudeploy.summary import Summary

IDLE_SECONDS = 600.0
IDLE_PERCENT = 5.0
_NOW_SECONDS = 60.0
_FRESH_SECONDS = 60.0
_HARDLY = (
    30.0  # by so much less than IDLE_SECONDS may have been seen: looks come once a second, or a little more seldom
)
_AT_ONCE = 8
_Kind = TypeVar("_Kind", GpuSample, ProcessSample)
_ALIVE = (State.STARTING, State.RUNNING, State.READY)


class Use(NamedTuple):
    """What one run uses. None where nothing is known, or nothing was measured in the last minute.

    `gpus`: how many it holds; `utilization`: of these, the mean of the last minute, in percent; `memory_used` and
    `memory_total` of them together, `memory` of its processes, in bytes; `cpu` in percent of one core. `seconds` since
    its start; `cost` so far, in the money of the settings file's `prices`. `is_idle`: no GPU of it was used more than
    IDLE_PERCENT of the time for IDLE_SECONDS.
    """

    name: str
    kind: str
    state: State
    backend: str
    gpus: int
    utilization: float | None
    memory_used: int | None
    memory_total: int | None
    cpu: float | None
    memory: int | None
    seconds: float | None
    gpu_hours: float
    cost: float | None
    is_idle: bool
    owner: str = ""


class Top(list[Use]):
    """What runs use, those with the most GPU hours first. Shown as a table. `notices`: what could not be asked."""

    def __init__(self, uses: Iterable[Use] = (), notices: Sequence[str] = ()) -> None:
        super().__init__(uses)
        self.notices = tuple(notices)


def top(backend: str | None = None, *, cluster: str | None = None, namespace: str | None = None) -> Top:
    """Return what every running run uses, of one backend or place, or of all that are in use.

    Runs on a cluster are followed from then on, as `attach` does it: what was measured of them is in their logs.
    """
    found = launching.runs(backend, cluster=cluster, namespace=namespace)
    alive = [run for run in found if run.glance().state in _ALIVE]
    prices = known_prices()
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        uses = [use for use in pool.map(lambda run: _looked_at(run, prices), alive) if use is not None]
    return Top(sorted(uses, key=lambda use: (-use.gpu_hours, use.name)), found.notices)


def _looked_at(run: Run, prices: Mapping[str, float]) -> Use | None:
    """Return what a run uses; None where it is gone or over meanwhile."""
    try:
        summary = run.summary(log_lines=0, metrics=False)
        return use(run, summary, prices) if summary.state in _ALIVE else None
    except GpuDeployError:
        return None


def use(run: Run, summary: Summary, prices: Mapping[str, float]) -> Use:
    """Return what a run uses that is alive by its summary. Raises RunNotFoundError for one that is gone."""
    samples = last_samples(RunFolder(run.folder).samples_file, IDLE_SECONDS)
    held = _now(samples, GpuSample)
    tasks = _now(samples, ProcessSample)
    gpus = int((run.record.get("resources") or {}).get("gpus") or 0)
    return Use(
        name=summary.name,
        kind=summary.kind,
        state=summary.state,
        backend=summary.backend,
        gpus=max(
            len(held), gpus * sum(row.state in _ALIVE for row in summary.rows) or (gpus if not summary.rows else 0)
        ),
        utilization=_mean(
            sample.utilization for sample in samples if isinstance(sample, GpuSample) and _is_fresh(sample)
        ),
        memory_used=_sum(sample.memory_used for sample in held),
        memory_total=_sum(sample.memory_total for sample in held),
        cpu=_total(sample.cpu for sample in tasks),
        memory=_sum(sample.memory for sample in tasks),
        seconds=summary.seconds,
        gpu_hours=summary.gpu_hours,
        cost=cost(run.record, summary.gpu_hours, prices),
        is_idle=is_idle(samples),
        owner=summary.owner,
    )


def is_idle(samples: Sequence[Sample], now: float | None = None) -> bool:
    """Whether GPUs were held and none was used for IDLE_SECONDS until now. What is not known is not idle."""
    moment = time.time() if now is None else now
    seen = [sample for sample in samples if isinstance(sample, GpuSample) and sample.time > moment - IDLE_SECONDS]
    if not seen or seen[-1].time < moment - _FRESH_SECONDS or seen[0].time > moment - IDLE_SECONDS + _HARDLY:
        return False
    known = {sample.gpu for sample in seen if sample.utilization is not None}
    return known == {sample.gpu for sample in seen} and all((one.utilization or 0.0) < IDLE_PERCENT for one in seen)


def _now(samples: Sequence[Sample], kind: type[_Kind]) -> list[_Kind]:
    """Return the newest look at each GPU, or at each task's processes, of the last minute."""
    found: dict[Any, _Kind] = {}
    for sample in samples:
        if isinstance(sample, kind) and _is_fresh(sample):
            found[sample[1]] = sample
    return list(found.values())


def _is_fresh(sample: Sample) -> bool:
    return (sample.time or 0.0) > time.time() - _NOW_SECONDS


def _mean(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None


def _total(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) if known else None


def _sum(values: Iterable[int | None]) -> int | None:
    known = [value for value in values if value is not None]
    return sum(known) if known else None


def known_prices() -> Mapping[str, float]:
    """Return what an hour of a GPU costs, by GPU type, cluster or backend. Raises SettingsError."""
    if not settings_file().exists():
        return {}
    from jupyter_gpudeploy.spec.settings import read_settings

    return read_settings().prices


def cost(record: Mapping[str, Any], gpu_hours: float, prices: Mapping[str, float]) -> float | None:
    """Return what a run has cost: by the type of its GPUs, else on that cluster, else on that backend."""
    spec, target = record.get("spec") or {}, record.get("target") or {}
    price = price_of(prices, spec.get("gpu_type"), target.get("cluster"), record.get("backend"))
    return None if price is None or not gpu_hours else price * gpu_hours


def price_of(prices: Mapping[str, float], *names: object) -> float | None:
    """Return what a GPU hour costs by the first of these names that has a price: type of GPU, cluster, backend."""
    return next((prices[str(name)] for name in names if str(name) in prices), None)
