"""A run's folder, kept from a fake API server: one writer, taken over, complete."""

import fcntl
import json
import os
import signal
import subprocess
import sys
import threading
import time

import pytest
from nodes import PODS, UID, ContainerLog, event, job, pod, record, root, until
from wire import fails

from jupyter_gpudeploy.backends.base import RunRef
from jupyter_gpudeploy.backends.kubernetes.api.connect import connect
from jupyter_gpudeploy.backends.kubernetes.mirror.mirror import Mirror
from jupyter_gpudeploy.backends.kubernetes.mirror.shared import Shared
from jupyter_gpudeploy.events.status import Status
from jupyter_gpudeploy.events.store import JournalReader, RunFolder
from jupyter_gpudeploy.events.types import Notice, State, StateChange

API = "/api/v1/namespaces/default"
COLLECTIONS = {
    "ConfigMap": f"{API}/configmaps", "Pod": PODS, "Event": f"{API}/events",
    "Job": "/apis/batch/v1/namespaces/default/jobs", "Deployment": "/apis/apps/v1/namespaces/default/deployments",
    "CronJob": "/apis/batch/v1/namespaces/default/cronjobs",
}  # fmt: skip


class Api:
    """Objects, listed and watched, on a wire."""

    def __init__(self, wire):
        self.wire = wire
        self.items = {kind: {} for kind in COLLECTIONS}
        self.events = []
        self.logs = {}
        self.is_silent = False
        self._changed = threading.Condition()
        for kind, path in COLLECTIONS.items():
            wire.on("GET", path, lambda request, answer, kind=kind: self._list(kind, request, answer))
            wire.on("WATCH", path, lambda request, answer, kind=kind: self._watch(kind, request, answer))
            wire.on("GET", f"{path}/*", lambda request, answer, kind=kind: self._get(kind, request, answer))
        wire.on("GET", f"{PODS}/*/log", lambda request, answer: self.logs[request.path.split("/")[-2]](request, answer))

    def put(self, *items):
        with self._changed:
            for item in items:
                self.items[item["kind"]][item["metadata"]["uid"]] = item
                self.events.append(("MODIFIED", item))
            self._changed.notify_all()

    def drop(self, kind, uid):
        with self._changed:
            item = self.items[kind].pop(uid)
            self.events.append(("DELETED", {**item, "metadata": {**item["metadata"], "resourceVersion": "999999"}}))
            self._changed.notify_all()

    def _list(self, kind, request, answer):
        wanted = [
            part.partition("=")[2] for part in request.query.get("labelSelector", "").split(",") if "/uid=" in part
        ]
        with self._changed:
            items = [item for item in self.items[kind].values()
                     if not wanted or item["metadata"]["labels"].get("jupyter-gpudeploy/uid") == wanted[0]]  # fmt: skip
            place = len(self.events)
        if "phase!=Succeeded" in request.query.get("fieldSelector", ""):
            items = [item for item in items if item["status"]["phase"] not in ("Succeeded", "Failed")]
        bare = [{key: value for key, value in item.items() if key != "kind"} for item in items]
        answer.json({"items": bare, "metadata": {"resourceVersion": str(place)}})

    def _get(self, kind, request, answer):
        name = request.path.split("/")[-1]
        found = [item for item in self.items[kind].values() if item["metadata"]["name"] == name]
        answer.json(found[0]) if found else answer.status(404, f"{name} not found", "NotFound")

    def _watch(self, kind, request, answer):
        place, deadline = int(request.query["resourceVersion"]), time.monotonic() + int(request.query["timeoutSeconds"])
        answer.begin()
        while time.monotonic() < deadline and not answer.stopping.is_set():
            with self._changed:
                while place >= len(self.events) or self.is_silent:
                    if not self._changed.wait(0.1) and (time.monotonic() > deadline or answer.stopping.is_set()):
                        break
                new, place = self.events[place:], len(self.events)
            for kind_of_event, item in new:
                if item["kind"] == kind and not self.is_silent:
                    answer.chunk({"type": kind_of_event, "object": item})
        answer.end()


@pytest.fixture
def api(wire):
    return Api(wire)


@pytest.fixture
def cluster(alone, wire, tmp_path, monkeypatch):
    monkeypatch.setenv("KUBECONFIG", str(wire.kubeconfig(tmp_path / "kubeconfig")))
    with connect() as found:
        yield found


@pytest.fixture
def make_mirror(cluster, tmp_path):
    made = []

    def make(kept=None, path="run", **options):
        kept = kept or record()
        folder = RunFolder(tmp_path / path)
        folder.path.mkdir(exist_ok=True)
        folder.record_file.write_text(json.dumps(kept))
        ref = RunRef("kubernetes", "digits", UID, "f", 0.0)
        made.append(Mirror(cluster, folder, ref, kept, shared=Shared(), **options))
        made[-1].start()
        return made[-1], folder

    yield make
    for mirror in made:
        mirror.close()


def status(folder, count=1):
    return Status.of(range(count), JournalReader(folder.events_file).poll())


def states(folder, task=None):
    changes = [e for e in JournalReader(folder.events_file).poll() if isinstance(e, StateChange)]
    return [change.state for change in changes if change.task == task]


def running(api, count=1):
    api.put(root(), job(active=count))
    for index in range(count):
        item = pod(index, state="running")
        log = api.logs[item["metadata"]["name"]] = ContainerLog()
        log.add(*(b"%d" % n for n in range(100)))
        api.put(item)


def end(api, index=0, code=0):
    item = pod(index, state="ended", code=code)
    api.logs[item["metadata"]["name"]].end()
    api.put(item)


def test_a_run_is_copied_into_its_folder_to_its_end(api, make_mirror):
    running(api, 3)
    mirror, folder = make_mirror(record(3))
    until(lambda: states(folder) == [State.WAITING, State.RUNNING] or State.RUNNING in states(folder))
    until(lambda: folder.log_file(2).exists() and folder.log_file(2).read_bytes().count(b"\n") == 100)
    assert mirror.wait_caught_up(5)
    assert mirror.is_holder
    for index in range(3):
        end(api, index, code=int(index == 1))
    api.put(job("0,2", "1", Failed="FailedIndexes"))
    until(lambda: mirror.is_over)
    assert status(folder, 3).counts() == {State.SUCCEEDED: 2, State.FAILED: 1}
    assert status(folder, 3).reason == "1 of 3 trials failed"
    assert mirror.wait_caught_up(0.1)
    until(lambda: not mirror.is_holder)


def test_the_end_of_a_run_is_the_last_record_and_every_log_is_complete_before_it(api, make_mirror):
    running(api, 2)
    mirror, folder = make_mirror(record(2))
    until(lambda: State.RUNNING in states(folder))
    for index in range(2):
        end(api, index)
    api.put(job("0,1", Complete="x"))
    seen = {}
    while not mirror.is_over:
        for number, task in status(folder, 2).tasks.items():
            if task.state.is_final and number not in seen:
                seen[number] = folder.log_file(number).read_bytes().count(b"\n")
        time.sleep(0.005)
    last = JournalReader(folder.events_file).poll()[-1]
    assert (last.task, last.state) == (None, State.SUCCEEDED)
    assert set(seen.values()) <= {100}


def test_a_run_that_ended_while_nobody_looked_is_copied_afterwards(api, make_mirror):
    running(api, 2)
    for index in range(2):
        end(api, index)
    api.put(job("0,1", Complete="x"))
    mirror, folder = make_mirror(record(2))
    until(lambda: mirror.is_over)
    assert status(folder, 2).state is State.SUCCEEDED
    assert folder.log_file(1).read_bytes().count(b"\n") == 100
    again, _ = make_mirror(record(2))
    before = folder.events_file.read_bytes()
    until(lambda: again.is_over)
    assert folder.events_file.read_bytes() == before


@pytest.mark.fault(20)
def test_two_mirrors_of_one_folder_write_once_and_the_other_takes_over(api, make_mirror):
    running(api)
    first, folder = make_mirror()
    until(lambda: first.is_holder)
    second, _ = make_mirror()
    assert second.wait_caught_up(5)
    assert not second.is_holder
    until(lambda: State.RUNNING in states(folder, 0))
    first.close()
    until(lambda: second.is_holder)
    end(api)
    api.put(job("0", Complete="x"))
    until(lambda: second.is_over)
    assert states(folder, 0).count(State.RUNNING) == 1
    assert states(folder, 0)[-1] is State.SUCCEEDED
    assert folder.log_file(0).read_bytes().split() == [b"%d" % n for n in range(100)]


def test_closing_is_quick_and_nothing_is_written_afterwards(api, make_mirror):
    running(api)
    mirror, folder = make_mirror()
    until(lambda: State.RUNNING in states(folder, 0))
    begun = time.monotonic()
    mirror.close()
    assert time.monotonic() - begun < 2
    assert not mirror.is_holder
    before = {file: file.read_bytes() for file in folder.path.rglob("*") if file.is_file()}
    end(api)
    time.sleep(0.5)
    assert {file: file.read_bytes() for file in folder.path.rglob("*") if file.is_file()} == before


@pytest.mark.fault(12)
def test_a_watch_that_says_nothing_is_not_trusted(api, make_mirror, monkeypatch):
    from jupyter_gpudeploy.backends.kubernetes.mirror import watch

    monkeypatch.setattr(watch, "SELECTIONS", {kind: s._replace(seconds=2.0) for kind, s in watch.SELECTIONS.items()})
    running(api)
    mirror, folder = make_mirror()
    until(lambda: State.RUNNING in states(folder, 0))
    api.is_silent = True
    end(api)
    api.put(job("0", Complete="x"))
    until(lambda: mirror.is_over, 40)
    assert status(folder).state is State.SUCCEEDED


@pytest.mark.fault(8)
def test_while_the_api_server_is_away_the_last_state_stands_and_says_since_when(api, wire, make_mirror):
    running(api)
    mirror, folder = make_mirror()
    until(lambda: State.RUNNING in states(folder, 0) and mirror.stale_since is None)
    for path in COLLECTIONS.values():
        wire.on("GET", f"{path}*", fails(503, "etcd is away"))
        wire.on("WATCH", path, fails(503, "etcd is away"))
    wire.drop_all()
    until(lambda: mirror.stale_since is not None)
    assert abs(mirror.stale_since - time.time()) < 20
    assert "etcd is away" in mirror.why_stale
    assert status(folder).tasks[0].state is State.RUNNING
    again = Api(wire)
    again.logs = api.logs
    again.put(*(item for kind in api.items.values() for item in kind.values()))
    end(again)
    again.put(job("0", Complete="x"))
    until(lambda: mirror.is_over and mirror.stale_since is None, 40)


def test_a_run_whose_root_is_gone_is_lost(api, make_mirror):
    running(api)
    mirror, folder = make_mirror()
    until(lambda: State.RUNNING in states(folder, 0))
    assert mirror.lost is None
    api.drop("ConfigMap", UID)
    until(lambda: mirror.lost is not None)
    assert "was deleted" in mirror.lost
    other, _ = make_mirror(path="other")
    until(lambda: other.lost is not None)


def test_events_of_the_cluster_are_in_the_journal_once(api, make_mirror):
    running(api)
    uid = pod()["metadata"]["uid"]
    api.put(event(uid, "FailedMount", "x"), event("of somebody else", "Failed", "y"))
    _, folder = make_mirror()
    until(lambda: any(isinstance(e, Notice) for e in JournalReader(folder.events_file).poll()))
    api.put(event(uid, "FailedMount", "x", count=7))
    end(api)
    api.put(job("0", Complete="x"))
    until(lambda: status(folder).state.is_final)
    assert [n.message for n in status(folder).notices] == ["FailedMount: x"]


def test_a_thread_that_fails_says_so_and_goes_on(api, make_mirror, monkeypatch):
    from jupyter_gpudeploy.backends.kubernetes.mirror import states as module

    running(api)
    original, failures = module.States.changes, [RuntimeError("a mistake of ours")]

    def changes(self, monotonic):
        if failures:
            raise failures.pop()
        return original(self, monotonic)

    monkeypatch.setattr(module.States, "changes", changes)
    _, folder = make_mirror()
    until(lambda: State.RUNNING in states(folder, 0))
    assert "a mistake of ours" in status(folder).notices[0].message


_CHILD = """
import json, sys, time
from pathlib import Path
from jupyter_gpudeploy.backends.base import RunRef
from jupyter_gpudeploy.backends.kubernetes.api.connect import connect
from jupyter_gpudeploy.backends.kubernetes.mirror.mirror import Mirror
from jupyter_gpudeploy.events.store import RunFolder
folder = RunFolder(Path({folder!r}))
mirror = Mirror(connect(), folder, RunRef("kubernetes", "digits", {uid!r}, "f", 0.0), folder.record())
mirror.start()
while not mirror.is_over:
    time.sleep(0.05)
"""


@pytest.mark.fault(2)
def test_a_process_that_is_killed_is_followed_by_another_without_loss(api, cluster, tmp_path):
    running(api, 4)
    folder = RunFolder(tmp_path / "run")
    folder.path.mkdir()
    folder.record_file.write_text(json.dumps(record(4)))
    program = _CHILD.format(folder=str(folder.path), uid=UID)
    names = [pod(n)["metadata"]["name"] for n in range(4)]
    for turn in range(5):
        child = subprocess.Popen([sys.executable, "-c", program], env=os.environ)
        for step in range(3):
            time.sleep(0.3)
            for name in names:
                api.logs[name].add(
                    *(b"%d" % n for n in range(100 + 300 * turn + 100 * step, 200 + 300 * turn + 100 * step))
                )
        if turn < 4:
            end(api, turn)
        if turn == 4:
            api.put(job("0-3", Complete="x"))
            assert child.wait(30) == 0
        else:
            child.send_signal(signal.SIGKILL)
            child.wait()
    assert status(folder, 4).state is State.SUCCEEDED
    for number in range(4):
        text = folder.log_file(number).read_bytes().split()
        assert text == [b"%d" % n for n in range(len(text))]
        assert len(text) >= 100 + 300 * (number + 1)
        assert states(folder, number).count(State.SUCCEEDED) == 1


@pytest.fixture
def patches(wire, monkeypatch):
    """What the mirror changes on the cluster: (path, body)."""
    from jupyter_gpudeploy.backends.kubernetes.mirror import caretaker

    monkeypatch.setattr(caretaker, "_SETTLE_SECONDS", 0.1)
    found = []

    def take(request, answer):
        found.append((request.path, request.json()))
        answer.json({"metadata": {}})

    wire.on("PATCH", "*", take)
    return found


def marked(item, *names):
    notes = {f"jupyter-gpudeploy/{name}": "1.0" for name in names}
    return {**item, "metadata": {**item["metadata"], "annotations": notes}}


@pytest.mark.fault(20)
def test_a_mirror_that_waited_lets_go_of_the_folder_of_another_run_of_that_name(api, make_mirror, tmp_path):
    running(api)
    first, folder = make_mirror()
    (folder.path / "ref.json").write_text(json.dumps(RunRef("kubernetes", "digits", UID, "f", 0.0, "a/b")._asdict()))
    until(lambda: first.is_holder)
    waiting, _ = make_mirror()
    assert waiting.wait_caught_up(5)
    folder.path.rename(tmp_path / "aside")
    folder.path.mkdir()
    (folder.path / "ref.json").write_text(json.dumps(RunRef("kubernetes", "digits", "new", "f", 0.0, "a/b")._asdict()))
    until(lambda: waiting.lost is not None)
    first.close()
    until(lambda: not waiting._thread.is_alive())
    assert not waiting.is_holder
    assert {file.name for file in folder.path.iterdir()} <= {"ref.json", "mirror.lock"}
    with (folder.path / "mirror.lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)


def test_a_mirror_whose_folder_was_moved_aside_writes_into_no_other(api, make_mirror, tmp_path):
    running(api)
    mirror, folder = make_mirror()
    until(lambda: State.RUNNING in states(folder, 0))
    folder.path.rename(tmp_path / "aside")
    folder.path.mkdir()
    api.put(root())
    until(lambda: mirror.lost is not None)
    until(lambda: not mirror._thread.is_alive())
    written = {file.name for file in folder.path.rglob("*") if file.is_file()}
    assert written <= {"mirror.lock"}  # it looked, and let go


def test_the_mirror_of_a_run_that_is_lost_ends(api, make_mirror, monkeypatch):
    from jupyter_gpudeploy.backends.kubernetes.mirror import mirror as module

    monkeypatch.setattr(module, "_LOST_SECONDS", 0.2)
    running(api)
    mirror, folder = make_mirror()
    until(lambda: State.RUNNING in states(folder, 0))
    api.drop("ConfigMap", UID)
    until(lambda: not mirror._thread.is_alive())
    assert "was deleted" in mirror.lost
    assert not mirror._shared._watchers
    with (folder.path / "mirror.lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)


def test_a_launch_is_marked_as_complete_once_its_job_was_seen(api, make_mirror, patches):
    api.put(root())
    _, folder = make_mirror()
    until(lambda: states(folder))
    assert patches == []
    api.put(job(active=1))
    until(lambda: patches)
    ((path, body),) = patches
    assert path.endswith("/configmaps/digits.run")
    assert body["metadata"]["uid"] == UID
    assert list(body["metadata"]["annotations"]) == ["jupyter-gpudeploy/started"]


def test_a_run_whose_job_was_deleted_while_nobody_looked_is_lost_and_waits_no_more(api, make_mirror, patches):
    api.put(marked(root(), "started"), pod(0, state="ended"))
    api.logs[pod(0)["metadata"]["name"]] = log = ContainerLog()
    log.end()
    mirror, folder = make_mirror(record(3))
    until(lambda: mirror.is_over)
    found = status(folder, 3)
    assert found.counts() == {State.SUCCEEDED: 1, State.LOST: 2}
    assert (found.state, found.reason) == (State.LOST, "its Job was deleted before its end was seen")
    assert found.tasks[1].reason == found.reason
    assert patches == []


@pytest.mark.parametrize(("kind", "name"), [("server", "Deployment"), ("manual", "Deployment"), ("job", "CronJob")])
def test_what_never_ends_by_itself_is_lost_when_what_kept_it_up_is_gone(api, make_mirror, patches, kind, name):
    api.put(marked(root(), "started"))
    schedule = {"cluster": {"schedule": "0 3 * * *"}} if name == "CronJob" else {}
    mirror, folder = make_mirror(record(kind=kind, **schedule))
    until(lambda: mirror.is_over)
    assert (status(folder).state, status(folder).reason) == (
        State.LOST,
        f"its {name} was deleted before its end was seen",
    )


@pytest.mark.fault(2)
def test_a_launch_that_was_cut_off_is_said_once(api, make_mirror, patches, monkeypatch):
    from jupyter_gpudeploy.backends.kubernetes.mirror import caretaker

    monkeypatch.setattr(caretaker, "_AGAIN_SECONDS", 0.1)
    api.put(root())
    first, folder = make_mirror()
    until(lambda: status(folder).notices)
    first.close()
    asked = len(api.wire.seen("GET", f"{API}/configmaps/digits.run"))
    make_mirror()
    until(lambda: len(api.wire.seen("GET", f"{API}/configmaps/digits.run")) > asked + 3)
    assert [notice.message for notice in status(folder).notices] == [caretaker.CUT_OFF]
    assert not status(folder).state.is_final


def test_a_run_that_was_asked_to_stop_while_it_was_launched_is_stopped(api, make_mirror, patches):
    made = job(active=1)
    made["metadata"]["labels"] |= {"app.kubernetes.io/managed-by": "jupyter-gpudeploy"}
    api.put(marked(root(), "started", "stopped"), made)
    make_mirror()
    until(lambda: patches)
    path, body = patches[0]
    assert path.endswith("/jobs/digits")
    assert body["spec"] == {"suspend": True}
