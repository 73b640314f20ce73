"""Which runs there are, and where they stand at a glance: one list of roots a place, and at most one of what works.

Nothing is copied for it, and no place is waited for longer than for one answer.
"""

from __future__ import annotations

import logging
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, NamedTuple

from jupyter_gpudeploy.backends.kubernetes import marks
from jupyter_gpudeploy.backends.kubernetes.api.errors import UnreachableError
from jupyter_gpudeploy.backends.kubernetes.layout import BROKEN
from jupyter_gpudeploy.backends.kubernetes.life import launch
from jupyter_gpudeploy.errors import BackendError
from jupyter_gpudeploy.events.types import State

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from jupyter_gpudeploy.backends.base import RunRef
    from jupyter_gpudeploy.backends.kubernetes.api.client import Cluster
    from jupyter_gpudeploy.backends.kubernetes.layout import Place
    from jupyter_gpudeploy.backends.kubernetes.sites import Site, Sites

_LOG = logging.getLogger(__name__)
_STATES_SECONDS = 5.0
_AT_ONCE = 8


class Found(NamedTuple):
    """The runs of a place. `trouble`: why it could not be asked, as a sentence; then these are its mirrors."""

    refs: Sequence[RunRef]
    trouble: str = ""


def find(sites: Sites, cluster: str | None, namespace: str | None) -> list[Found]:
    """Return what each place has: the one that is named, else all that are known. Never raises BackendError."""
    try:
        places = sites.places(cluster, namespace)
    except BackendError as error:
        return [Found((), f"{cluster or 'the default cluster'} could not be asked: {_sentence(error)}")]
    if len(places) <= 1:
        return [_of_place(sites, place) for place in places]
    with ThreadPoolExecutor(_AT_ONCE, "ask a cluster") as pool:
        return [*pool.map(lambda place: _of_place(sites, place), places)]


def state_of(site: Site, ref: RunRef) -> tuple[State, str] | None:
    """Return where a run stands by its Job or its Deployment, and why; None where they do not tell."""
    try:
        return site.keep("states", _STATES_SECONDS, _states).get(ref.uid)
    except BackendError:
        return None


def _of_place(sites: Sites, place: Place) -> Found:
    """Return the runs on the cluster, and mirrors of what is no longer there."""
    mirrored = {ref.uid: ref for ref in place.refs()}
    try:
        site = sites.connect(place.cluster, place.namespace)
        roots = site.ask(lambda cluster: cluster.list("ConfigMap", labels=_ROOTS, bare=True)).items
    except BackendError as error:
        if not isinstance(error, UnreachableError):  # it answered, and what it said helps
            _LOG.info("%s", error)
        return Found([*mirrored.values()], f"{place} could not be asked: {_sentence(error)}")
    there = []
    for body in roots:
        try:
            there.append(launch.ref_of(body, str(place)))
        except BROKEN:
            continue
    known = {ref.uid: ref for ref in there}
    others = {ref.owner for ref in mirrored.values() if ref.uid not in known} - {""}
    user = site.user.now() if others or any(ref.owner for ref in there) else None
    kept = {uid: ref for uid, ref in mirrored.items() if uid in known or user is None or ref.owner in ("", user)}
    return Found([*{**kept, **known}.values()])  # of what another person removed there is nothing to see any more


def _states(cluster: Cluster) -> dict[str, tuple[State, str]]:
    works = marks.selector(part=marks.WORK)
    found = {}
    for kind, read in (("Job", _of_job), ("Deployment", _of_deployment)):
        for body in cluster.list(kind, labels=works).items:
            labels = body["metadata"].get("labels") or {}
            if labels.get(marks.RUN) == body["metadata"]["name"]:  # else one round of a schedule
                found[str(labels.get(marks.UID))] = read(body)
    return found


def _of_job(body: Mapping[str, Any]) -> tuple[State, str]:
    status, spec = body.get("status") or {}, body.get("spec") or {}
    ends = {one["type"]: one for one in status.get("conditions") or () if one.get("status") == "True"}
    if "Failed" in ends:
        return State.FAILED, str(ends["Failed"].get("message") or "")
    if "Complete" in ends:
        return (State.FAILED, "") if status.get("failed") and status.get("failedIndexes") else (State.SUCCEEDED, "")
    if spec.get("suspend"):
        return State.WAITING, "it is suspended"
    return (State.RUNNING if status.get("ready") or status.get("succeeded") else State.WAITING), ""


def _of_deployment(body: Mapping[str, Any]) -> tuple[State, str]:
    wanted = (body.get("spec") or {}).get("replicas", 1)
    if not wanted:
        return State.STOPPED, ""
    ready = (body.get("status") or {}).get("readyReplicas") or 0
    if ready >= wanted:
        return State.READY, ""
    return State.STARTING, f"{ready} of {wanted} replicas are ready" if wanted > 1 else ""


def _sentence(error: BackendError) -> str:
    return f"{error.message} ({error.hint})" if error.hint else error.message


_ROOTS = marks.selector(part=marks.ROOT)
