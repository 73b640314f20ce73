"""A run comes into being on a cluster.

The root ConfigMap is the claim of the name: creating it succeeds for one of all who try at the same moment. Its uid
is the run's, and it holds everything that belongs to the run, so that whoever looks next can complete a launch whose
process was killed halfway. Everything else is owned by it and goes when it goes.

A Job that is not there was never made, or has ended and was deleted since. The annotation `started` of the root tells
the two apart, and only a root without it is completed. Launching itself has no call to spare for it: the mirror of
whoever sees the Job first writes it, a moment after the launch. Where nobody looked in that moment, a root that is
older than what has ended is kept is not completed either: nothing runs twice because its Job went in time.
"""

from __future__ import annotations

import json
import os
import shutil
import threading
import time
from contextlib import suppress
from datetime import datetime
from typing import TYPE_CHECKING, Any, NamedTuple

from jupyter_gpudeploy.backends.base import RunRef
from jupyter_gpudeploy.backends.kubernetes import marks, places
from jupyter_gpudeploy.backends.kubernetes.api.errors import ConflictError, ForbiddenError, NotFoundError
from jupyter_gpudeploy.backends.kubernetes.api.kinds import MAKER_KINDS
from jupyter_gpudeploy.backends.kubernetes.life import keeping, objects
from jupyter_gpudeploy.backends.kubernetes.manifests import render, trials
from jupyter_gpudeploy.errors import BackendError, RunExistsError
from jupyter_gpudeploy.events.store import write_atomically

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from jupyter_gpudeploy.backends.base import Rendering
    from jupyter_gpudeploy.backends.kubernetes.api.client import Cluster
    from jupyter_gpudeploy.backends.kubernetes.layout import MirrorFolder

    FolderOf = Callable[["Root"], MirrorFolder]

Body = dict[str, Any]


class Root(NamedTuple):
    """A root ConfigMap, read."""

    ref: RunRef
    record: dict[str, Any]
    cell: str
    objects: list[Body]
    annotations: Mapping[str, str]

    @property
    def taken_up(self) -> Root:
        """It, when its stop was taken back."""
        kept = {key: value for key, value in self.annotations.items() if key != marks.STOPPED}
        return self._replace(annotations=kept)

    @property
    def files(self) -> dict[str, str]:
        """What a mirror begins with."""
        known = {"uid": self.ref.uid, "created": self.ref.created}
        files = {"run.json": json.dumps({**self.record, **known})}
        return {**files, "cell.txt": self.cell} if self.cell else files


class Launched(NamedTuple):
    """A run that is there now. `left_out`: what it goes without, one sentence each."""

    root: Root
    left_out: Sequence[str] = ()


def launch(
    cluster: Cluster, rendering: Rendering, place: str, driver: Mapping[str, Any], folder_of: FolderOf
) -> Launched:
    """Claim the name and start everything.

    A run with the same fingerprint is returned as it is, completed if its launch was cut off. `folder_of` makes the
    mirror of a run, into which the key of a server goes before its Secret is made. Raises RunExistsError for another
    run of that name, BackendError for what the cluster refuses; then nothing of it stays.
    """
    rendered = render.objects_of(rendering)
    found = read_root(cluster, rendering.name, place)
    if found is None:
        record = json.loads(rendering.files["run.json"])
        ours = objects.check(cluster, rendering.name, [*keeping.of_run(rendering.name, record), *rendered])
        left_out = objects.missing(rendered, ours)
        try:
            found = _root(cluster.create(render.root(rendering, _annotations(cluster, driver))), place)
        except ConflictError:
            found = read_root(cluster, rendering.name, place)
            if found is None:
                raise
        else:
            _fill(cluster, found._replace(objects=rendered), folder_of)
            return Launched(found, left_out)
    if found.ref.fingerprint != rendering.fingerprint:
        raise RunExistsError(
            f"a run called {rendering.name!r} exists in {place}, and it is another one",
            hint="give this one another name, or replace that one",
        )
    complete(cluster, found._replace(objects=rendered), folder_of)
    return Launched(found)


def complete(cluster: Cluster, root: Root, folder_of: FolderOf) -> None:
    """Create what a launch that was cut off did not come to; nothing of a run that was stopped."""
    if marks.STOPPED in root.annotations or marks.STARTED in root.annotations or _may_be_over(root):
        return
    starts = [body for body in root.objects if _is_last(body) and not trials.is_template(body)]
    if all(_is_there(cluster, root, body) for body in starts):
        return
    if not all(render.is_complete(body) for body in root.objects):
        raise BackendError(
            f"the launch of {root.ref.name} was cut off, and its program is too large to be kept in {root.ref.place}",
            hint="run its cell again: that completes it",
        )
    _apply(cluster, root, folder_of)


def read_root(cluster: Cluster, name: str, place: str) -> Root | None:
    """Return the run of that name, or None. Raises BackendError for a ConfigMap of that name that is no run of ours."""
    try:
        body = cluster.get("ConfigMap", places.root_name(name))
    except NotFoundError:
        return None
    if not marks.is_ours(body, name):
        raise objects.foreign("ConfigMap", places.root_name(name), place)
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
        owner=marks.created_by(body),
    )


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


def _fill(cluster: Cluster, root: Root, folder_of: FolderOf) -> None:
    """Create everything of a root that was just claimed. What fails takes the root with it, and the mirror."""
    try:
        _apply(cluster, root, folder_of)
    except BaseException:
        with suppress(BackendError):  # what went wrong first is what helps
            cluster.delete("ConfigMap", places.root_name(root.ref.name), uid=root.ref.uid, propagation="Background")
        if root.record.get("api_key"):
            shutil.rmtree(folder_of(root).path, ignore_errors=True)
        raise


def _apply(cluster: Cluster, root: Root, folder_of: FolderOf) -> None:
    name, uid = root.ref.name, root.ref.uid
    owner = uid, places.root_name(name)
    for body in render.stamp(keeping.of_run(name, root.record), *owner):
        if body["metadata"]["labels"][marks.PART] == marks.KEY:
            _put_key(cluster, root, body, folder_of(root))
        else:
            objects.put(cluster, name, body, uid)
    stamped = render.stamp([body for body in root.objects if not trials.is_template(body)], *owner)
    for body in sorted(stamped, key=_is_last):
        try:
            objects.put(cluster, name, body, uid)
        except ForbiddenError:
            if objects.is_needed(body):
                raise


def _is_last(body: Body) -> bool:
    """Return whether it is what completes a launch: what makes pods, or what lets Jobs be made."""
    return body["kind"] in MAKER_KINDS or trials.is_points(body)


def _put_key(cluster: Cluster, root: Root, body: Body, folder: MirrorFolder) -> None:
    """Keep the key of a server here, then create its Secret: who is killed in between leaves none that nobody knows.

    Processes of one machine agree on what its folder holds; where one of another machine was faster, nothing is kept.
    """
    given = body["stringData"]
    is_new = _keep_key(folder, given[places.KEY])
    given[places.KEY] = folder.key_file.read_text()
    if not objects.put(cluster, root.ref.name, body, root.ref.uid) and is_new:
        folder.key_file.unlink(missing_ok=True)


def _keep_key(folder: MirrorFolder, key: str) -> bool:
    """Keep the key in a folder, unless it has one; return whether it had none."""
    draft = folder.key_file.with_name(f".key.{os.getpid()}.{threading.get_ident()}")
    write_atomically(draft, key)
    try:
        folder.key_file.hardlink_to(draft)
    except FileExistsError:
        return False
    finally:
        draft.unlink()
    return True


def _annotations(cluster: Cluster, driver: Mapping[str, Any]) -> dict[str, str]:
    who = cluster.user
    return {marks.DRIVER: json.dumps(dict(driver)), **({marks.CREATED_BY: who} if who else {})}


def _is_there(cluster: Cluster, root: Root, body: Body) -> bool:
    try:
        return marks.is_ours(cluster.get(body["kind"], body["metadata"]["name"]), uid=root.ref.uid)
    except NotFoundError:
        return False
