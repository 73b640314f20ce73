"""Queues, JobSets and LeaderWorkerSets with the real controllers: Kueue, JobSet and LWS as processes beside the cluster.

They are started for this module and ended after it. Where they are not built, its tests are skipped.
"""

from __future__ import annotations

import re
import time
from typing import TYPE_CHECKING, Any

import pytest

from jupyter_gpudeploy.errors import BackendError
from jupyter_gpudeploy.events.types import State
from jupyter_gpudeploy.launching import launch

from . import controllers
from .conftest import _own
from .people import plan, until, until_running

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

pytestmark = pytest.mark.cluster

_KUEUE = "kueue.x-k8s.io/v1beta2"
SLEEP = "name: {name}\ngpus: {gpus}\nqueue: team\n{more}---\nimport time\nprint('began', flush=True)\ntime.sleep({seconds})\nprint('done')\n"


@pytest.fixture(scope="module")
def running(cluster: Any) -> Iterator[None]:
    """All three controllers."""
    _own(cluster)
    if reason := controllers.why_not(*controllers.CONTROLLERS):
        pytest.skip(reason)
    before = controllers.running()
    controllers.up()
    yield
    if ours := [name for name in controllers.CONTROLLERS if name not in before]:
        controllers.down(*ours)


@pytest.fixture
def managed(running: None, own_cluster: Any, namespace: str, mine: Any) -> Any:
    """A person whose namespace the controllers look at."""
    own_cluster.client().patch(f"/api/v1/namespaces/{namespace}", {"metadata": {"labels": controllers.MANAGED}})
    return mine


@pytest.fixture
def quota(managed: Any, own_cluster: Any, namespace: str) -> Iterator[Callable[..., None]]:
    """`quota(gpus)`: the queue `team` of the namespace has so many GPUs; further words go into its ClusterQueue."""
    api, root = own_cluster.client(), f"/apis/{_KUEUE}"
    made = {"apiVersion": _KUEUE, "metadata": {"name": namespace}}

    def give(gpus: int, **more: Any) -> None:
        amounts = {"cpu": "4", "memory": "8Gi", "nvidia.com/gpu": str(gpus)}
        resources = [{"name": name, "nominalQuota": amount} for name, amount in amounts.items()]
        groups = [{"coveredResources": [*amounts], "flavors": [{"name": namespace, "resources": resources}]}]
        spec = {
            "namespaceSelector": {},
            "preemption": {"withinClusterQueue": "LowerPriority"},
            "resourceGroups": groups,
        }
        api.apply(f"{root}/resourceflavors/{namespace}", {**made, "kind": "ResourceFlavor"})
        api.apply(f"{root}/clusterqueues/{namespace}", {**made, "kind": "ClusterQueue", "spec": {**spec, **more}})
        queue = {"apiVersion": _KUEUE, "kind": "LocalQueue", "metadata": {"name": "team"}}
        api.apply(f"{root}/namespaces/{namespace}/localqueues/team", {**queue, "spec": {"clusterQueue": namespace}})

    yield give
    for kind in ("clusterqueues", "resourceflavors"):
        api.delete(f"{root}/{kind}/{namespace}")


def job(name: str, gpus: int = 1, seconds: float = 300, more: str = "") -> Any:
    return launch(SLEEP.format(name=name, gpus=gpus, seconds=seconds, more=more), backend="kubernetes")


def says(run: Any, pattern: str) -> bool:
    return re.search(pattern, run.status().reason) is not None


def is_suspended(client: Any, name: str) -> bool:
    return bool(client.get("Job", name)["spec"].get("suspend"))


# --- Kueue


def test_queued_jobs_wait_in_their_order_and_run_when_there_is_room(quota, client):
    quota(1)
    first = until_running(job("first"))
    second = job("second", seconds=0)
    until(lambda: says(second, "waits in the queue team, 0 before it: .*insufficient unused quota for nvidia.com/gpu"))
    third = job("third", seconds=0)
    until(lambda: says(third, "waits in the queue team, 1 before it"))
    assert is_suspended(client, "second")
    assert second.state is State.WAITING
    first.stop(2)
    assert [run.wait(120, check=True).state for run in (second, third)] == [State.SUCCEEDED] * 2
    assert third.logs().splitlines()[-1] == "done"


def test_a_stopped_job_is_not_started_again_by_its_queue_and_resuming_queues_it(quota, client):
    quota(1)
    run = until_running(job("digits", seconds=3))
    run.stop(1)
    until(lambda: is_suspended(client, "digits"))
    time.sleep(2)  # long enough for Kueue, which admits within half a second
    assert (run.state, is_suspended(client, "digits")) == (State.STOPPED, True)
    run.resume()
    assert run.wait(120, check=True).state is State.SUCCEEDED
    waits = job("waits", gpus=2)
    until(lambda: says(waits, "maximum capacity"))
    assert "the queue never has so much" in waits.status().hint
    waits.stop(1)
    assert waits.state is State.STOPPED


def test_a_paused_job_leaves_its_queue_and_comes_back(quota, client):
    quota(1)
    run = until_running(job("digits"))
    run.pause()
    until(lambda: says(run, "taken out of the queue team"))
    assert is_suspended(client, "digits")
    with pytest.raises(BackendError, match="paused already"):
        run.pause()
    other = job("other", seconds=0)
    assert other.wait(120, check=True).state is State.SUCCEEDED  # it has the room
    run.unpause()
    until_running(run)
    run.stop(1)


def test_preempted_work_says_so_and_goes_on_afterwards(quota, own_cluster, namespace):
    quota(1)
    urgent = {"apiVersion": "scheduling.k8s.io/v1", "kind": "PriorityClass", "metadata": {"name": namespace}}
    api, at = own_cluster.client(), f"/apis/scheduling.k8s.io/v1/priorityclasses/{namespace}"
    api.apply(at, {**urgent, "value": 1000})
    try:
        low = until_running(job("low"))
        high = job("high", seconds=4, more=f"priority: {namespace}\n")
        until(lambda: says(low, "preempted by work of higher priority in the same queue; waits in the queue team"))
        assert any("preempted by work of higher priority" in notice for notice in low.summary().notices)
        assert high.wait(120, check=True).state is State.SUCCEEDED
        until_running(low)
        assert low.status().tasks[0].attempt == 2
        low.stop(1)
    finally:
        api.delete(at)


def test_a_stopped_queue_sends_its_work_back_and_says_so(quota):
    quota(1)
    run = until_running(job("digits"))
    quota(1, stopPolicy="HoldAndDrain")
    until(lambda: says(run, "the ClusterQueue was stopped; waits in the queue team"))
    quota(1)
    until_running(run)
    run.stop(1)


def test_a_sweep_keeps_its_parallelism_while_kueue_has_given_it_room(quota, client):
    quota(2)
    more = "parameters:\n  n: [1, 2, 3, 4]\nparallelism: 1\n"
    run = until_running(job("sweep", seconds=8, more=more))
    with pytest.raises(BackendError, match="its room from Kueue, which would end all that runs"):
        run.parallelism = 2
    run.pause()
    until(lambda: is_suspended(client, "sweep"))
    run.parallelism = 2
    run.unpause()
    until(lambda: sum(task.state is State.RUNNING for task in run.status().tasks.values()) == 2)
    assert run.wait(180, check=True).state is State.SUCCEEDED
    assert sorted(run.trials().state) == ["succeeded"] * 4


def test_an_environment_and_a_server_wait_in_a_queue_like_everything_else(quota, namespace):
    quota(1)
    first = until_running(launch("name: lab\nmode: manual\ngpus: 1\nqueue: team\n", backend="kubernetes"))
    cell = "name: web\nserve: command\ngpus: 1\nqueue: team\nrun: python -m http.server {port}\n"
    server = launch(cell, backend="kubernetes")
    until(lambda: says(server, "waits in the queue team, 0 before it: .*insufficient unused quota"))
    first.stop(1)
    assert server.wait(120).state is State.READY
    assert server.request("/").status == 200
    server.stop(1)


def test_a_queue_that_is_not_there_is_said_before_and_after_the_launch(quota):
    quota(1)
    cell = SLEEP.format(name="lost", gpus=1, seconds=0, more="").replace("queue: team", "queue: tema")
    (note,) = [note for note in plan(cell).notes if note.field == "queue"]
    assert (note.level, note.hint) == ("warning", "queue: team")
    run = launch(cell, backend="kubernetes")
    until(lambda: says(run, "LocalQueue tema doesn't exist"))
    assert "kubectl get localqueues" in run.status().hint
    run.stop(1)


# --- JobSet

MEET = """name: meet
nodes: 2
retries: 1
{more}---
import os, socket, sys, time
rank, world = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
where = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
assert where[0] == os.environ["PET_MASTER_ADDR"] and os.environ["PET_NODE_RANK"] == str(rank), os.environ
if rank == 0:
    with socket.create_server(("", where[1])) as server:
        peer, _ = server.accept()
        print("met", peer.recv(100).decode(), "of", world, flush=True)
        peer.sendall(b"welcome")
else:
    for _ in range(100):
        try:
            peer = socket.create_connection(where, timeout=3)
            break
        except OSError:
            time.sleep(0.2)
    peer.sendall(f"rank {{rank}}".encode())
    print("heard", peer.recv(100).decode(), flush=True)
    if os.environ["GPUDEPLOY_ATTEMPT"] in {fails!r}:
        sys.exit(3)
"""


def meet(fails: str = "", more: str = "") -> Any:
    return launch(MEET.format(fails=fails, more=more), backend="kubernetes")


def test_two_machines_of_a_jobset_find_each_other_and_start_again_together(managed, client):
    run = meet(fails="1").wait(180, check=True)
    assert client.get("JobSet", "meet")["status"]["restarts"] == 1
    assert [run.status().tasks[rank].attempt for rank in (0, 1)] == [2, 2]
    assert run.logs(0).splitlines() == ["met rank 1 of 2"] * 2
    assert run.logs(1).splitlines() == ["heard welcome"] * 2
    assert run.state is State.SUCCEEDED


def test_a_jobset_that_fails_for_good_says_which_machine_did(managed):
    run = meet(fails="12").wait(180)
    assert (run.state, run.status().reason) == (State.FAILED, "node 1: exit code 3")
    assert run.status().tasks[1].state is State.FAILED


def test_a_jobset_waits_in_a_queue_and_is_stopped_and_resumed(quota, client):
    quota(1)
    run = meet(more="gpus: 1\nqueue: team\n")
    until(lambda: says(run, "waits in the queue team, 0 before it"))
    assert client.get("JobSet", "meet")["spec"]["suspend"]
    run.stop(1)
    assert run.state is State.STOPPED
    quota(2)
    run.resume()
    assert run.wait(180, check=True).state is State.SUCCEEDED
    assert run.logs(0).splitlines() == ["met rank 1 of 2"]


# --- LeaderWorkerSet

GROUP = """
import http.server, os, socket, sys, threading, time
rank, where = int(os.environ["NODE_RANK"]), (os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"]))
joined = []

class Page(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(" ".join(joined).encode())

if rank == 0:
    door = socket.create_server(("", where[1]))
    def take():
        while True:
            joined.append(door.accept()[0].recv(100).decode())
    threading.Thread(target=take, daemon=True).start()
    http.server.HTTPServer(("", int(sys.argv[1])), Page).serve_forever()
while True:
    try:
        socket.create_connection(where, timeout=3).sendall(f"worker {rank}".encode())
        break
    except OSError:
        time.sleep(0.2)
print("joined", flush=True)
time.sleep(3600)
"""


def test_a_server_on_two_machines_answers_from_its_leader_and_is_made_anew_as_a_whole(managed, client, monkeypatch):
    monkeypatch.chdir(managed.folder)
    (managed.folder / "group.py").write_text(GROUP)
    cell = "name: duo\nserve: command\nnodes: 2\nrun: python group.py {port}\n"
    run = launch(cell, backend="kubernetes").wait(120)
    assert run.state is State.READY
    until(lambda: run.request("/").text == "worker 1")
    assert run.logs(1).splitlines() == ["joined"]
    assert client.get("Service", "duo-server")["spec"]["selector"]["leaderworkerset.sigs.k8s.io/worker-index"] == "0"
    leader = client.get("Pod", "duo-0")["metadata"]["uid"]
    client.delete("Pod", "duo-0-1")
    until(lambda: leader not in [pod["metadata"]["uid"] for pod in client.list("Pod").items])
    until(lambda: run.state is State.READY)
    until(lambda: run.request("/").text == "worker 1")
    run.stop(2)
    assert run.state is State.STOPPED
    run.resume()
    until(lambda: run.state is State.READY)
    run.stop(2)


def test_the_controllers_leave_namespaces_alone_that_are_not_theirs(running, mine, client):
    run = launch("name: plain\n---\nprint('untouched')\n", backend="kubernetes").wait(120, check=True)
    assert run.logs() == "untouched"
    assert not client.list("Workload").items
