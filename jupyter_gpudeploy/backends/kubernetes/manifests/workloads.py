"""What makes the pods of a run: a Job, a CronJob, a JobSet or a Deployment.

A sweep is one Indexed Job, whatever the number of its trials: each index has its own retries, and `parallelism` can be
changed while it runs. What one machine cannot hold is an Indexed Job too, of one index a machine.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from jupyter_gpudeploy.backends.kubernetes import marks, places
from jupyter_gpudeploy.backends.kubernetes.manifests import probes
from jupyter_gpudeploy.backends.kubernetes.manifests.pods import DAY, pod, preset_of, selector, task_seconds
from jupyter_gpudeploy.backends.kubernetes.manifests.shapes import shape

if TYPE_CHECKING:
    from jupyter_gpudeploy.backends.kubernetes.manifests.pods import Program
    from jupyter_gpudeploy.plan.types import ClusterOptions, Plan

QUEUE = "kueue.x-k8s.io/queue-name"
UTC = "Etc/UTC"
_WAITING_SECONDS = 7 * DAY
_LONGEST = 365 * DAY
_ENDLESS = 2**31 - 1
_IGNORE_DISRUPTIONS = {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]}


def workload(plan: Plan, options: ClusterOptions, code: Program) -> dict[str, Any]:
    """Return the one object whose controller makes the pods."""
    if plan.kind in ("server", "manual"):
        return _limited(plan, options, code) if is_limited(plan) else _deployment(plan, options, code)
    if uses_jobset(plan, options):
        return _jobset(plan, options, code)
    job = _job(plan, options, code)
    return _cronjob(plan, options, job) if options.schedule else job


def is_limited(plan: Plan) -> bool:
    """Return whether a server or an environment is ended after `max_hours`: a Deployment could not be, a Job is."""
    return plan.kind in ("server", "manual") and plan.max_seconds is not None


def uses_jobset(plan: Plan, options: ClusterOptions) -> bool:
    """Return whether the machines of a job are started, failed and restarted together."""
    has_kind = plan.target is not None and plan.target.kinds is not None and "JobSet" in plan.target.kinds
    return plan.kind == "job" and options.nodes > 1 and has_kind and not options.schedule


def run_seconds(plan: Plan, options: ClusterOptions) -> int:
    """Return after how long a whole Job is ended: what all its tasks may take, and a week to wait for room."""
    rounds = math.ceil(len(plan.tasks) / max(plan.parallelism, 1)) * (plan.retries + 1)
    waiting = _WAITING_SECONDS if not options.schedule else DAY
    return min(rounds * task_seconds(plan) + waiting, _LONGEST)


def _job(plan: Plan, options: ClusterOptions, code: Program) -> dict[str, Any]:
    grouped = options.nodes > 1
    return shape(
        "job",
        mode="Indexed",
        name=plan.name,
        labels=_labels(plan, options),
        completions=len(plan.tasks) * options.nodes,
        parallelism=plan.parallelism * options.nodes,
        suspend=True if options.queue else None,
        retries=plan.retries,
        retries_of_all=None,
        max_failed=0 if grouped else None,
        deadline_seconds=run_seconds(plan, options),
        keep_seconds=round(options.keep_seconds),
        failure_policy={"rules": [_IGNORE_DISRUPTIONS]},
        pod=pod(plan, options, code),
    )


def _jobset(plan: Plan, options: ClusterOptions, code: Program) -> dict[str, Any]:
    """Return a JobSet of one Job, which has no retries of its own: when one machine fails, all start again."""
    labels = marks.labels(plan.name, marks.WORK)
    job = shape(
        "job",
        mode="Indexed",
        name=plan.name,
        labels=labels,
        completions=options.nodes,
        parallelism=options.nodes,
        suspend=None,
        retries=None,
        retries_of_all=0,
        max_failed=None,
        deadline_seconds=run_seconds(plan, options),
        keep_seconds=None,
        failure_policy=None,
        pod=pod(plan, options, code, in_jobset=True),
    )
    return shape(
        "jobset",
        name=plan.name,
        labels=_labels(plan, options),
        job_labels=labels,
        suspend=True if options.queue else None,
        keep_seconds=round(options.keep_seconds),
        retries=plan.retries,
        group=places.GROUP,
        job=job["spec"],
    )


def _cronjob(plan: Plan, options: ClusterOptions, job: dict[str, Any]) -> dict[str, Any]:
    return shape(
        "cronjob",
        name=plan.name,
        labels=marks.labels(plan.name, marks.WORK),
        schedule=options.schedule,
        time_zone=options.time_zone or UTC,
        job_labels=job["metadata"]["labels"],
        job=job["spec"],
    )


def _limited(plan: Plan, options: ClusterOptions, code: Program) -> dict[str, Any]:
    """Return a Job whose pods stay until the cluster ends them. What fails is started again, however often."""
    return shape(
        "job",
        mode="NonIndexed",
        name=plan.name,
        labels=_labels(plan, options),
        completions=None,
        parallelism=options.replicas if plan.kind == "server" else 1,
        suspend=True if options.queue else None,
        retries=None,
        retries_of_all=_ENDLESS,
        max_failed=None,
        deadline_seconds=max(1, round(plan.max_seconds or 0)),
        keep_seconds=round(options.keep_seconds),
        failure_policy=None,
        pod=pod(plan, options, code),
    )


def _deployment(plan: Plan, options: ClusterOptions, code: Program) -> dict[str, Any]:
    """Return a Deployment that never needs more room than it has: an old pod goes before a new one comes."""
    rolling = {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 0, "maxUnavailable": 1}}
    return shape(
        "deployment",
        name=plan.name,
        labels=_labels(plan, options),
        replicas=options.replicas if plan.kind == "server" else 1,
        progress_seconds=probes.progress_seconds(plan.service if preset_of(plan) else None),
        strategy=rolling if plan.kind == "server" else {"type": "Recreate"},
        selector=selector(plan),
        pod=pod(plan, options, code),
    )


def _labels(plan: Plan, options: ClusterOptions) -> dict[str, str]:
    labels = marks.labels(plan.name, marks.WORK)
    return {**labels, QUEUE: options.queue} if options.queue else labels
