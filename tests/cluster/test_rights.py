"""A user with the documented Role and nothing else; and what is said when one verb of it is missing."""

import logging
import time

import pytest

from jupyter_gpudeploy import launch, launching, runs
from jupyter_gpudeploy.backends.kubernetes.api.connect import connect
from jupyter_gpudeploy.backends.kubernetes.api.errors import ForbiddenError
from jupyter_gpudeploy.backends.kubernetes.api.permissions import PERMISSIONS, role
from jupyter_gpudeploy.errors import BackendError, GpuDeployError
from jupyter_gpudeploy.events.types import State
from jupyter_gpudeploy.notebook import verbs
from jupyter_gpudeploy.spec.yaml import load

from .people import PATIENCE, Notebook, changed, line, plan, until, until_running

LONG = "name: digits\n---\nimport time\nprint('loss=0.5', flush=True)\ntime.sleep(600)\n"
SERVER = "name: web\nserve: command\nrun: python -m http.server {port}\n"
MANUAL = "name: bench\nmode: manual\n"
NEEDED = [
    (permission.group, resource, verb)
    for permission in PERMISSIONS
    if permission.needed
    for resource in permission.resources
    for verb in permission.verbs
]
SAID = {
    "configmaps get": "cannot read ConfigMap",
    "configmaps list": "cannot list configmaps",
    "configmaps watch": "cannot watch ConfigMaps",
    "configmaps create": "cannot create ConfigMap",
    "configmaps patch": "cannot change ConfigMap",
    "configmaps delete": "cannot delete ConfigMap",
    "pods list": "cannot list pods",
    "pods watch": "cannot watch Pods",
    "pods delete": "cannot delete Pod",
    "pods/log get": "cannot read the log of pod",
    "jobs get": "cannot read Job",
    "jobs list": "cannot list jobs",
    "jobs watch": "cannot watch Jobs",
    "jobs create": "cannot create Job",
    "jobs patch": "cannot change Job",
}
"""What is said without a verb; a job from its launch to its removal does not need the others."""


def rules(without=()):
    """The rules of the Role, without these (group, resource, verb)."""
    found = []
    for rule in load(role()).value["rules"]:
        for resource in rule["resources"]:
            (group,) = rule["apiGroups"]
            left = [verb for verb in rule["verbs"] if (group, resource, verb) not in without]
            if left:
                found.append({"apiGroups": [group], "resources": [resource], "verbs": left})
    return found


def of(permission):
    return [(permission.group, resource, verb) for resource in permission.resources for verb in permission.verbs]


@pytest.fixture
def plain(plain_user, python_image, tmp_path):
    """The person, at a notebook."""
    notebook = Notebook(tmp_path / "plain", plain_user.kubeconfig, plain_user.namespace, python_image)
    with notebook.sits_down() as backend:
        notebook.backend = backend
        yield notebook


@pytest.fixture
def allowed(plain, plain_user):
    """Give the person the Role without some verbs, and wait until the server has noticed."""

    def allow(*without):
        plain_user.allow(*rules(set(without)))
        until(lambda: can("get", "pods", "", "log") or ("", "pods/log", "get") in without, 30)
        for group, resource, verb in without:
            plural, _, subresource = resource.partition("/")
            until(lambda a=(verb, plural, group, subresource): can(*a) is False, 30)

    def can(*what):  # asked anew each time: a connection remembers what it was told
        with connect() as client:
            return client.can_i(*what)

    return allow


def test_everything_passes_with_the_documented_role(plain, allowed, monkeypatch):
    allowed()
    monkeypatch.setenv("TOKEN_OF_THE_TEST", "a-secret-of-the-test")
    monkeypatch.setattr(verbs, "getpass", lambda _prompt: "kept-secret-of-the-test")
    line("secret hf-token")
    line("secret hf-token")
    head = "name: digits\nsecrets: {A: env:TOKEN_OF_THE_TEST, B: hf-token/token}\n"
    job = launch(f"{head}---\nimport os\nprint('loss=0.5', len(os.environ['A']), len(os.environ['B']))\n")
    assert job.wait(PATIENCE).state is State.SUCCEEDED
    assert job.logs() == "loss=0.5 20 23"
    sweep = launch("name: sweep\nparameters: {x: [1, 2]}\nparallelism: 2\n---\nimport time\nx = 0\ntime.sleep(600)\n")
    until_running(sweep)
    sweep.parallelism = 1
    assert sweep.stop(1).state is State.STOPPED
    manual, server = launch(MANUAL), launch(SERVER)
    assert manual.wait(PATIENCE).exec("python -c 'print(40 + 2)'", stream=None) == 0
    assert server.wait(PATIENCE).request("/").status == 200
    for run in (manual, server):
        run.stop(1)
    assert len(runs("kubernetes")) == 4
    for run in runs("kubernetes"):
        assert not any("forbidden" in notice for notice in run.summary().notices)
        run.remove(yes=True)
    assert runs("kubernetes") == []
    report = plain.backend.examine()
    assert {row.level for section in report.sections if section.title == "Rights" for row in section.rows} == {"ok"}


def test_a_job_runs_from_its_launch_to_its_removal_with_what_is_needed_alone(plain, allowed):
    allowed(*(one for permission in PERMISSIONS if not permission.needed for one in of(permission)))
    run = until_running(launch(LONG))
    until(lambda: run.logs() == "loss=0.5")
    assert run.stop(1).state is State.STOPPED
    assert run.summary().notices == []
    run.remove(yes=True)
    assert runs("kubernetes") == []


@pytest.mark.slow
@pytest.mark.parametrize("missing", NEEDED, ids=[f"{resource}-{verb}" for _, resource, verb in NEEDED])
def test_without_a_verb_a_job_says_which_one_or_does_not_need_it(plain, allowed, caplog, missing):
    allowed(missing)
    expected = SAID.get(" ".join(missing[1:]))
    said = []
    with caplog.at_level(logging.WARNING):
        for text in from_launch_to_removal(expected is not None):
            said.append(text)
            if expected is not None and expected in text + caplog.text:
                break
    said = [*said, *(record.getMessage() for record in caplog.records)]
    if expected is None:
        assert said == []
    else:
        assert any(expected in text for text in said), said
        assert any("forbidden" in text for text in said)


def from_launch_to_removal(is_troubled):
    """Yield what a person is told on the way of a job, errors and notices."""
    run = None
    try:
        run = launch(LONG)
        deadline = time.monotonic() + (20 if is_troubled else PATIENCE)
        while time.monotonic() < deadline:
            yield from run.summary().notices
            if run.logs() == "loss=0.5" and (not is_troubled or time.monotonic() > deadline - 12):
                break
            time.sleep(0.3)
        plain_runs = runs("kubernetes")
        assert len(plain_runs) == 1
        run.stop(1)
        yield from run.summary().notices
        run.remove(yes=True)
    except BackendError as error:
        yield str(error)


FEATURES = {
    "deployments create": (MANUAL, "cannot create Deployment"),
    "services create": (SERVER, "cannot create Service"),
    "secrets create": ("name: s\nsecrets: {A: env:HOME}\n---\nprint(1)\n", "cannot create Secret"),
    "persistentvolumeclaims create": ("storage", "cannot create PersistentVolumeClaim"),
    "cronjobs create": ("schedule", "cannot create CronJob"),
}


@pytest.mark.parametrize("missing", FEATURES, ids=[one.replace(" ", "-") for one in FEATURES])
def test_a_launch_that_may_not_make_what_it_needs_says_so_and_leaves_nothing(plain, allowed, missing):
    resource, verb = missing.split()
    (group,) = [one.group for one in PERMISSIONS if resource in one.resources]
    allowed((group, resource, verb))
    cell, said = FEATURES[missing]
    options = {"storage": {"storage": "1Gi"}, "schedule": {"schedule": "0 0 1 1 *"}}.get(cell, {})
    made = changed(plan("name: digits\n---\nprint(1)\n" if options else cell), **options)
    with pytest.raises(ForbiddenError, match=said) as caught:
        launching.start(made)
    assert "%deploy doctor" in caught.value.hint
    assert runs("kubernetes") == []
    with connect() as client:
        assert client.list("ConfigMap", labels="app.kubernetes.io/managed-by=jupyter-gpudeploy").items == []


def test_without_the_right_to_a_disruption_budget_a_server_starts_without_it_and_says_so(plain, allowed):
    allowed(
        *(one for permission in PERMISSIONS if "poddisruptionbudgets" in permission.resources for one in of(permission))
    )
    run = launch(SERVER)
    assert run.wait(PATIENCE).state is State.READY
    assert any("not protected when nodes are drained" in notice for notice in run.summary().notices)
    run.stop(1)


@pytest.mark.parametrize("verb", ["get", "create"])
def test_without_exec_and_portforward_only_these_are_off(plain, allowed, verb):
    allowed(("", "pods/exec", verb), ("", "pods/portforward", verb))
    manual, server = launch(MANUAL), launch(SERVER)
    manual.wait(PATIENCE)
    with pytest.raises(GpuDeployError, match=r"pods/exec|pods \"bench.*forbidden|cannot run 'python3' in pod"):
        manual.exec("python -c 'print(1)'", stream=None)
    server.wait(PATIENCE)
    with pytest.raises((GpuDeployError, OSError)):
        server.request("/")
    for run in (manual, server):
        assert run.stop(1).state is State.STOPPED


@pytest.mark.parametrize(
    "permission", PERMISSIONS, ids=["-".join((one.group, *one.resources)).replace("/", "-") for one in PERMISSIONS]
)
def test_the_doctor_names_every_verb_that_is_missing(plain, allowed, permission):
    with connect() as client:
        if permission.kind and not client.has(permission.kind):
            pytest.skip(f"the cluster has no {permission.kind}")
    for missing in of(permission):
        _, resource, verb = missing
        allowed(missing)
        report = plain.backend.examine()
        named = f"{resource}.{permission.group}" if permission.group else resource
        rows = {row.subject: row for section in report.sections if section.title == "Rights" for row in section.rows}
        assert rows[named].value == f"may not {verb}"
        assert (rows[named].level, rows[named].hint) == (
            "error" if permission.needed else "warning",
            permission.without,
        )
        assert [row.subject for row in rows.values() if row.level in ("error", "warning")] == [named]
        assert report.is_usable is not permission.needed
        assert "kind: Role" in report.role


@pytest.mark.timeout(300)
def test_a_schedule_a_replacement_and_an_idle_stop_pass_with_the_documented_role(plain, allowed):
    allowed()
    clock = launch('name: clock\nschedule: "0 0 1 1 *"\n---\nprint(1)\n').wait(30)
    first = launch(SERVER).wait(PATIENCE)
    second = launch(f"{SERVER}env: {{A: '1'}}\n", replace=True).wait(PATIENCE)
    assert (second.uid != first.uid, second.request("/").status) == (True, 200)
    bench = launch(f"{MANUAL}idle_minutes: 0.1\n").wait(PATIENCE)
    until(lambda: bench.is_over)
    assert bench.status().reason == "idle for 6 s"
    for run in (clock, second, bench):
        run.stop(1)
        assert not any("forbidden" in notice for notice in run.summary().notices)
        run.remove(yes=True)
    assert runs("kubernetes") == []
