"""What a person should know of a plan for a cluster before it is launched: what cannot be, and what was chosen."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from jupyter_gpudeploy.backends.kubernetes.manifests import payload
from jupyter_gpudeploy.backends.kubernetes.manifests.pods import TASK_SECONDS, own_image
from jupyter_gpudeploy.backends.kubernetes.manifests.render import options_of
from jupyter_gpudeploy.backends.kubernetes.manifests.scheduling import is_resource_name
from jupyter_gpudeploy.backends.kubernetes.manifests.workloads import UTC
from jupyter_gpudeploy.plan.types import Note
from jupyter_gpudeploy.quantities import format_seconds

if TYPE_CHECKING:
    from collections.abc import Iterator

    from jupyter_gpudeploy.plan.types import ClusterOptions, Plan

MOST_TRIALS = 100_000
"""Indexes of a Job that retries each of them (kubernetes, pkg/apis/batch/validation)."""


def advice(plan: Plan) -> list[Note]:
    """Return the notes. Looks at the user's files, and reads none."""
    options = options_of(plan)
    return [
        *_impossible(plan, options),
        *_reachable(plan),
        *_left_out(plan, options),
        *_chosen(plan, options),
        *([] if own_image(plan) else _carried(plan, options)),
    ]


def _carried(plan: Plan, options: ClusterOptions) -> list[Note]:
    chosen = payload.choose(plan, options)
    return [*chosen.notes, *payload.upload_notes(plan, options, chosen.tree)]


def _impossible(plan: Plan, options: ClusterOptions) -> Iterator[Note]:
    if len(plan.tasks) > MOST_TRIALS:
        message = f"{len(plan.tasks):,} trials, one Job holds {MOST_TRIALS:,}"
        yield Note("error", "max_runs", message, f"max_runs: {MOST_TRIALS}")
    if options.nodes > 1 and plan.kind != "job":
        message = f"a {plan.kind} on several machines is not supported"
        yield Note("error", "nodes", message, "nodes: belongs to one job; a sweep over it is one cell a trial")
    if options.schedule and (plan.kind not in ("job", "sweep") or options.nodes > 1):
        yield Note("error", "schedule", "only a job or a sweep of one machine can be run by the clock", "take it out")
    if plan.resources.gpus and not options.device_class and not is_resource_name(options.gpu_resource):
        message = f"{options.gpu_resource!r} is no name of a resource"
        yield Note("error", "gpu_resource", message, "like nvidia.com/gpu, amd.com/gpu, nvidia.com/mig-1g.10gb")
    if options.expose == "ingress" and not options.host:
        yield Note("warning", "expose", "an Ingress without a host takes every request of its address", "host: NAME")
    queues = plan.target.kinds if plan.target else None
    if options.queue and queues is not None and "LocalQueue" not in queues:
        yield Note("error", "queue", "this cluster has no Kueue: a suspended Job would never start", "take queue: out")


def _reachable(plan: Plan) -> Iterator[Note]:
    base = Path(plan.base)
    outside = [source.path for source in plan.sources if not Path(source.path).is_relative_to(base)]
    if outside and own_image(plan) is None:
        message = f"{outside[0]} lies outside the notebook's folder, and only what lies below it goes along"
        yield Note("error", "run", message, f"copy it below {base}")
    if not Path(plan.working_dir).is_relative_to(base):
        message = f"{plan.working_dir} lies outside the notebook's folder, and only what lies below it goes along"
        yield Note("error", "working_dir", message, "a folder below the notebook's")


def _left_out(plan: Plan, options: ClusterOptions) -> Iterator[Note]:
    server = own_image(plan)
    if server is not None and plan.secrets:
        message = "nothing of ours runs in a server's own image: secrets that it prints are not hidden"
        yield Note("info", "secrets", message)
    if server is not None and plan.requirements:
        message = "a server of its own image gets no packages"
        yield Note("warning", "requirements", message, "image: one that has them")
    if server is not None and options.upload:
        yield Note("warning", "upload", "a server of its own image gets no files", "storage: claim:NAME holds models")


def _chosen(plan: Plan, options: ClusterOptions) -> Iterator[Note]:
    if plan.kind in ("job", "sweep") and not plan.max_seconds:
        message = f"none named: each task is ended after {format_seconds(TASK_SECONDS)}"
        yield Note("info", "max_hours", message, "max_hours: 12")
    if options.schedule and not options.time_zone:
        yield Note("info", "time_zone", f"schedule: is read as {UTC}", "time_zone: Europe/Madrid")
    storage = options.storage or ""
    if storage and not storage.startswith("claim:"):
        message = f"a volume of {storage}, called {plan.name}, stays after the run"
        yield Note("info", "storage", message, f"kubectl delete pvc {plan.name}")
