"""What counts as use, on real processes and sockets."""

import os
import socket
import subprocess
import sys
import time

import pytest

from jupyter_gpudeploy.programs import _idle
from jupyter_gpudeploy.programs._idle import Idle


def pace(idle, pids, seconds):
    """Look as its users do; return when it was idle, or None."""
    begun = time.monotonic()
    while time.monotonic() - begun < seconds:
        if reason := idle.look(pids):
            return reason
        time.sleep(0.05)
    return None


@pytest.fixture
def process():
    started = []

    def start(code):
        started.append(subprocess.Popen([sys.executable, "-c", code]))
        return started[-1].pid

    yield start
    for one in started:
        one.kill()
        one.wait()


@pytest.fixture
def server():
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield listening


def test_what_sleeps_is_idle_and_what_computes_is_not(process):
    assert pace(Idle(2), [process("import time; time.sleep(60)")], 10) == "idle for 2 s"
    assert pace(Idle(2), [process("while True: pass")], 5) is None


def test_what_is_said_to_happen_counts(process):
    idle = Idle(1.5)
    for _ in range(6):
        assert pace(idle, [], 0.5) is None
        idle.happened()
    assert pace(idle, [], 10) == "idle for 1.5 s"


def test_a_client_that_came_and_went_is_seen_and_a_health_check_is_not(server):
    port = server.getsockname()[1]
    idle = Idle(4, [port])
    for number in range(8):
        own = number % 2 == 0
        source = (_idle.OWN_ADDRESS, 0) if own else None
        with socket.create_connection(("127.0.0.1", port), source_address=source):
            server.accept()[0].close()
        assert pace(idle, [], 0.5) is None
    for _ in range(200):
        with socket.create_connection(("127.0.0.1", port), source_address=(_idle.OWN_ADDRESS, 0)):
            server.accept()[0].close()
        if pace(idle, [], 0.1):
            return
    pytest.fail("health checks kept it up")


def test_who_stays_connected_uses_it(server):
    port = server.getsockname()[1]
    idle = Idle(1, [port])
    with socket.create_connection(("127.0.0.1", port)):
        held = server.accept()[0]
        assert pace(idle, [], 4) is None
    held.close()


def test_where_connections_are_only_counted_a_few_more_than_the_health_checks_are_use(server):
    port = server.getsockname()[1]
    first = _idle.accepted()
    idle = Idle(3, [port], sees_clients=False, probes_per_second=1000.0)
    assert pace(idle, [], 10) == "idle for 3 s"
    for _ in range(5):
        with socket.create_connection(("127.0.0.1", port)):
            server.accept()[0].close()
    assert _idle.accepted() - first >= 5
    idle = Idle(2, [port], sees_clients=False)
    begun = time.monotonic()
    while time.monotonic() - begun < 5:
        with socket.create_connection(("127.0.0.1", port)):
            server.accept()[0].close()
        assert not idle.look([])
        time.sleep(0.1)


def test_a_server_that_does_not_listen_yet_is_loading():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    assert pace(Idle(1, [port]), [], 3) is None


@pytest.mark.parametrize(
    ("said", "is_idle"), [("0\n0\n", True), ("0\n55\n", False), ("[N/A]\n", True), ("", True), ("2.9\n", True)]
)
def test_the_load_of_the_gpus_counts_where_it_is_known(tmp_path, monkeypatch, said, is_idle):
    (tmp_path / "nvidia-smi").write_text(f"#!/bin/sh\nprintf '{said}'\n")
    (tmp_path / "nvidia-smi").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}/usr/bin{os.pathsep}/bin")
    idle = Idle(2, gpus=())
    assert (pace(idle, [], 6) == "idle for 2 s") is is_idle
    idle.close()


def test_a_tool_that_hangs_or_is_missing_blocks_nothing(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert pace(Idle(1, gpus=()), [], 6) == "idle for 1 s"
    (tmp_path / "nvidia-smi").write_text("#!/bin/sh\nexec /bin/sleep 600\n")
    (tmp_path / "nvidia-smi").chmod(0o755)
    idle = Idle(1, gpus=("0",))
    begun = time.monotonic()
    assert pace(idle, [], 6) == "idle for 1 s"
    assert time.monotonic() - begun < 5
    idle.close()
