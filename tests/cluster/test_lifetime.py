"""Nothing runs for ever, nothing is lost with a kernel, and what lives can be changed."""

import random
import time
from collections import Counter

import pytest

from jupyter_gpudeploy import attach, launch, launching
from jupyter_gpudeploy.backends.kubernetes import marks
from jupyter_gpudeploy.errors import BackendError
from jupyter_gpudeploy.events.types import State

from .people import PATIENCE, Notebook, changed, kill, line, plan, until, until_running

POINTS, STEPS = 12, 5
SWEEP = f"""name: kills
parameters:
  x: {list(range(POINTS))}
parallelism: 3
---
import time
x = 0
print("started", flush=True)
for step in range({STEPS}):
    print(f"step={{step}} value={{x * 100 + step}}", flush=True)
    time.sleep(0.3)
"""
SLOW = "name: slow\nparameters: {x: [1, 2, 3, 4]}\nparallelism: 2\n---\nimport time\nx = 0\ntime.sleep(600 if x < 3 else 0)\n"
LONG = "name: long\n---\nimport time\nprint('begun', flush=True)\ntime.sleep(600)\n"
LAUNCH = """
import sys, time
from jupyter_gpudeploy import launch
run = launch(sys.argv[1], backend="kubernetes")
print("launched", run.uid, flush=True)
time.sleep(float(sys.argv[2]))
run.wait(300)
"""
ATTACH = """
import sys, time
from jupyter_gpudeploy import attach
run = attach(sys.argv[1])
run.wait(300)
"""
CUT_OFF = """
import os, signal, sys
from jupyter_gpudeploy.backends.kubernetes.api import client
create = client.Cluster.create
def cut(self, body, *, dry_run=False):
    if not dry_run and body["kind"] == sys.argv[2]:
        os.kill(os.getpid(), signal.SIGKILL)
    return create(self, body, dry_run=dry_run)
client.Cluster.create = cut
from jupyter_gpudeploy import launch
launch(sys.argv[1], backend="kubernetes")
"""


def jobs(client):
    return {one["metadata"]["name"]: one for one in client.list("Job").items}


def launched(process):
    """Wait until a process says that it has launched its run, and return the run's uid."""
    said = []
    for text in process.stdout:
        if text.startswith("launched"):
            return text.split()[1]
        said.append(text)
    raise AssertionError("".join(said))


@pytest.mark.fault(40)
def test_a_deadline_is_kept_by_the_cluster_when_the_kernel_is_killed(mine, client):
    cell = (
        "name: greedy\nmax_hours: 0.00834\nretries: 2\n---\nimport time\nprint('begun', flush=True)\ntime.sleep(600)\n"
    )
    process = mine.start(LAUNCH, cell, "600")
    try:
        launched(process)
    finally:
        kill(process)
    (pod,) = until(lambda: client.list("Pod").items)
    assert pod["spec"]["activeDeadlineSeconds"] == 30
    until(lambda: all(one["status"].get("phase") == "Failed" for one in client.list("Pod").items))
    run = attach("greedy")
    until(lambda: run.status().tasks[0].attempt >= 1 and (run.state.is_final or "max_hours" in str(run.status())))
    run.stop(0)
    assert run.logs().startswith("begun")


@pytest.mark.fault(40)
def test_a_job_has_an_end_even_if_the_cell_names_none(mine, client):
    run = until_running(launch(LONG, backend="kubernetes"))
    job = jobs(client)["long"]
    assert job["spec"]["activeDeadlineSeconds"] > 0
    assert job["spec"]["ttlSecondsAfterFinished"] == 7 * 86400
    run.stop(0)


@pytest.mark.fault(40)
def test_what_has_ended_goes_after_its_time_and_its_copy_stays(mine, client):
    run = launching.start(changed(plan("name: brief\n---\nprint('loss=0.25')\n"), keep_seconds=3))
    run.wait(PATIENCE)
    until(lambda: "brief" not in jobs(client))
    time.sleep(1)
    assert (run.state, run.logs(), run.metrics()["value"].tolist()) == (State.SUCCEEDED, "loss=0.25", [0.25])
    again = launch("name: brief\n---\nprint('loss=0.25')\n", backend="kubernetes")
    assert (again.uid, again.state) == (run.uid, State.SUCCEEDED)
    assert "brief" not in jobs(client)


def test_everything_is_in_the_copy_before_anything_is_deleted(
    mine, client, kubeconfig, namespace, python_image, tmp_path
):
    cell = "name: chatty\n---\nfor n in range(20000): print(f'step={n} loss={n}')\n"
    launch(cell, backend="kubernetes").wait(PATIENCE)
    fresh = Notebook(tmp_path / "fresh", kubeconfig, namespace, python_image)
    with fresh.sits_down() as backend:
        run = attach("chatty")
        backend.archive(run.ref)
        assert "chatty" not in jobs(client)
        assert len(run.logs().splitlines()) == 20000
        assert len(run.metrics()) == 20000


def test_replacing_frees_every_name_at_once(mine, client, monkeypatch):
    monkeypatch.setenv("TOKEN_OF_THE_TEST", "a-secret-of-the-test")
    head = "name: web\nserve: command\nport: 8000\nsecrets: {A: env:TOKEN_OF_THE_TEST}\nrun: python -m http.server {port}\n"
    first = launch(head, backend="kubernetes")
    for number in range(2):
        again = launch(f"{head}env: {{N: '{number}'}}\n", backend="kubernetes", replace=True)
        assert again.uid != first.uid
        service = client.get("Service", "web")
        assert service["metadata"]["labels"][marks.UID] == again.uid
        assert "deletionTimestamp" not in service["metadata"]
        first = again
    first.wait(PATIENCE)
    assert first.request("/").status == 200
    first.stop(0)


@pytest.mark.fault(1)
@pytest.mark.fault(2)
@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("seed", range(3))
def test_every_trial_runs_once_whatever_happens_to_the_kernels(mine, client, seed):
    chance = random.Random(seed)
    process = mine.start(LAUNCH, SWEEP, "0")
    try:
        uid = launched(process)
        for _ in range(4):
            time.sleep(chance.random() * 4)
            kill(process)
            process = mine.start(ATTACH, "kills") if chance.random() < 0.6 else mine.start(LAUNCH, SWEEP, "0")
    finally:
        kill(process)
    run = attach("kills").wait(PATIENCE)
    assert (run.uid, run.state) == (uid, State.SUCCEEDED)
    trials = run.trials().reset_index()[["x", "value", "state", "attempt", "exit_code"]].values.tolist()
    assert trials == [[x, x * 100 + STEPS - 1, "succeeded", 1, 0] for x in range(POINTS)]
    points = run.metrics()[["trial", "step", "value"]].values.tolist()
    assert Counter(map(tuple, points)) == Counter((x, s, x * 100 + s) for x in range(POINTS) for s in range(STEPS))
    assert run.logs().count("started") == POINTS
    assert len(client.list("Pod").items) == POINTS
    assert len(jobs(client)) == 1


@pytest.mark.fault(2)
@pytest.mark.parametrize("kind", ["ConfigMap of the code", "Job"])
def test_a_launch_that_was_killed_halfway_is_completed_by_the_next_one(mine, client, kind):
    cell = "name: halved\n---\nprint('once')\n"
    program = (
        CUT_OFF
        if kind == "Job"
        else CUT_OFF.replace('body["kind"] == sys.argv[2]', 'body["metadata"]["name"].startswith("halved.code")')
    )
    process = mine.start(program, cell, kind)
    process.communicate(timeout=60)
    assert process.returncode == -9
    (root,) = client.list("ConfigMap", labels=marks.selector(part=marks.ROOT)).items
    assert not jobs(client)
    run = launch(cell, backend="kubernetes", base_dir=mine.folder).wait(PATIENCE)
    assert (run.uid, run.logs(), run.state) == (root["metadata"]["uid"], "once", State.SUCCEEDED)
    assert len(client.list("Pod").items) == 1


@pytest.mark.fault(20)
def test_two_processes_that_launch_the_same_cell_at_once_drive_one_run(mine, client):
    cell = "name: both\n---\nprint('once')\n"
    processes = [mine.start(LAUNCH, cell, "0") for _ in range(3)]
    uids = [launched(process) for process in processes]
    assert [process.wait(PATIENCE) for process in processes] == [0, 0, 0]
    for process in processes:
        process.stdout.close()
    assert len(set(uids)) == 1
    assert len(client.list("Pod").items) == 1
    run = attach("both")
    assert (run.uid, run.logs()) == (uids[0], "once")


@pytest.mark.fault(20)
def test_another_living_kernel_that_drives_the_run_is_named(mine):
    process = mine.start(LAUNCH, LONG, "600")
    try:
        launched(process)
        run = attach("long")
        assert f"pid {process.pid} on" in (run.driver or "")
        assert any("also driven by" in notice for notice in run.summary().notices)
    finally:
        kill(process)
    until(lambda: run.driver is None)
    run.stop(0)


def test_the_parallelism_of_a_sweep_is_changed_while_it_runs(mine, client):
    run = launch(SLOW, backend="kubernetes")
    until(lambda: run.status().counts().get(State.RUNNING) == 2)
    assert run.parallelism == 2
    run.parallelism = 4
    assert jobs(client)["slow"]["spec"]["parallelism"] == 4
    until(lambda: run.status().tasks[3].state is State.SUCCEEDED)
    assert line("parallelism slow 1") == 1
    until(lambda: len([one for one in client.list("Pod").items if one["status"].get("phase") == "Running"]) == 1)
    with pytest.raises(BackendError, match="parallelism must be 1 or more"):
        run.parallelism = 0
    run.stop(0)


def test_a_paused_sweep_holds_nothing_and_goes_on_where_it_was(mine, client):
    cell = "name: pausing\nparameters: {x: [0, 1, 2]}\nparallelism: 1\n---\nimport time\nx = 0\nprint('begun', flush=True)\ntime.sleep(4)\n"
    run = launch(cell, backend="kubernetes")
    until(lambda: run.status().tasks[0].state is State.SUCCEEDED)
    line("pause pausing")
    until(lambda: not [one for one in client.list("Pod").items if one["status"].get("phase") in ("Running", "Pending")])
    assert not run.is_over
    with pytest.raises(BackendError, match="paused already"):
        run.pause()
    until(lambda: "suspend" in (run.status().reason + str([task.reason for task in run.status().tasks.values()])))
    run.unpause()
    with pytest.raises(BackendError, match="not paused"):
        run.unpause()
    run.wait(PATIENCE)
    assert run.state is State.SUCCEEDED
    assert run.status().tasks[0].attempt == 1
    with pytest.raises(BackendError, match="has ended"):
        run.pause()


def test_a_stopped_sweep_that_is_resumed_finishes_what_is_not_done(mine, client):
    cell = "name: stopping\nparameters: {x: [0, 1, 2]}\nparallelism: 1\n---\nimport time\nx = 0\nprint('begun', flush=True)\ntime.sleep(3)\n"
    run = launch(cell, backend="kubernetes")
    until(lambda: run.status().tasks[0].state is State.SUCCEEDED)
    run.stop(0)
    assert run.state is State.STOPPED
    states = [task.state for task in run.status().tasks.values()]
    assert states[0] is State.SUCCEEDED
    assert states[2] is State.STOPPED
    run.resume()
    assert not run.is_over
    run.wait(PATIENCE)
    assert run.state is State.SUCCEEDED
    assert run.status().tasks[0].attempt == 1
    assert run.logs(0) == "begun"


def test_what_is_no_job_has_nothing_to_pause(mine):
    run = launch("name: bench\nmode: manual\n", backend="kubernetes")
    with pytest.raises(BackendError, match="no Job"):
        run.pause()
    assert run.parallelism == 1
    run.stop(0)


@pytest.mark.fault(40)
@pytest.mark.parametrize("cell", ["mode: manual\n", "serve: command\nrun: python -m http.server {port}\n"])
def test_the_cluster_ends_what_never_ends_by_itself_after_its_max_hours(mine, client, cell):
    process = mine.start(LAUNCH, f"name: held\nmax_hours: 0.006\n{cell}", "600")
    try:
        uid = launched(process)
        run = attach("held")
        until(lambda: run.state is State.READY)
    finally:
        kill(process)
    assert run.uid == uid
    until(lambda: all(one["status"].get("phase") in ("Failed", "Succeeded") for one in client.list("Pod").items))
    until(lambda: run.is_over)
    assert (run.state, run.status().reason) == (State.STOPPED, "max_hours is over (21.6 s)")


def test_a_server_with_max_hours_serves_restarts_and_stops_as_any_other(mine, client):
    run = launch("name: held\nmax_hours: 1\nserve: command\nrun: python -m http.server {port}\n", backend="kubernetes")
    assert run.wait(PATIENCE).request("/").status == 200
    (pod,) = client.list("Pod").items
    client.delete("Pod", pod["metadata"]["name"], grace_seconds=0)
    until(lambda: run.status().tasks[0].attempt == 2 and run.state is State.READY)
    assert run.request("/").status == 200
    assert run.stop(1).state is State.STOPPED
    run.remove(yes=True)
    assert not jobs(client)
