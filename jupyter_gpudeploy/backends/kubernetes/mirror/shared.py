"""What all runs of a process in one namespace of a cluster share: watchers, readers of logs, looks at GPUs."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from jupyter_gpudeploy.backends.kubernetes.mirror.gauges import Gauges
from jupyter_gpudeploy.backends.kubernetes.mirror.pool import LogPool
from jupyter_gpudeploy.backends.kubernetes.mirror.watch import Watcher

if TYPE_CHECKING:
    from jupyter_gpudeploy.backends.kubernetes.api.client import Cluster
    from jupyter_gpudeploy.backends.kubernetes.mirror.watch import Inbox


class Shared:
    """One watcher a kind, one pool of logs and one look at GPUs for each cluster that `following` gave.

    Safe from several threads.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._following: dict[tuple[str, str, str | None, str], Cluster] = {}
        self._watchers: dict[tuple[Cluster, str], Watcher] = {}
        self._pools: dict[Cluster, LogPool] = {}
        self._gauges: dict[Cluster, Gauges] = {}

    def following(self, cluster: Cluster) -> Cluster:
        """Return the same cluster for threads that try again by themselves: no request of it is tried again."""
        from jupyter_gpudeploy.backends.kubernetes.api.client import Cluster
        from jupyter_gpudeploy.backends.kubernetes.api.transport import Patience

        key = cluster.server, cluster.context, cluster.access.user, cluster.namespace
        with self._lock:
            found = self._following.get(key)
            if found is None or found.access is not cluster.access:
                if found is not None:
                    self._pools.pop(found, None)
                    self._gauges.pop(found, None)
                found = self._following[key] = Cluster(cluster.access, cluster.settings, patience=Patience(total=0.0))
            return found

    def pool(self, cluster: Cluster) -> LogPool:
        """Return the readers of logs."""
        with self._lock:
            return self._pools.setdefault(cluster, LogPool(cluster))

    def gauges(self, cluster: Cluster) -> Gauges:
        """Return what looks at the GPUs of pods."""
        with self._lock:
            return self._gauges.setdefault(cluster, Gauges(cluster))

    def subscribe(self, cluster: Cluster, kind: str, run: str, inbox: Inbox) -> Watcher:
        """Tell `inbox` of the objects of this kind of a run; return who does."""
        with self._lock:
            watcher = self._watchers.get((cluster, kind))
            if watcher is None:
                watcher = self._watchers[cluster, kind] = Watcher(cluster, kind)
            watcher.subscribe(run, inbox)
            return watcher

    def unsubscribe(self, cluster: Cluster, kind: str, run: str, inbox: Inbox) -> None:
        """Tell it no more; a watcher that nobody needs is closed."""
        with self._lock:
            watcher = self._watchers.get((cluster, kind))
            if watcher is not None and not watcher.unsubscribe(run, inbox):
                del self._watchers[cluster, kind]
                watcher.close()


SHARED = Shared()
