"""Ports, with real sockets of real processes."""

import os
import pwd
import socket
import subprocess
import sys
from contextlib import contextmanager

import pytest

from jupyter_gpudeploy.backends.local import ports, procfs
from jupyter_gpudeploy.backends.local.ports import choose_port, listeners, listens, owner_of
from jupyter_gpudeploy.errors import BackendError

CHILD = """
import os, socket, sys
server = socket.socket({family}, socket.SOCK_STREAM)
server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, {reuse_address:d})
if {reuse_port}:
    server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
server.bind(({host!r}, {port}))
if {listen}:
    server.listen(5)
print(server.getsockname()[1], flush=True)
sys.stdin.read()
"""


@contextmanager
def somebody(host="127.0.0.1", port=0, *, listen=True, reuse_port=False, reuse_address=False):
    """Another process that listens (or only binds); yields (its pid, the port)."""
    family = "socket.AF_INET6" if ":" in host else "socket.AF_INET"
    code = CHILD.format(
        family=family, host=host, port=port, listen=listen, reuse_port=reuse_port, reuse_address=reuse_address
    )
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        yield process.pid, int(process.stdout.readline())
        process.stdin.close()


def free_port() -> int:
    """A port with free ones behind it."""
    while True:
        port = choose_port(0)[0]
        if port < 60000 and not any(any(ports._sockets(port + step)) for step in range(4)):
            return port


def name_of(pid: int) -> str:
    return procfs.name(pid)


def test_a_free_port_is_taken_without_a_word():
    port = free_port()
    assert choose_port(port) == (port, "")


def test_zero_leaves_it_to_the_system():
    port, reason = choose_port(0)
    assert port > 0
    assert reason == ""


@pytest.mark.fault(33)
@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0", "::", "::1"])
def test_a_port_that_somebody_listens_on_is_left_and_told_by_whom(host):
    with somebody(host) as (pid, port):
        chosen, reason = choose_port(port)
        assert chosen > port
        assert reason == f"{port} is used by pid {pid} ({name_of(pid)}); using {chosen}"


@pytest.mark.fault(33)
def test_a_port_shared_by_so_reuseport_is_left_too():
    with somebody(reuse_port=True) as (_, port):
        assert choose_port(port)[0] != port


@pytest.mark.fault(33)
@pytest.mark.parametrize("reuse_address", [False, True])
def test_a_port_that_is_bound_and_not_listened_on_yet_is_left(reuse_address):
    with somebody(listen=False, reuse_address=reuse_address) as (_, port):
        chosen, reason = choose_port(port)
        assert chosen != port
        assert reason.startswith(f"{port} is in use by another process; using ")


def test_connections_that_a_forerunner_left_behind_do_not_hinder():
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        with socket.create_connection(("127.0.0.1", port)) as client:
            server.accept()[0].close()
            assert client.recv(1) == b""
    assert [listener for listener, _ in ports._sockets(port)]  # its side closed first: TIME_WAIT for a minute
    assert listeners(port) == []
    assert choose_port(port) == (port, "")


@pytest.mark.fault(33)
def test_a_port_given_away_is_not_given_again():
    port = free_port()
    chosen, reason = choose_port(port, avoid={port, port + 1})
    assert chosen == port + 2
    assert reason == f"{port} is given to another task already; using {chosen}"


def test_the_last_port_has_a_way_out():
    with socket.socket() as server:
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        server.bind(("127.0.0.1", 65535))
        server.listen()
        chosen, reason = choose_port(65535)
    assert 0 < chosen < 65535
    assert reason == f"65535 is used by pid {os.getpid()} ({name_of(os.getpid())}); using {chosen}"


def test_a_host_that_is_not_here_is_an_error():
    with pytest.raises(BackendError, match=r"203\.0\.113\.1"):
        choose_port(free_port(), host="203.0.113.1")
    with pytest.raises(BackendError, match="no address of this machine"):
        choose_port(0, host="no such host")


@pytest.mark.skipif(os.getuid() != 0, reason="only root may become somebody else")
@pytest.mark.fault(33)
def test_a_port_of_another_user_is_told_with_the_name_where_proc_hides_the_process():
    nobody = pwd.getpwnam("nobody").pw_uid
    with somebody() as (_, port):
        chosen_by_nobody = subprocess.run(
            [sys.executable, "-c", f"import os, encodings.idna; from jupyter_gpudeploy.backends.local.ports import choose_port as c\nos.setuid({nobody})\nprint(c({port})[1])"],
            capture_output=True, text=True, check=True,
        )  # fmt: skip
        assert chosen_by_nobody.stdout.startswith(f"{port} is used by another user (root); using ")


@pytest.mark.fault(33)
def test_listens_knows_our_server_from_somebody_elses():
    with somebody() as (pid, port):
        assert listens(port, [pid]) is True
        assert listens(port, [os.getpid(), pid]) is True
        assert listens(port, [os.getpid()]) is False
        assert listens(port, []) is False
        assert owner_of(port) == (pid, name_of(pid))
    assert listens(port, [pid]) is False
    assert owner_of(port) is None


@pytest.mark.fault(33)
def test_listens_looks_at_the_socket_that_a_connection_reaches():
    with somebody("127.0.0.1") as (theirs, port), somebody("127.0.0.2", port) as (ours, _):
        assert listens(port, [ours], "127.0.0.2") is True
        assert listens(port, [ours], "127.0.0.1") is False
        assert owner_of(port, "127.0.0.1") == (theirs, name_of(theirs))
        assert listens(port, [ours]) is False
        assert listens(port, [ours, theirs]) is True


@pytest.mark.fault(33)
def test_a_port_shared_with_somebody_else_is_not_ours():
    with somebody(reuse_port=True) as (ours, port), somebody(port=port, reuse_port=True) as (theirs, _):
        assert listens(port, [ours]) is False
        assert listens(port, [ours, theirs]) is True


@pytest.mark.parametrize("host", ["0.0.0.0", "::"])
def test_listens_finds_a_server_on_all_addresses(host):
    with somebody(host) as (pid, port):
        assert listens(port, [pid], "127.0.0.1") is True
        assert [listener.address for listener in listeners(port)] == [host]


@pytest.mark.skipif(os.getuid() != 0, reason="only root may become somebody else")
def test_what_cannot_be_seen_is_unknown():
    nobody = pwd.getpwnam("nobody").pw_uid
    with somebody() as (pid, port):
        code = f"import os, encodings.idna; from jupyter_gpudeploy.backends.local.ports import listens\nos.setuid({nobody})\nprint(listens({port}, [{pid}]))"
        answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        assert answer.stdout.strip() == "None"


def test_without_proc_nothing_is_known(monkeypatch):
    monkeypatch.setattr(ports.procfs, "has_proc", lambda: False)
    with socket.create_server(("127.0.0.1", 0)) as server:
        assert listens(server.getsockname()[1], [os.getpid()]) is None
