"""Logs and states of real pods, while the network, the kubelet and the API server do what they can to lose them."""

import json
import re
import threading
import time
from urllib.parse import urlsplit

import pytest
from backends.kubernetes.wire import Tunnel

from jupyter_gpudeploy.backends.kubernetes.backend import KubernetesBackend
from jupyter_gpudeploy.events.status import Status
from jupyter_gpudeploy.events.store import JournalReader
from jupyter_gpudeploy.events.types import State
from jupyter_gpudeploy.plan.types import ClusterOptions, Plan, Slot, Task, word

COUNTER = (
    "import time\nfor n in range(1, {count} + 1):\n    print('n=%d' % n)\n    if n % {every} == 0: time.sleep({pause})"
)


@pytest.fixture
def tunnel(cluster, kubeconfig):
    """A proxy between this machine and the API server, which a test may cut."""
    server = urlsplit(json.loads(kubeconfig.read_text())["clusters"][0]["cluster"]["server"])
    with Tunnel((server.hostname, server.port)) as tunnel:
        tunnel.host = server.hostname
        yield tunnel


@pytest.fixture
def backend(tunnel, namespace, kubeconfig, python_image, tmp_path, monkeypatch):
    config = json.loads(kubeconfig.read_text())
    config["clusters"][0]["cluster"].update(
        {"server": f"https://127.0.0.1:{tunnel.port}", "tls-server-name": tunnel.host}
    )
    through = tmp_path / "kubeconfig"
    through.write_text(json.dumps(config))
    file = tmp_path / "config.yaml"
    context = config["current-context"]
    profile = f"{{kubeconfig: {through}, context: {context}, namespace: {namespace}, image: {python_image}}}"
    file.write_text(f"default_cluster: here\nclusters:\n  here: {profile}\n")
    monkeypatch.setenv("JUPYTER_GPUDEPLOY_CONFIG", str(file))
    monkeypatch.setenv("JUPYTER_GPUDEPLOY_HOME", str(tmp_path / "home"))
    made = KubernetesBackend()
    yield made
    made.close()


@pytest.fixture
def launched(backend, python_image, tmp_path):
    """Launch programs, each a task; whatever is alive afterwards is stopped."""
    refs = []

    def launch(*programs, **fields):
        tasks = tuple(
            Task(n, f"task {n}", (word(Slot.PYTHON), word("-c"), word(text))) for n, text in enumerate(programs)
        )
        kind = "job" if len(tasks) == 1 else "sweep"
        target, options = backend.capabilities().target, ClusterOptions(image=python_image)
        plan = Plan("logs", "Logs", kind, "kubernetes", tasks, "f0", working_dir=str(tmp_path), parallelism=len(tasks),
                    target=target, cluster=options, **fields)  # fmt: skip
        refs.append(backend.launch(backend.render(plan)))
        return refs[-1]

    yield launch
    for ref in refs:
        backend.stop(ref, 1)


def status(backend, ref):
    return Status.of((), JournalReader(backend.folder(ref).events_file).poll())


def until(true, seconds):
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, "it never came so far"
        time.sleep(0.05)


def ended(backend, ref, seconds=180):
    until(lambda: status(backend, ref).state.is_final, seconds)
    return status(backend, ref)


def text(backend, ref, task=0):
    file = backend.folder(ref).log_file(task)
    return file.read_text() if file.exists() else ""


def numbered(count):
    return [f"n={n}" for n in range(1, count + 1)]


@pytest.mark.fault(6)
@pytest.mark.fault(17)
def test_a_counter_arrives_exactly_once_through_a_network_that_is_cut(backend, launched, tunnel):
    ref = launched(COUNTER.format(count=100_000, every=2500, pause=0.2))
    until(lambda: "n=1000\n" in text(backend, ref), 60)
    over = threading.Event()

    def break_it():
        while not over.wait(2.5):
            tunnel.cut()

    breaker = threading.Thread(target=break_it)
    breaker.start()
    until(lambda: "n=100000\n" in text(backend, ref), 120)
    over.set()
    breaker.join()
    assert ended(backend, ref).state is State.SUCCEEDED
    assert text(backend, ref).split() == numbered(100_000)


@pytest.mark.fault(6)
def test_what_a_pod_prints_while_the_network_is_away_is_there_afterwards(backend, launched, tunnel):
    ref = launched(COUNTER.format(count=200, every=10, pause=0.5), COUNTER.format(count=20, every=10, pause=0.5))
    until(lambda: "n=10\n" in text(backend, ref), 60)
    tunnel.freeze()
    tunnel.cut()
    time.sleep(8)
    tunnel.thaw()
    end = ended(backend, ref)
    assert end.state is State.SUCCEEDED
    assert text(backend, ref).split() == numbered(200)
    assert text(backend, ref, 1).split() == numbered(20)


@pytest.mark.fault(16)
def test_a_stream_that_the_kubelet_closes_when_idle_is_not_the_end(breakable_cluster, backend, launched):
    breakable_cluster.restart("kubelet", streamingConnectionIdleTimeout="3s")
    ref = launched(COUNTER.format(count=4, every=1, pause=7))
    assert ended(backend, ref).state is State.SUCCEEDED
    assert text(backend, ref).split() == numbered(4)


@pytest.mark.fault(18)
@pytest.mark.fault(7)
def test_a_log_that_is_rotated_is_whole_or_says_where_it_is_not(breakable_cluster, backend, launched, tunnel):
    breakable_cluster.restart("kubelet", containerLogMaxSize="64Ki", containerLogMonitorInterval="3s")
    ref = launched(COUNTER.format(count=20_000, every=100, pause=0.2))
    until(lambda: "n=5000\n" in text(backend, ref), 120)
    tunnel.freeze()
    tunnel.cut()
    time.sleep(10)
    tunnel.thaw()
    assert ended(backend, ref, 240).state is State.SUCCEEDED
    last, jumps, gaps = 0, 0, 0
    told = False
    for line in text(backend, ref).splitlines():
        if line.startswith("[jupyter_gpudeploy: log lines between"):
            told, gaps = True, gaps + 1
            continue
        (number,) = re.fullmatch(r"n=(\d+)", line).groups()
        assert int(number) == last + 1 or (told and int(number) > last)
        jumps += int(number) != last + 1
        last, told = int(number), False
    assert last == 20_000
    assert jumps <= gaps
    assert gaps == sum("no longer on the node" in notice.message for notice in status(backend, ref).notices)


@pytest.mark.fault(8)
def test_a_sweep_goes_on_and_is_followed_when_the_api_server_is_killed(breakable_cluster, backend, launched):
    ref = launched(*[COUNTER.format(count=300, every=10, pause=0.5)] * 3)
    until(lambda: all("n=20\n" in text(backend, ref, n) for n in range(3)), 90)
    breakable_cluster.kill("kube-apiserver")
    time.sleep(5)
    breakable_cluster.start("kube-apiserver")
    assert ended(backend, ref).state is State.SUCCEEDED
    for task in range(3):
        assert text(backend, ref, task).split() == numbered(300)


# containerd takes a \r before a newline away (bufio.Reader.ReadLine), so nothing here prints one.
def test_the_last_line_without_a_newline_and_progress_bars_are_kept_byte_for_byte(backend, launched):
    program = r"import sys; w = sys.stdout.buffer.write; w(b'50%\r100%\ncaf\xc3\xa9 \xff\n'); w(b'x' * 100000 + b'\nacc=0.93')"
    ref = launched(program)
    assert ended(backend, ref).state is State.SUCCEEDED
    written = backend.folder(ref).log_file(0).read_bytes()
    assert written == b"50%\r100%\ncaf\xc3\xa9 \xff\n" + b"x" * 100000 + b"\nacc=0.93"


@pytest.mark.fault(24)
def test_a_pod_that_somebody_deletes_is_tried_again_and_both_logs_are_kept(backend, launched, api, namespace):
    from kubernetes import client

    core = client.CoreV1Api(api)
    ref = launched(COUNTER.format(count=40, every=10, pause=1), retries=1)
    until(lambda: "n=20\n" in text(backend, ref), 60)
    (pod,) = core.list_namespaced_pod(namespace, label_selector=f"jupyter-gpudeploy/uid={ref.uid}").items
    core.delete_namespaced_pod(pod.metadata.name, namespace, grace_period_seconds=1)
    end = ended(backend, ref)
    assert (end.state, end.tasks[0].attempt) == (State.SUCCEEDED, 2)
    assert "n=20\n" in text(backend, ref)
    assert backend.folder(ref).log_file(0, 2).read_text().split() == numbered(40)
