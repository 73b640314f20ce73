"""Health probes against real servers in this process and in others."""

import http.server
import os
import socket
import subprocess
import sys
import threading
import time
from contextlib import contextmanager

import pytest

from jupyter_gpudeploy.backends.local.probes import Prober, Verdict


class Server(http.server.ThreadingHTTPServer):
    """Answers what it is told to; `requests` keeps what it was asked."""

    def __init__(self, status=200, delay=0.0, port=0):
        super().__init__(("127.0.0.1", port), Handler)
        self.status, self.delay, self.requests, self.script = status, delay, [], []
        self.port = self.server_address[1]
        self.errors = []

    def handle_error(self, *_):
        self.errors.append(sys.exc_info()[1])


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.server.requests.append((self.path, self.headers["User-Agent"]))
        time.sleep(self.server.delay)
        self.send_response(self.server.script.pop(0) if self.server.script else self.server.status)
        self.end_headers()
        self.wfile.write(b"x" * 100_000)

    def log_message(self, *arguments):
        pass


@contextmanager
def serving(**how):
    with Server(**how) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


@contextmanager
def probing(port, path="/health", *, strict=True, owner=lambda: [os.getpid()]):
    prober = Prober({"path": path, "strict": strict, "startup_seconds": 60}, "127.0.0.1", port, owner)
    try:
        yield prober
    finally:
        prober.close()


def until(prober, fits, seconds=15.0) -> Verdict:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        verdict = prober.poll()
        if verdict is not None and fits(verdict):
            return verdict
        time.sleep(0.01)
    raise AssertionError(f"last verdict: {prober.poll()}")


def first(prober) -> Verdict:
    return until(prober, lambda _: True)


def unused_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


def test_a_server_that_answers_is_ready():
    with serving() as server, probing(server.port) as prober:
        assert first(prober) == Verdict(ready=True, reason="GET /health answered 200")
        assert server.requests[0] == ("/health", "jupyter_gpudeploy")
    assert server.errors == []


def test_nothing_there_yet_is_told_and_then_seen():
    port = unused_port()
    with probing(port) as prober:
        assert first(prober) == Verdict(ready=False, reason=f"nothing listens on port {port} yet")
        with serving(port=port):
            assert until(prober, lambda verdict: verdict.ready)


@pytest.mark.parametrize(
    ("status", "strict", "ready"),
    [(200, True, True), (302, True, True), (404, True, False), (404, False, True), (401, False, True), (503, False, False), (500, True, False)],
)  # fmt: skip
def test_which_answers_are_well(status, strict, ready):
    with serving(status=status) as server, probing(server.port, strict=strict) as prober:
        assert first(prober) == Verdict(ready=ready, reason=f"GET /health answered {status}")


def test_without_a_path_a_listening_socket_is_enough():
    with socket.create_server(("127.0.0.1", 0)) as server, probing(server.getsockname()[1], path=None) as prober:
        assert first(prober) == Verdict(ready=True, reason=f"port {server.getsockname()[1]} is open")


ELSEWHERE = """
import http.server, sys
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        print("asked", flush=True)
        self.send_response(200)
        self.end_headers()
server = http.server.HTTPServer(("127.0.0.1", 0), Handler)
print(server.server_address[1], flush=True)
server.serve_forever()
"""


@pytest.mark.fault(33)
def test_the_health_of_somebody_elses_server_is_never_taken_for_ours():
    with subprocess.Popen(
        [sys.executable, "-c", ELSEWHERE], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as other:
        port = int(other.stdout.readline())
        try:
            with probing(port) as prober:
                verdict = first(prober)
                assert not verdict.ready
                assert verdict.reason.startswith(f"port {port} is answered by pid {other.pid} (")
                assert verdict.reason.endswith("), which is not ours")
            with probing(port, path=None) as prober:
                assert not first(prober).ready
        finally:
            other.kill()
        assert other.stdout.read() == b""  # it was not even asked


@pytest.mark.fault(33)
def test_a_server_on_another_address_is_told():
    with socket.create_server(("127.0.0.2", 0)) as server, probing(server.getsockname()[1]) as prober:
        verdict = first(prober)
    assert not verdict.ready
    assert "is open on 127.0.0.2" in verdict.reason


def test_a_server_that_hangs_is_told_and_closing_does_not_wait_for_it():
    with socket.create_server(("127.0.0.1", 0)) as server:
        with probing(server.getsockname()[1]) as prober:
            assert first(prober) == Verdict(ready=False, reason="no answer within 2 s")
            started = time.monotonic()
            prober.close()
            assert time.monotonic() - started < 1
        assert not prober._thread.is_alive()


def test_a_server_that_drips_does_not_stretch_the_time_out():
    with socket.create_server(("127.0.0.1", 0)) as server:
        stop = threading.Event()

        def drip():
            connection, _ = server.accept()
            with connection:
                while not stop.wait(0.1):
                    try:
                        connection.send(b"H")
                    except OSError:
                        return

        thread = threading.Thread(target=drip)
        thread.start()
        with probing(server.getsockname()[1]) as prober:
            assert first(prober).reason == "no answer within 2 s"
        stop.set()
        thread.join()


@pytest.mark.parametrize(
    ("answer", "reason"), [(b"SSH-2.0-x\r\n", "answered, but not in HTTP"), (b"", "broke the connection")]
)
def test_what_is_no_http_is_told(answer, reason):
    with socket.create_server(("127.0.0.1", 0)) as server:

        def greet():
            connection, _ = server.accept()
            with connection:
                connection.recv(1000)
                connection.sendall(answer)

        thread = threading.Thread(target=greet)
        thread.start()
        with probing(server.getsockname()[1]) as prober:
            assert reason in first(prober).reason
        thread.join()


def test_one_failed_probe_of_a_ready_server_changes_nothing_and_three_do():
    with serving() as server, probing(server.port) as prober:
        assert first(prober).ready
        server.status = 503
        asked = len(server.requests)
        verdict = until(prober, lambda verdict: not verdict.ready)
        assert verdict.reason == "GET /health answered 503"
        assert len(server.requests) >= asked + 3
        server.status = 200
        assert until(prober, lambda verdict: verdict.ready)


def test_two_failed_probes_are_forgotten():
    with serving() as server, probing(server.port) as prober:
        assert first(prober).ready
        server.script = [503, 503, 200, 503, 503]
        while server.script:
            assert prober.poll().ready
            time.sleep(0.01)
        assert len(server.requests) >= 5


def test_a_probe_that_cannot_be_made_is_a_reason_and_not_the_end():
    calls = []

    def owner():
        calls.append(1)
        if len(calls) == 1:
            raise RuntimeError("no pids")
        return [os.getpid()]

    with serving() as server, probing(server.port, owner=owner) as prober:
        assert first(prober) == Verdict(ready=False, reason="the probe failed: RuntimeError: no pids")
        assert until(prober, lambda verdict: verdict.ready)


def test_a_path_cannot_smuggle_a_header():
    with serving() as server, probing(server.port, path="/a b\r\nX: y?q=1") as prober:
        assert first(prober).ready
        assert server.requests[0][0] == "/a%20b%0D%0AX:%20y?q=1"
