"""Stopping and going on, as a fake API server sees it: what waits in a queue is Kueue's to start."""

import json

import pytest
from nodes import UID, job, root
from wire import fails, gives

from jupyter_gpudeploy.backends.base import RunRef
from jupyter_gpudeploy.backends.kubernetes.api.connect import connect
from jupyter_gpudeploy.backends.kubernetes.life import control
from jupyter_gpudeploy.errors import BackendError

REF = RunRef("kubernetes", "digits", UID, "f", 0.0)
CORE, BATCH = "/api/v1/namespaces/default", "/apis/batch/v1/namespaces/default"
KUEUE = "/apis/kueue.x-k8s.io/v1beta1"
WORKLOADS = f"{KUEUE}/namespaces/default/workloads"


@pytest.fixture
def cluster(alone, wire, tmp_path, monkeypatch):
    monkeypatch.setenv("KUBECONFIG", str(wire.kubeconfig(tmp_path / "kubeconfig")))
    wire.on("GET", f"{CORE}/configmaps/digits.run", gives(root()))
    wire.on("GET", f"{CORE}/pods", gives({"items": [], "metadata": {}}))
    wire.on("GET", f"{BATCH}/jobs", gives({"items": [], "metadata": {}}))
    wire.on("PATCH", "*", gives({"metadata": {}}))
    with connect() as found:
        yield found


@pytest.fixture
def queued(wire):
    """A Job in a queue, with Kueue's kinds and its Workload."""
    made = job(active=1)
    made["metadata"]["labels"]["kueue.x-k8s.io/queue-name"] = "team-a"
    wire.on("GET", f"{BATCH}/jobs/digits", gives(made))
    wire.on("GET", "/apis", gives({"groups": [{"versions": [{"groupVersion": "kueue.x-k8s.io/v1beta1"}]}]}))
    wire.on("GET", KUEUE, gives({"resources": [{"name": "workloads"}]}))
    wire.on("GET", WORKLOADS, gives({"items": [{"metadata": {"name": "job-digits", "uid": "w"}}], "metadata": {}}))


def changes(wire):
    return [(request.path.rpartition("/")[2], json.loads(request.body).get("spec")) for request in wire.seen("PATCH")]


def test_what_kueue_would_start_again_is_deactivated_by_a_stop(wire, cluster, queued):
    control.stop(cluster, REF, 10)
    assert changes(wire) == [("digits.run", None), ("job-digits", {"active": False}), ("digits", {"suspend": True})]
    asked = wire.seen("GET", WORKLOADS)[0].query
    assert asked["labelSelector"] == "kueue.x-k8s.io/job-uid=job"


def test_what_goes_on_waits_in_its_queue_again(wire, cluster, queued):
    control.proceed(cluster, REF)
    assert changes(wire) == [("digits.run", None), ("job-digits", {"active": True})]


def test_without_the_right_to_its_workload_a_queued_job_is_suspended_all_the_same(wire, cluster, queued):
    wire.on("GET", WORKLOADS, fails(403, "no"))
    control.stop(cluster, REF, 10)
    assert changes(wire) == [("digits.run", None), ("digits", {"suspend": True})]


def test_pausing_takes_out_of_the_queue_and_leaves_suspending_to_kueue(wire, cluster, queued):
    held = {"metadata": {"name": "job-digits", "uid": "w"}, "spec": {"active": True}}
    wire.on("GET", WORKLOADS, gives({"items": [held], "metadata": {}}))
    control.pause(cluster, REF, is_paused=True)
    assert changes(wire) == [("job-digits", {"active": False})]
    held["spec"]["active"] = False
    with pytest.raises(BackendError, match="paused already"):
        control.pause(cluster, REF, is_paused=True)
    wire.on("PATCH", f"{WORKLOADS}/job-digits", fails(404, "made anew", "NotFound"))
    control.pause(cluster, REF, is_paused=False)


def test_the_parallelism_of_what_kueue_let_go_is_left_alone(wire, cluster, queued):
    with pytest.raises(BackendError, match="has its room from Kueue"):
        control.set_parallelism(cluster, REF, 3)
    assert changes(wire) == []
    made = job(suspended=True)
    made["metadata"]["labels"]["kueue.x-k8s.io/queue-name"] = "team-a"
    wire.on("GET", f"{BATCH}/jobs/digits", gives(made))
    control.set_parallelism(cluster, REF, 3)
    assert changes(wire) == [("digits", {"parallelism": 3})]


@pytest.mark.parametrize(("status", "reason"), [(404, "NotFound"), (409, "Conflict")])
def test_a_run_whose_root_is_gone_or_another_one_has_nothing_to_be_told(wire, cluster, status, reason):
    wire.on("GET", f"{BATCH}/jobs/digits", gives(job(active=1)))
    wire.on("GET", f"{CORE}/configmaps/digits.run", gives(root(uid="another")))
    wire.on("PATCH", f"{CORE}/configmaps/digits.run", fails(status, "no", reason))
    control.stop(cluster, REF, 10)
    assert changes(wire)[1:] == [("digits", {"suspend": True})]
