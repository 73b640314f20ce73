"""Which runs there are, and where they stand at a glance: one list of roots a place, and one or two of what works.

Nothing is copied for it, and no place is waited for longer than for one answer.
"""

from __future__ import annotations

import logging
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from jupyter_gpudeploy.backends.base import Answer
from jupyter_gpudeploy.backends.kubernetes import marks
from jupyter_gpudeploy.backends.kubernetes.api.errors import ForbiddenError, UnreachableError
from jupyter_gpudeploy.backends.kubernetes.layout import BROKEN
from jupyter_gpudeploy.backends.kubernetes.life import launch
from jupyter_gpudeploy.errors import BackendError
from jupyter_gpudeploy.events.types import State

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from jupyter_gpudeploy.backends.base import RunRef
    from jupyter_gpudeploy.backends.kubernetes.api.client import Cluster
    from jupyter_gpudeploy.backends.kubernetes.layout import Place
    from jupyter_gpudeploy.backends.kubernetes.sites import Site, Sites

_LOG = logging.getLogger(__name__)
_STATES_SECONDS = 5.0
_AT_ONCE = 8
T = TypeVar("T")


class Found(NamedTuple):
    """The runs of a place, and whether it answered; where it did not, these are its mirrors."""

    refs: Sequence[RunRef]
    answer: Answer

    @property
    def trouble(self) -> str:
        """Why it could not be asked, as a sentence."""
        place, problem, hint = self.answer
        return f"{place} could not be asked: {problem}" + f" ({hint})" * bool(hint) if problem else ""


def find(sites: Sites, cluster: str | None, namespace: str | None) -> list[Found]:
    """Return what each place has: the one that is named, else all that are known. Never raises BackendError."""
    try:
        places = sites.places(cluster, namespace)
    except BackendError as error:
        return [Found((), _no_answer(cluster or "the default cluster", error))]
    if len(places) <= 1:
        return [_of_place(sites, place) for place in places]
    with ThreadPoolExecutor(_AT_ONCE, "ask a cluster") as pool:
        return [*pool.map(lambda place: _of_place(sites, place), places)]


def state_of(site: Site, ref: RunRef) -> tuple[State, str] | None:
    """Return where a run stands by what makes its pods, and why; None where that does not tell.

    What most runs are is listed for all of them at once; the rarer kinds only for a run that is none of those.
    """
    try:
        found = site.keep("states", _STATES_SECONDS, _usual_states).get(ref.uid)
        return found or site.keep("rarer states", _STATES_SECONDS, _rarer_states).get(ref.uid)
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
        return Found([*mirrored.values()], _no_answer(str(place), error))
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
    found = [*{**kept, **known}.values()]  # of what another person removed there is nothing to see any more
    return Found(found, Answer(str(place)))


def _usual_states(cluster: Cluster) -> dict[str, tuple[State, str]]:
    found, trials = {}, defaultdict(list)
    for body in cluster.list("Job", labels=_WORKS).items:
        labels = body["metadata"].get("labels") or {}
        if labels.get(marks.RUN) == body["metadata"]["name"]:
            found[str(labels.get(marks.UID))] = _of_job(body)
        elif marks.TASK in labels:  # a trial of a search; else one round of a schedule, or a part of a JobSet
            trials[str(labels.get(marks.UID))].append(_of_job(body)[0])
    found |= {uid: _of_search(states) for uid, states in trials.items() if not all(one.is_final for one in states)}
    return found | _of_kind(cluster, "Deployment", _of_replicas)


def _rarer_states(cluster: Cluster) -> dict[str, tuple[State, str]]:
    found = {}
    for kind, read in (("CronJob", _of_schedule), ("JobSet", _of_jobset), ("LeaderWorkerSet", _of_replicas)):
        if cluster.has(kind):
            with suppress(ForbiddenError):
                found.update(_of_kind(cluster, kind, read))
    return found


def _of_kind(cluster: Cluster, kind: str, read: Callable[[Mapping[str, Any]], T]) -> dict[str, T]:
    items = cluster.list(kind, labels=_WORKS).items
    return {str((body["metadata"].get("labels") or {}).get(marks.UID)): read(body) for body in items}


def _of_search(trials: Sequence[State]) -> tuple[State, str]:
    """Return where a search stands of which a trial has not ended; the last one may not be the last of all."""
    ended = sum(state.is_final for state in trials)
    is_running = State.RUNNING in trials
    return (State.RUNNING if is_running or ended else State.WAITING), f"{ended} trials have ended" if ended else ""


def _of_schedule(body: Mapping[str, Any]) -> tuple[State, str]:
    return (State.STOPPED if (body.get("spec") or {}).get("suspend") else State.READY), ""


def _of_jobset(body: Mapping[str, Any]) -> tuple[State, str]:
    status, spec = body.get("status") or {}, body.get("spec") or {}
    ends = {one["type"]: one for one in status.get("conditions") or () if one.get("status") == "True"}
    if "Failed" in ends:
        return State.FAILED, str(ends["Failed"].get("message") or "")
    if "Completed" in ends:
        return State.SUCCEEDED, ""
    if spec.get("suspend"):
        return State.WAITING, "it is suspended"
    is_running = any(one.get("ready") or one.get("succeeded") for one in status.get("replicatedJobsStatus") or ())
    return (State.RUNNING if is_running else State.WAITING), ""


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


def _of_replicas(body: Mapping[str, Any]) -> tuple[State, str]:
    wanted = (body.get("spec") or {}).get("replicas", 1)
    if not wanted:
        return State.STOPPED, ""
    ready = (body.get("status") or {}).get("readyReplicas") or 0
    if ready >= wanted:
        return State.READY, ""
    return State.STARTING, f"{ready} of {wanted} replicas are ready" if wanted > 1 else ""


def _no_answer(place: str, error: BackendError) -> Answer:
    return Answer(place, error.message, error.hint)


_ROOTS = marks.selector(part=marks.ROOT)
_WORKS = marks.selector(part=marks.WORK)
