"""What a person is told when a run does not go on: each case really happens, launched as a person launches it."""

import http.server
import json
import threading
import time

import pytest

from jupyter_gpudeploy import launch, launching
from jupyter_gpudeploy.backends.kubernetes import marks
from jupyter_gpudeploy.backends.kubernetes.diagnosis.explain import explain
from jupyter_gpudeploy.events.types import State

from . import samples

PATIENCE = 120.0
REGISTRY_PORT = 45990
SIGN_IN = "image_pull_secrets: [NAME of the Secret that opens the registry]"
HELLO = "print('hello')"
SLEEP = "import time\ntime.sleep(300)"
SERVER = """
import http.server, sys, time
begun = time.monotonic()

class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200 if time.monotonic() - begun > {after} else 503)
        self.end_headers()

http.server.HTTPServer(("0.0.0.0", int(sys.argv[1])), Handler).serve_forever()
"""


class Person:
    """Whoever has a settings file for the cluster and a fresh namespace, and the administrator beside them."""

    def __init__(self, api, namespace, folder):
        from kubernetes import client

        self.api = api
        self.core = client.CoreV1Api(api)
        self.batch = client.BatchV1Api(api)
        self.apps = client.AppsV1Api(api)
        self.namespace = namespace
        self.folder = folder

    def launch(self, name, header="", code=HELLO):
        return launch(f"name: {name}\nbackend: kubernetes\n{header}\n---\n{code}\n", base_dir=self.folder)

    def serve(self, name, header="", code=SERVER):
        (self.folder / f"{name}.py").write_text(code)
        text = (
            f"name: {name}\nbackend: kubernetes\nserve: command\nrun: python {name}.py {{port}}\nport: 8000\n{header}\n"
        )
        return launch(text, base_dir=self.folder)

    def objects(self, **labels):
        """Return every Pod, Job and Deployment with these labels, as plain dicts with their kinds."""
        selector = ",".join(f"{key}={value}" for key, value in labels.items())
        lists = {
            "Pod": self.core.list_namespaced_pod,
            "Job": self.batch.list_namespaced_job,
            "Deployment": self.apps.list_namespaced_deployment,
        }
        return [
            {"kind": kind, **self.plain(item)}
            for kind, listed in lists.items()
            for item in listed(self.namespace, label_selector=selector).items
        ]

    def events_of(self, item):
        found = [self.plain(event) for event in self.core.list_namespaced_event(self.namespace).items]
        about = [event for event in found if event["involvedObject"].get("uid") == item["metadata"]["uid"]]
        return [event for event in about if event.get("type") != "Normal"]

    def plain(self, item):
        return self.api.sanitize_for_serialization(item)

    def keep(self, name, run, kind="Pod"):
        """Keep an object of a run as it is now, as a sample."""
        found = [item for item in self.objects(**{marks.RUN: run.name}) if item["kind"] == kind]
        samples.keep(name, found[0], self.events_of(found[0]), run.record)


@pytest.fixture
def person(own_cluster, api, namespace, kubeconfig, python_image, tmp_path, monkeypatch):
    context = json.loads(kubeconfig.read_text())["current-context"]
    here = {"kubeconfig": str(kubeconfig), "context": context, "namespace": namespace, "image": python_image}
    profiles = {
        "here": here,
        "openshift": {**here, "flavour": "openshift"},
        "classes": {**here, "storage_class": "nosuch"},
    }
    file = tmp_path / "config.yaml"
    file.write_text(json.dumps({"default_cluster": "here", "clusters": profiles}))
    monkeypatch.setenv("JUPYTER_GPUDEPLOY_CONFIG", str(file))
    monkeypatch.setenv("JUPYTER_GPUDEPLOY_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(launching, "_backends", {})
    yield Person(api, namespace, tmp_path)
    for backend in launching._backends.values():
        if hasattr(backend, "close"):
            backend.close()


def until(look, wanted, seconds=PATIENCE):
    """Wait until `look` returns what is wanted, or what contains it."""
    deadline = time.monotonic() + seconds
    found = look()
    while not (found == wanted or (callable(wanted) and wanted(found))):
        assert time.monotonic() < deadline, f"wanted {wanted!r}, the last was {found!r}"
        time.sleep(0.2)
        found = look()
    return found


def told(run, sentence, state, hint=None):
    """Wait until a person is told this of the run and of its first task."""
    until(lambda: (run.status().reason, run.status().state), (sentence, state))
    task = run.status().tasks[0]
    assert task.reason == sentence
    if hint is not None:
        assert task.details.get("hint", "") == hint


def journal(run):
    return (run.folder / "events.jsonl").read_text()


@pytest.mark.fault(26)
@pytest.mark.parametrize(
    ("name", "header", "sentence", "hint"),
    [
        ("no-gpu", "gpus: 8", "no node has 8 nvidia.com/gpu", "gpus: 1"),
        ("no-memory", "memory: 900Gi", "no node has 900Gi of memory", "memory: 450Gi"),
        ("no-cpu", "cpu: 500", "no node has 500 processors", "cpu: 250"),
        ("no-label", "node_selector: {pool: h100}", "no node has the label pool=h100", "node_selector: leave it out"),
        (
            "no-type",
            "gpus: 1\ngpu_type: NVIDIA-H100",
            "no node has a GPU of the type NVIDIA-H100",
            "gpu_type: leave it out",
        ),
        ("no-claim", "storage: claim:missing", "there is no volume claim missing", "storage: 20Gi makes one"),
        (
            "no-class",
            "cluster: classes\nstorage: 1Gi",
            "no storage was found for the volume claim no-class",
            "storage_class: one that the cluster has",
        ),
    ],
)
def test_a_run_that_no_node_takes_says_what_it_lacks(person, name, header, sentence, hint):
    run = person.launch(name, header)
    told(run, sentence, State.WAITING, hint)
    assert any(notice.message.startswith("FailedScheduling: ") for notice in run.status().notices)
    person.keep(name, run)


@pytest.mark.fault(26)
def test_gpus_that_are_all_in_use_can_be_waited_for(person):
    first = person.launch("first", "gpus: 4", SLEEP)
    run = person.launch("second", "gpus: 4")
    told(run, "no node has 4 nvidia.com/gpu free", State.WAITING, "gpus: 1")
    person.keep("gpus-in-use", run)
    first.stop(grace_seconds=1)
    until(lambda: run.status().state, State.SUCCEEDED)
    assert run.status().reason == ""


@pytest.mark.fault(25)
@pytest.mark.parametrize(
    ("name", "image", "sentence", "hint"),
    [
        (
            "unknown-registry",
            "registry.invalid/x:1",
            "the node finds no registry registry.invalid; it is tried again",
            "image: with the registry's right name",
        ),
        (
            "wrong-image-name",
            "'Bad Name::'",
            "'Bad Name::' is no name of an image: repository name (library/Bad Name) must be lowercase",
            "image: like python:3.12-slim",
        ),
    ],
)
def test_an_image_that_cannot_be_had_says_why(person, name, image, sentence, hint):
    run = person.launch(name, f"image: {image}")
    told(run, sentence, State.STARTING, hint)
    person.keep(name, run)


class Registry(http.server.BaseHTTPRequestHandler):
    """A registry without images: the first word of a name is the status with which it answers."""

    def do_GET(self):
        code = int(self.path.split("/")[2]) if self.path.count("/") > 2 else 200
        self.send_response(code)
        if code == 401:
            self.send_header("WWW-Authenticate", 'Basic realm="here"')
        self.send_header("Content-Length", "0")
        self.end_headers()

    do_HEAD = do_GET  # noqa: N815 - as the library wants it

    def send_error(self, *_):
        self.wfile.write(b"HTTP/1.0 400 Bad Request\r\n\r\n")  # to what is no HTTP

    def log_message(self, *_):
        pass


@pytest.fixture
def registry(own_cluster):
    """A registry on this machine. containerd speaks plainly to localhost when that does not understand TLS."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", REGISTRY_PORT), Registry)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"localhost:{REGISTRY_PORT}"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.mark.fault(25)
@pytest.mark.parametrize(
    ("code", "sentence", "hint"),
    [
        (404, "there is no image {image}", "image: one that the registry has"),
        (401, "the registry {host} refuses the image {image} (no basic auth credentials)", SIGN_IN),
        (403, "the registry {host} refuses the image {image} (403 Forbidden)", SIGN_IN),
        (
            429,
            "the registry {host} lets no more images be pulled for now (429 Too Many Requests); it is tried again",
            SIGN_IN,
        ),
        (500, "the node cannot get the image {image} (500 Internal Server Error); it is tried again", ""),
    ],
)
def test_a_registry_that_refuses_is_told_in_its_words(person, registry, code, sentence, hint):
    image = f"{registry}/{code}/x:1"
    run = person.launch("pulled", f"image: {image}")
    told(run, sentence.format(image=image, host=registry), State.STARTING, hint)
    person.keep(f"registry-{code}", run)


@pytest.mark.fault(25)
def test_an_image_that_may_not_be_pulled_and_is_not_there(person):
    container = {"name": "main", "image": "localhost/nosuch:1", "imagePullPolicy": "Never"}
    body = {"metadata": {"name": "never", "labels": {"t": "never"}}, "spec": {"containers": [container]}}
    person.core.create_namespaced_pod(person.namespace, body)

    def waiting():
        return [item for item in person.objects(t="never") if "ErrImageNeverPull" in str(item["status"])]

    (pod,) = until(waiting, bool)
    sentence = "the node has no image localhost/nosuch:1, and is not to fetch it"
    assert explain(pod, person.events_of(pod), {}).sentence == sentence
    samples.keep("never-pulled", pod, person.events_of(pod), {})


def test_an_image_without_python_says_so(person):
    run = person.launch("no-python", "image: localhost/gpudeploy-pause:test")
    sentence = "the image localhost/gpudeploy-pause:test has no python3"
    told(run, sentence, State.FAILED, "image: one with Python, like python:3.12-slim")
    person.keep("no-python", run)


@pytest.mark.fault(28)
def test_an_image_that_runs_as_root_says_so(person):
    person.core.patch_namespace(
        person.namespace, {"metadata": {"labels": {"pod-security.kubernetes.io/enforce": "restricted"}}}
    )
    run = person.launch("root", "cluster: openshift")
    sentence = "the image localhost/gpudeploy-python:test runs as root, which the cluster forbids"
    told(run, sentence, State.STARTING, "image: one whose USER is a number other than 0")
    person.keep("root-image", run)


@pytest.mark.fault(28)
def test_a_restricted_namespace_is_named_with_the_field_to_change(person):
    person.core.patch_namespace(
        person.namespace, {"metadata": {"labels": {"pod-security.kubernetes.io/enforce": "restricted"}}}
    )
    fine = person.launch("fine", "", HELLO)
    until(lambda: fine.status().state, State.SUCCEEDED)
    container = {"name": "main", "image": "localhost/gpudeploy-python:test"}
    template = {"spec": {"restartPolicy": "Never", "containers": [container]}}
    body = {"metadata": {"name": "open", "labels": {"t": "open"}}, "spec": {"template": template}}
    person.batch.create_namespaced_job(person.namespace, body)

    def refused():
        return [item for item in person.objects(t="open") if person.events_of(item)]

    (job,) = until(refused, bool)
    found = explain(job, person.events_of(job), {})
    assert found.sentence.startswith(
        "the namespace's Pod Security (restricted:latest) refuses its pods: allowPrivilegeEscalation != false"
    )
    assert found.hint == "the field is securityContext.allowPrivilegeEscalation=false"
    samples.keep("pod-security", job, person.events_of(job), {})


@pytest.mark.fault(27)
class TestQuotas:
    def quota(self, person, hard):
        body = {"metadata": {"name": "team"}, "spec": {"hard": hard}}
        person.core.create_namespaced_resource_quota(person.namespace, body)
        until(lambda: person.core.read_namespaced_resource_quota("team", person.namespace).status.hard, bool)

    def test_trials_that_wait_for_a_quota_are_counted(self, person):
        self.quota(person, {"pods": "1"})
        run = person.launch("quota", "parameters: {x: [1, 2, 3]}\nparallelism: 3", "import time\ntime.sleep(20)")
        sentence = "the quota team is used up: 1 of 1 pods used, 1 more wanted; 2 of 3 trials wait for that"
        until(lambda: (run.status().reason, run.status().state), (sentence, State.RUNNING))
        assert run.status().details["hint"] == "parallelism: 1"
        assert any("exceeded quota: team" in notice.message for notice in run.status().notices)
        person.keep("quota-pods", run, "Job")
        until(lambda: run.status().state, State.SUCCEEDED, 240)

    def test_more_gpus_than_a_quota_has_are_refused_for_good(self, person):
        self.quota(person, {"requests.nvidia.com/gpu": "1"})
        run = person.launch("greedy", "gpus: 2")
        until(lambda: run.status().reason, "the quota team is too small: 2 nvidia.com/gpu wanted, 1 allowed")
        assert run.status().details["hint"] == "gpus: 1"
        person.keep("quota-gpus", run, "Job")

    def test_a_quota_that_wants_limits_says_which(self, person):
        self.quota(person, {"limits.memory": "1Gi"})
        run = person.launch("unsaid", "")
        until(lambda: run.status().reason, "the quota team asks every pod to say limits.memory")
        assert run.status().details["hint"] == "memory: 8Gi"
        person.keep("quota-unsaid", run, "Job")

    def test_a_server_is_told_of_a_quota_too(self, person):
        self.quota(person, {"pods": "0"})
        run = person.serve("refused", "", SERVER.format(after=0))
        until(lambda: run.status().reason, "the quota team is too small: 1 pods wanted, 0 allowed")
        person.keep("quota-server", run, "Deployment")

    def test_a_limit_range_is_told_with_its_bound(self, person):
        limits = [{"type": "Container", "max": {"memory": "64Mi"}}]
        person.core.create_namespaced_limit_range(
            person.namespace, {"metadata": {"name": "small"}, "spec": {"limits": limits}}
        )
        run = person.launch("large", "memory: 1Gi")
        until(lambda: run.status().reason, "a container may have at most 64Mi of memory here, 1Gi asked")
        assert run.status().details["hint"] == "memory: 64Mi"
        person.keep("limit-range", run, "Job")


@pytest.mark.fault(21)
def test_out_of_memory_proposes_the_double(person):
    run = person.launch("oom", "memory: 32Mi", "print(len(bytearray(10**9)))")
    told(run, "out of memory (limit 32Mi), exit code 137", State.FAILED, "memory: 64Mi")
    person.keep("out-of-memory", run)


def test_what_ends_by_a_signal_or_a_shells_code_is_put_into_words(person):
    program = "import os, sys\nx = int(sys.argv[1])\nos.kill(os.getpid(), x) if x < 100 else sys.exit(x - 100)\n"
    (person.folder / "end.py").write_text(program)
    text = "name: ends\nbackend: kubernetes\nrun: end.py\nparameters: {x: [9, 11, 226, 227, 103]}\nparallelism: 5\n"
    run = launch(text + 'args: "{x}"\n', base_dir=person.folder)
    until(lambda: run.status().state, State.FAILED)
    assert [run.status().tasks[number].reason for number in range(5)] == [
        "exit code 137: killed by SIGKILL",
        "exit code 139: a crash in compiled code (SIGSEGV)",
        "exit code 126: the command cannot be executed",
        "exit code 127: a command was not found",
        "exit code 3",
    ]
    assert run.status().reason == "5 of 5 trials failed"


def test_packages_that_cannot_be_installed_are_told_in_pips_words(person):
    run = person.launch("pip", "requirements: [nosuchpackage-zzz]")
    sentence = "requirements: No matching distribution found for nosuchpackage-zzz"
    told(run, sentence, State.FAILED, "requirements: without nosuchpackage-zzz, or another version of it")
    person.keep("requirements", run)


def test_a_secret_that_is_missing_is_named_and_looked_for_again(person):
    run = person.launch("secret", "secrets: {HF_TOKEN: hf/token}")
    hint = "secrets: {HF_TOKEN: env:HF_TOKEN}, or make the Secret: it is looked for again"
    told(run, "there is no Secret hf", State.STARTING, hint)
    person.keep("no-secret", run)
    person.core.create_namespaced_secret(person.namespace, {"metadata": {"name": "hf"}, "stringData": {"other": "x"}})
    told(run, "the Secret hf has no key token", State.STARTING, hint)
    person.keep("no-key", run)
    person.core.patch_namespaced_secret("hf", person.namespace, {"stringData": {"token": "x"}})
    until(lambda: run.status().state, State.SUCCEEDED)


def test_what_takes_too_long_says_how_long_it_may(person):
    run = person.launch("late", "max_hours: 0.001", SLEEP)
    told(run, "took longer than max_hours (4 s)", State.FAILED, "max_hours: 0.002")
    person.keep("deadline", run)


@pytest.mark.fault(22, 23)
class TestEvictions:
    def limit(self, person):
        limits = [{"type": "Container", "default": {"ephemeral-storage": "4Mi"}}]
        person.core.create_namespaced_limit_range(
            person.namespace, {"metadata": {"name": "small"}, "spec": {"limits": limits}}
        )

    def test_a_task_that_fills_its_disk_is_evicted_and_says_so(self, person):
        self.limit(person)
        code = "from jupyter_gpudeploy import output_dir\n(output_dir() / 'x').write_bytes(bytes(1 << 26))\n" + SLEEP
        run = person.launch("full", "", code)
        sentence = "evicted: Pod ephemeral local storage usage exceeds the total limit of containers 4Mi."
        told(run, sentence, State.FAILED, "storage: 20Gi: what it writes then goes to a volume")
        person.keep("evicted-own-limit", run)

    def test_a_pod_that_was_evicted_and_looks_successful_has_not_succeeded(self, person):
        self.limit(person)
        program = "import signal, sys, time\nsignal.signal(15, lambda *_: sys.exit(0))\nopen('/tmp/x', 'wb').write(bytes(1 << 26))\ntime.sleep(300)"
        container = {"name": "main", "image": "localhost/gpudeploy-python:test", "command": ["python3", "-c", program]}
        spec = {"restartPolicy": "Never", "containers": [container]}
        person.core.create_namespaced_pod(
            person.namespace, {"metadata": {"name": "quiet", "labels": {"t": "quiet"}}, "spec": spec}
        )

        def evicted():
            pods = [item for item in person.objects(t="quiet") if item["status"]["phase"] in ("Succeeded", "Failed")]
            return [item for item in pods if person.events_of(item)]

        (pod,) = until(evicted, bool)
        found = explain(pod, person.events_of(pod), {})
        assert found.sentence == "evicted: Pod ephemeral local storage usage exceeds the total limit of containers 4Mi."
        samples.keep("evicted-succeeded", pod, person.events_of(pod), {})


@pytest.mark.fault(24)
def test_a_preempted_task_says_so_and_is_tried_again(person):
    from kubernetes import client

    scheduling = client.SchedulingV1Api(person.api)
    names = {f"{person.namespace[-12:].strip('-')}-{which}": value for which, value in (("low", -1000), ("high", -900))}
    low, high = names
    try:
        for name, value in names.items():
            scheduling.create_priority_class({"metadata": {"name": name}, "value": value})
        victim = person.launch("victim", f"gpus: 3\npriority: {low}", SLEEP)
        until(lambda: victim.status().state, State.RUNNING)
        other = person.launch("other", f"gpus: 3\npriority: {high}", SLEEP)
        until(lambda: other.status().state, State.RUNNING)
        until(lambda: "preempted by a pod of higher priority" in journal(victim), True)
        assert victim.status().tasks[0].attempt == 2
        assert victim.status().state is not State.FAILED
    finally:
        for name in names:
            scheduling.delete_priority_class(name)


@pytest.mark.fault(24)
def test_a_pod_that_somebody_deletes_says_so_and_is_made_again(person):
    run = person.launch("deleted", "retries: 1", SLEEP)
    until(lambda: run.status().state, State.RUNNING)
    (pod,) = [item for item in person.objects(**{marks.RUN: "deleted"}) if item["kind"] == "Pod"]
    person.core.delete_namespaced_pod(pod["metadata"]["name"], person.namespace, grace_period_seconds=2)
    until(lambda: "the pod was deleted outside" in journal(run), True)
    until(lambda: (run.status().tasks[0].attempt, run.status().tasks[0].state), (2, State.RUNNING))


@pytest.mark.fault(31)
class TestServers:
    def test_a_server_that_loads_for_long_is_loading_and_then_ready(self, person):
        run = person.serve("slow", "health: {path: /health, startup: 5m}", SERVER.format(after=20))
        told(run, "still loading, less than a minute of 5 min: /health answers 503", State.STARTING, "")
        person.keep("loading", run)
        until(lambda: (run.status().state, run.status().reason), (State.READY, ""))

    def test_a_server_that_never_answers_says_what_its_probe_saw(self, person):
        run = person.serve("never", "health: {path: /health, startup: 20s}", SERVER.format(after=10**6))
        until(lambda: "not ready within 20 s: /health answers 503, so it was ended" in journal(run), True)
        until(
            lambda: run.status().reason.startswith("not ready within 20 s: /health answers 503, so it was ended"), True
        )
        assert run.status().tasks[0].details["hint"] == "health: {startup: 40s}"
        person.keep("never-ready", run)

    def test_a_server_that_listens_nowhere_says_so(self, person):
        run = person.serve("deaf", "health: {startup: 5m}", SLEEP)
        told(run, "still loading, less than a minute of 5 min: nothing listens on port 8000 yet", State.STARTING, "")
        person.keep("deaf", run)

    @pytest.mark.fault(29)
    def test_a_server_that_crashes_says_its_code_and_when_it_starts_again(self, person):
        run = person.serve("crash", "", "import sys\nsys.exit(3)")
        until(lambda: run.status().reason, "exit code 3; next restart in 20s")
        person.keep("crash-loop", run)

    def test_a_server_that_just_ends_is_told_to_be_a_job(self, person):
        run = person.serve("done", "", HELLO)
        until(lambda: run.status().reason, "the server ended by itself (exit code 0); next restart in 20s")
        person.keep("server-ended", run)
