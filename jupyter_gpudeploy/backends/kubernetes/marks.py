"""The names by which objects of ours are known: labels, annotations, the field manager.

Only an object that carries MANAGED_BY and the uid of its run is ever changed or deleted.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

FIELD_MANAGER = "jupyter-gpudeploy"
MANAGER = "jupyter-gpudeploy"

MANAGED_BY = "app.kubernetes.io/managed-by"
APP_NAME = "app.kubernetes.io/name"
RUN = "jupyter-gpudeploy/run"
UID = "jupyter-gpudeploy/uid"
PART = "jupyter-gpudeploy/part"

ROOT = "root"
CODE = "code"
SECRET = "secret"  # noqa: S105 - the value of a label
WORK = "work"
SERVICE = "service"
STORAGE = "storage"  # kept after the run: it has no owner
KEY = "key"
READER = "reader"
POINTS = "points"
KEPT_SECRET = "kept-secret"  # noqa: S105 - the value of a label; `%deploy secret` made it

FINGERPRINT = "jupyter-gpudeploy/fingerprint"
TITLE = "jupyter-gpudeploy/title"
CREATED_BY = "jupyter-gpudeploy/created-by"
DRIVER = "jupyter-gpudeploy/driver"
STOPPED = "jupyter-gpudeploy/stopped"
STARTED = "jupyter-gpudeploy/started"
VERSION = "jupyter-gpudeploy/version"
PARALLELISM = "jupyter-gpudeploy/parallelism"  # of the root of a search: how many trials at a time, once it was changed
PAUSED = "jupyter-gpudeploy/paused"
TEMPLATE = "jupyter-gpudeploy/template"  # an object that is shown and kept, and of which others are made
TASK = "jupyter-gpudeploy/task"  # a label: of which task an object is


def created_by(body: Mapping[str, Any]) -> str:
    """Return who made an object, as the API server called that person; empty where nobody wrote it down."""
    return str((body.get("metadata", {}).get("annotations") or {}).get(CREATED_BY) or "")


def labels(name: str, part: str, uid: str = "") -> dict[str, str]:
    """Return the labels of an object of the run `name`. Without `uid`: as it is rendered, before the claim."""
    common = {MANAGED_BY: MANAGER, APP_NAME: name, RUN: name, PART: part}
    return {**common, UID: uid} if uid else common


def selector(**wanted: str) -> str:
    """Return a label selector of what is ours: `selector(run="digits", part=ROOT)`; keys run, uid, part."""
    keys = {"run": RUN, "uid": UID, "part": PART}
    return ",".join([f"{MANAGED_BY}={MANAGER}", *(f"{keys[name]}={value}" for name, value in wanted.items())])


def is_ours(body: Mapping[str, Any], name: str = "", uid: str = "") -> bool:
    """Return whether an object is ours (of the run `name`, of the run with this `uid`, where given)."""
    carried = body.get("metadata", {}).get("labels") or {}
    return carried.get(MANAGED_BY) == MANAGER and name in {"", carried.get(RUN)} and uid in {"", carried.get(UID)}
