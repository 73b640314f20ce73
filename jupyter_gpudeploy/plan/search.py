"""The points of a sweep, counted before they are made."""

from __future__ import annotations

from typing import TYPE_CHECKING

from jupyter_gpudeploy.errors import PlanError
from jupyter_gpudeploy.plan.types import Note
from jupyter_gpudeploy.registry import Family
from jupyter_gpudeploy.samplers.base import Axis, Sampler, Told

if TYPE_CHECKING:
    from jupyter_gpudeploy.plan.adaptive import Planned
    from jupyter_gpudeploy.samplers.base import Params
    from jupyter_gpudeploy.spec.models import Parameter, Spec

LIMIT = 1000
SAMPLERS = Family("jupyter_gpudeploy.samplers")


def _method(spec: Spec) -> str:
    """Return the search method; of single values there is nothing to be searched."""
    return spec.method or "grid" if spec.is_sweep else "grid"


def adaptive(spec: Spec) -> Planned | None:
    """Return what can be said of a sweep whose points depend on its trials; None for any other. Raises PlanError."""
    method = _method(spec)
    if method in ("grid", "random", "ablation"):
        return None
    sampler: Sampler = SAMPLERS.load(method)
    if not sampler.adaptive:
        return None
    from jupyter_gpudeploy.plan.adaptive import Planned

    space = {name: _axis(parameter) for name, parameter in spec.parameters.items()}
    total = sampler.count(space)
    count = min(number for number in (total, spec.max_runs, LIMIT) if number is not None)
    if spec.max_runs and spec.max_runs > LIMIT and count == LIMIT:
        raise PlanError(f"max_runs: {spec.max_runs:,}, and each point waits for others", hint=f"max_runs: {LIMIT}")
    history: list[Told] = []
    while len(history) < min(spec.parallelism, count):
        point = sampler.ask(space, history, spec.seed)
        if point is None:
            break
        history.append(Told(point))
    return Planned(method, space, count, tuple(told.parameters for told in history))


def points(spec: Spec) -> tuple[list[Params], list[Note]]:
    """Return every point in its order; one empty point where there are no parameters."""
    space = {name: _axis(parameter) for name, parameter in spec.parameters.items()}
    if not space:
        return [{}], []
    method = _method(spec)
    sampler: Sampler = SAMPLERS.load(method)
    if sampler.adaptive:
        raise ValueError(f"the points of method: {method} are not known beforehand")
    total = sampler.count(space)
    if total is None:
        total = spec.max_runs or 1
    count = min(total, spec.max_runs) if spec.max_runs else total
    if count > LIMIT and not spec.max_runs:
        raise PlanError(_too_many(spec, space, count), hint="method: random and max_runs: 50, or max_runs: to mean it")
    history: list[Told] = []
    while len(history) < count:
        point = sampler.ask(space, history, spec.seed)
        if point is None:
            break
        history.append(Told(point))
    notes = []
    if count < total and method != "random":
        notes.append(
            Note("warning", "max_runs", f"the first {count} of {total:,} points", "method: random draws evenly")
        )
    return [told.parameters for told in history], notes


def _axis(parameter: Parameter) -> Axis:
    if parameter.values is not None:
        return Axis(values=tuple(parameter.values))
    return Axis(
        minimum=parameter.min,
        maximum=parameter.max,
        distribution=parameter.distribution or "uniform",
        mean=parameter.mu,
        deviation=parameter.sigma,
        q=parameter.q,
        integer=parameter.integer,
    )


def _too_many(spec: Spec, space: dict[str, Axis], count: int) -> str:
    product = " x ".join(str(len(axis.values)) for axis in space.values())
    hours = f", {count * spec.gpus * spec.max_hours:,.0f} GPU hours at most" if spec.gpus and spec.max_hours else ""
    return f"{count:,} runs = {product}{hours}; the limit is {LIMIT:,}"
