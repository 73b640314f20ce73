"""What a backend cannot do of what was asked: one line each, with the way out.

Asked of Capabilities, never of a class.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from jupyter_gpudeploy.plan import cluster
from jupyter_gpudeploy.plan.types import Note, Slot
from jupyter_gpudeploy.quantities import format_memory

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from jupyter_gpudeploy.backends.base import Capabilities
    from jupyter_gpudeploy.plan.types import Plan
    from jupyter_gpudeploy.spec.models import Spec

_CLUSTER = "--backend kubernetes"


def feasibility(spec: Spec, plan: Plan, can: Capabilities, modules: Sequence[str]) -> list[Note]:
    """Return the notes: errors forbid launching, warnings say what is done otherwise."""
    return [
        *_machines(spec, plan, can),
        *_memory(plan, can),
        *_reach(spec, can),
        *_software(plan, can, modules),
        *([] if can.target else _without_cluster(spec, can)),
        *_left_out(spec),
    ]


def _machines(spec: Spec, plan: Plan, can: Capabilities) -> Iterator[Note]:
    wanted, there = plan.resources.gpus, can.gpus
    if there is not None and wanted > there:
        has = f"has {there} GPU{'s' if there != 1 else ''}" if there else "has no GPU"
        yield Note("error", "gpus", f"{wanted} GPUs asked, {can.where} {has}", f"gpus: {there}, or {_CLUSTER}")
    if can.nodes is not None and spec.nodes > can.nodes:
        yield Note("error", "nodes", f"{spec.nodes} machines asked, {can.where} is one", f"nodes: 1, or {_CLUSTER}")
    if can.replicas is not None and spec.replicas > can.replicas:
        message = f"{spec.replicas} replicas asked, {can.where} runs {can.replicas}"
        yield Note("error", "replicas", message, f"replicas: {can.replicas}, or {_CLUSTER}")
    if can.cpus is not None and plan.resources.cpu is not None and plan.resources.cpu > can.cpus:
        yield Note(
            "warning",
            "cpu",
            f"{plan.resources.cpu:g} processors asked, {can.where} has {can.cpus:g}",
            "it runs all the same, slower",
        )
    if plan.warm is not None and not can.warm:
        yield Note("error", "warm", f"{can.where} cannot fork trials", "leave warm: out")


def _memory(plan: Plan, can: Capabilities) -> Iterator[Note]:
    wanted = plan.resources.memory
    if wanted is None or can.memory_limits:
        return
    if can.memory is not None and wanted > can.memory:
        message = f"{format_memory(wanted)} asked, {can.where} has {format_memory(can.memory)}"
        yield Note("warning", "memory", message, f"it runs all the same and may not fit; or {_CLUSTER}")
    else:
        yield Note("info", "memory", f"not limited on {can.where}", "it takes what it takes")


def _reach(spec: Spec, can: Capabilities) -> Iterator[Note]:
    if spec.route and not can.routes and spec.serve is not None:
        message = f"{can.where} has no Route: the server is reached at http://127.0.0.1:PORT"
        yield Note("warning", "route", message, f"run.url says the port; or {_CLUSTER}")
    if (spec.cluster or spec.namespace) and not can.routes:
        field = "cluster" if spec.cluster else "namespace"
        yield Note(
            "warning",
            field,
            f"runs on {can.where}, not on {spec.cluster or spec.namespace}",
            f"take {field}: out, or {_CLUSTER}",
        )
    reference = next((key for key, value in spec.secrets.items() if "/" in value and ":" not in value), None)
    if reference and not can.routes:
        yield Note("error", f"secrets.{reference}", f"{can.where} has no Secrets", "env:NAME or file:PATH")


def _without_cluster(spec: Spec, can: Capabilities) -> Iterator[Note]:
    for key in cluster.KEYS:
        if key not in spec.model_fields_set or getattr(spec, key) in (None, {}, []):
            continue
        if key == "schedule":
            yield Note("error", key, f"{can.where} starts nothing by the clock", f"take it out, or {_CLUSTER}")
        elif key not in ("upload", "keep_hours") and not (key == "expose" and spec.expose == "forward"):
            yield Note("warning", key, f"has no meaning on {can.where}: left out", f"take it out, or {_CLUSTER}")


def _software(plan: Plan, can: Capabilities, modules: Sequence[str]) -> Iterator[Note]:
    for module in modules:
        if can.has_module is not None and not can.has_module(module) and module not in plan.requirements:
            message = f"the module {module} is not installed on {can.where}"
            yield Note("error", "requirements", message, f"pip install {module}, or requirements: [{module}]")
    program = _program(plan)
    if program and can.has_program is not None and not can.has_program(program):
        yield Note("error", "run", f"no program {program!r} on {can.where}", "install it, or give its whole path")
    if plan.service is not None:
        from jupyter_gpudeploy.plan.program import preset

        if warning := preset(plan.service.preset).warning:
            yield Note("warning", "serve", warning)


def _program(plan: Plan) -> str | None:
    """Return the first word of the command where it is a plain name that PATH must know."""
    if not plan.tasks or not plan.tasks[0].argv:
        return None
    first = plan.tasks[0].argv[0]
    is_plain = len(first) == 1 and not isinstance(first[0], Slot) and "/" not in first[0]
    return first[0] if is_plain else None


def _left_out(spec: Spec) -> Iterator[Note]:
    if spec.is_sweep and spec.metric is None:
        yield Note("info", "metric", "no metric named: trials are listed, none is marked best", "metric: val_acc")
    if spec.tracking is not None:
        backend = spec.tracking.backend
        message = f"nothing is sent to {backend} by itself; what the program prints or logs is collected"
        yield Note("warning", "tracking", message, f"call {backend} in the program as usual")
    if spec.is_sweep:
        yield from _shared_files(spec)


def _shared_files(spec: Spec) -> Iterator[Note]:
    for text in spec.metric_files:
        if "{" not in text:
            message = f"all trials would write the same file {text!r}"
            yield Note("error", "metric_files", message, f"{{output}}/{text.rpartition('/')[2]}, one folder a trial")
