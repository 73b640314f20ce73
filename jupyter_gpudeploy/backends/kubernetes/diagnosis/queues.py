"""Why Kueue keeps work waiting, or took its room back, as its Workload says it (kueue.x-k8s.io/v1beta1 and v1beta2)."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from jupyter_gpudeploy.backends.kubernetes.diagnosis.findings import Finding, condition, shortened

if TYPE_CHECKING:
    from collections.abc import Mapping

# The reasons of the conditions Evicted and Preempted (kueue, apis/kueue/v1beta2/workload_types.go).
_EVICTED = {
    "PodsReadyTimeout": "sent back by Kueue: its pods were not ready in time",
    "AdmissionCheck": "sent back by Kueue: a check of its admission failed",
    "ClusterQueueStopped": "sent back by Kueue: the ClusterQueue was stopped",
    "LocalQueueStopped": "sent back by Kueue: the LocalQueue was stopped",
    "NodeFailures": "sent back by Kueue: nodes of it failed",
    "MaximumExecutionTimeExceeded": "sent back by Kueue: it took longer than it may",
}
_PREEMPTED = {
    "InClusterQueue": "preempted by work of higher priority in the same queue",
    "InCohortReclamation": "preempted: another queue took back what it had lent",
    "InCohortFairSharing": "preempted: another queue had less than its share",
    "InCohortReclaimWhileBorrowing": "preempted: another queue took back what it had lent",
}


def why_queued(workload: Mapping[str, Any]) -> Finding | None:
    """Return why Kueue keeps a Workload waiting, and its place in the queue where the object says it."""
    lost = why_evicted(workload)
    if condition(workload, "Admitted").get("status") == "True" and not lost:
        return None
    spec = workload.get("spec") or {}
    queue = f"the queue {spec.get('queueName') or ''}".rstrip()
    if spec.get("active") is False:
        return Finding(f"taken out of {queue}", "%deploy unpause queues it again")
    place = workload.get("positionInClusterQueue", workload.get("positionInLocalQueue"))
    where = f"waits in {queue}" + (f", {place} before it" if place is not None else "")
    message = str(condition(workload, "QuotaReserved").get("message") or "")
    if lost and message in ("", condition(workload, "Evicted").get("message")):
        return Finding(f"{lost}; {where}")
    told = f"{where}: {shortened(message)}" if message else where
    return Finding(f"{lost}; {told}" if lost else told, _of_the_queue(message))


def why_evicted(workload: Mapping[str, Any]) -> str:
    """Return why Kueue took a Workload's room back, when it did so last; empty while it has room, or never had."""
    found = condition(workload, "Evicted")
    if found.get("status") != "True" or (workload.get("spec") or {}).get("active") is False:
        return ""
    reason = str(found.get("reason") or "")
    if reason == "Preempted":
        return _PREEMPTED.get(str(condition(workload, "Preempted").get("reason")), "preempted by other work")
    if reason.startswith("Deactivated"):
        return ""  # and active again since
    return _EVICTED.get(reason) or f"sent back by Kueue ({reason}: {shortened(str(found.get('message') or ''))})"


def _of_the_queue(message: str) -> str:
    if re.search(r"LocalQueue \S+ doesn't exist", message):
        return "queue: one of this namespace; kubectl get localqueues lists them"
    if "maximum capacity" in message:
        return "fewer at once (parallelism:, gpus:, replicas:): the queue never has so much"
    return ""
