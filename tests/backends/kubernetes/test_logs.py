"""Logs over a wire that breaks in every way: each line once, in order, to the last byte."""

import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from nodes import BEGIN, BREAKS, PODS, SECOND, UID, ContainerLog, until
from wire import END, HOLD, Tunnel, Wire, fails, gives

from jupyter_gpudeploy.backends.kubernetes.api.connect import connect
from jupyter_gpudeploy.backends.kubernetes.api.transport import Patience
from jupyter_gpudeploy.backends.kubernetes.mirror.attempts import LogOrder
from jupyter_gpudeploy.backends.kubernetes.mirror.copies import LogCopy
from jupyter_gpudeploy.backends.kubernetes.mirror.pool import LogPool
from jupyter_gpudeploy.backends.kubernetes.mirror.positions import Positions
from jupyter_gpudeploy.events.store import RunFolder
from jupyter_gpudeploy.events.times import read_times
from jupyter_gpudeploy.events.types import State
from jupyter_gpudeploy.events.wire import encode

LOG = f"{PODS}/a/log"


def order(task=0, attempt=1, ended=False, **fields):
    return LogOrder(
        task=task, attempt=attempt, pod="a", pod_uid=fields.pop("pod_uid", "u"), container="main", container_id="c", restart=0,
        previous=fields.pop("previous", False), ended=ended, gone=fields.pop("gone", False), shared=fields.pop("shared", False),
    )._replace(**fields)  # fmt: skip


class Listener:
    def __init__(self):
        self.complete = {}
        self.notes = []
        self.events = []

    def drained(self, task, attempt, end):
        self.complete[task, attempt] = end

    def told(self, events):
        self.events += events

    def note(self, message, task, level="warning"):
        self.notes.append((task, message))


class Copied:
    """A folder into which logs are copied from a wire."""

    def __init__(self, cluster, path, **options):
        self.folder = RunFolder(path)
        self.folder.path.mkdir(exist_ok=True)
        self.listener = Listener()
        self.pool = LogPool(cluster, **options)

    def order(self, *orders):
        for one in orders:
            self.pool.order(UID, one, self.listener, self.make)

    def make(self, one):
        return LogCopy(self.folder, one.task, one.attempt, UID, executes=True)

    def text(self, task=0, attempt=1):
        file = self.folder.log_file(task, attempt)
        return file.read_bytes() if file.exists() else b""

    def ends(self, *keys, seconds=30):
        until(
            lambda: set(keys or [(0, 1)]) <= set(self.listener.complete),
            seconds,
            f"{self.listener.complete} {self.listener.notes}",
        )
        return self.text()


@pytest.fixture
def make_cluster(alone, tmp_path, monkeypatch):
    opened = []

    def make(wire, **entries):
        monkeypatch.setenv("KUBECONFIG", str(wire.kubeconfig(tmp_path / "kubeconfig", **entries)))
        opened.append(connect(patience=Patience(total=0)))
        return opened[-1]

    yield make
    for cluster in opened:
        cluster.close()


@pytest.fixture
def copied(wire, make_cluster, tmp_path):
    made = Copied(make_cluster(wire), tmp_path / "run")
    yield made
    made.pool.remove(UID)


def numbered(count, first=1):
    return [b"n=%d" % number for number in range(first, first + count)]


def test_a_log_is_copied_byte_for_byte_to_its_last_line_without_a_newline(wire, copied):
    log = ContainerLog()
    log._has_no_last_newline = True
    log.add(b"step 1\rstep 2\rstep 3", b"caf\xc3\xa9 \xff\x00", b"", b"crlf\r", b"acc=0.93")
    log.end()
    wire.on("GET", LOG, log)
    copied.order(order(ended=True))
    assert copied.ends() == b"step 1\rstep 2\rstep 3\ncaf\xc3\xa9 \xff\x00\n\ncrlf\r\nacc=0.93"
    assert wire.requests[0].query == {"container": "main", "timestamps": "true"}


@pytest.mark.fault(16)
def test_a_clean_end_of_the_stream_is_not_the_end_of_the_log(wire, copied):
    log = ContainerLog(faults=(END, END), chunk=200)
    wire.on("GET", LOG, log)
    copied.order(order())
    for first in range(1, 2000, 100):
        log.add(*numbered(100, first))
        time.sleep(0.02)
    until(lambda: copied.text().count(b"\n") == 2000)
    assert not copied.listener.complete
    log.end()
    copied.order(order(ended=True))
    assert copied.ends().split() == numbered(2000)
    assert log.streams > 3


@pytest.mark.fault(6)
@pytest.mark.fault(11)
@pytest.mark.fault(17)
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_a_stream_that_breaks_anywhere_and_repeats_what_it_sent_gives_each_line_once(wire, copied, seed):
    log = ContainerLog(faults=BREAKS, seed=seed, resend_seconds=3)
    rnd = random.Random(seed)
    wanted = []
    for number in range(8000):
        line = b"step done" if rnd.random() < 0.5 else b"n=%d" % number
        same = bool(log.lines) and rnd.random() < 0.2
        log.add(line, time=log.lines[-1][0] if same else None)
        wanted.append(line)
    wire.on("GET", LOG, log)
    copied.order(order())
    until(lambda: copied.text().count(b"\n") > 6000, 60)
    log.end()
    copied.order(order(ended=True))
    assert copied.ends(seconds=60).split(b"\n")[:-1] == wanted
    assert log.streams > 5
    assert not copied.listener.notes


@pytest.mark.fault(7)
@pytest.mark.fault(18)
def test_lines_that_were_rotated_away_are_told_in_the_log_and_as_a_notice(wire, copied):
    log = ContainerLog()
    log.add(*numbered(5))
    wire.on("GET", LOG, log)
    copied.order(order())
    until(lambda: copied.text().count(b"\n") == 5)
    copied.pool.remove(UID)
    log.rotate()
    log.add(b"later", time=BEGIN + 60 * SECOND)
    copied.order(order())
    until(lambda: copied.listener.notes)
    (notice,) = copied.listener.notes
    assert "are no longer on the node" in notice[1]
    before, told, after = copied.text().split(b"\n")[4:7]
    assert (before, after) == (b"n=5", b"later")
    assert told == f"[jupyter_gpudeploy: {notice[1]}]".encode()


def test_a_stream_that_falls_silent_is_opened_again(wire, copied, monkeypatch):
    original = type(copied.pool._cluster).open_log
    monkeypatch.setattr(
        type(copied.pool._cluster), "open_log", lambda *a, **k: original(*a, **{**k, "read_seconds": 0.5})
    )
    log = ContainerLog(faults=(HOLD, HOLD), chunk=100)
    log.add(*numbered(2000))
    wire.on("GET", LOG, log)
    copied.order(order())
    until(lambda: copied.text().split() == numbered(2000), 60)


def test_the_end_of_a_container_is_noticed_also_when_its_stream_hangs(wire, copied):
    log = ContainerLog(faults=(HOLD, HOLD), chunk=100)
    log.add(*numbered(3000))
    wire.on("GET", LOG, log)
    copied.order(order())
    until(lambda: b"n=10\n" in copied.text())
    log.faults = (END,)
    log.end()
    copied.order(order(ended=True))
    assert copied.ends(seconds=15).split() == numbered(3000)


@pytest.mark.fault(8)
def test_a_log_is_read_on_when_the_api_server_comes_back(wire, copied):
    log = ContainerLog()
    log.add(*numbered(10))
    wire.on("GET", LOG, log)
    copied.order(order())
    until(lambda: copied.text().count(b"\n") == 10)
    wire.on("GET", LOG, fails(503), fails(500), fails(429, Retry_After=1), fails(404), log)
    wire.drop_all()
    log.add(*numbered(10, 11))
    log.end()
    until(lambda: len(wire.seen("GET", LOG)) > 4)
    copied.order(order(ended=True))
    assert copied.ends().split() == numbered(20)


def test_a_pod_that_is_gone_ends_its_log_and_that_is_said(wire, copied):
    wire.on("GET", LOG, fails(404, "pods a not found"))
    copied.order(order(ended=True))
    copied.ends()
    assert "could not be read" in copied.listener.notes[0][1]
    copied.order(order(1, gone=True, ended=True))
    copied.ends((1, 1))
    assert len(wire.seen("GET", LOG)) == 1


def test_a_log_that_is_refused_is_given_up_after_some_tries(wire, copied):
    wire.on(
        "GET", LOG, fails(500, 'Get "https://10.0.0.1:10250/containerLogs/...": dial tcp: connect: connection refused')
    )
    copied.order(order(ended=True))
    copied.ends(seconds=40)
    assert "connection refused" in copied.listener.notes[0][1]


@pytest.mark.fault(29)
@pytest.mark.fault(30)
def test_the_log_of_the_container_before_is_asked_for_as_such_and_comes_first(wire, copied):
    first, second = ContainerLog(), ContainerLog()
    first.add(*numbered(3))
    second.add(*numbered(3, 4))
    first.end()
    second.end()
    wire.on("GET", LOG, lambda request, answer: (first if request.query.get("previous") else second)(request, answer))
    status = {"containerStatuses": [{"name": "main", "restartCount": 1, "state": {"running": {}}}]}
    pod = {"metadata": {"uid": "u", "name": "a"}, "spec": {"containers": [{"name": "main"}]}, "status": status}
    wire.on("GET", f"{PODS}/a", gives(pod))
    copied.order(order(ended=True, shared=True, previous=True), order(attempt=2, shared=True, restart=1, ended=True))
    copied.ends((0, 1), (0, 2))
    assert copied.text(attempt=1).split() == numbered(3)
    assert copied.text(attempt=2).split() == numbered(3, 4)


def test_a_log_of_another_start_of_the_container_is_not_taken_for_this_one(wire, copied):
    log = ContainerLog()
    log.add(*numbered(3))
    wire.on("GET", LOG, log)
    status = {"containerStatuses": [{"name": "main", "restartCount": 1, "state": {"running": {}}}]}
    pod = {"metadata": {"uid": "u", "name": "a"}, "spec": {"containers": [{"name": "main"}]}, "status": status}
    wire.on("GET", f"{PODS}/a", gives(pod))
    copied.order(order(shared=True))
    wire.await_seen("GET", f"{PODS}/a", 2)
    assert copied.text() == b""


def test_records_are_taken_out_of_the_log_and_kept(wire, copied):
    log = ContainerLog()
    rows = {"rows": [{"time": 5.0, "attempt": 1, "step": 1, "metrics": {"loss": 0.5}}]}
    (marked,) = encode(UID, "metrics", rows)
    (foreign,) = encode("other", "metrics", rows)
    (ended,) = encode(UID, "ended", {"attempt": 1, "time": 6.0, "exit_code": 3, "reason": "exit code 3"})
    (begun,) = encode(UID, "exec", {"exec": 1000, "argv": ["x"], "time": 4.0})
    log.add(b"begin", b"half " + marked[:-1], b"a line", foreign[:-1], begun[:-1], ended[:-1])
    log.end()
    wire.on("GET", LOG, log)
    copied.order(order(ended=True))
    assert copied.ends() == b"begin\nhalf a line\n" + foreign
    assert copied.folder.metrics_file(0).read_text() == '{"time":5.0,"attempt":1,"step":1,"metrics":{"loss":0.5}}\n'
    assert copied.listener.complete[0, 1]["reason"] == "exit code 3"
    assert [(event.task, event.state) for event in copied.listener.events] == [(1000, State.RUNNING)]
    assert len(wire.seen("GET", LOG)) == 1, "the pod's last word makes another look needless"


def readers():
    return {thread for thread in threading.enumerate() if thread.name in ("follow logs", "read logs")}


def test_forty_logs_need_few_streams_and_lose_nothing(wire, make_cluster, tmp_path):
    before = readers()
    copied = Copied(make_cluster(wire), tmp_path / "run", followed=4, rate=200)
    logs = [ContainerLog(seed=n) for n in range(40)]
    most = [0]
    living = set()

    def serve(number):
        def handler(request, answer):
            if request.query.get("follow"):
                living.add(number)
                most[0] = max(most[0], len(living))
            logs[number](request, answer)
            living.discard(number)

        return handler

    for number in range(40):
        wire.on("GET", f"{PODS}/p{number}/log", serve(number))
        copied.order(order(number, pod=f"p{number}"))
    for first in range(1, 200, 50):
        for log in logs:
            log.add(*numbered(50, first))
        time.sleep(0.3)
    until(lambda: all(copied.text(n).count(b"\n") == 200 for n in range(40)), 60)
    assert most[0] <= 4
    for number, log in enumerate(logs):
        log.end()
        copied.order(order(number, pod=f"p{number}", ended=True))
    copied.ends(*((n, 1) for n in range(40)))
    assert all(copied.text(n).split() == numbered(200) for n in range(40))
    assert not copied.listener.notes
    assert len(readers() - before) <= 6


def test_requests_for_logs_are_limited(wire, make_cluster, tmp_path):
    copied = Copied(make_cluster(wire), tmp_path / "run", rate=10)
    log = ContainerLog()
    log.end()
    wire.on("GET", f"{PODS}/*/log", log)
    copied.order(*(order(n, pod=f"p{n}", ended=True) for n in range(15)))
    copied.ends(*((n, 1) for n in range(15)))
    times = [request.at for request in wire.seen("GET")]
    assert all(len([t for t in times if start <= t < start + 1]) <= 22 for start in times)
    assert len(times) == 30


def test_what_is_closed_writes_nothing_any_more(wire, copied):
    log = ContainerLog()
    log.add(*numbered(10))
    wire.on("GET", LOG, log)
    copied.order(order())
    until(lambda: copied.text().count(b"\n") == 10)
    copied.pool.remove(UID)
    log.add(*numbered(10, 11))
    time.sleep(0.3)
    assert copied.text().split() == numbered(10)
    assert Positions(copied.folder.log_file(0)).last().lines == 10


def test_a_position_finds_the_place_of_a_time(wire, copied):
    log = ContainerLog()
    wire.on("GET", LOG, log)
    for step in range(3):
        log.add(b"at %d" % step, time=BEGIN + step * SECOND)
        copied.order(order())
        until(lambda count=step + 1: copied.text().count(b"\n") == count)
        copied.pool.remove(UID)
    positions = Positions(copied.folder.log_file(0))
    assert [positions.at(BEGIN + step * SECOND).log for step in range(3)] == [0, 5, 10]


def test_what_the_node_says_of_times_lies_beside_the_copy(wire, copied):
    log = ContainerLog()
    wire.on("GET", LOG, log)
    for step in range(5):
        log.add(b"a" * step, b"b", time=BEGIN + step * SECOND)
    log.end()
    copied.order(order(ended=True))
    text = copied.ends()
    times, sizes = read_times(str(copied.folder.log_file(0)))
    assert [round(time - BEGIN / SECOND) for time in times] == [0, 1, 2, 3, 4]
    ends = [text.index(b"a" * step + b"\nb\n") + step + 3 for step in range(1, 5)]
    assert list(sizes)[1:] == ends


def test_a_copy_writes_nothing_into_the_folder_of_another_run_that_has_taken_the_name(wire, copied, tmp_path):
    log = ContainerLog()
    log.add(*numbered(3))
    wire.on("GET", LOG, log)
    copied.order(order())
    until(lambda: copied.text().count(b"\n") == 3)
    copied.pool.of(UID)[0].copy.pause()
    copied.folder.path.rename(tmp_path / "aside")
    (copied.folder.path / "logs").mkdir(parents=True)
    ref = {"name": "digits", "uid": "another", "fingerprint": "", "created": 0.0, "place": "here/default"}
    (copied.folder.path / "ref.json").write_text(json.dumps(ref))
    copied.folder.log_file(0).write_bytes(b"of another run\n")
    log.add(*numbered(3, 4))
    until(lambda: any("moved away" in message for _, message in copied.listener.notes))
    copied.pool.remove(UID)
    assert copied.folder.log_file(0).read_bytes() == b"of another run\n"
    assert [file.name for file in (copied.folder.path / "logs").iterdir()] == ["0.1.log"]


@pytest.mark.fault(2)
def test_a_torn_position_is_passed_over(wire, copied):
    log = ContainerLog()
    log.add(*numbered(10))
    wire.on("GET", LOG, log)
    copied.order(order())
    until(lambda: copied.text().count(b"\n") == 10)
    copied.pool.remove(UID)
    file = copied.folder.log_file(0).with_suffix(".pos")
    with file.open("ab") as stream:
        stream.write(b'[999999,12,"torn')
    with copied.folder.log_file(0).open("ab") as stream:
        stream.write(b"written after the last position")
    log.add(*numbered(10, 11))
    log.end()
    copied.order(order(ended=True))
    assert copied.ends().split() == numbered(20)
    assert Positions(copied.folder.log_file(0)).is_complete()


def test_the_log_of_another_pod_under_the_same_number_is_moved_aside(wire, copied):
    log = ContainerLog()
    log.add(b"of the first")
    wire.on("GET", LOG, log)
    copied.order(order())
    until(lambda: copied.text() == b"of the first\n")
    copied.pool.remove(UID)
    log.end()
    copied.order(order(pod_uid="another", ended=True))
    assert copied.ends() == b"of the first\n"
    assert (copied.folder.path / "logs" / "0.1.u.log").read_bytes() == b"of the first\n"


_CHILD = """
import sys, time
sys.path[:0] = {paths!r}
from test_logs import Copied, Patience, connect, order, UID
from pathlib import Path
copied = Copied(connect(patience=Patience(total=0)), Path({folder!r}))
copied.order(order())
while not Path({stop!r}).exists():
    time.sleep(0.02)
copied.order(order(ended=True))
copied.ends(seconds=100)
"""


@pytest.mark.fault(2)
@pytest.mark.fault(17)
@pytest.mark.slow
def test_a_counter_arrives_exactly_once_though_the_reader_is_killed_and_the_network_cut(alone, tmp_path, monkeypatch):
    log = ContainerLog(faults=BREAKS, resend_seconds=2, chunk=4000)
    rnd = random.Random(5)
    with Wire() as wire, Tunnel(("127.0.0.1", wire.port)) as tunnel:
        wire.on("GET", LOG, log)
        config = wire.kubeconfig(tmp_path / "kubeconfig", cluster={"server": f"http://127.0.0.1:{tunnel.port}"})
        monkeypatch.setenv("KUBECONFIG", str(config))
        paths, stop = [str(Path(__file__).parent)], tmp_path / "stop"
        program = _CHILD.format(paths=paths, folder=str(tmp_path / "run"), stop=str(stop))

        def feed():
            for first in range(1, 100_001, 500):
                log.add(*numbered(500, first))
                time.sleep(0.03)
            log.end()

        feeder = threading.Thread(target=feed)
        feeder.start()
        kills = 0
        while feeder.is_alive():
            child = subprocess.Popen([sys.executable, "-c", program], env=os.environ)
            deadline = time.monotonic() + rnd.uniform(0.7, 2.0)
            while time.monotonic() < deadline:
                time.sleep(rnd.uniform(0.05, 0.4))
                tunnel.cut()
            child.send_signal(signal.SIGKILL)
            child.wait()
            kills += 1
        stop.touch()
        last = subprocess.run(
            [sys.executable, "-c", program], env=os.environ, check=False, capture_output=True, text=True, timeout=120
        )
        assert last.returncode == 0, last.stderr
    assert kills > 3
    assert RunFolder(tmp_path / "run").log_file(0).read_bytes().split() == numbered(100_000)
