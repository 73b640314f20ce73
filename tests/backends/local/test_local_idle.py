"""Servers and environments in which nothing happens are stopped by their supervisor."""

import os
import time
import urllib.request

import pytest

from jupyter_gpudeploy import launch, runs
from jupyter_gpudeploy.errors import SpecError
from jupyter_gpudeploy.events.types import State

SERVER = {"name": "web", "serve": "command", "run": "python -m http.server {port} --bind {host}", "idle_minutes": 0.1}
BENCH = {"name": "bench", "mode": "manual", "idle_minutes": 0.1}
SMI = "#!/bin/sh\ncase \"$*\" in *utilization*) cat {load} ;; *query-gpu*) echo '0, GPU-a, T4, 4, 15360, Disabled' ;; esac\n"
DEADLINE = 90


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("JUPYTER_GPUDEPLOY_HOME", str(tmp_path / "state"))
    monkeypatch.chdir(tmp_path)
    yield tmp_path / "state"
    for run in runs():
        run.stop(1)


def ended(run):
    deadline = time.monotonic() + DEADLINE
    while not run.is_over:
        assert time.monotonic() < deadline, run.status()
        time.sleep(0.05)
    return run.state, run.status().reason


@pytest.mark.fault(40)
def test_a_server_that_nobody_asks_ends_and_its_cell_starts_it_anew():
    run = launch(SERVER).wait(30)
    assert ended(run) == (State.STOPPED, "idle for 6 s")
    again = launch(SERVER).wait(30)
    assert (again.uid != run.uid, again.state) == (True, State.READY)


def test_requests_keep_a_server_up_and_our_own_health_checks_do_not():
    run = launch(SERVER).wait(30)
    end = time.monotonic() + 14
    while time.monotonic() < end:
        urllib.request.urlopen(run.url).read()
        time.sleep(1)
        assert run.state is State.READY
    assert ended(run) == (State.STOPPED, "idle for 6 s")


def test_a_server_that_loads_is_not_idle():
    slow = "import http.server, sys, time; time.sleep(8)\n"
    slow += (
        "http.server.HTTPServer((sys.argv[1], int(sys.argv[2])), http.server.SimpleHTTPRequestHandler).serve_forever()"
    )
    cell = {**SERVER, "run": ["python", "-c", slow, "{host}", "{port}"]}
    assert launch(cell).wait(30).state is State.READY


@pytest.mark.fault(40)
def test_an_environment_without_commands_ends_and_one_with_them_does_not():
    run = launch(BENCH).wait(30)
    printing = "import time\nfor n in range(24): print(n, flush=True); time.sleep(0.5)"
    assert run.exec(["python", "-c", printing], stream=None) == 0
    assert run.state is State.READY
    assert ended(run) == (State.STOPPED, "idle for 6 s")


def test_a_command_that_computes_in_silence_keeps_an_environment_up():
    run = launch(BENCH).wait(30)
    busy = "import time\nend = time.monotonic() + 12\nwhile time.monotonic() < end: pass"
    assert run.exec(["python", "-c", busy], stream=None) == 0
    assert run.state is State.READY


def test_a_gpu_that_works_keeps_an_environment_up(tmp_path, monkeypatch):
    load = tmp_path / "load"
    load.write_text("80\n")
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "nvidia-smi").write_text(SMI.format(load=load))
    (tmp_path / "bin" / "nvidia-smi").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}{os.pathsep}/usr/bin{os.pathsep}/bin")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    run = launch({**BENCH, "gpus": 1}).wait(30)
    time.sleep(12)
    assert run.state is State.READY
    load.write_text("1\n")
    assert ended(run) == (State.STOPPED, "idle for 6 s")


def test_a_job_has_no_idleness():
    with pytest.raises(SpecError, match="for servers and environments"):
        launch({"name": "j", "run": "true", "idle_minutes": 5})
