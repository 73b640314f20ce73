"""Jobs of several nodes, schedules, environments, servers and queues, on real pods."""

import hashlib
import socket
import threading
import time
import urllib.request
from concurrent.futures import ThreadPoolExecutor

import pytest

from jupyter_gpudeploy import attach, launch
from jupyter_gpudeploy.backends.kubernetes import marks
from jupyter_gpudeploy.errors import GpuDeployError
from jupyter_gpudeploy.events.types import State

from . import crds
from .people import PATIENCE, Notebook, line, until

MEET = """
import os, socket, time
rank, address = int(os.environ["NODE_RANK"]), (os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"]))
assert os.environ["PET_MASTER_ADDR"] == address[0] and os.environ["PET_NODE_RANK"] == str(rank)
assert os.environ["PET_NNODES"] == os.environ["NNODES"] == os.environ["WORLD_SIZE"] == "2"
if rank == 0:
    server = socket.create_server(("", address[1]))
    other, _ = server.accept()
    print("rank 0 heard", other.recv(100).decode(), flush=True)
    other.sendall(b"rank 0")
else:
    deadline = time.monotonic() + 60
    while True:
        try:
            other = socket.create_connection(address, 5)
            break
        except OSError:
            assert time.monotonic() < deadline
            time.sleep(0.2)
    other.sendall(b"rank 1")
    print("rank 1 heard", other.recv(100).decode(), flush=True)
with open(os.path.join(os.environ["GPUDEPLOY_OUTPUT"], "rank.txt"), "w") as file:
    file.write(str(rank))
print(f"loss={rank}.5", flush=True)
"""
ONE_FAILS = """
import os, sys, time
print("rank", os.environ["NODE_RANK"], flush=True)
time.sleep(3)
if os.environ["NODE_RANK"] == "1":
    sys.exit(7)
time.sleep(600)
"""
ROUND = """
import os, time
from jupyter_gpudeploy import log, output_dir
print("fired at", time.strftime("%H:%M"), flush=True)
log(step=1, loss=0.5)
(output_dir() / "when.txt").write_text(time.strftime("%H:%M"))
"""
SLOW_HEALTH = """
import http.server, sys, time
begun = time.monotonic()

class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200 if time.monotonic() - begun > 15 else 503)
        self.end_headers()

    def log_message(self, *_):
        pass

http.server.ThreadingHTTPServer(("0.0.0.0", int(sys.argv[1])), Handler).serve_forever()
"""
WHO = """
import http.server, os, sys, threading

class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        body = f"{os.uname().nodename} {os.environ.get('VERSION', '')}".encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
        if self.path == "/crash":
            print("it cannot go on: out of ideas", flush=True)
            threading.Timer(0.2, os._exit, [9]).start()

    def log_message(self, *_):
        pass

print("up", flush=True)
http.server.ThreadingHTTPServer(("0.0.0.0", int(sys.argv[1])), Handler).serve_forever()
"""
ONLY_ATTACHES = """
import sys
from jupyter_gpudeploy import attach
run = attach(sys.argv[1])
print(run.url, run.request(sys.argv[2]).text)
"""
FLASK = "from flask import Flask\napp = Flask(__name__)\n@app.route('/who')\ndef who(): return 'flask'\n"
FASTAPI = "from fastapi import FastAPI\napp = FastAPI()\n@app.get('/who')\ndef who() -> str: return 'fastapi'\n"


def names(client, kind):
    return [one["metadata"]["name"] for one in client.list(kind).items]


def living(client):
    return [one for one in client.list("Pod").items if one["status"].get("phase") in ("Running", "Pending")]


def serve(folder, code, header, **options):
    name = header.split()[1]
    (folder / f"{name}.py").write_text(code)
    head = f"{header}\nserve: command\nrun: python {name}.py {{port}}\nport: 8000\n"
    return launch(head, base_dir=folder, backend="kubernetes", **options)


def answers(url, timeout=10):
    """Return what a URL says, or None where nobody answers."""
    try:
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(url, timeout=timeout) as answer:
            return answer.read()
    except OSError:
        return None


# --- several nodes


@pytest.mark.timeout(300)
def test_nodes_of_a_job_meet_by_name_and_each_has_its_log_and_its_files(mine, client):
    run = launch(f"name: meet\nnodes: 2\n---\n{MEET}", backend="kubernetes").wait(PATIENCE)
    assert run.state is State.SUCCEEDED, run.status()
    assert run.logs(0) == "rank 0 heard rank 1\nloss=0.5"
    assert run.logs(1) == "rank 1 heard rank 0\nloss=1.5"
    assert "1 | rank 1 heard rank 0" in run.logs()
    assert [(run.output_dir(rank) / "rank.txt").read_text() for rank in range(2)] == ["0", "1"]
    assert run.metrics()[["trial", "value"]].values.tolist() == [[0, 0.5], [1, 1.5]]
    assert run.summary().progress == "2 done"
    assert (client.get("Service", "meet")["spec"]["clusterIP"], names(client, "Job")) == ("None", ["meet"])


@pytest.mark.timeout(300)
def test_a_node_that_fails_fails_the_run_with_its_rank_and_ends_the_others(mine, client):
    run = launch(f"name: uneven\nnodes: 2\n---\n{ONE_FAILS}", backend="kubernetes").wait(PATIENCE)
    assert (run.state, run.status().reason) == (State.FAILED, "node 1: exit code 7")
    tasks = run.status().tasks
    assert (tasks[1].state, tasks[1].exit_code) == (State.FAILED, 7)
    assert (tasks[0].state, tasks[0].reason) == (State.STOPPED, "ended with node 1: exit code 7")
    assert run.logs() == "0 | rank 0\n1 | rank 1"
    assert not living(client)


@pytest.mark.timeout(300)
def test_a_stop_ends_every_node(mine, client):
    code = "import time\nprint('here', flush=True)\ntime.sleep(600)"
    run = launch(f"name: pair\nnodes: 2\n---\n{code}", backend="kubernetes")
    until(lambda: run.status().counts().get(State.RUNNING) == 2)
    line("stop pair")
    assert run.state is State.STOPPED
    assert {task.state for task in run.status().tasks.values()} == {State.STOPPED}
    assert not living(client)
    run.resume()
    until(lambda: run.status().counts() == {State.RUNNING: 2})
    assert [task.attempt for task in run.status().tasks.values()] == [2, 2]
    run.stop(0)


# --- schedules


@pytest.mark.slow
@pytest.mark.timeout(420)
def test_a_schedule_fires_again_and_again_until_it_is_stopped(mine, client):
    run = launch(f'name: minutely\nschedule: "* * * * *"\n---\n{ROUND}', backend="kubernetes")
    run.wait(30)
    assert run.state is State.READY
    assert run.status().reason.startswith("next at 20")
    assert "last at" not in run.status().reason

    def rounds():
        frame = run.logs_frame()
        return frame[frame["text"].str.startswith("fired")]["attempt"].tolist()

    until(lambda: rounds() == [1, 2] and run.state is State.READY, 150)
    assert "; last at 20" in run.status().reason
    assert run.status().reason.endswith("succeeded")
    assert run.metrics()[["attempt", "value"]].values.tolist() == [[1, 0.5], [2, 0.5]]
    assert run.logs().count("fired at") == 2
    assert run.logs().endswith((run.output_dir() / "when.txt").read_text())
    each = [(run.folder / "rounds" / f"0.{number}" / "when.txt").read_text() for number in (1, 2)]
    assert each == [text.removeprefix("fired at ") for text in run.logs().splitlines() if text.startswith("fired")]
    assert run.output_dir().resolve() == (run.folder / "rounds" / "0.2").resolve()
    assert not run.is_over
    line("stop minutely")
    assert run.state is State.STOPPED
    before = names(client, "Job")
    assert client.get("CronJob", "minutely")["spec"]["suspend"] is True
    time.sleep(65)
    assert names(client, "Job") == before
    assert rounds() == [1, 2]
    run.resume()
    until(lambda: 3 in rounds(), 90)
    run.stop(0)


def test_a_schedule_says_when_it_runs_next_and_is_found_replaced_and_removed(mine, client):
    header = 'name: yearly\nschedule: "0 6 1 1 *"\ntime_zone: Europe/Madrid\n'
    run = launch(f"{header}---\nprint(1)\n", backend="kubernetes").wait(30)
    year = time.gmtime().tm_year + 1
    assert run.status().reason == f"next at {year}-01-01 06:00 Europe/Madrid"
    assert launch(f"{header}---\nprint(1)\n", backend="kubernetes").uid == run.uid
    with pytest.raises(GpuDeployError, match="alive"):
        run.remove(yes=True)
    again = launch(f"{header}---\nprint(2)\n", backend="kubernetes", replace=True).wait(30)
    assert client.get("CronJob", "yearly")["metadata"]["labels"][marks.UID] == again.uid != run.uid
    assert not names(client, "Job")
    again.stop(0)
    again.remove(yes=True)
    assert not names(client, "CronJob")


@pytest.mark.timeout(300)
def test_stopping_a_schedule_ends_the_round_that_runs(mine, client):
    code = "import time\nprint('begun', flush=True)\ntime.sleep(600)"
    run = launch(f'name: longly\nschedule: "* * * * *"\nretries: 3\n---\n{code}', backend="kubernetes")
    until(lambda: "begun" in run.logs())
    assert run.state is State.RUNNING
    run.stop(0)
    assert run.state is State.STOPPED
    until(lambda: not living(client))
    assert run.status().tasks[0].state is State.STOPPED


# --- environments


@pytest.fixture
def bench(mine):
    run = launch("name: bench\nmode: manual\n", backend="kubernetes").wait(PATIENCE)
    threading.Thread(target=_exec, args=(run,), daemon=True).start()
    yield run
    if not run.is_over:
        run.stop(0)


def _exec(run):
    try:
        run.exec("python -m http.server 8888 --bind 127.0.0.1 --directory /gpudeploy/work", stream=None)
    except GpuDeployError:
        return


@pytest.mark.fault(32)
@pytest.mark.timeout(300)
def test_a_server_started_in_an_environment_is_reached_by_a_forward_on_loopback(bench):
    url = line("forward bench --port 8888")
    until(lambda: answers(url))
    host, port = url.removeprefix("http://").split(":")
    assert host == "127.0.0.1"
    others = {info[4][0] for info in socket.getaddrinfo(socket.gethostname(), None, socket.AF_INET)} - {"127.0.0.1"}
    for address in others:
        with pytest.raises(OSError):
            socket.create_connection((address, int(port)), 2)
    with ThreadPoolExecutor(20) as pool:
        assert all(pool.map(answers, [url] * 20))


@pytest.mark.timeout(300)
def test_large_answers_and_idle_connections_come_through_a_forward_whole(bench):
    make = (
        "import random, hashlib; d = random.Random(1).randbytes(50_000_000); open('/gpudeploy/work/big', 'wb').write(d)"
    )
    assert bench.exec(["python", "-c", make], stream=None) == 0
    url = bench.forward(8888)
    until(lambda: answers(url))
    import random

    expected = hashlib.sha256(random.Random(1).randbytes(50_000_000)).hexdigest()
    idle = socket.create_connection(("127.0.0.1", int(url.rpartition(":")[2])), 60)
    begun = time.monotonic()
    assert hashlib.sha256(answers(f"{url}/big", 120)).hexdigest() == expected
    time.sleep(max(0.0, 30 - (time.monotonic() - begun)))
    idle.sendall(b"HEAD / HTTP/1.0\r\n\r\n")
    assert idle.recv(100).startswith(b"HTTP/1.0 200")
    idle.close()


@pytest.mark.fault(32)
@pytest.mark.timeout(300)
def test_a_forward_heals_when_the_pod_is_replaced_and_closes_with_the_run(bench, client):
    url = bench.forward(8888)
    until(lambda: answers(url))
    first = bench.status().details["pod"]
    client.delete("Pod", first, grace_seconds=1)
    until(lambda: bench.state is State.READY and bench.status().details["pod"] != first)
    threading.Thread(target=_exec, args=(bench,), daemon=True).start()
    until(lambda: answers(url))
    assert bench.forward(8888) == url
    _another(bench).stop(0)
    until(lambda: bench.is_over)
    until(lambda: not _listens(url), 10)


def _another(run):
    """The same run, held by another kernel, as far as the package can tell."""
    from jupyter_gpudeploy.backends.kubernetes.backend import KubernetesBackend
    from jupyter_gpudeploy.run import Run

    return Run(KubernetesBackend(), run.ref)


def _listens(url):
    try:
        socket.create_connection(("127.0.0.1", int(url.rpartition(":")[2])), 2).close()
    except OSError:
        return False
    return True


# --- servers


@pytest.mark.timeout(300)
def test_both_replicas_of_a_server_answer_and_a_replacement_keeps_the_name(mine, client):
    run = serve(mine.folder, WHO, "name: twins\nreplicas: 2").wait(PATIENCE)
    pods = {run.status().tasks[number].details["pod"] for number in range(2)}
    assert len(pods) == 2
    assert {answers(run.forward(8000, task)).decode().split()[0] for task in range(2)} == pods
    asks = (
        "import collections, urllib.request as u\n"
        "print(*sorted({u.urlopen('http://twins').read().decode().split()[0] for _ in range(40)}))"
    )
    asker = launch(f"name: asker\n---\n{asks}\n", backend="kubernetes").wait(PATIENCE)
    assert set(asker.logs().split()) == pods
    again = serve(mine.folder, WHO, "name: twins\nreplicas: 2\nenv: {VERSION: '2'}", replace=True).wait(PATIENCE)
    assert (again.uid != run.uid, again.request("/").text.split()[1]) == (True, "2")
    assert attach("twins").uid == again.uid
    again.stop(0)


@pytest.mark.fault(31)
@pytest.mark.timeout(300)
def test_a_server_that_takes_its_time_is_starting_until_it_answers(mine):
    run = serve(mine.folder, SLOW_HEALTH, "name: slowly\nhealth: /health")
    until(lambda: run.state is State.STARTING)
    begun = time.monotonic()
    run.wait(PATIENCE)
    assert time.monotonic() - begun > 8
    assert run.status().tasks[0].attempt == 1
    states = [change.state for change in run._backend.states(run.ref, _set()) if change.task is None]
    assert [*dict.fromkeys(states)][-2:] == [State.STARTING, State.READY]
    assert State.RUNNING not in states
    run.stop(0)


def _set():
    stop = threading.Event()
    stop.set()
    return stop


@pytest.mark.fault(29)
@pytest.mark.fault(30)
@pytest.mark.timeout(300)
def test_a_server_that_crashes_starts_again_as_the_second_attempt_and_its_last_words_stay(mine):
    run = serve(mine.folder, WHO, "name: crashy").wait(PATIENCE)
    run.request("/crash")
    until(lambda: run.status().tasks[0].attempt == 2 and run.state is State.READY)
    assert run.logs() == "up\nit cannot go on: out of ideas\nup"
    frame = run.logs_frame()
    assert frame[frame["attempt"] == 1]["text"].tolist() == ["up", "it cannot go on: out of ideas"]
    reasons = [change.reason for change in run._backend.states(run.ref, _set()) if change.task == 0]
    assert any("exit code 9" in reason for reason in reasons)
    assert run.request("/").status == 200
    run.stop(0)


@pytest.mark.timeout(300)
@pytest.mark.parametrize(("preset", "code"), [("flask", FLASK), ("fastapi", FASTAPI), ("command", WHO)])
def test_every_sort_of_server_answers_a_process_that_only_attaches(
    kubeconfig, namespace, examples_image, tmp_path, preset, code
):
    notebook = Notebook(tmp_path / "mine", kubeconfig, namespace, examples_image)
    with notebook.sits_down():
        if preset == "command":
            run = serve(notebook.folder, code, "name: web")
        else:
            run = launch(f"name: web\nserve: {preset}\nport: 8000\n---\n{code}", backend="kubernetes")
        run.wait(PATIENCE)
        process = notebook.start(ONLY_ATTACHES, "web", "/who")
        said = process.communicate(timeout=60)[0]
        assert said.startswith("http://127.0.0.1:"), said
        assert (preset if preset != "command" else run.status().tasks[0].details["pod"]) in said
        run.stop(0)


# --- queues


def queued(mine):
    return launch("name: queued\nqueue: team-a\n---\nprint(1)\n", backend="kubernetes")


def test_a_queue_without_kueue_is_refused_before_anything_starts(mine, client):
    if client.has("LocalQueue"):
        pytest.skip("somebody has installed Kueue's kinds")
    with pytest.raises(GpuDeployError, match="no Kueue"):
        queued(mine)
    assert not names(client, "Job")


@pytest.mark.timeout(300)
def test_a_suspended_job_waits_in_its_queue_with_what_its_workload_says(own_cluster, mine, client):
    crds.install("kueue")
    try:
        run = queued(mine)
        until(lambda: run.status().reason == "waits in the queue team-a")
        assert run.state is State.WAITING
        job = client.get("Job", "queued")
        assert job["spec"]["suspend"] is True
        named = {"name": "job-queued", "labels": {"kueue.x-k8s.io/job-uid": job["metadata"]["uid"]}}
        pod = {"containers": [{"name": "main", "image": "x"}], "restartPolicy": "Never"}
        sets = [{"name": "main", "count": 1, "template": {"spec": pod}}]
        body = {"apiVersion": "kueue.x-k8s.io/v1beta2", "kind": "Workload", "metadata": named}
        client.create({**body, "spec": {"queueName": "team-a", "podSets": sets}})
        message = "couldn't assign flavors to pod set main: insufficient unused quota for nvidia.com/gpu"
        waits = {"type": "QuotaReserved", "status": "False", "reason": "Pending", "message": message,
                 "lastTransitionTime": "2026-11-23T12:00:00Z"}  # fmt: skip
        client.patch("Workload", "job-queued", {"status": {"conditions": [waits]}}, subresource="status")
        until(lambda: run.status().reason == f"waits in the queue team-a: {message}", 60)
        run.stop(0)
        assert run.state is State.STOPPED
    finally:
        crds.remove("kueue")
