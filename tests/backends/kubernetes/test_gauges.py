"""GPUs of pods in which nothing of ours runs: a command in each, few at a time, else the exporter of their node."""

import json
import threading

import pytest
from nodes import UID, until
from wire import fails, gives

from jupyter_gpudeploy.backends.kubernetes.api.connect import connect
from jupyter_gpudeploy.backends.kubernetes.api.transport import Patience
from jupyter_gpudeploy.backends.kubernetes.mirror import gauges as module
from jupyter_gpudeploy.backends.kubernetes.mirror import pod_gpus
from jupyter_gpudeploy.backends.kubernetes.mirror.gauges import Gauged, Gauges, are_needed
from jupyter_gpudeploy.events.samples import SampleReader
from jupyter_gpudeploy.events.store import RunFolder
from jupyter_gpudeploy.events.types import GpuSample

PODS = "/api/v1/namespaces/default/pods"
MIB = 1 << 20
PAGE = """\
DCGM_FI_DEV_GPU_UTIL{{gpu="3",UUID="GPU-x",namespace="default",pod="{pod}"}} 61
DCGM_FI_DEV_FB_USED{{gpu="3",UUID="GPU-x",namespace="default",pod="{pod}"}} 2048
DCGM_FI_DEV_GPU_UTIL{{gpu="4",UUID="GPU-y",namespace="other",pod="theirs"}} 99
"""


class Smi:
    """`nvidia-smi -l` of a pod. `tick` prints a line in each connection; `code` ends them; how many there were."""

    def __init__(self):
        self.sockets = []
        self.asked = []
        self.now = 0
        self._lock = threading.Lock()

    def __call__(self, request, answer):
        socket = answer.upgrade("v5.channel.k8s.io")
        with self._lock:
            self.asked.append([value for name, value in request.pairs if name == "command"])
            self.sockets.append(socket)
            self.now += 1
        answer.stopping.wait()

    def tick(self, text):
        for socket in self.sockets:
            socket.send(1, text.encode())

    def end(self, code, said=b""):
        causes = [{"reason": "ExitCode", "message": str(code)}]
        status = {"status": "Failure", "reason": "NonZeroExitCode", "details": {"causes": causes}}
        sockets, self.sockets = self.sockets, []
        for socket in sockets:
            socket.send(2, said)
            socket.send(3, json.dumps(status).encode())


@pytest.fixture
def cluster(alone, wire, tmp_path, monkeypatch):
    monkeypatch.setenv("KUBECONFIG", str(wire.kubeconfig(tmp_path / "kubeconfig")))
    monkeypatch.setattr(module, "_EVERY_SECONDS", 0.05)
    monkeypatch.setattr(module, "_PAGE_SECONDS", 0.1)
    monkeypatch.setattr(pod_gpus, "_AGAIN_SECONDS", (0.1, 0.2))
    with connect(patience=Patience(total=0)) as found:
        yield found


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "run").mkdir()
    return RunFolder(tmp_path / "run")


@pytest.fixture
def start(cluster, folder):
    begun = []

    def go(*pods, **options):
        gauges = Gauges(cluster, **options)
        begun.append(gauges)
        gauges.want(
            UID, folder, [Gauged(task, name, f"uid-{name}", "main", "node-1") for task, name in enumerate(pods)]
        )
        return gauges

    yield go
    for gauges in begun:
        gauges.want(UID, folder, ())
        until(lambda gauges=gauges: gauges._thread is None)


def samples(folder):
    return SampleReader(folder.samples_file).poll()


def exporter(wire, page, namespace="gpu-operator"):
    pod = {"metadata": {"name": "dcgm-abc"}, "spec": {"nodeName": "node-1", "containers": [
        {"ports": [{"name": "metrics", "containerPort": 9401}]}]}, "status": {"phase": "Running"}}  # fmt: skip
    wire.on("GET", f"/api/v1/namespaces/{namespace}/pods", gives({"items": [pod], "metadata": {}}))
    at = f"/api/v1/namespaces/{namespace}/pods/dcgm-abc:9401/proxy/metrics"
    wire.on("GET", at.replace(":", "%3A"), lambda _, answer: answer.raw(page.encode()))


def test_each_look_of_a_pods_own_tool_is_a_line_of_the_runs_samples(wire, start, folder):
    smi = Smi()
    wire.on("SOCKET", f"{PODS}/a/exec", smi)
    start("a")
    until(lambda: smi.sockets)
    smi.tick("0, 50, 1000, 81559, 350.0, 60\n1, [N/A], 0, 81559, [N/A], 30\n0, 5")
    until(lambda: len(samples(folder)) == 2)
    smi.tick("1, 1000, 81559, 350.0, 60\n")
    found = until_samples(folder, 3)
    assert [one[1:] for one in found] == [
        ("0", 0, 50.0, 1000 * MIB, 81559 * MIB, 350.0, 60.0),
        ("1", 0, None, 0, 81559 * MIB, None, 30.0),
        ("0", 0, 51.0, 1000 * MIB, 81559 * MIB, 350.0, 60.0),
    ]
    assert all(isinstance(one, GpuSample) for one in found)
    assert smi.asked[0][0] == "sh"
    assert smi.asked[0][-2:] == ["-l", "1"]


def until_samples(folder, count):
    until(lambda: len(samples(folder)) >= count)
    return samples(folder)


def test_no_more_connections_are_open_than_may_be_and_none_when_nothing_is_wanted(wire, start, folder):
    smi = Smi()
    wire.on("SOCKET", f"{PODS}/*/exec", smi)
    gauges = start(*"abcde", streams=3)
    until(lambda: smi.now == 3)
    smi.tick("0, 50, 1000, 81559, 350.0, 60\n")
    assert {one.task for one in until_samples(folder, 3)} == {0, 1, 2}
    assert smi.now == 3
    gauges.want(UID, folder, [Gauged(4, "e", "uid-e", "main", "node-1")])
    until(lambda: smi.now == 4)
    smi.sockets[-1].send(1, b"0, 7, 1000, 81559, 350.0, 60\n")
    until(lambda: 4 in {one.task for one in samples(folder)})


def test_a_command_that_breaks_off_is_started_again(wire, start, folder):
    smi = Smi()
    wire.on("SOCKET", f"{PODS}/a/exec", smi)
    start("a")
    until(lambda: smi.now == 1)
    smi.end(9, b"the driver is being updated")
    until(lambda: smi.now == 2)
    smi.tick("0, 50, 1000, 81559, 350.0, 60\n")
    until_samples(folder, 1)


@pytest.mark.parametrize("how", ["there is no such program", "it is forbidden", "there is no shell", "no room is left"])
def test_what_has_no_tool_of_its_own_is_looked_up_in_the_exporter_of_its_node(wire, start, folder, how):
    smi = Smi()
    wire.on("SOCKET", f"{PODS}/a/exec", smi if how != "it is forbidden" else fails(403, "no", "Forbidden"))
    exporter(wire, PAGE.format(pod="a"))
    start("a", streams=0 if how == "no room is left" else 4)
    if how == "there is no such program":
        until(lambda: smi.sockets)
        smi.end(127, b"sh: 1: nvidia-smi: not found")
    elif how == "there is no shell":
        until(lambda: smi.sockets)
        why = 'exec: "sh": executable file not found in $PATH'
        smi.sockets[0].send(3, json.dumps({"status": "Failure", "message": why, "code": 500}).encode())
    found = until_samples(folder, 1)
    assert {one[1:5] for one in found} == {("3", 0, 61.0, 2048 * MIB)}
    assert smi.now <= 1


def test_the_exporter_may_be_out_of_reach_and_nothing_is_made_up_then(wire, start, folder):
    wire.on("SOCKET", f"{PODS}/a/exec", fails(403, "no", "Forbidden"))
    wire.on("GET", "/api/v1/namespaces/*/pods", fails(403, "no", "Forbidden"))
    start("a")
    until(lambda: len(wire.seen("GET", "/api/v1/namespaces/gpu-operator/pods")) == 1)
    until(lambda: len(wire.seen("GET", "/api/v1/namespaces/monitoring/pods")) == 1)
    assert samples(folder) == []
    assert len(wire.seen("SOCKET")) == 1  # a refusal is not asked about again and again


@pytest.mark.parametrize(
    ("record", "needed"),
    [
        ({"service": {"preset": "vllm"}, "resources": {"gpus": 1}}, True),
        ({"service": {"preset": "vllm"}, "resources": {"gpus": 0}}, False),
        ({"service": {"preset": "command"}, "resources": {"gpus": 1}}, False),
        ({"service": None, "resources": {"gpus": 1}}, False),
    ],
)
def test_only_servers_in_their_own_image_need_it(record, needed):
    assert are_needed(record) is needed
