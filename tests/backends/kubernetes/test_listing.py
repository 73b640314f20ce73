"""Where runs stand at a glance, by what makes their pods."""

import pytest
from wire import gives

from jupyter_gpudeploy.backends.base import RunRef
from jupyter_gpudeploy.backends.kubernetes import marks
from jupyter_gpudeploy.backends.kubernetes.api.connect import connect
from jupyter_gpudeploy.backends.kubernetes.layout import place_of
from jupyter_gpudeploy.backends.kubernetes.listing import state_of
from jupyter_gpudeploy.backends.kubernetes.sites import Site
from jupyter_gpudeploy.events.types import State

KINDS = {
    "Job": ("batch/v1", "jobs"),
    "Deployment": ("apps/v1", "deployments"),
    "CronJob": ("batch/v1", "cronjobs"),
    "JobSet": ("jobset.x-k8s.io/v1alpha2", "jobsets"),
    "LeaderWorkerSet": ("leaderworkerset.x-k8s.io/v1", "leaderworkersets"),
}


def work(name, spec=None, task=None, **status):
    labels = {**marks.labels("digits", marks.WORK, "u1"), **({marks.TASK: str(task)} if task is not None else {})}
    return {"metadata": {"name": name, "uid": name, "labels": labels}, "spec": spec or {}, "status": status}


def true(kind, message=""):
    return [{"type": kind, "status": "True", "message": message}]


@pytest.fixture
def glanced(alone, wire, tmp_path, monkeypatch):
    """`glanced(kind, *objects)`: the state and the reason of the run u1 where the namespace has these."""
    monkeypatch.setenv("KUBECONFIG", str(wire.kubeconfig(tmp_path / "kubeconfig")))
    groups = sorted({version for version, _ in KINDS.values()})
    wire.on("GET", "/apis", gives({"groups": [{"versions": [{"groupVersion": one}]} for one in groups]}))
    for group in groups:
        resources = [{"name": plural} for version, plural in KINDS.values() if version == group]
        wire.on("GET", f"/apis/{group}", gives({"resources": resources}))

    def look(kind, *bodies):
        for name, (version, plural) in KINDS.items():
            items = list(bodies) if name == kind else []
            wire.on("GET", f"/apis/{version}/namespaces/default/{plural}", gives({"items": items, "metadata": {}}))
        with connect() as cluster:
            site = Site(cluster, place_of("here", "default", "here", tmp_path))
            return state_of(site, RunRef("kubernetes", "digits", "u1", "f", 0.0, "here/default"))

    return look


@pytest.mark.parametrize(
    ("kind", "bodies", "seen"),
    [
        ("Job", [work("digits", ready=1)], (State.RUNNING, "")),
        ("Job", [work("digits", conditions=true("Failed", "why"))], (State.FAILED, "why")),
        ("Deployment", [work("digits", {"replicas": 2}, readyReplicas=1)], (State.STARTING, "1 of 2 replicas are ready")),
        ("CronJob", [work("digits")], (State.READY, "")),
        ("CronJob", [work("digits", {"suspend": True})], (State.STOPPED, "")),
        ("JobSet", [work("digits", replicatedJobsStatus=[{"ready": 1}])], (State.RUNNING, "")),
        ("JobSet", [work("digits")], (State.WAITING, "")),
        ("JobSet", [work("digits", {"suspend": True})], (State.WAITING, "it is suspended")),
        ("JobSet", [work("digits", conditions=true("Completed"))], (State.SUCCEEDED, "")),
        ("JobSet", [work("digits", conditions=true("Failed", "all"))], (State.FAILED, "all")),
        ("LeaderWorkerSet", [work("digits", {"replicas": 1}, readyReplicas=1)], (State.READY, "")),
        ("LeaderWorkerSet", [work("digits", {"replicas": 0})], (State.STOPPED, "")),
    ],
)  # fmt: skip
def test_what_makes_the_pods_says_where_a_run_stands(glanced, kind, bodies, seen):
    assert glanced(kind, *bodies) == seen


def test_a_search_stands_where_its_trials_do(glanced):
    ended, runs = work("digits--0", task=0, conditions=true("Complete")), work("digits--1", task=1, ready=1)
    assert glanced("Job", runs) == (State.RUNNING, "")
    assert glanced("Job", ended, runs) == (State.RUNNING, "1 trials have ended")
    assert glanced("Job", work("digits--0", task=0)) == (State.WAITING, "")
    assert glanced("Job", ended) is None  # a further one may be chosen, or none: its mirror tells
    assert glanced("Job", work("digits-12345", ready=1)) is None  # a round of a schedule
