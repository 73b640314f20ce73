"""Servers: ready when ours answers, restarted when it dies, never somebody else's."""

from __future__ import annotations

import os
import signal
import socket
import urllib.request

import pytest
from handmade import until

from jupyter_gpudeploy.backends.local import processes
from jupyter_gpudeploy.errors import BackendError
from jupyter_gpudeploy.events.types import State
from jupyter_gpudeploy.plan.types import Health, Service, Slot, Task, word
from jupyter_gpudeploy.programs._loader import CANNOT_WORK

SERVER = """
import http.server, os, sys, time
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(503 if os.path.exists(sys.argv[3]) else 200)
        self.end_headers()
        self.wfile.write(f"{os.environ['GPUDEPLOY_TASK']} {os.environ['PORT']}".encode())
    def log_message(self, *words):
        pass
http.server.HTTPServer((sys.argv[1], int(sys.argv[2])), Handler).serve_forever()
"""


@pytest.fixture
def port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


@pytest.fixture
def serve(local, tmp_path, port):
    def launch(program=SERVER, replicas=1, startup=20.0, **fields):
        words = (
            word(Slot.PYTHON),
            word("-c"),
            word(program),
            word(Slot.HOST),
            word(Slot.PORT),
            word(str(tmp_path / "ill")),
        )
        tasks = tuple(Task(number, f"replica {number}", words) for number in range(replicas))
        service = Service(port, Health("/", strict=True, startup_seconds=startup))
        return local.launch(tasks=tasks, kind="server", service=service, parallelism=replicas, **fields)

    return launch


def is_ready(status):
    return status.state is State.READY


def get(url):
    with urllib.request.urlopen(url, timeout=10) as answer:
        return answer.read().decode()


def test_a_server_starts_and_is_ready_and_says_where(serve, local, backend, port):
    ref = serve()
    with pytest.raises(BackendError, match="no address"):
        backend.endpoint(ref)
    status = local.wait_for(ref, is_ready)
    assert status.tasks[0].details["port"] == port
    assert backend.endpoint(ref).url == f"http://127.0.0.1:{port}"
    assert get(backend.endpoint(ref).url) == f"0 {port}"
    states = [(event.task, event.state) for event in local.events(ref)]
    assert states == [(None, State.STARTING), (0, State.STARTING), (0, State.READY), (None, State.READY)]
    backend.stop(ref, 1)
    assert local.wait(ref).state is State.STOPPED
    with pytest.raises(BackendError, match="no address"):
        backend.endpoint(ref)


@pytest.mark.fault(33)
def test_a_port_that_is_taken_is_told_and_another_used(serve, local, backend, port):
    with socket.create_server(("127.0.0.1", port)):
        ref = serve()
        local.wait_for(ref, is_ready)
        other = int(backend.endpoint(ref).url.rpartition(":")[2])
        assert other != port
        assert get(backend.endpoint(ref).url) == f"0 {other}"
        (notice,) = local.notices(ref)
        assert notice.startswith(f"{port} is used by pid {os.getpid()}")
        assert notice.endswith(f"using {other}")


@pytest.mark.fault(33)
def test_somebody_elses_healthy_server_is_not_taken_for_ours(serve, local, port):
    """The server never listens on the port that it was given; a stranger does, and answers well."""
    stranger = f"import http.server; http.server.HTTPServer(('127.0.0.1', {port}), http.server.SimpleHTTPRequestHandler).serve_forever()"
    taken = f"import subprocess, sys, time; time.sleep(0); subprocess.Popen(['env', '-u', 'GPUDEPLOY_RUN', sys.executable, '-c', {stranger!r}]); time.sleep(600)"
    helper = local.launch(taken, name="stranger")
    ref = serve("import time; time.sleep(600)", startup=3.0)
    until(lambda: _listens(port))
    status = local.wait(ref)
    assert status.state is State.FAILED
    assert "not ready after 3 s" in status.reason
    assert not [event for event in local.events(ref) if getattr(event, "state", None) is State.READY]
    local.backend.stop(helper, 0)
    local.wait(helper)


def _listens(port):
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def test_a_server_that_dies_is_started_again(serve, local, backend):
    ref = serve(retries=2)
    status = local.wait_for(ref, is_ready)
    os.kill(status.tasks[0].details["pid"], signal.SIGKILL)
    status = local.wait_for(
        ref, lambda status: is_ready(status) and status.tasks[0].attempt == 2 and status.tasks[0].state is State.READY
    )
    assert get(backend.endpoint(ref).url).startswith("0 ")
    reasons = [event.reason for event in local.events(ref) if getattr(event, "state", None) is State.WAITING]
    assert reasons == ["killed by SIGKILL; attempt 2 in 1 s"]


def test_a_server_that_can_never_start_is_tried_once(serve, local, tmp_path):
    program = tuple(
        map(word, (Slot.PYTHON, "-m", "jupyter_gpudeploy.programs.flask_app", str(tmp_path / "a.py"), "app"))
    )
    (tmp_path / "a.py").write_text("import no_such_module_anywhere\n")
    task = Task(0, "replica 0", (*program, word(Slot.HOST), word(Slot.PORT)))
    status = local.wait(local.launch(tasks=(task,), kind="server", service=Service(0, Health("/")), retries=5))
    assert (status.state, status.tasks[0].attempt, status.tasks[0].exit_code) == (State.FAILED, 1, CANNOT_WORK)
    assert status.reason == "it cannot start as it is: see the end of its log"


def test_the_exit_code_of_a_program_of_ones_own_means_nothing(serve, local):
    ref = serve(f"raise SystemExit({CANNOT_WORK})", retries=1)
    status = local.wait(ref)
    assert (status.tasks[0].attempt, status.reason) == (2, f"exit code {CANNOT_WORK}")


def test_a_server_that_ends_by_itself_has_failed(serve, local):
    status = local.wait(serve("print('bye')"))
    assert (status.state, status.reason) == (State.FAILED, "the server ended by itself (exit code 0)")


def test_a_server_that_is_ill_is_running_and_not_ready(serve, local, tmp_path):
    ref = serve()
    local.wait_for(ref, is_ready)
    (tmp_path / "ill").touch()
    status = local.wait_for(ref, lambda status: status.state is State.RUNNING)
    assert "503" in status.tasks[0].reason
    (tmp_path / "ill").unlink()
    local.wait_for(ref, is_ready)


def test_replicas_have_a_port_each_and_the_server_is_ready_when_all_are(serve, local, backend):
    ref = serve(replicas=2)
    local.wait_for(ref, is_ready)
    urls = [backend.endpoint(ref, number).url for number in (0, 1)]
    assert [get(url) for url in urls] == [f"{number} {url.rpartition(':')[2]}" for number, url in enumerate(urls)]
    assert len(set(urls)) == 2


def test_a_server_whose_time_is_over_is_stopped(serve, local):
    status = local.wait(serve(max_seconds=1.0))
    assert (status.state, status.reason) == (State.STOPPED, "max_hours is over (1.0 s)")
    assert not processes.tree(local.backend.find()[0].uid)


def test_a_manual_run_runs_commands_of_several_kernels(local, backend, tmp_path):
    ref = local.launch(kind="manual", working_dir=str(tmp_path), files={"x.py": "print('from x')"})
    local.wait_for(ref, is_ready)
    code = str(backend.folder(ref).code / "x.py")
    numbers = [backend.execute(ref, ["python", code]) for _ in range(2)]
    numbers.append(backend.execute(ref, ["pwd"]))
    assert numbers == [1000, 1001, 1002]
    assert [local.lines(ref, number, follow=True) for number in numbers] == [["from x"], ["from x"], [str(tmp_path)]]
    processes.send(local.supervisor(ref), signal.SIGKILL)
    until(lambda: backend.lost(ref))
    with pytest.raises(BackendError, match="lost"):
        backend.execute(ref, ["true"])
    backend.resume(ref)
    local.wait_for(ref, is_ready)
    assert backend.execute(ref, ["sleep", "600"]) == 1003
    local.wait_for(ref, lambda status: 1003 in status.tasks)
    assert {task.attempt for task in local.status(ref).tasks.values()} == {1}
    backend.stop(ref, 1)
    status = local.wait(ref)
    assert (status.state, status.tasks[1003].state) == (State.STOPPED, State.STOPPED)


def test_a_manual_run_ends_at_its_limit(local):
    ref = local.launch(kind="manual", max_seconds=0.5)
    status = local.wait(ref)
    assert (status.state, status.reason) == (State.STOPPED, "max_hours is over (0.5 s)")


def test_only_a_manual_run_takes_commands(local, backend):
    ref = local.launch("import time; time.sleep(600)")
    with pytest.raises(BackendError, match="no environment"):
        backend.execute(ref, ["true"])
