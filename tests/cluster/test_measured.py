"""What is measured of pods, by themselves or from outside, on a real cluster: in the run's folder, each look once."""

import json
import time
from collections import Counter

import pytest

from jupyter_gpudeploy.backends.kubernetes.backend import KubernetesBackend
from jupyter_gpudeploy.backends.kubernetes.mirror import exporters, gauges
from jupyter_gpudeploy.events.samples import SampleReader
from jupyter_gpudeploy.events.types import GpuSample, ProcessSample
from jupyter_gpudeploy.launching import plan
from jupyter_gpudeploy.plan.types import ClusterOptions, Plan, Resources, Slot, Task, word

SERVER = """import http.server, sys
class Page(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(sys.argv[2].encode())
    def log_message(self, *words): pass
http.server.ThreadingHTTPServer(("", int(sys.argv[1])), Page).serve_forever()
"""
BUSY = "x = bytearray(64_000_000)\nimport time\nend = time.time() + 40\nwhile time.time() < end: pass"


@pytest.fixture
def settings(namespace, kubeconfig, python_image, tmp_path, monkeypatch):
    file = tmp_path / "config.yaml"
    context = json.loads(kubeconfig.read_text())["current-context"]
    profile = f"{{kubeconfig: {kubeconfig}, context: {context}, namespace: {namespace}, image: {python_image}}}"
    file.write_text(f"default_cluster: here\nclusters:\n  here: {profile}\n")
    monkeypatch.setenv("JUPYTER_GPUDEPLOY_CONFIG", str(file))
    monkeypatch.setenv("JUPYTER_GPUDEPLOY_HOME", str(tmp_path / "home"))


def until(condition, seconds=120):
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, "it never came so far"
        time.sleep(0.1)
    return found


def test_cpu_and_memory_of_each_pod_are_in_the_folder_once_whoever_keeps_it(settings, python_image, tmp_path):
    backend = KubernetesBackend()
    tasks = tuple(Task(n, f"task {n}", (word(Slot.PYTHON), word("-c"), word(BUSY))) for n in range(2))
    plan = Plan("measured", "Measured", "sweep", "kubernetes", tasks, "f0", working_dir=str(tmp_path), parallelism=2,
                target=backend.capabilities().target, cluster=ClusterOptions(image=python_image))  # fmt: skip
    ref = backend.launch(backend.render(plan))

    def seen(least):
        samples = SampleReader(backend.folder(ref).samples_file).poll()
        busy = [one for one in samples if isinstance(one, ProcessSample) and (one.cpu or 0) > 10]
        return samples if all(sum(one.task == task for one in busy) >= least for task in (0, 1)) else None

    try:
        assert {type(one) for one in until(lambda: seen(3))} == {ProcessSample}
        assert backend.sources(ref, 1)[0].look()
        backend.close()
        backend = KubernetesBackend()
        samples = until(lambda: seen(6))
        assert max(Counter((one.task, one.time) for one in samples).values()) == 1
        assert all(one.memory > 40_000_000 for one in samples if (one.cpu or 0) > 10)
        assert {one.task for one in samples} == {0, 1}
        for task in (0, 1):
            times = [one.time for one in samples if one.task == task]
            assert times == sorted(times)
    finally:
        backend.stop(ref, 1)
        backend.close()


def test_a_pod_with_a_gpu_tells_of_it_once_a_second(settings, python_image, tmp_path):
    backend = KubernetesBackend()
    task = Task(0, "task 0", (word(Slot.PYTHON), word("-c"), word(BUSY)))
    plan = Plan("measured", "Measured", "job", "kubernetes", (task,), "f0", working_dir=str(tmp_path),
                resources=Resources(gpus=1), target=backend.capabilities().target,
                cluster=ClusterOptions(image=python_image))  # fmt: skip
    ref = backend.launch(backend.render(plan))

    def seen():
        samples = SampleReader(backend.folder(ref).samples_file).poll()
        return [one for one in samples if isinstance(one, GpuSample)][4:]

    try:
        found = until(seen)
        assert {(one.gpu, one.task) for one in found} == {("0", 0)}
        assert all(30 <= one.utilization <= 100 and one.memory_used < one.memory_total for one in found)
    finally:
        backend.stop(ref, 1)
        backend.close()


@pytest.fixture
def model_server(settings, python_image):
    """A model server in an image in which nothing of ours runs: its command is one that answers everything."""
    backend = KubernetesBackend()
    refs = []

    def launch(**environment):
        cell = f"name: llama\nserve: vllm\nmodel: a/b\ngpus: 1\nimage: {python_image}\nenv: {json.dumps(environment)}\n"
        (made,) = plan(cell, backend="kubernetes")
        words = (word("/usr/bin/python3"), word("-c"), word(SERVER), word(Slot.PORT), word("{}"))
        refs.append(backend.launch(backend.render(made._replace(tasks=(made.tasks[0]._replace(argv=words),)))))
        return backend, refs[0]

    yield launch
    for ref in refs:
        backend.stop(ref, 1)
    backend.close()


def gpus(backend, ref):
    return [one for one in SampleReader(backend.folder(ref).samples_file).poll() if isinstance(one, GpuSample)]


def test_the_gpus_of_a_model_server_are_told_by_a_command_in_its_pod_that_ends_with_whoever_asked(
    model_server, client, namespace
):
    backend, ref = model_server()
    found = until(lambda: gpus(backend, ref)[3:])
    assert {(one.gpu, one.task) for one in found} == {("0", 0)}
    assert all(30 <= one.utilization <= 100 and one.memory_used < one.memory_total for one in found)
    times = [one.time for one in found]
    assert times == sorted(set(times))
    (pod,) = client.list("Pod").items
    name = pod["metadata"]["name"]

    def processes():
        listed = client.execute(name, "main", ["ps", "-eo", "args"]).stdout.decode()
        return [line for line in listed.splitlines() if "nvidia-smi" in line and "ps -eo" not in line]

    assert processes()
    backend.close()
    until(lambda: not processes(), 30)


def test_where_a_pod_has_no_tool_the_exporter_of_its_node_is_asked(
    model_server, client, namespace, api, python_image, monkeypatch
):
    monkeypatch.setattr(exporters, "NAMESPACES", (namespace,))
    monkeypatch.setattr(exporters, "_FRESH_SECONDS", 1.0)
    monkeypatch.setattr(gauges, "_PAGE_SECONDS", 1.0)
    backend, ref = model_server(PATH="/nowhere")
    (pod,) = until(lambda: client.list("Pod").items)
    page = f'DCGM_FI_DEV_GPU_UTIL{{gpu="5",UUID="GPU-5",namespace="{namespace}",pod="{pod["metadata"]["name"]}"}} 42\n'
    main = {"name": "main", "image": python_image, "command": ["/usr/bin/python3", "-c", SERVER, "9400", page]}
    exporter = {"apiVersion": "v1", "kind": "Pod", "spec": {"containers": [main], "terminationGracePeriodSeconds": 0},
                "metadata": {"name": "dcgm", "labels": {"app": "nvidia-dcgm-exporter"}}}  # fmt: skip
    client.create(exporter)
    assert {one[1:4] for one in until(lambda: gpus(backend, ref)[1:])} == {("5", 0, 42.0)}
