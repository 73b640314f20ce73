"""Why Kueue keeps a Job waiting: its Workload says it, which carries the uid of the Job and not that of the run."""

from __future__ import annotations

import time
from contextlib import suppress
from typing import TYPE_CHECKING

from jupyter_gpudeploy.errors import BackendError

if TYPE_CHECKING:
    from jupyter_gpudeploy.backends.kubernetes.api.client import Cluster
    from jupyter_gpudeploy.backends.kubernetes.mirror.kept import Kept

LOOK_SECONDS = 10.0
_JOB = "kueue.x-k8s.io/job-uid"


class Queue:
    """Asks now and then, while a Job waits in a queue."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._look_at = 0.0

    def look(self, kept: Kept) -> None:
        """Take in the Workload of the Job, where it waits; without the right to, only the queue is known."""
        job = kept.states.queued
        if not job or time.monotonic() < self._look_at:
            return
        self._look_at = time.monotonic() + LOOK_SECONDS
        with suppress(BackendError):
            for item in self._cluster.list("Workload", labels=f"{_JOB}={job}").items:
                kept.see("Workload", item, gone=False)
