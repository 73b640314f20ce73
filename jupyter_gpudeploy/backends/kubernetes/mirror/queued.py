"""Why Kueue keeps a run waiting, and how many are before it.

Its Workload says why, which carries the uid of the Job, the JobSet or the pod, and not that of the run. The place in
the queue is what Kueue's own API tells (visibility.kueue.x-k8s.io), where it runs and we may ask it.
"""

from __future__ import annotations

import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from jupyter_gpudeploy.backends.kubernetes.mirror.reasons import PLACE
from jupyter_gpudeploy.backends.kubernetes.mirror.seen import QUEUED_UID
from jupyter_gpudeploy.errors import BackendError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from jupyter_gpudeploy.backends.kubernetes.api.client import Cluster
    from jupyter_gpudeploy.backends.kubernetes.mirror.kept import Kept

_PAUSES = (1.0, 2.0, 5.0, 10.0)
_MOST = 4
_SUMMARY = "PendingWorkloadsSummary"


class Queue:
    """Asks soon after something began to wait in a queue, then now and then."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._asked: tuple[str, ...] = ()
        self._looks = 0
        self._look_at = 0.0

    def look(self, kept: Kept) -> None:
        """Take in the Workloads of what waits; without the right to read them, only the queue is known."""
        waiting = kept.states.queued
        if waiting != self._asked:
            self._asked, self._looks, self._look_at = waiting, 0, 0.0
        if not waiting or time.monotonic() < self._look_at:
            return
        self._look_at = time.monotonic() + _PAUSES[min(self._looks, len(_PAUSES) - 1)]
        self._looks += 1
        with suppress(BackendError):
            places = self._places(kept.states.queue)
            for uid in waiting[:_MOST]:
                for item in self._cluster.list("Workload", labels=f"{QUEUED_UID}={uid}").items:
                    kept.see_queued({**item, PLACE: places.get(item["metadata"]["name"])})

    def _places(self, queue: str) -> Mapping[str, int]:
        """Return how many are before each Workload of the queue; of none where nobody tells."""
        found: list[dict[str, Any]] = []
        with suppress(BackendError):
            if self._cluster.has(_SUMMARY):
                found = self._cluster.get(_SUMMARY, queue, subresource="pendingworkloads").get("items") or []
        return {one["metadata"]["name"]: one[PLACE] for one in found if PLACE in one}
