"""A launch that was cut off is completed, one that was complete never is; and a stop that comes in between holds."""

import base64
import threading

import pytest

from jupyter_gpudeploy import attach, launch, launching
from jupyter_gpudeploy.backends.kubernetes import marks
from jupyter_gpudeploy.backends.kubernetes.api import errors as client_errors
from jupyter_gpudeploy.backends.kubernetes.life import objects
from jupyter_gpudeploy.backends.kubernetes.mirror import caretaker
from jupyter_gpudeploy.backends.kubernetes.reach import Reach
from jupyter_gpudeploy.errors import BackendError
from jupyter_gpudeploy.events.types import State

from .people import PATIENCE, Notebook, until, until_running
from .test_lifetime import CUT_OFF

BRIEF = "name: brief\n---\nprint('once')\n"
LONG = "name: long\n---\nimport time\nprint('begun', flush=True)\ntime.sleep(600)\n"
SERVER = "name: web\nserve: command\nport: 8000\nrun: python -m http.server {port}\n"


@pytest.fixture
def elsewhere(kubeconfig, namespace, python_image, tmp_path):
    """The same person at another machine, where nothing is known yet."""
    return Notebook(tmp_path / "elsewhere", kubeconfig, namespace, python_image)


def notes(client, name):
    return client.get("ConfigMap", f"{name}.run")["metadata"].get("annotations") or {}


def jobs(client):
    return {one["metadata"]["name"]: one for one in client.list("Job").items}


def cut_off(mine, cell, kind="Job"):
    """Launch in a process that is killed before it makes the Job."""
    process = mine.start(CUT_OFF, cell, kind)
    process.communicate(timeout=60)
    assert process.returncode == -9


def test_a_run_whose_job_is_gone_is_not_started_anew_by_its_unchanged_cell(mine, client, elsewhere):
    run = launch(BRIEF, backend="kubernetes").wait(PATIENCE)
    until(lambda: marks.STARTED in notes(client, "brief"))
    client.delete("Job", "brief", propagation="Foreground")
    until(lambda: "brief" not in jobs(client))
    again = launch(BRIEF, backend="kubernetes")
    assert (again.uid, again.state, jobs(client)) == (run.uid, State.SUCCEEDED, {})
    with elsewhere.sits_down():
        found = launch(BRIEF, backend="kubernetes")
        until(lambda: found.is_over)
        assert (found.uid, found.state) == (run.uid, State.LOST)
        assert found.status().reason == "its Job was deleted before its end was seen"
        assert jobs(client) == {}
        assert launch(BRIEF, backend="kubernetes", replace=True).wait(PATIENCE).state is State.SUCCEEDED


def test_a_deployment_that_was_deleted_outside_ends_the_run_and_its_cell_starts_it_anew(mine, client):
    run = launch(SERVER, backend="kubernetes").wait(PATIENCE)
    client.delete("Deployment", "web", propagation="Foreground")
    until(lambda: run.is_over)
    assert (run.state, run.status().reason) == (State.LOST, "its Deployment was deleted before its end was seen")
    again = launch(SERVER, backend="kubernetes").wait(PATIENCE)
    assert again.request("/").status == 200
    assert again.uid != run.uid
    again.stop(0)


@pytest.mark.fault(2)
def test_who_attaches_to_a_launch_that_was_cut_off_is_told_so(mine, client, monkeypatch):
    monkeypatch.setattr(caretaker, "_LAUNCH_SECONDS", 1.0)
    cut_off(mine, BRIEF)
    run = attach("brief")
    until(lambda: caretaker.CUT_OFF in run.summary().notices)
    assert not run.is_over
    again = launch(BRIEF, backend="kubernetes", base_dir=mine.folder).wait(PATIENCE)
    assert (again.uid, again.state) == (run.uid, State.SUCCEEDED)


@pytest.mark.fault(2)
def test_resuming_a_run_that_was_stopped_before_its_launch_was_complete_completes_it(mine, client):
    cut_off(mine, BRIEF)
    run = attach("brief").stop(0)
    assert (run.state, jobs(client)) == (State.STOPPED, {})
    assert run.resume().wait(PATIENCE).state is State.SUCCEEDED


@pytest.mark.parametrize("name", ["long", "web"])
def test_a_run_that_was_deleted_outside_has_nothing_left_to_stop_and_is_replaced(mine, client, name):
    cell = LONG if name == "long" else SERVER
    run = launch(cell, backend="kubernetes")
    until_running(run) if name == "long" else run.wait(PATIENCE)
    mine.backend.close()
    client.delete("ConfigMap", f"{name}.run", propagation="Background")
    until(lambda: not [one for kind in ("Job", "Deployment", "Pod") for one in client.list(kind).items])
    with mine.sits_down():
        assert attach(name).stop(0).state is State.LOST
        again = launch(cell, backend="kubernetes", replace=name == "long")
        assert again.uid != run.uid
        again.stop(0)


def test_a_stop_that_comes_while_the_run_is_being_launched_holds(mine, client, monkeypatch):
    reached, goes_on = threading.Event(), threading.Event()
    put = objects.put

    def slow(cluster, name, body, uid):
        if body["kind"] == "Job":
            reached.set()
            assert goes_on.wait(60)
        return put(cluster, name, body, uid)

    monkeypatch.setattr(objects, "put", slow)
    runs = []
    thread = threading.Thread(target=lambda: runs.append(launch(LONG, backend="kubernetes")))
    thread.start()
    assert reached.wait(60)
    client.patch("ConfigMap", "long.run", {"metadata": {"annotations": {marks.STOPPED: "1.0"}}})
    goes_on.set()
    thread.join(60)
    until(lambda: jobs(client)["long"]["spec"]["suspend"])
    until(lambda: runs[0].is_over)
    assert runs[0].state is State.STOPPED


def test_stopping_a_schedule_stops_what_it_has_started(mine, client):
    cell = "name: long\nschedule: '* * * * *'\n---\nimport time\ntime.sleep(600)\n"
    run = launch(cell, backend="kubernetes")
    uid = run.uid
    clock = client.get("CronJob", "long")
    job = {"apiVersion": "batch/v1", "kind": "Job", **clock["spec"]["jobTemplate"]}
    job["metadata"] = {**job["metadata"], "name": "long-by-hand"}
    client.create(job)
    until(lambda: client.list("Pod", labels=marks.selector(uid=uid)).items)
    run.stop(0)
    assert run.state is State.STOPPED
    assert client.get("CronJob", "long")["spec"]["suspend"]
    assert all(one["spec"]["suspend"] for one in jobs(client).values())
    until(lambda: not client.list("Pod", labels=marks.selector(uid=uid)).items)


@pytest.mark.fault(70)
def test_the_key_of_a_server_is_here_before_its_secret_is_made(mine, client, elsewhere, monkeypatch):
    cell = "name: chat\nserve: vllm\nmodel: a/b\n"
    put, seen = objects.put, []

    def look(cluster, name, body, uid):
        if body["kind"] == "Secret":
            seen.extend(path.read_text() for path in mine.home.rglob("key"))
        return put(cluster, name, body, uid)

    monkeypatch.setattr(objects, "put", look)
    run = launch(cell, backend="kubernetes")
    secret = client.get("Secret", "chat.key")
    assert [base64.b64decode(value).decode() for value in secret["data"].values()] == seen
    header = {"Authorization": f"Bearer {seen[0]}"}
    with elsewhere.sits_down() as backend:
        folder = backend.folder(attach("chat").ref)
        assert not folder.key_file.exists()
        assert Reach(client, run.ref, folder)._headers() == header
        assert folder.key_file.stat().st_mode & 0o777 == 0o600
        folder.key_file.unlink()
        get = type(client).get

        def forbidden(self, kind, name, *, namespace=None):
            if kind == "Secret":
                raise client_errors.ForbiddenError("no", status=403)
            return get(self, kind, name, namespace=namespace)

        monkeypatch.setattr(type(client), "get", forbidden)
        with pytest.raises(BackendError, match="its key is on the machine that launched it"):
            Reach(client, run.ref, folder)._headers()
    run.stop(0)


def test_what_goes_wrong_in_a_launch_is_said_even_if_it_cannot_be_cleaned_up(mine, client, monkeypatch):
    def fails(*_, **__):
        raise BackendError("the disk of the API server is full")

    def gone(*_, **__):
        raise client_errors.UnreachableError("no answer")

    monkeypatch.setattr(objects, "put", fails)
    monkeypatch.setattr(type(client), "delete", gone)
    with pytest.raises(BackendError, match="the disk of the API server is full"):
        launching.launch(BRIEF, backend="kubernetes")
