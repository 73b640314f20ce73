"""What a plan may know of a cluster: its profile, and what was found there last time. Cheap, and no error offline.

What was found is kept in `<mirrors of the cluster>/found.json`, so that `%deploy plan` and `%deploy show` say the same
on a train as in the office.
"""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

from jupyter_gpudeploy.backends.kubernetes.layout import BROKEN
from jupyter_gpudeploy.errors import BackendError
from jupyter_gpudeploy.events.store import write_atomically
from jupyter_gpudeploy.plan.types import Target

if TYPE_CHECKING:
    from jupyter_gpudeploy.backends.kubernetes.api.client import Cluster
    from jupyter_gpudeploy.backends.kubernetes.sites import Site

OPTIONAL_KINDS = ("Route", "HTTPRoute", "LocalQueue", "JobSet", "LeaderWorkerSet", "ScaledObject", "PodMonitor")
_FRESH_SECONDS = 3600.0
_MOMENT_SECONDS = 20.0


def target_of(site: Site) -> Target:
    """Return the target, under its site's name. The cluster is asked once an hour, if it answers in a few seconds."""
    found, cluster = _found(site), site.cluster
    profile = cluster.settings.model_dump(exclude_none=True) if cluster.settings is not None else {}
    known = {key: value for key, value in profile.items() if key in Target._fields}
    known = {key: tuple(value) if isinstance(value, list) else value for key, value in known.items()}
    kinds = None if found is None else frozenset(found["kinds"])
    flavour = "openshift" if found is not None and found["openshift"] else "kubernetes"
    where = {"cluster": site.place.cluster, "namespace": cluster.namespace}
    return Target(**{"flavour": flavour, **known, **where, "kinds": kinds, "queues": _queues(site, kinds)})


def _queues(site: Site, kinds: frozenset[str] | None) -> frozenset[str] | None:
    """Return the names of the LocalQueues there, as of a moment ago; None where that is not known."""
    if not kinds or "LocalQueue" not in kinds:
        return None

    def names(cluster: Cluster) -> frozenset[str]:
        return frozenset(item["metadata"]["name"] for item in cluster.list("LocalQueue", bare=True).items)

    try:
        return site.keep("queues", _MOMENT_SECONDS, names)
    except BackendError:
        return None


def _found(site: Site) -> dict[str, Any] | None:
    """Return what the cluster serves: as read within the hour, else asked, else as it was last; None: never seen."""
    file = site.place.folder.parent / "found.json"
    try:
        old: dict[str, Any] | None = json.loads(file.read_bytes())
        if time.time() - float(old["time"]) < _FRESH_SECONDS:  # type: ignore[index] # a record of ours
            return old
    except BROKEN:
        old = None
    try:
        new = {"time": time.time(), **site.ask(_served)}
    except BackendError:
        return old
    file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    write_atomically(file, json.dumps(new))
    return new


def _served(cluster: Cluster) -> dict[str, Any]:
    return {"kinds": [kind for kind in OPTIONAL_KINDS if cluster.has(kind)], "openshift": cluster.is_openshift}
