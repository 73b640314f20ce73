"""Why an object of a run is not where it should be: one sentence for a person, and the edit of the cell that helps.

Pure: objects of the API as plain dicts, the warnings about them, and the record of the run. The numbers in a sentence
are those of the cluster's own message. What nobody can explain gets None, and is told in the cluster's words elsewhere.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from jupyter_gpudeploy.backends.kubernetes.diagnosis.ends import why_ended, why_it_ran_before
from jupyter_gpudeploy.backends.kubernetes.diagnosis.findings import Finding, condition, latest
from jupyter_gpudeploy.backends.kubernetes.diagnosis.pending import why_unscheduled
from jupyter_gpudeploy.backends.kubernetes.diagnosis.queues import why_queued
from jupyter_gpudeploy.backends.kubernetes.diagnosis.refusals import why_refused
from jupyter_gpudeploy.backends.kubernetes.diagnosis.starts import why_not_ready, why_not_started
from jupyter_gpudeploy.backends.kubernetes.manifests.workloads import QUEUE

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ["Finding", "explain"]


def explain(item: Mapping[str, Any], events: Sequence[Mapping[str, Any]], record: Mapping[str, Any]) -> Finding | None:
    """Return why a Pod, a Job, a Deployment or a Workload does not go on, or how it ended; None for one that is well.

    `item` has its `kind`. `events` are the warnings about it, in any order. `record` is the run's.
    """
    explainer = {"Pod": _pod, "Job": _job, "Deployment": _deployment, "Workload": _workload}.get(item.get("kind", ""))
    return explainer(item, events, record) if explainer else None


def _pod(pod: Mapping[str, Any], events: Sequence[Mapping[str, Any]], record: Mapping[str, Any]) -> Finding | None:
    return (
        why_ended(pod, events, record)
        or why_unscheduled(pod, events, record)
        or why_not_started(pod, events, record)
        or why_it_ran_before(pod, events, record)
        or why_not_ready(pod, events, record)
    )


def _job(job: Mapping[str, Any], events: Sequence[Mapping[str, Any]], record: Mapping[str, Any]) -> Finding | None:
    spec = job.get("spec") or {}
    if spec.get("suspend"):
        # The label of a JobSet is not on its Job.
        queue = (job["metadata"].get("labels") or {}).get(QUEUE) or (record.get("cluster") or {}).get("queue")
        return Finding(f"waits in the queue {queue}") if queue else Finding("suspended")
    waiting, total = _without_pod(job)
    message = latest(events, "FailedCreate").get("message", "")
    if not waiting or not message:
        return None
    found = why_refused(message, record)
    if total == 1:
        return found
    nouns = {"sweep": "trials"}.get(record.get("kind", ""), "pods")
    return found._replace(sentence=f"{found.sentence}; {waiting} of {total} {nouns} wait for that")


def _deployment(
    deployment: Mapping[str, Any], events: Sequence[Mapping[str, Any]], record: Mapping[str, Any]
) -> Finding | None:
    failure = condition(deployment, "ReplicaFailure")
    message = failure.get("message", "") if failure.get("status") == "True" else ""
    message = message or latest(events, "FailedCreate").get("message", "")
    return why_refused(message, record) if message else None


def _workload(
    workload: Mapping[str, Any],
    events: Sequence[Mapping[str, Any]],  # noqa: ARG001 - one form for all kinds
    record: Mapping[str, Any],  # noqa: ARG001 - one form for all kinds
) -> Finding | None:
    return why_queued(workload)


def _without_pod(job: Mapping[str, Any]) -> tuple[int, int]:
    """Return how many indexes of a Job could run now and have no pod, and how many there are."""
    spec, status = job.get("spec") or {}, job.get("status") or {}
    total = spec.get("completions") or 1
    living = (status.get("active") or 0) + (status.get("terminating") or 0)
    ended = sum(len(_indexes(status.get(name))) for name in ("completedIndexes", "failedIndexes"))
    ended = ended or status.get("succeeded") or 0
    is_over = any(condition(job, kind).get("status") == "True" for kind in ("Complete", "Failed"))
    room = min(spec.get("parallelism", 1), total - ended) - living
    return (0, total) if is_over or room <= 0 else (total - ended - living, total)


def _indexes(text: str | None) -> list[int]:
    from jupyter_gpudeploy.backends.kubernetes.facts import indexes

    return list(indexes(text))
