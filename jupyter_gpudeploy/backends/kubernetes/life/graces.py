"""How long the pods of a run may take to end.

The controllers of a cluster end pods within the grace that stands in them. A pod that is being deleted can be given
less, never more; and one that is deleted before its Job is suspended counts as failed, so that its task would not run
when the run is resumed. More than what stands in the pods can therefore not be had.
"""

from __future__ import annotations

import logging
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from jupyter_gpudeploy.backends.kubernetes import marks
from jupyter_gpudeploy.backends.kubernetes.api.errors import ApiError
from jupyter_gpudeploy.errors import BackendError
from jupyter_gpudeploy.quantities import format_seconds

if TYPE_CHECKING:
    from jupyter_gpudeploy.backends.base import RunRef
    from jupyter_gpudeploy.backends.kubernetes.api.client import Cluster

_LOG = logging.getLogger(__name__)
_USUAL_SECONDS = 30  # what Kubernetes gives a pod that names none
_AT_ONCE = 8
_OTHER_UID = 409


def check(cluster: Cluster, ref: RunRef, seconds: float) -> None:
    """Raise BackendError where a pod of the run would be killed earlier than after so many seconds."""
    if seconds <= _USUAL_SECONDS:
        return
    least = min(map(_grace, _living(cluster, ref)), default=seconds)
    if least < seconds:
        given = format_seconds(least)
        raise BackendError(
            f"{ref.name} is not stopped: its pods are killed after {given}, and a longer grace cannot be had",
            hint=f"a grace of {least:g} s or less; have the program save what it needs as it runs",
        )


def end(cluster: Cluster, ref: RunRef, seconds: float) -> None:
    """End the pods of a run; they are killed after so many seconds, or the fewer that stand in them."""
    wanted = max(1, round(seconds))
    longer = [
        pod for pod in _living(cluster, ref)
        if "deletionTimestamp" not in pod["metadata"] or _grace(pod) > wanted
    ]  # fmt: skip

    def delete(pod: dict[str, Any]) -> ApiError | None:
        metadata = pod["metadata"]
        try:
            cluster.delete("Pod", metadata["name"], uid=metadata["uid"], grace_seconds=min(wanted, _grace(pod)))
        except ApiError as error:
            return None if error.status == _OTHER_UID else error
        return None

    with ThreadPoolExecutor(_AT_ONCE) as pool:
        refused = [error for error in pool.map(delete, longer) if error is not None]
    if refused:
        _LOG.warning("%s pods of %s may take longer to end: %s", len(refused), ref.name, refused[0].message)


def _living(cluster: Cluster, ref: RunRef) -> list[dict[str, Any]]:
    pods = cluster.list("Pod", labels=marks.selector(uid=ref.uid)).items
    return [pod for pod in pods if pod.get("status", {}).get("phase") not in {"Succeeded", "Failed"}]


def _grace(pod: dict[str, Any]) -> float:
    """Return the seconds after which a pod that is told to end is killed."""
    given = pod["metadata"].get("deletionGracePeriodSeconds")
    return float(pod["spec"].get("terminationGracePeriodSeconds", _USUAL_SECONDS) if given is None else given)
