"""Servers and environments in which nothing happens free what they hold, whether a kernel is there or not."""

import time
import urllib.request

import pytest

from jupyter_gpudeploy import attach, launch
from jupyter_gpudeploy.events.types import State

from .people import PATIENCE, kill, until
from .test_lifetime import LAUNCH, launched

SERVER = "name: srv\nserve: command\nrun: python -m http.server {port}\nhealth: /\nidle_minutes: 0.35\n"
BENCH = "name: bench\nmode: manual\nidle_minutes: 0.25\n"


def alive(client):
    return [one for one in client.list("Pod").items if one["status"].get("phase") not in ("Succeeded", "Failed")]


def ends(client):
    (job,) = client.list("Job").items
    return [one["type"] for one in job["status"].get("conditions") or () if one["status"] == "True"]


@pytest.mark.fault(40)
@pytest.mark.timeout(300)
def test_an_idle_environment_ends_without_a_kernel_and_its_cell_starts_it_anew(mine, client):
    process = mine.start(LAUNCH, BENCH, "600")
    try:
        uid = launched(process)
        until(lambda: alive(client))
    finally:
        kill(process)
    until(lambda: not alive(client))
    until(lambda: "Complete" in ends(client))
    run = attach("bench")
    until(lambda: run.is_over)
    assert (run.uid, run.state, run.status().reason) == (uid, State.STOPPED, "idle for 15 s")
    time.sleep(2)
    assert not alive(client), "nothing starts it again"
    again = launch(BENCH, base_dir=mine.folder, backend="kubernetes").wait(PATIENCE)
    assert (again.uid != uid, again.state) == (True, State.READY)
    again.stop(0)


@pytest.mark.timeout(300)
def test_commands_in_an_environment_keep_it_up(mine, client):
    run = launch(BENCH, backend="kubernetes").wait(PATIENCE)
    printing = "import time\nfor n in range(25): print(n, flush=True); time.sleep(1)"
    assert run.exec(["python", "-c", printing], stream=None) == 0
    assert run.state is State.READY
    until(lambda: run.is_over)
    assert run.status().reason == "idle for 15 s"
    assert [task.state for task in run.status().tasks.values()] == [State.SUCCEEDED]


@pytest.mark.timeout(300)
def test_a_gpu_that_is_used_keeps_an_environment_up(mine, client):
    """The GPU of the test image is never below 40 %."""
    run = launch(BENCH.replace("bench", "busy") + "gpus: 1\n", backend="kubernetes").wait(PATIENCE)
    time.sleep(30)
    assert run.state is State.READY
    run.stop(0)


@pytest.mark.timeout(300)
def test_requests_keep_a_server_up_and_health_checks_do_not(mine, client):
    run = launch(SERVER, backend="kubernetes").wait(PATIENCE)
    url = run.url
    for _ in range(40):
        urllib.request.urlopen(url).close()
        time.sleep(1)
    assert run.state is State.READY
    assert run.status().tasks[0].attempt == 1
    until(lambda: run.is_over)
    assert (run.state, run.status().reason) == (State.STOPPED, "idle for 21 s")
    assert run.status().tasks[0].state is State.STOPPED
    assert not alive(client)


@pytest.mark.timeout(300)
def test_a_server_that_crashes_is_started_again_though_it_may_be_idle(mine, client):
    code = "import sys, threading, os, http.server\nthreading.Timer(2, os._exit, [3]).start()\n"
    code += "http.server.ThreadingHTTPServer(('', int(sys.argv[1])), http.server.SimpleHTTPRequestHandler).serve_forever()\n"
    (mine.folder / "crash.py").write_text(code)
    cell = "name: c\nserve: command\nrun: python crash.py {port}\nidle_minutes: 1\n"
    run = launch(cell, base_dir=mine.folder, backend="kubernetes")
    until(lambda: run.status().tasks and run.status().tasks[0].attempt >= 2)
    assert not run.is_over
    run.stop(0)
    assert (run.state, run.status().reason) == (State.STOPPED, "")
