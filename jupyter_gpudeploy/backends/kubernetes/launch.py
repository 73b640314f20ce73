"""A run comes into being on a cluster.

The root ConfigMap is the claim of the name: creating it succeeds for one of all who try at the same moment. Its uid
is the run's, and it holds everything that belongs to the run, so that whoever looks next can complete a launch whose
process was killed halfway. Everything else is owned by it and goes when it goes.
"""

from __future__ import annotations

import json
import os
import secrets
import time
from base64 import b64encode
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from jupyter_gpudeploy.backends.base import RunRef
from jupyter_gpudeploy.backends.kubernetes import marks, places, render
from jupyter_gpudeploy.backends.kubernetes.client_errors import ApiError, ConflictError, NotFoundError
from jupyter_gpudeploy.errors import BackendError, RunExistsError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from jupyter_gpudeploy.backends.base import Rendering
    from jupyter_gpudeploy.backends.kubernetes.client import Cluster

Body = dict[str, Any]
UNPROCESSABLE = 422
_STARTS = ("Job", "Deployment", "CronJob", "JobSet")


class Root(NamedTuple):
    """A root ConfigMap, read."""

    ref: RunRef
    record: dict[str, Any]
    cell: str
    objects: list[Body]
    annotations: Mapping[str, str]

    @property
    def files(self) -> dict[str, str]:
        """What a mirror begins with."""
        known = {"uid": self.ref.uid, "created": self.ref.created}
        files = {"run.json": json.dumps({**self.record, **known})}
        return {**files, "cell.txt": self.cell} if self.cell else files


def launch(cluster: Cluster, rendering: Rendering, place: str, driver: Mapping[str, Any]) -> tuple[Root, str]:
    """Claim the name and start everything; return the run and the key of its server, where it got one.

    A run with the same fingerprint is returned as it is, completed if its launch was cut off. Raises RunExistsError
    for another run of that name, BackendError for what the cluster refuses; then nothing of it stays.
    """
    objects = render.objects_of(rendering)
    found = read_root(cluster, rendering.name, place)
    if found is None:
        _refuse_foreign(cluster, rendering.name, objects)
        body = render.root(rendering, {marks.DRIVER: json.dumps(dict(driver))})
        try:
            found = _root(cluster.create(body), place)._replace(objects=objects)
        except ConflictError:
            found = read_root(cluster, rendering.name, place)
            if found is None:
                raise
        else:
            return found, _fill(cluster, found)
    if found.ref.fingerprint != rendering.fingerprint:
        raise RunExistsError(
            f"a run called {rendering.name!r} exists in {place}, and it is another one",
            hint="give this one another name, or replace that one",
        )
    return found, complete(cluster, found._replace(objects=objects))


def complete(cluster: Cluster, root: Root) -> str:
    """Create what a launch that was cut off did not come to. Return the key, where one was made."""
    starts = [body for body in root.objects if body["kind"] in _STARTS]
    if marks.STOPPED in root.annotations or all(_is_there(cluster, root, body) for body in starts):
        return ""
    if _may_be_over(root):
        return ""
    if not all(render.is_complete(body) for body in root.objects):
        raise BackendError(
            f"the launch of {root.ref.name} was cut off, and its program is too large to be kept in {root.ref.place}",
            hint="run its cell again: that completes it",
        )
    return _apply(cluster, root)


def read_root(cluster: Cluster, name: str, place: str) -> Root | None:
    """Return the run of that name, or None. Raises BackendError for a ConfigMap of that name that is no run of ours."""
    try:
        body = cluster.get("ConfigMap", places.root_name(name))
    except NotFoundError:
        return None
    if not marks.is_ours(body, name):
        raise _foreign("ConfigMap", places.root_name(name), place)
    return _root(body, place)


def ref_of(body: Mapping[str, Any], place: str) -> RunRef:
    """Return who a root ConfigMap is."""
    metadata = body["metadata"]
    return RunRef(
        "kubernetes",
        name=metadata["labels"][marks.RUN],
        uid=metadata["uid"],
        fingerprint=metadata["annotations"][marks.FINGERPRINT],
        created=datetime.fromisoformat(metadata["creationTimestamp"]).timestamp(),
        place=place,
    )


def keep_secret(cluster: Cluster, name: str, values: Mapping[str, str]) -> None:
    """Create a Secret, or put these values into one that we made. Raises BackendError for one of somebody else."""
    body = _secret(name, name, marks.KEPT_SECRET, values)
    try:
        cluster.create(body)
    except ConflictError:
        try:
            label = f"/metadata/labels/{marks.MANAGED_BY.replace('/', '~1')}"
            steps = [{"op": "test", "path": label, "value": marks.MANAGER}]
            steps += [
                {"op": "add", "path": f"/data/{key}", "value": b64encode(value.encode()).decode()}
                for key, value in values.items()
            ]
            cluster.patch("Secret", name, steps, content="json")
        except ApiError as error:
            if error.status != UNPROCESSABLE:
                raise
            raise _foreign("Secret", name, cluster.namespace) from None


def _root(body: Mapping[str, Any], place: str) -> Root:
    try:
        return Root(
            ref_of(body, place),
            json.loads(render.unpacked(body, places.RECORD)),
            render.unpacked(body, places.CELL).decode(),
            render.objects_in(body),
            body["metadata"].get("annotations") or {},
        )
    except (KeyError, ValueError, OSError) as error:
        name = body["metadata"]["name"]
        raise BackendError(f"the ConfigMap {name} in {place} is no run that can be read: {error}") from error


def _may_be_over(root: Root) -> bool:
    """Return whether the cluster may have deleted what started: it keeps what has ended for so long only."""
    kept = (root.record.get("cluster") or {}).get("keep_seconds") or 0
    return time.time() - root.ref.created > kept


def _fill(cluster: Cluster, root: Root) -> str:
    """Create everything of a root that was just claimed. What fails takes the root with it."""
    try:
        return _apply(cluster, root)
    except BaseException:
        cluster.delete("ConfigMap", places.root_name(root.ref.name), uid=root.ref.uid, propagation="Background")
        raise


def _apply(cluster: Cluster, root: Root) -> str:
    owner = root.ref.uid, places.root_name(root.ref.name)
    key = ""
    for body in render.stamp(_secrets(root), *owner):
        try:
            cluster.create(body)
        except ConflictError:
            continue  # another process that completes the same launch was faster
        key = body["stringData"].get(places.KEY, key)
    for body in sorted(render.stamp(root.objects, *owner), key=lambda body: body["kind"] in _STARTS):
        cluster.apply(body)
    return key


def _secrets(root: Root) -> list[Body]:
    """Return the Secrets whose values are known on this machine only. Raises BackendError for one that is not here."""
    name, record = root.ref.name, root.record
    values = {
        variable: _value(variable, where)
        for variable, where in record["secrets"].items()
        if where["source"] in {"env", "file"}
    }
    found = [_secret(places.secrets_name(name), name, marks.SECRET, values)] if values else []
    if record.get("api_key"):
        found.append(_secret(places.key_name(name), name, marks.KEY, {places.KEY: secrets.token_urlsafe(32)}))
    return found


def _secret(name: str, run: str, part: str, values: Mapping[str, str]) -> Body:
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": name, "labels": marks.labels(run, part)},
        "type": "Opaque",
        "stringData": dict(values),
    }


def _value(name: str, where: Mapping[str, str]) -> str:
    if where["source"] == "env":
        value = os.environ.get(where["key"])
        if value is None:
            raise BackendError(f"secret {name}: the environment variable {where['key']} is not set")
        return value
    try:
        return Path(where["key"]).expanduser().read_text("utf-8").strip()
    except OSError as error:
        raise BackendError(f"secret {name}: {where['key']}: {error.strerror}") from None


def _refuse_foreign(cluster: Cluster, name: str, objects: Sequence[Body]) -> None:
    """Let the server check what will be created. Raises BackendError where it refuses, or something is in the way.

    A ConfigMap or claim of ours carries its content's hash or is meant to be found again, so these are not tried.
    """
    for body in objects:
        if body["kind"] in {"ConfigMap", "PersistentVolumeClaim"}:
            continue
        try:
            cluster.create(body, dry_run=True)
        except ConflictError:
            found = cluster.get(body["kind"], body["metadata"]["name"])
            if not marks.is_ours(found, name):
                raise _foreign(body["kind"], body["metadata"]["name"], cluster.namespace) from None
            raise BackendError(
                f"{body['kind']} {body['metadata']['name']} is still being deleted in {cluster.namespace}",
                hint="a moment later it is gone",
            ) from None


def _is_there(cluster: Cluster, root: Root, body: Body) -> bool:
    try:
        return marks.is_ours(cluster.get(body["kind"], body["metadata"]["name"]), uid=root.ref.uid)
    except NotFoundError:
        return False


def _foreign(kind: str, name: str, where: str) -> BackendError:
    return BackendError(
        f"{kind} {name} exists in {where} and was not created by jupyter_gpudeploy: it is left alone",
        hint="give the run another name:",
    )
