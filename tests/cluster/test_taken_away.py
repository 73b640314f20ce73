"""Pods that somebody or something takes away are tried again; what fails by itself is not."""

import time

import pytest

from jupyter_gpudeploy import launch
from jupyter_gpudeploy.events.types import State

from .people import PATIENCE, until

CODE = """
import os, time
attempt = int(os.environ["GPUDEPLOY_ATTEMPT"])
print("attempt", attempt, flush=True)
time.sleep(600 if attempt < {last} else 0)
print("loss=0.5", flush=True)
"""


def living(client):
    return [one for one in client.list("Pod").items if one["status"].get("phase") == "Running"]


def attempts(run):
    return [change for change in run._backend.states(run.ref, _set()) if change.task == 0]


def _set():
    import threading

    stop = threading.Event()
    stop.set()
    return stop


def running(run, client, attempt):
    until(lambda: f"attempt {attempt}" in run.logs())
    (pod,) = living(client)
    return pod["metadata"]["name"]


@pytest.mark.fault(24)
@pytest.mark.timeout(300)
@pytest.mark.parametrize("grace", [None, 0])
def test_a_pod_that_somebody_deletes_is_tried_once_more_without_a_twin(mine, client, grace):
    run = launch(f"name: taken\n---\n{CODE.format(last=2)}", backend="kubernetes")
    name = running(run, client, 1)
    client.delete("Pod", name, grace_seconds=grace, propagation="Background")
    twins = []
    until(lambda: twins.append(len(living(client))) or run.is_over)
    assert max(twins) <= 1
    assert (run.state, run.status().tasks[0].attempt) == (State.SUCCEEDED, 2)
    assert run.logs().splitlines() == ["attempt 1", "attempt 2", "loss=0.5"]
    reasons = [change.reason for change in attempts(run) if change.state is State.WAITING]
    assert any(reason.startswith("the pod was deleted outside") for reason in reasons), reasons
    assert any(reason.endswith("it is tried once more") for reason in reasons), reasons


@pytest.mark.fault(24)
@pytest.mark.timeout(400)
def test_a_node_that_does_not_answer_is_said_and_its_work_is_done_once_it_is_known_to_be_over(
    mine, client, breakable_cluster
):
    run = launch(f"name: lost\n---\n{CODE.format(last=2)}", backend="kubernetes")
    running(run, client, 1)
    nodes, at = breakable_cluster.client(), "/api/v1/nodes/node-1"
    breakable_cluster.freeze("kubelet")
    nodes.patch(at, {"spec": {"taints": [{"key": "gone", "value": "yes", "effect": "NoExecute"}]}})
    try:
        until(lambda: any(one["metadata"].get("deletionTimestamp") for one in client.list("Pod").items))
        time.sleep(10)  # whoever takes a node that is silent for one that is over starts the twin by now
        pods = client.list("Pod").items
        assert [one["status"]["phase"] for one in pods] == ["Running"]
        assert run.status().tasks[0].attempt == 1
        assert not run.is_over
    finally:
        nodes.patch(at, {"spec": {"taints": []}})
        breakable_cluster.thaw("kubelet")
    twins = []
    until(lambda: twins.append(len(living(client))) or run.is_over)
    assert max(twins) <= 1
    assert (run.state, run.status().tasks[0].attempt) == (State.SUCCEEDED, 2)
    reasons = [change.reason for change in attempts(run)]
    assert any(reason.startswith("node node-1 does not respond or is not to be used") for reason in reasons), reasons


@pytest.mark.fault(24)
@pytest.mark.timeout(300)
def test_a_second_deletion_is_the_end(mine, client):
    run = launch(f"name: twice\n---\n{CODE.format(last=9)}", backend="kubernetes")
    for attempt in (1, 2):
        client.delete("Pod", running(run, client, attempt), propagation="Background")
    run.wait(PATIENCE)
    assert (run.state, run.status().tasks[0].attempt) == (State.FAILED, 2)
    assert run.status().reason.startswith("the pod was deleted outside")
    assert run.status().tasks[0].exit_code == 143


@pytest.mark.timeout(300)
@pytest.mark.parametrize("how", ["sys.exit(3)", "os.kill(os.getpid(), 11)", "signal.raise_signal(9)"])
def test_what_fails_by_itself_is_not_tried_again(mine, client, how):
    run = launch(f"name: fails\n---\nimport os, signal, sys\n{how}", backend="kubernetes").wait(PATIENCE)
    assert (run.state, run.status().tasks[0].attempt) == (State.FAILED, 1)
    time.sleep(2)
    assert len(client.list("Pod").items) == 1


@pytest.mark.fault(40)
@pytest.mark.timeout(300)
def test_what_takes_too_long_is_not_tried_again(mine, client):
    run = launch(f"name: slow\nmax_hours: 0.006\n---\n{CODE.format(last=9)}", backend="kubernetes").wait(PATIENCE)
    assert (run.state, run.status().tasks[0].attempt) == (State.FAILED, 1)
    assert "max_hours" in run.status().reason
    time.sleep(15)
    assert len(client.list("Pod").items) == 1


@pytest.mark.timeout(300)
def test_packages_that_cannot_be_installed_are_not_tried_again(mine, client):
    cell = "name: nope\nrequirements: [there-is-no-such-package]\n---\nprint(1)"
    run = launch(cell, backend="kubernetes").wait(PATIENCE)
    assert (run.state, run.status().tasks[0].attempt) == (State.FAILED, 1)
    assert len(client.list("Pod").items) == 1
