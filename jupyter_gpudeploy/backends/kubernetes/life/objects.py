"""The objects of a run come onto a cluster, and none of somebody else is touched on the way.

An object is created, never applied over one that is there: who loses the race for a name learns whose it is. What an
earlier run of ours left under that name is deleted by its uid first; anything else is foreign, and stays as it is.
Storage that an earlier run asked for is kept: the next run of that name takes it over as it is.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from jupyter_gpudeploy.backends.kubernetes import marks
from jupyter_gpudeploy.backends.kubernetes.api.errors import ApiError, ConflictError, ForbiddenError, NotFoundError
from jupyter_gpudeploy.errors import BackendError
from jupyter_gpudeploy.quantities import parse_memory

if TYPE_CHECKING:
    from collections.abc import Sequence

    from jupyter_gpudeploy.backends.kubernetes.api.client import Cluster

Body = dict[str, Any]
UNPROCESSABLE = 422
_GONE_SECONDS = 60.0
_PAUSE_SECONDS = 0.05
_LONGEST_PAUSE_SECONDS = 0.5
_CLAIM = "PersistentVolumeClaim"
_SPECS = {"accessModes": "access", "storageClassName": "storage class"}
_WITHOUT = {
    "PodDisruptionBudget": "the server is not protected when nodes are drained",
    "PodMonitor": "Prometheus does not scrape the server",
}


def check(cluster: Cluster, name: str, bodies: Sequence[Body]) -> list[Body]:
    """Let the server check what will be created for the run `name`; return what may be.

    What an earlier run of that name left is cleared away; storage that it left is returned in place of the wanted.
    Raises BackendError where the server refuses, or something of somebody else is in the way. A ConfigMap carries the
    hash of its content, so it is not tried.
    """
    found = [body if body["kind"] == "ConfigMap" else _possible(cluster, name, body) for body in bodies]
    return [body for body in found if body is not None]


def missing(bodies: Sequence[Body], possible: Sequence[Body]) -> list[str]:
    """Return in what the run differs from what was asked for, one sentence each. `possible`: what `check` returned.

    Objects that may not be created; storage that is there already, and is another than the wanted.
    """
    kinds = {body["kind"] for body in bodies} - {body["kind"] for body in possible}
    told = [f"no {kind} could be made: {_WITHOUT[kind]}" for kind in sorted(kinds)]
    claims = {body["metadata"]["name"]: body for body in possible if body["kind"] == _CLAIM}
    for body in bodies:
        there = claims.get(body["metadata"]["name"]) if body["kind"] == _CLAIM else None
        if there is not None and (differences := _differences(body["spec"], there["spec"])):
            told.append(
                f"the storage {body['metadata']['name']} is kept from an earlier run, as it is: "
                f"{', '.join(differences)}; deleting that claim, with all that it holds, makes a new one"
            )
    return told


def is_needed(body: Body) -> bool:
    """Return whether a run cannot do without this object."""
    return body["kind"] not in _WITHOUT


def put(cluster: Cluster, name: str, body: Body, uid: str) -> bool:
    """Create an object of the run `name` with this `uid`; return whether it was not there.

    One of the same run is brought to what it should be; storage is left as it is. Raises BackendError for one of
    somebody else.
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
            if _is_kept(there):
                return False
            if marks.is_ours(there, uid=uid):
                if kind != "Secret":  # its values are those of whoever was first
                    cluster.apply(body)
                return False
            await_gone(cluster, kind, there, deadline)
        else:
            return True


def foreign(kind: str, name: str, where: str) -> BackendError:
    """Return the error for an object that is not ours."""
    return BackendError(
        f"{kind} {name} exists in {where} and was not created by jupyter_gpudeploy: it is left alone",
        hint="give the run another name:",
    )


def pointer(*words: str) -> str:
    """Return the words as a JSON pointer (RFC 6901), for a JSON patch."""
    return "".join(f"/{word.replace('~', '~0').replace('/', '~1')}" for word in words)


def await_gone(cluster: Cluster, kind: str, there: Body, deadline: float) -> None:
    """Delete an object of ours, and return when it is gone: it, and nothing that takes its name meanwhile.

    `there`: as it was seen, with its uid. What may not be deleted but has an owner is waited for: it goes with that.
    Raises BackendError after `deadline`, a time of `time.monotonic`.
    """
    name, uid = there["metadata"]["name"], there["metadata"]["uid"]
    pause = _PAUSE_SECONDS
    found: Body | None = there
    while found is not None and found["metadata"].get("uid") == uid:
        if "deletionTimestamp" not in found["metadata"]:
            try:
                cluster.delete(kind, name, uid=uid, propagation="Background")
            except ConflictError:
                return
            except ForbiddenError:
                if not found["metadata"].get("ownerReferences"):
                    raise
        _pause(kind, name, cluster.namespace, deadline, pause)
        pause = min(pause * 1.5, _LONGEST_PAUSE_SECONDS)
        found = _look(cluster, kind, name)


def _possible(cluster: Cluster, name: str, body: Body) -> Body | None:
    """Return what will be there: the object, storage that is there already, or None for what may not be created."""
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
                if _is_kept(there):
                    return there
                if _is_owned(cluster, there):
                    return body
                await_gone(cluster, kind, there, deadline)
            else:
                _pause(kind, called, cluster.namespace, deadline)
        except ForbiddenError as error:
            if kind not in _WITHOUT or "quota" in error.said:
                raise
            return None
        else:
            return body


def _is_kept(there: Body) -> bool:
    """Return whether this is storage that runs of its name take over from each other."""
    metadata = there["metadata"]
    return metadata["labels"].get(marks.PART) == marks.STORAGE and "deletionTimestamp" not in metadata


def _differences(wanted: Body, there: Body) -> list[str]:
    """Return in what a claim that is there differs from the wanted one, a few words each."""
    sizes = [str(spec.get("resources", {}).get("requests", {}).get("storage", "0")) for spec in (there, wanted)]
    told = [f"size {sizes[0]}, not {sizes[1]}"] if parse_memory(sizes[0]) != parse_memory(sizes[1]) else []
    for field, word in _SPECS.items():
        if field in wanted and wanted[field] is not None and wanted[field] != there.get(field):
            told.append(f"{word} {_words(there.get(field))}, not {_words(wanted[field])}")
    return told


def _words(value: object) -> str:
    return " ".join(map(str, value)) if isinstance(value, list) else str(value or "of the cluster")


def _look(cluster: Cluster, kind: str, name: str) -> Body | None:
    """Return what is there under that name, or None. Of a Secret, which may not be read, only whether it is ours."""
    try:
        if kind != "Secret":
            return cluster.get(kind, name)
        path = pointer("metadata", "labels", marks.MANAGED_BY)
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


def _pause(kind: str, name: str, where: str, deadline: float, seconds: float = 0.1) -> None:
    if time.monotonic() > deadline:
        raise BackendError(
            f"{kind} {name} is still being deleted in {where}",
            hint="its finalizers may say who holds it",
        )
    time.sleep(seconds)
