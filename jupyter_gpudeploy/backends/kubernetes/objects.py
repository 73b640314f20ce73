"""The objects of a run come onto a cluster, and none of somebody else is touched on the way.

An object is created, never applied over one that is there: who loses the race for a name learns whose it is. What an
earlier run of ours left under that name is deleted by its uid first; anything else is foreign, and stays as it is.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from jupyter_gpudeploy.backends.kubernetes import marks
from jupyter_gpudeploy.backends.kubernetes.client_errors import ApiError, ConflictError, ForbiddenError, NotFoundError
from jupyter_gpudeploy.errors import BackendError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from jupyter_gpudeploy.backends.kubernetes.client import Cluster

Body = dict[str, Any]
UNPROCESSABLE = 422
_GONE_SECONDS = 60.0
_WITHOUT = {
    "PodDisruptionBudget": "the server is not protected when nodes are drained",
    "PodMonitor": "Prometheus does not scrape the server",
}


def check(cluster: Cluster, name: str, bodies: Sequence[Body]) -> list[Body]:
    """Let the server check what will be created for the run `name`; return what may be.

    What an earlier run of that name left is cleared away. Raises BackendError where the server refuses, or something
    of somebody else is in the way. A ConfigMap carries the hash of its content, so it is not tried.
    """
    return [body for body in bodies if body["kind"] == "ConfigMap" or _is_possible(cluster, name, body)]


def missing(bodies: Sequence[Body], possible: Sequence[Body]) -> list[str]:
    """Return what is off because of the objects that may not be created, one sentence each."""
    kinds = {body["kind"] for body in bodies} - {body["kind"] for body in possible}
    return [f"no {kind} could be made: {_WITHOUT[kind]}" for kind in sorted(kinds)]


def is_needed(body: Body) -> bool:
    """Return whether a run cannot do without this object."""
    return body["kind"] not in _WITHOUT


def put(cluster: Cluster, name: str, body: Body, uid: str) -> bool:
    """Create an object of the run `name` with this `uid`; return whether it was not there.

    One of the same run is brought to what it should be. Raises BackendError for one of somebody else.
    """
    deadline = time.monotonic() + _GONE_SECONDS
    kind, called = body["kind"], body["metadata"]["name"]
    while True:
        try:
            cluster.create(body)
        except ConflictError as error:
            there = _look(cluster, kind, called)
            if there is None:
                _pause(kind, called, cluster.namespace, deadline)
                continue
            if error.reason != "AlreadyExists":
                raise
            if not marks.is_ours(there, name):
                raise foreign(kind, called, cluster.namespace) from None
            if marks.is_ours(there, uid=uid) or body["metadata"]["labels"][marks.PART] == marks.STORAGE:
                if kind != "Secret":  # its values are those of whoever was first
                    cluster.apply(body)
                return False
            _clear(cluster, kind, there)
            _pause(kind, called, cluster.namespace, deadline)
        else:
            return True


def foreign(kind: str, name: str, where: str) -> BackendError:
    """Return the error for an object that is not ours."""
    return BackendError(
        f"{kind} {name} exists in {where} and was not created by jupyter_gpudeploy: it is left alone",
        hint="give the run another name:",
    )


def _is_possible(cluster: Cluster, name: str, body: Body) -> bool:
    deadline = time.monotonic() + _GONE_SECONDS
    kind, called = body["kind"], body["metadata"]["name"]
    while True:
        try:
            cluster.create(body, dry_run=True)
        except ConflictError:
            there = _look(cluster, kind, called)
            if there is not None:
                if not marks.is_ours(there, name):
                    raise foreign(kind, called, cluster.namespace) from None
                if there["metadata"]["labels"].get(marks.PART) == marks.STORAGE or _is_owned(cluster, there):
                    return True
                _clear(cluster, kind, there)
            _pause(kind, called, cluster.namespace, deadline)
        except ForbiddenError as error:
            if kind not in _WITHOUT or "quota" in error.said:
                raise
            return False
        else:
            return True


def _look(cluster: Cluster, kind: str, name: str) -> Body | None:
    """Return what is there under that name, or None. Of a Secret, which may not be read, only whether it is ours."""
    try:
        if kind != "Secret":
            return cluster.get(kind, name)
        path = f"/metadata/labels/{marks.MANAGED_BY.replace('/', '~1')}"
        found = cluster.patch(kind, name, [{"op": "test", "path": path, "value": marks.MANAGER}], content="json")
        return {"metadata": found["metadata"]}
    except NotFoundError:
        return None
    except ApiError as error:
        if kind == "Secret" and error.status == UNPROCESSABLE:
            return {"metadata": {"labels": {}}}
        raise


def _is_owned(cluster: Cluster, there: Body) -> bool:
    """Return whether the run of an object is there: another process launches it at this moment."""
    for owner in there["metadata"].get("ownerReferences") or ():
        try:
            return bool(cluster.get("ConfigMap", owner["name"])["metadata"]["uid"] == owner["uid"])
        except NotFoundError:
            continue
    return False


def _clear(cluster: Cluster, kind: str, there: Body) -> None:
    """Delete what an earlier run left: it, and nothing that takes its name meanwhile."""
    metadata = there["metadata"]
    if "deletionTimestamp" not in metadata:
        try:
            cluster.delete(kind, metadata["name"], uid=metadata["uid"], propagation="Background")
        except ConflictError:
            return


def _pause(kind: str, name: str, where: str, deadline: float) -> None:
    if time.monotonic() > deadline:
        raise BackendError(
            f"{kind} {name} of an earlier run is still being deleted in {where}",
            hint="its finalizers may say who holds it",
        )
    time.sleep(0.1)
