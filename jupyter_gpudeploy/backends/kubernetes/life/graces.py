"""How long the pods of a run may take to end.

The controllers of a cluster end pods within the grace that stands in them. A pod that is being deleted can be given
less, never more; and one that is deleted before its Job is suspended counts as failed, so that its task would not run
when the run is resumed. More than what stands in the pods can therefore not be had. Less is asked of the pod's own
PID 1, too: a node that has begun to end a pod heeds a shortened grace only at times (kubelet 1.37, containerd 2).
"""

from __future__ import annotations

import logging
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from jupyter_gpudeploy.backends.kubernetes import marks, places
from jupyter_gpudeploy.backends.kubernetes.api.errors import ApiError
from jupyter_gpudeploy.errors import BackendError
from jupyter_gpudeploy.quantities import format_seconds

if TYPE_CHECKING:
    from jupyter_gpudeploy.backends.base import RunRef
    from jupyter_gpudeploy.backends.kubernetes.api.client import Cluster

_LOG = logging.getLogger(__name__)
_USUAL_SECONDS = 30  # what Kubernetes gives a pod that names none
_AT_ONCE = 8
_TOLD = 100  # of more pods than these, the others have the grace of their node
_TELL_SECONDS = 10.0
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


def tell(cluster: Cluster, ref: RunRef, seconds: float) -> None:
    """Leave word in the pods of a run of the grace they give once they are told to stop. Some may not be reached."""
    wanted = max(1, round(seconds))
    pods = [pod for pod in _living(cluster, ref) if wanted < _grace(pod) and _listens(pod)][:_TOLD]

    def tell_one(pod: dict[str, Any]) -> None:
        words = ["python3", places.BOOT, "grace", str(wanted)]
        try:
            cluster.execute(pod["metadata"]["name"], places.CONTAINER, words, timeout=_TELL_SECONDS)
        except BackendError as error:
            _LOG.info("%s was not told of its grace: %s", pod["metadata"]["name"], error.message)

    with ThreadPoolExecutor(_AT_ONCE) as pool:
        list(pool.map(tell_one, pods))


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


def _listens(pod: dict[str, Any]) -> bool:
    """Return whether our program is PID 1 of a pod, and runs."""
    words = [word for container in pod["spec"]["containers"] for word in container.get("command") or ()]
    return places.BOOT in words and pod.get("status", {}).get("phase") == "Running"


def _living(cluster: Cluster, ref: RunRef) -> list[dict[str, Any]]:
    pods = cluster.list("Pod", labels=marks.selector(uid=ref.uid)).items
    return [pod for pod in pods if pod.get("status", {}).get("phase") not in {"Succeeded", "Failed"}]


def _grace(pod: dict[str, Any]) -> float:
    """Return the seconds after which a pod that is told to end is killed."""
    given = pod["metadata"].get("deletionGracePeriodSeconds")
    return float(pod["spec"].get("terminationGracePeriodSeconds", _USUAL_SECONDS) if given is None else given)
