"""What makes the pods of a run: a Job, a CronJob, a JobSet, a Deployment or a LeaderWorkerSet.

A sweep is one Indexed Job, whatever the number of its trials: each index has its own retries, and `parallelism` can be
changed while it runs. One whose points are chosen while it runs is a Job a trial (`trials`). What one machine cannot
hold is an Indexed Job too, of one index a machine.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from jupyter_gpudeploy.backends.kubernetes import marks, places
from jupyter_gpudeploy.backends.kubernetes.manifests import probes, trials
from jupyter_gpudeploy.backends.kubernetes.manifests.pods import DAY, is_limited, pod, preset_of, selector, task_seconds
from jupyter_gpudeploy.backends.kubernetes.manifests.shapes import shape
from jupyter_gpudeploy.events.wire import TOLD_TO_END

if TYPE_CHECKING:
    from jupyter_gpudeploy.backends.kubernetes.manifests.pods import Program
    from jupyter_gpudeploy.plan.types import ClusterOptions, Plan

QUEUE = "kueue.x-k8s.io/queue-name"
UTC = "Etc/UTC"
_WAITING_SECONDS = 7 * DAY
_LONGEST = 365 * DAY
_ENDLESS = 2**31 - 1
_IGNORE_DISRUPTIONS = {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]}
_FAIL_AT_ONCE = {"action": "FailIndex", "onExitCodes": {"operator": "NotIn", "values": [TOLD_TO_END]}}


def workload(plan: Plan, options: ClusterOptions, code: Program) -> dict[str, Any]:
    """Return the one object whose controller makes the pods."""
    if uses_groups(plan, options):
        return _groups(plan, options, code)
    if plan.kind in ("server", "manual"):
        return _limited(plan, options, code) if is_limited(plan) else _deployment(plan, options, code)
    if uses_jobset(plan, options):
        return _jobset(plan, options, code)
    job = _job(plan, options, code)
    if plan.search is not None:
        return trials.template(job)
    return _cronjob(plan, options, job) if options.schedule else job


def uses_jobset(plan: Plan, options: ClusterOptions) -> bool:
    """Return whether the machines of a job are started, failed and restarted together."""
    has_kind = plan.target is not None and plan.target.kinds is not None and "JobSet" in plan.target.kinds
    return plan.kind == "job" and options.nodes > 1 and has_kind and not options.schedule


def uses_groups(plan: Plan, options: ClusterOptions) -> bool:
    """Return whether each replica of a server is a leader and its workers, a machine each: a LeaderWorkerSet."""
    return plan.kind == "server" and options.nodes > 1


def run_seconds(plan: Plan, options: ClusterOptions) -> int:
    """Return after how long a whole Job is ended: what all its tasks may take, and a week to wait for room."""
    count = len(plan.tasks) if plan.search is None else 1
    rounds = math.ceil(count / max(plan.parallelism, 1)) * (plan.retries + 1)
    waiting = _WAITING_SECONDS if not options.schedule else DAY
    return min(rounds * task_seconds(plan) + waiting, _LONGEST)


def _job(plan: Plan, options: ClusterOptions, code: Program) -> dict[str, Any]:
    """Return the Job. What a cluster takes away (preemption, a drained or lost node) is tried again, however often.

    A pod that somebody deletes counts as a failure. Without `retries` it is tried once more all the same: only pods
    that were told to end have that exit code, and all others fail for good at once. The machines of one task fail
    together.
    """
    grouped, searches = options.nodes > 1, plan.search is not None
    once_more = not (plan.retries or grouped)
    return shape(
        "job",
        mode="Indexed",
        name=places.trial_name(plan.name, 0) if searches else plan.name,
        labels=_labels(plan, options),
        completions=1 if searches else len(plan.tasks) * options.nodes,
        parallelism=1 if searches else plan.parallelism * options.nodes,
        suspend=True if options.queue else None,
        retries=plan.retries + once_more,
        retries_of_all=None,
        max_failed=0 if grouped else None,
        deadline_seconds=run_seconds(plan, options),
        keep_seconds=round(options.keep_seconds),
        failure_policy={"rules": [_IGNORE_DISRUPTIONS, *([_FAIL_AT_ONCE] if once_more else [])]},
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
        deadline_seconds=max(1, round(plan.max_seconds)) if plan.max_seconds else None,
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


def _groups(plan: Plan, options: ClusterOptions, code: Program) -> dict[str, Any]:
    """Return a LeaderWorkerSet: requests go to the leaders, and a replica of which a machine fails is made anew."""
    return shape(
        "leaderworkerset",
        name=plan.name,
        labels=_labels(plan, options),
        replicas=options.replicas,
        nodes=options.nodes,
        leader=pod(plan, options, code, role="leader"),
        worker=pod(plan, options, code, role="worker"),
    )


def _labels(plan: Plan, options: ClusterOptions) -> dict[str, str]:
    labels = marks.labels(plan.name, marks.WORK)
    return {**labels, QUEUE: options.queue} if options.queue else labels
