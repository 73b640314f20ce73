"""What a plan may know of a cluster: its profile, and what was found there last time. Cheap, and no error offline.

What was found is kept in `<mirrors of the cluster>/found.json`, so that `%deploy plan` and `%deploy show` say the same
on a train as in the office.
"""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

from jupyter_gpudeploy.backends.kubernetes.layout import BROKEN, place_of
from jupyter_gpudeploy.errors import BackendError
from jupyter_gpudeploy.events.store import write_atomically
from jupyter_gpudeploy.plan.types import Target

if TYPE_CHECKING:
    from pathlib import Path

    from jupyter_gpudeploy.backends.kubernetes.client import Cluster

OPTIONAL_KINDS = ("Route", "HTTPRoute", "LocalQueue", "JobSet", "LeaderWorkerSet", "ScaledObject", "PodMonitor")
_FRESH_SECONDS = 3600.0


def target_of(cluster: Cluster, name: str, root: Path | None = None) -> Target:
    """Return the target `name` (as the cell calls the cluster). The cluster is asked once an hour, if it answers."""
    found = _found(cluster, root)
    profile = cluster.settings.model_dump(exclude_none=True) if cluster.settings is not None else {}
    known = {key: value for key, value in profile.items() if key in Target._fields}
    known = {key: tuple(value) if isinstance(value, list) else value for key, value in known.items()}
    kinds = None if found is None else frozenset(found["kinds"])
    flavour = "openshift" if found is not None and found["openshift"] else "kubernetes"
    return Target(**{"flavour": flavour, **known, "cluster": name, "namespace": cluster.namespace, "kinds": kinds})


def _found(cluster: Cluster, root: Path | None) -> dict[str, Any] | None:
    """Return what the cluster serves: as read within the hour, else asked, else as it was last; None: never seen."""
    file = place_of("", "", cluster.id, root).folder.parent / "found.json"
    try:
        old: dict[str, Any] | None = json.loads(file.read_bytes())
        if time.time() - float(old["time"]) < _FRESH_SECONDS:  # type: ignore[index] # a record of ours
            return old
    except BROKEN:
        old = None
    try:
        kinds = [kind for kind in OPTIONAL_KINDS if cluster.has(kind)]
        new = {"time": time.time(), "kinds": kinds, "openshift": cluster.is_openshift}
    except BackendError:
        return old
    file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    write_atomically(file, json.dumps(new))
    return new
