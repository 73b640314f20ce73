"""What a person should know of a plan for a cluster before it is launched: what cannot be, and what was chosen."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from jupyter_gpudeploy.backends.kubernetes.manifests import payload
from jupyter_gpudeploy.backends.kubernetes.manifests.pods import (
    TASK_SECONDS,
    is_limited,
    options_of,
    own_image,
    why_never_idle,
)
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
    if options.nodes > 1 and plan.kind == "server":
        yield from _grouped(plan)
    elif options.nodes > 1 and plan.kind != "job":
        message = f"a {plan.kind} on several machines is not supported"
        yield Note("error", "nodes", message, "nodes: belongs to one job; a sweep over it is one cell a trial")
    if options.schedule and plan.search is not None:
        message = "a search is begun once, and each of its points needs a kernel that chooses it"
        yield Note("error", "schedule", message, "take it out, or method: random")
    if options.schedule and (plan.kind not in ("job", "sweep") or options.nodes > 1):
        yield Note("error", "schedule", "only a job or a sweep of one machine can be run by the clock", "take it out")
    if plan.resources.gpus and not options.device_class and not is_resource_name(options.gpu_resource):
        message = f"{options.gpu_resource!r} is no name of a resource"
        yield Note("error", "gpu_resource", message, "like nvidia.com/gpu, amd.com/gpu, nvidia.com/mig-1g.10gb")
    if options.expose == "ingress" and not options.host:
        yield Note("warning", "expose", "an Ingress without a host takes every request of its address", "host: NAME")
    yield from _queued(plan, options)


def _grouped(plan: Plan) -> Iterator[Note]:
    """Say what a server on several machines lacks."""
    kinds, server = plan.target.kinds if plan.target else None, own_image(plan)
    if kinds is not None and "LeaderWorkerSet" not in kinds:
        message = "this cluster has no LeaderWorkerSet, which makes servers on several machines"
        yield Note("error", "nodes", message, "nodes: 1 and more gpus:; or an administrator installs sigs.k8s.io/lws")
    if is_limited(plan):
        field = "max_hours" if plan.max_seconds else "idle_minutes"
        yield Note("error", field, "a server on several machines has no end of its own", "take it out, and stop it")
    if server is not None and not server.together:
        message = f"{plan.service.preset if plan.service else 'it'} runs on one machine"
        yield Note("error", "nodes", message, "nodes: 1; vllm, sglang and serve: command run on several")


def _queued(plan: Plan, options: ClusterOptions) -> Iterator[Note]:
    target = plan.target
    if not options.queue or target is None:
        return
    if target.kinds is not None and "LocalQueue" not in target.kinds:
        yield Note("error", "queue", "this cluster has no Kueue: a suspended Job would never start", "take queue: out")
    elif target.queues is not None and options.queue not in target.queues:
        there = ", ".join(sorted(target.queues))
        message = f"{target.namespace} has no queue {options.queue}: it would wait until somebody makes one"
        yield Note("warning", "queue", message, f"queue: {there}" if there else "an administrator makes LocalQueues")


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
    if plan.idle_seconds and (why := why_never_idle(plan)):
        yield Note("warning", "idle_minutes", f"is off: {why}", "max_hours: 12 ends it in any case")
    if server is not None and plan.requirements:
        message = "a server of its own image gets no packages"
        yield Note("warning", "requirements", message, "image: one that has them")
    if server is not None and plan.git is not None:
        message = "a server of its own image gets no files of a repository"
        yield Note("warning", "git", message, "take git: out; storage: claim:NAME holds models")
    if server is not None and options.upload:
        yield Note("warning", "upload", "a server of its own image gets no files", "storage: claim:NAME holds models")


def _chosen(plan: Plan, options: ClusterOptions) -> Iterator[Note]:
    if plan.search is not None:
        message = "a kernel chooses the points: without one, running trials end and no new ones begin"
        yield Note("warning", "method", message, f"attach({plan.title!r}) in any kernel goes on with it")
    if plan.kind in ("job", "sweep") and not plan.max_seconds:
        message = f"none named: each task is ended after {format_seconds(TASK_SECONDS)}"
        yield Note("info", "max_hours", message, "max_hours: 12")
    if options.schedule and not options.time_zone:
        yield Note("info", "time_zone", f"schedule: is read as {UTC}", "time_zone: Europe/Madrid")
    storage = options.storage or ""
    if storage and not storage.startswith("claim:"):
        message = f"a volume of {storage}, called {plan.name}, stays after the run"
        yield Note("info", "storage", message, f"kubectl delete pvc {plan.name}")
