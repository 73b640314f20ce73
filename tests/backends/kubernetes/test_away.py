"""A cluster that is away, or that says no: what looks at runs neither waits for it nor takes silence for an answer."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import pytest
from wire import Wire, fails, gives, silence

from jupyter_gpudeploy import attach, launching, runs
from jupyter_gpudeploy.backends.base import RunRef
from jupyter_gpudeploy.backends.kubernetes import backend as backend_module
from jupyter_gpudeploy.backends.kubernetes import marks
from jupyter_gpudeploy.backends.kubernetes.api.transport import Patience
from jupyter_gpudeploy.backends.kubernetes.backend import KubernetesBackend
from jupyter_gpudeploy.backends.kubernetes.held import Held
from jupyter_gpudeploy.errors import BackendError, RunNotFoundError
from jupyter_gpudeploy.notebook import reprs, verbs
from jupyter_gpudeploy.notebook.arguments import parse_line
from jupyter_gpudeploy.run import Run

ROOTS = "/api/v1/namespaces/ml/configmaps"
ME = "/apis/authentication.k8s.io/v1/selfsubjectreviews"
RECORD = (
    '{"version": 1, "name": "digits", "title": "digits", "uid": "u1", "kind": "job", "backend": "kubernetes",'
    ' "tasks": [{"number": 0, "name": "0", "parameters": {}}], "parallelism": 1}'
)


def root(name, uid="u1", owner="me"):
    notes = {marks.FINGERPRINT: "f", marks.CREATED_BY: owner, marks.DRIVER: '{"host": "far", "pid": 7, "since": 0}'}
    labels = marks.labels(name, marks.ROOT, uid)
    made = "2026-01-01T00:00:00Z"
    return {"metadata": {"name": f"{name}.run", "uid": uid, "labels": labels, "annotations": notes,
                         "creationTimestamp": made, "resourceVersion": "1"}}  # fmt: skip


def items(*bodies):
    return gives({"metadata": {"resourceVersion": "1"}, "items": list(bodies)})


@pytest.fixture
def wire(tmp_path, monkeypatch):
    with Wire() as wire:
        monkeypatch.setenv("JUPYTER_GPUDEPLOY_HOME", str(tmp_path / "home"))
        monkeypatch.setenv("JUPYTER_GPUDEPLOY_CONFIG", str(tmp_path / "none.yaml"))
        monkeypatch.setenv("KUBECONFIG", str(wire.kubeconfig(tmp_path / "config", namespace="ml", context="here")))
        wire.on("POST", ME, gives({"status": {"userInfo": {"username": "me"}}}))
        wire.on("GET", ROOTS, items(root("digits")))
        wire.on("GET", f"{ROOTS}/digits.run", gives(root("digits")))
        wire.on("GET", "/apis/batch/v1/namespaces/ml/jobs", items())
        wire.on("GET", "/apis/apps/v1/namespaces/ml/deployments", items())
        yield wire


@pytest.fixture
def backend(wire, monkeypatch):
    made = KubernetesBackend()
    monkeypatch.setattr(launching, "_backends", {"kubernetes": made})
    yield made
    made.close()


@pytest.fixture
def run(wire, backend):
    """A run with a mirror, whose cluster is silent from now on."""
    (ref,) = backend.find()
    backend._place_of(ref).make(ref, {"run.json": RECORD})
    wire.on("GET", "*", silence)
    wire.on("WATCH", "*", silence)
    wire.on("POST", "*", silence)
    return ref


def seconds(call):
    begun = time.monotonic()
    call()
    return time.monotonic() - begun


def test_a_display_never_waits_for_a_cluster_that_is_silent(wire, backend, run):
    backend._held(run).follow(backend._cluster_of(run), backend._place_of(run).folder_of(run), 0)
    shown = Run(backend, run)
    assert seconds(shown.summary) < 1.5
    assert seconds(shown.summary) < 1.5
    asked = [one for one in wire.requests if one.path.endswith("digits.run") and one.method == "GET"]
    assert len(asked) <= 2, "the mirror and the display ask once"


def test_what_a_cluster_did_not_answer_is_not_asked_again_for_a_while(wire, backend, run):
    assert seconds(backend.find) < 5
    before = len(wire.requests)
    assert seconds(backend.find) < 0.5
    assert [ref.uid for ref in backend.find()] == ["u1"]
    assert seconds(lambda: backend.capabilities("here", "ml")) < 0.5
    assert len(wire.requests) == before


@pytest.mark.parametrize("away", [fails(403, "no rights"), fails(401), fails(503), silence])
def test_no_rights_no_login_and_no_answer_are_not_taken_for_no_runs(wire, backend, away):
    wire.on("GET", ROOTS, away)
    with pytest.raises(RunNotFoundError, match="here/ml could not be asked: ") as caught:
        attach("nothing", "kubernetes")
    assert "here/ml could not be asked" in caught.value.hint
    listed = runs("kubernetes")
    assert len(listed) == 0
    assert "here/ml could not be asked" in reprs.list_bundle(listed)["text/plain"]
    assert "here/ml could not be asked" in reprs.list_bundle(listed)["text/html"]


def test_whose_a_run_is_must_be_known_before_it_is_stopped(wire, backend):
    theirs = RunRef("kubernetes", "digits", "u1", "f", 0.0, "here/ml", "somebody")
    wire.on("POST", ME, fails(503), fails(503), gives({"status": {"userInfo": {"username": "me"}}}))
    backend._sites.connect("here", "ml").cluster._transport.patience = Patience(total=0.0)
    assert backend.owner(theirs) is None
    with pytest.raises(BackendError, match="could not be asked"):
        backend.owner(theirs, must_know=True)
    assert backend.owner(theirs, must_know=True) == "somebody"


def test_a_command_that_is_slow_to_start_holds_up_nothing_else(wire, backend, monkeypatch):
    entered, release = threading.Event(), threading.Event()

    def slow(cluster, pod, number, argv):
        entered.set()
        assert release.wait(20)
        raise BackendError("it did not start")

    (ref,) = backend.find()
    backend._place_of(ref).make(ref, {"run.json": RECORD.replace('"job"', '"manual"')})
    monkeypatch.setattr(backend_module.control, "execute", slow)
    monkeypatch.setattr(Held, "follow", lambda *_, **__: None)
    monkeypatch.setattr(Held, "reach", lambda *_: SimpleNamespace(ready_pod=lambda _: "pod"))
    other = ref._replace(uid="u2")
    with ThreadPoolExecutor(2) as pool:
        command = pool.submit(backend.execute, ref, ["true"])
        try:
            assert entered.wait(20)
            assert pool.submit(backend.driver, other).result(10) is None
            assert [found.uid for found in pool.submit(backend.find).result(10)] == ["u1"]
        finally:
            release.set()
        with pytest.raises(BackendError, match="did not start"):
            command.result(20)


def test_who_we_are_is_asked_once(wire, backend):
    theirs = RunRef("kubernetes", "digits", "u1", "f", 0.0, "here/ml", "somebody")
    assert [backend.owner(theirs, must_know=True) for _ in range(3)] == ["somebody"] * 3
    assert len([one for one in wire.requests if one.path == ME]) == 1


def test_two_names_of_one_namespace_are_one_place(wire, backend, tmp_path, monkeypatch):
    config = tmp_path / "config.yaml"
    config.write_text("default_cluster: lab\nclusters:\n  lab: {context: here, namespace: ml}\n")
    monkeypatch.setenv("JUPYTER_GPUDEPLOY_CONFIG", str(config))
    (ref,) = backend.find("here", "ml")
    backend._place_of(ref).make(ref, {"run.json": RECORD})
    (again,) = backend.find("lab")
    assert (ref.place, again.place) == ("here/ml", "lab/ml")
    assert backend._place_of(ref).folder == backend._place_of(again).folder
    assert backend._place_of(again).folder_of(again) is not None
    before = len(wire.requests)
    assert [found.uid for found in backend.find()] == ["u1"]
    assert len([one for one in wire.requests[before:] if one.path == ROOTS]) == 1


def test_a_list_reads_metadata_alone_and_copies_nothing(wire, backend, tmp_path):
    job = {"metadata": {"name": "digits", "uid": "j", "labels": marks.labels("digits", marks.WORK, "u1")},
           "spec": {}, "status": {"ready": 1, "active": 1}}  # fmt: skip
    wire.on("GET", ROOTS, items(root("digits"), root("other", "u2", "me")))
    wire.on("GET", "/apis/batch/v1/namespaces/ml/jobs", items(job))
    shown = reprs.list_bundle(runs("kubernetes"))["text/plain"]
    assert "running" in shown
    assert "not looked at" in shown
    asked = [one for one in wire.requests if one.path == ROOTS]
    assert all("as=PartialObjectMetadataList;g=meta.k8s.io;v=v1" in one.headers["Accept"] for one in asked)
    assert not [one for one in wire.requests if one.method == "WATCH" or one.path.endswith("digits.run")]
    assert not list((tmp_path / "home").glob("kubernetes/*/*/runs/*"))


def test_a_run_of_another_machine_is_found_by_its_place(wire, backend):
    wire.on("GET", "/api/v1/namespaces/far/configmaps", items(root("digits", "u9")))
    assert [ref.uid for ref in backend.find("here", "far")] == ["u9"]
    (listed,) = verbs.line_verb(None, parse_line("ls --cluster here --namespace far"))
    assert listed.ref.place == "here/far"
    with pytest.raises(RunNotFoundError, match="'digit'"):
        verbs.line_verb(None, parse_line("status digit --namespace far"))


def test_a_name_that_is_unknown_here_is_looked_for_on_the_default_cluster(wire, backend):
    with pytest.raises(RunNotFoundError, match="digits"):
        attach("nothing")
    assert [one.path for one in wire.requests].count(ROOTS) == 1


@pytest.mark.parametrize("verb", ["attach", "status", "logs", "stop", "results", "wait", "resume", "clean", "download"])
def test_every_verb_of_a_run_takes_where_it_is(verb):
    asked = parse_line(f"{verb} digits --backend kubernetes --cluster c --namespace n")
    assert (asked.names, asked.backend, asked.cluster, asked.namespace) == (["digits"], "kubernetes", "c", "n")
