"""What is done to a search that is there: how many trials at a time, and a pause, are written onto its root.

Whoever holds its mirror reads that there before it begins a further trial.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from jupyter_gpudeploy.backends.kubernetes import marks, places
from jupyter_gpudeploy.backends.kubernetes.life import control
from jupyter_gpudeploy.errors import BackendError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from jupyter_gpudeploy.backends.base import RunRef
    from jupyter_gpudeploy.backends.kubernetes.api.client import Cluster


def parallelism(cluster: Cluster, ref: RunRef, record: Mapping[str, Any]) -> int:
    """Return how many trials may run at once."""
    said = _notes(cluster, ref).get(marks.PARALLELISM, "")
    return int(said) if said.isdigit() else int(record["parallelism"])


def set_parallelism(cluster: Cluster, ref: RunRef, count: int) -> None:
    """Let so many trials run at once from now on; of more, all that run go on to their ends."""
    _write(cluster, ref, {marks.PARALLELISM: str(count)})


def pause(cluster: Cluster, ref: RunRef, *, is_paused: bool) -> None:
    """End what runs, so that it begins anew, and let nothing begin; or take that back. Raises BackendError."""
    if (marks.PAUSED in _notes(cluster, ref)) is is_paused:
        raise BackendError(f"{ref.name} is {'paused already' if is_paused else 'not paused'}")
    _write(cluster, ref, {marks.PAUSED: f"{time.time():.3f}" if is_paused else None})
    control.set_jobs(cluster, ref, 0 if is_paused else 1)


def _notes(cluster: Cluster, ref: RunRef) -> Mapping[str, str]:
    metadata = cluster.get("ConfigMap", places.root_name(ref.name), bare=True)["metadata"]
    if metadata["uid"] != ref.uid:
        raise BackendError(f"{ref.name} is another run now")
    notes: Mapping[str, str] = metadata.get("annotations") or {}
    return notes


def _write(cluster: Cluster, ref: RunRef, notes: Mapping[str, str | None]) -> None:
    body = {"metadata": {"uid": ref.uid, "annotations": dict(notes)}}
    cluster.patch("ConfigMap", places.root_name(ref.name), body)
