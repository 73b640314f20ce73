"""Commands and ports over a websocket whose frames are written here."""

import json
import socket as sockets
import threading
import time

import pytest
from wire import fails, gives

from jupyter_gpudeploy.backends.kubernetes.api import websocket as module
from jupyter_gpudeploy.backends.kubernetes.api.connect import connect
from jupyter_gpudeploy.backends.kubernetes.api.errors import ApiError, NotFoundError, UnreachableError
from jupyter_gpudeploy.backends.kubernetes.api.transport import Patience

EXEC = "/api/v1/namespaces/default/pods/a/exec"
FORWARD = "/api/v1/namespaces/default/pods/a/portforward"
V4, V5 = "v4.channel.k8s.io", "v5.channel.k8s.io"
SUCCESS = json.dumps({"status": "Success"}).encode()
QUICK = Patience(total=0.5, first=0.02, longest=0.1)


@pytest.fixture(params=["wire", "secure"])
def served(request):
    return request.getfixturevalue(request.param)


@pytest.fixture
def cluster(served, alone, tmp_path, monkeypatch):
    monkeypatch.setenv("KUBECONFIG", str(served.kubeconfig(tmp_path / "kubeconfig")))
    with connect(patience=QUICK) as cluster:
        yield cluster


def ends(code):
    causes = [{"reason": "ExitCode", "message": str(code)}]
    status = {"status": "Failure", "reason": "NonZeroExitCode", "details": {"causes": causes}}
    return json.dumps(status).encode()


def answers(*messages, protocol=V5, closes=True):
    def handler(_, answer):
        socket = answer.upgrade(protocol)
        for channel, data in messages:
            socket.send(channel, data)
        if closes:
            socket.close()

    return handler


class TestExecute:
    def test_the_words_the_container_and_the_protocols_are_asked_for(self, served, cluster):
        served.on("SOCKET", EXEC, answers((1, b"out"), (2, b"err"), (1, b"put"), (3, SUCCESS)))
        result = cluster.execute("a", "main", ["sh", "-c", "echo $A b"])
        assert result == (0, b"output", b"err")
        request = served.requests[0]
        assert [value for name, value in request.pairs if name == "command"] == ["sh", "-c", "echo $A b"]
        assert request.query["container"] == "main"
        assert "stdin" not in request.query
        assert request.headers["Sec-WebSocket-Protocol"] == f"{V5}, {V4}"
        assert request.headers["Authorization"] == "Bearer t0ken"

    def test_the_exit_code_is_what_the_status_says_and_odd_statuses_are_errors(self, served, cluster):
        odd = json.dumps({"status": "Failure", "reason": "InternalError", "message": "no such file", "code": 500})
        empty = json.dumps({"status": "Failure", "details": {"causes": []}, "message": "strange"})
        served.on(
            "SOCKET", EXEC,
            answers((3, ends(137))), answers((3, odd.encode())), answers((3, empty.encode())), answers((3, b"plain text")),
        )  # fmt: skip
        assert cluster.execute("a", "main", ["x"]).exit_code == 137
        for said in ("no such file", "strange", "plain text"):
            with pytest.raises(ApiError, match=said):
                cluster.execute("a", "main", ["x"])

    def test_a_connection_that_ends_without_a_status_is_no_success(self, served, cluster):
        served.on("SOCKET", EXEC, answers((1, b"half")), answers((1, b"half"), closes=False))
        for _ in range(2):
            with pytest.raises(UnreachableError, match=r"ended|broke off"):
                cluster.execute("a", "main", ["x"])

    def test_stdin_is_sent_in_pieces_and_its_end_is_told_on_v5_only(self, served, cluster):
        sent = bytes(range(256)) * 4000
        taken = {V4: [], V5: []}

        def handler(_, answer):
            protocol = V5 if not taken[V5] else V4
            socket = answer.upgrade(protocol)
            size = 0
            while size < len(sent):
                channel, data = socket.receive()
                assert channel == 0
                taken[protocol].append(data)
                size += len(data)
            if protocol == V5:
                assert socket.receive() == (255, b"\x00")
            socket.send(3, SUCCESS)
            socket.close()

        served.on("SOCKET", EXEC, handler)
        for protocol in (V5, V4):
            assert cluster.execute("a", "main", ["x"], stdin=[sent[:10], b"", sent[10:]]).exit_code == 0
            assert b"".join(taken[protocol]) == sent
            assert max(map(len, taken[protocol])) <= module.CHUNK

    def test_a_program_that_prints_while_it_is_fed_blocks_neither_end(self, served, cluster):
        sent = b"x" * (6 * 1024 * 1024)

        def handler(_, answer):  # like cat: reads no more while what it prints is not taken
            socket = answer.upgrade(V5)
            while (message := socket.receive()) and message[0] == 0:
                socket.send(1, message[1])
            socket.send(3, SUCCESS)
            socket.close()

        served.on("SOCKET", EXEC, handler)
        result = cluster.execute("a", "main", ["cat"], stdin=[sent])
        assert (result.exit_code, len(result.stdout)) == (0, len(sent))

    def test_frames_of_every_length_and_in_parts_are_whole_messages(self, served, cluster):
        def handler(_, answer):
            socket = answer.upgrade(V5)
            for size in (0, 1, 124, 125, 126, 65534, 65535, 65536, 200_000):
                socket.send(1, b"y" * size)
            socket.frame(b"\x01in", final=False)
            socket.frame(b"", 9)  # a ping in between
            socket.frame(b" parts", 0)
            socket.send(3, SUCCESS)
            assert socket.receive() is None  # the answer to the ping, and the good-bye

        served.on("SOCKET", EXEC, handler)
        result = cluster.execute("a", "main", ["x"])
        assert result.stdout == b"y" * (1 + 124 + 125 + 126 + 65534 + 65535 + 65536 + 200_000) + b"in parts"

    def test_a_command_that_ends_before_it_has_read_all_is_no_broken_connection(self, served, cluster):
        def handler(_, answer):
            socket = answer.upgrade(V5)
            socket.receive()
            socket.send(3, ends(3))
            socket.close()
            answer._handler.connection.shutdown(sockets.SHUT_WR)
            while socket._read.read(65536):  # an orderly server; what it reads is for nobody
                pass

        served.on("SOCKET", EXEC, handler)
        assert cluster.execute("a", "main", ["head"], stdin=[b"x" * 3_000_000]).exit_code == 3

    def test_output_is_handed_over_as_it_comes_and_stop_leaves_it(self, served, cluster):
        def handler(_, answer):
            socket = answer.upgrade(V5)
            socket.send(1, b"one")
            answer.hold()

        served.on("SOCKET", EXEC, handler)
        stop, taken = threading.Event(), []
        result = cluster.execute(
            "a", "main", ["x"], on_output=lambda *given: (taken.append(given), stop.set()), stop=stop
        )
        assert (result, taken) == ((None, b"", b""), [(1, b"one")])

    def test_a_command_that_takes_too_long_is_left(self, served, cluster):
        served.on("SOCKET", EXEC, lambda _, answer: (answer.upgrade(V5), answer.hold()))
        with pytest.raises(UnreachableError, match=r"not done in 0.2 s"):
            cluster.execute("a", "main", ["x"], timeout=0.2)

    @pytest.mark.fault(6)
    def test_a_half_open_connection_is_noticed_by_unanswered_pings(self, served, cluster, monkeypatch):
        monkeypatch.setattr(module, "PING_SECONDS", 0.1)
        monkeypatch.setattr(module, "SILENT_SECONDS", 0.3)
        served.on("SOCKET", EXEC, lambda _, answer: (answer.upgrade(V5), answer.hold()))
        with pytest.raises(UnreachableError, match="nothing came"):
            cluster.execute("a", "main", ["x"])

    def test_a_connection_that_answers_pings_may_be_quiet(self, served, cluster, monkeypatch):
        monkeypatch.setattr(module, "PING_SECONDS", 0.1)
        monkeypatch.setattr(module, "SILENT_SECONDS", 5)
        pings = []

        def handler(_, answer):
            socket = answer.upgrade(V5)
            deadline = time.monotonic() + 10
            while len(pings) < 3 and time.monotonic() < deadline:
                head = socket._read.read(6)
                pings.append(head[0] & 15)
                socket.frame(b"", 10)
            socket.send(3, SUCCESS)

        served.on("SOCKET", EXEC, handler)
        assert cluster.execute("a", "main", ["x"]).exit_code == 0
        assert pings == [9, 9, 9]

    def test_a_refused_upgrade_has_the_servers_words_and_a_command_is_never_sent_twice(self, served, cluster):
        said = 'container not found ("main")'
        served.on("SOCKET", EXEC, fails(404, said, "NotFound"), fails(500, "error dialing backend"), gives({}))
        with pytest.raises(NotFoundError, match="container not found"):
            cluster.execute("a", "main", ["x"])
        with pytest.raises(ApiError, match="error dialing backend"):
            cluster.execute("a", "main", ["x"])
        with pytest.raises(UnreachableError, match="does not pass websockets on"):
            cluster.execute("a", "main", ["x"])
        assert len(served.requests) == 3


class TestPort:
    def handler(self, work):
        def handle(request, answer):
            socket = answer.upgrade(V4)
            port = int(request.query["ports"]).to_bytes(2, "little")
            socket.send(0, port)
            socket.send(1, port)
            work(socket)
            socket.close()

        return handle

    def test_it_is_a_real_socket_both_ways(self, served, cluster):
        def echo(socket):
            size = 0
            while size < 3_000_000:
                channel, data = socket.receive()
                assert channel == 0
                size += len(data)
                socket.send(0, data)

        served.on("SOCKET", FORWARD, self.handler(echo))
        with cluster.connect_port("a", 8000) as end:
            assert isinstance(end, sockets.socket)
            end.settimeout(20)
            writer = threading.Thread(target=end.sendall, args=(b"z" * 3_000_000,))
            writer.start()
            size = 0
            while data := end.recv(65536):
                size += len(data)
            writer.join(20)
        assert size == 3_000_000
        assert end.failure is None

    def test_the_clusters_error_ends_it_and_is_kept(self, served, cluster):
        served.on("SOCKET", FORWARD, self.handler(lambda socket: socket.send(1, b"connection refused\n")))
        with cluster.connect_port("a", 8000) as end:
            end.settimeout(20)
            assert end.recv(10) == b""
            deadline = time.monotonic() + 10
            while end.failure is None:
                assert time.monotonic() < deadline
            assert end.failure == "connection refused"

    def test_an_answer_is_whole_although_the_asker_writes_no_more(self, served, cluster):
        def slow(socket):
            socket.receive()
            time.sleep(0.2)
            socket.send(0, b"answer")

        served.on("SOCKET", FORWARD, self.handler(slow))
        with cluster.connect_port("a", 8000) as end:
            end.settimeout(20)
            end.sendall(b"question")
            end.shutdown(sockets.SHUT_WR)
            assert end.recv(100) == b"answer"

    def test_closing_the_local_end_closes_the_other(self, served, cluster, monkeypatch):
        from jupyter_gpudeploy.backends.kubernetes.api import channels

        monkeypatch.setattr(channels, "_LINGER_SECONDS", 0.1)
        monkeypatch.setattr(channels, "_POLL_SECONDS", 0.05)
        gone = threading.Event()

        def wait(socket):
            assert socket.receive() is None
            gone.set()

        served.on("SOCKET", FORWARD, self.handler(wait))
        cluster.connect_port("a", 8000).close()
        assert gone.wait(10)

    def test_many_connections_and_requests_do_not_disturb_each_other(self, served, cluster):
        def echo(socket):
            socket.send(0, socket.receive()[1])

        served.on("SOCKET", FORWARD, self.handler(echo))
        served.on("GET", "/api/v1/namespaces/default/pods", gives({"items": [], "metadata": {}}))
        taken = []

        def talk(number):
            with cluster.connect_port("a", 8000) as end:
                end.settimeout(20)
                end.sendall(b"%d" % number)
                taken.append(end.recv(10))
                assert cluster.list("Pod").items == []

        threads = [threading.Thread(target=talk, args=(number,)) for number in range(12)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
        assert sorted(taken) == sorted(b"%d" % number for number in range(12))
