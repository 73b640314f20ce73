"""Whose an object is: what is not ours stays as it is, and what is another person's is shown, not changed."""

import base64
import io
import json
from contextlib import redirect_stdout

import pytest

from jupyter_gpudeploy import attach, launch, launching, runs
from jupyter_gpudeploy.backends.kubernetes import marks
from jupyter_gpudeploy.backends.kubernetes.api import permissions
from jupyter_gpudeploy.errors import BackendError, GpuDeployError, NotConfirmedError, RunExistsError
from jupyter_gpudeploy.events.types import State
from jupyter_gpudeploy.notebook import verbs
from jupyter_gpudeploy.notebook.reprs import bundle
from jupyter_gpudeploy.spec.yaml import load

from .people import PATIENCE, Notebook, changed, line, plan, until, until_running

CANARY = "canary-7f3a9c51d2"
OTHERS_KEY = "canary-of-somebody-else"
JOB = "name: digits\n---\nprint('loss=0.5')\n"
LONG = "name: digits\n---\nimport time\nprint('begun', flush=True)\ntime.sleep(600)\n"


@pytest.fixture
def kubectl(api, namespace):
    """The cluster as the administrator sees it, by our own client."""
    from jupyter_gpudeploy.backends.kubernetes.api.connect import connect

    def connected():
        return connect(None, namespace)

    return connected


@pytest.fixture
def cluster_client(mine, kubectl):
    with kubectl() as client:
        yield client


def metadata(name, **more):
    return {"name": name, "labels": {"whose": "somebody-else"}, **more}


def foreign(kind, name):
    """An object that somebody else made by hand."""
    pod = {"containers": [{"name": "a", "image": "x", "command": ["true"]}], "restartPolicy": "Never"}
    bodies = {
        "Job": {"apiVersion": "batch/v1", "spec": {"suspend": True, "template": {"spec": pod}}},
        "ConfigMap": {"apiVersion": "v1", "data": {"a": "b"}},
        "Service": {"apiVersion": "v1", "spec": {"ports": [{"port": 1}], "selector": {"a": "b"}}},
        "Secret": {"apiVersion": "v1", "stringData": {"token": OTHERS_KEY}},
        "Deployment": {
            "apiVersion": "apps/v1",
            "spec": {
                "replicas": 0,
                "selector": {"matchLabels": {"a": "b"}},
                "template": {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": pod["containers"]}},
            },
        },
        "PersistentVolumeClaim": {
            "apiVersion": "v1",
            "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}},
        },
    }
    return {"kind": kind, "metadata": metadata(name), **bodies[kind]}


def same(one):
    """What must not change of an object."""
    kept = {
        key: value
        for key, value in one["metadata"].items()
        if key not in ("resourceVersion", "managedFields", "annotations")
    }
    return kept, one.get("spec"), one.get("data")


IN_THE_WAY = [
    ("Job", "digits", JOB, {}),
    ("ConfigMap", "digits.run", JOB, {}),
    ("Secret", "digits.secrets", "name: digits\nsecrets: {TOKEN: env:TOKEN_OF_THE_TEST}\n---\nprint(1)\n", {}),
    ("PersistentVolumeClaim", "digits", JOB, {"storage": "1Gi"}),
    ("Deployment", "digits", "name: digits\nmode: manual\n", {}),
]


@pytest.mark.fault(79)
@pytest.mark.parametrize(("kind", "name", "cell", "options"), IN_THE_WAY, ids=[f"{one[0]}" for one in IN_THE_WAY])
def test_a_launch_refuses_where_something_of_somebody_else_has_the_name(
    mine, cluster_client, monkeypatch, kind, name, cell, options
):
    monkeypatch.setenv("TOKEN_OF_THE_TEST", CANARY)
    before = same(cluster_client.create(foreign(kind, name)))
    made = changed(plan(cell), **options)
    with pytest.raises(BackendError, match=f"{kind} {name} exists .* was not created by jupyter_gpudeploy") as caught:
        launching.start(made)
    assert "another name" in caught.value.hint
    left = [(one["kind"], one["metadata"]["name"]) for one in everything(cluster_client) if marks.is_ours(one)]
    assert left == []
    if kind != "Secret":
        assert same(cluster_client.get(kind, name)) == before
    else:
        assert base64.b64decode(cluster_client.get(kind, name)["data"]["token"]).decode() == OTHERS_KEY


@pytest.mark.fault(79)
def test_a_foreign_service_in_the_way_of_a_server_survives(mine, cluster_client):
    before = same(cluster_client.create(foreign("Service", "web")))
    with pytest.raises(BackendError, match="Service web exists"):
        launch("name: web\nserve: command\nrun: python -m http.server {port}\n", backend="kubernetes")
    assert same(cluster_client.get("Service", "web")) == before


@pytest.mark.fault(79)
def test_stop_clean_and_replace_touch_only_what_carries_the_uid_of_the_run(mine, cluster_client):
    run = until_running(launch(LONG, backend="kubernetes"))
    cluster_client.delete("Job", "digits", propagation="Foreground")
    until(lambda: not there(cluster_client, "Job", "digits"))
    job = {**foreign("Job", "digits"), "metadata": metadata("digits")}
    job["metadata"]["labels"] = {**job["metadata"]["labels"], **marks.labels("digits", marks.WORK)}
    claim = foreign("PersistentVolumeClaim", "digits")
    before = same(cluster_client.create(job)), same(cluster_client.create(claim))
    run.stop(1)
    run.remove(yes=True)
    until(lambda: not there(cluster_client, "ConfigMap", "digits.run"))
    assert (same(cluster_client.get("Job", "digits")), same(cluster_client.get("PersistentVolumeClaim", "digits")))[
        0
    ] == before[0]
    assert cluster_client.get("PersistentVolumeClaim", "digits")["metadata"]["uid"] == before[1][0]["uid"]


@pytest.mark.fault(70)
def test_deploy_secret_keeps_what_was_there_and_leaves_the_secret_of_somebody_else_alone(
    mine, cluster_client, monkeypatch
):
    def typed(value):
        monkeypatch.setattr(verbs, "getpass", lambda _prompt: value)

    typed("first")
    line("secret hf-token")
    typed("second")
    line("secret hf-token --key other")
    typed("third")
    line("secret hf-token")
    assert values(cluster_client.get("Secret", "hf-token")) == {"token": "third", "other": "second"}
    cluster_client.create(foreign("Secret", "theirs"))
    ours = {**foreign("Secret", "of-another"), "metadata": metadata("of-another")}
    ours["metadata"] |= {
        "labels": marks.labels("of-another", marks.KEPT_SECRET),
        "annotations": {marks.CREATED_BY: "somebody"},
    }
    cluster_client.create(ours)
    of_a_run = {**foreign("Secret", "x.secrets"), "metadata": metadata("x.secrets")}
    of_a_run["metadata"]["labels"] = marks.labels("x", marks.SECRET)
    cluster_client.create(of_a_run)
    for name in ("theirs", "of-another", "x.secrets"):
        with pytest.raises(BackendError, match=f"Secret {name} exists .* left alone") as caught:
            line(f"secret {name}")
        assert "third" not in str(caught.value)
        assert values(cluster_client.get("Secret", name)) == {"token": OTHERS_KEY}


@pytest.mark.fault(69)
@pytest.mark.fault(70)
def test_the_value_of_a_secret_lies_in_a_secret_of_the_run_and_nowhere_else(
    mine, cluster_client, monkeypatch, tmp_path
):
    file = tmp_path / "token"
    file.write_text(f"{CANARY}-file\n")
    monkeypatch.setenv("TOKEN_OF_THE_TEST", f"{CANARY}-env")
    cell = (
        f"name: keeper\nsecrets:\n  A: env:TOKEN_OF_THE_TEST\n  B: file:{file}\n---\n"
        "import os\nfrom jupyter_gpudeploy import output_dir\n"
        "assert os.environ['A'].endswith('-env') and os.environ['B'].endswith('-file')\n"
        "print('A is', os.environ['A']); print('loss=0.5')\n"
        "(output_dir() / 'parts.txt').write_text('nothing of it')\n"
        "raise RuntimeError('B is ' + os.environ['B'])\n"
    )
    out = io.StringIO()
    with redirect_stdout(out):
        made = plan(cell)
        print(made, launching.render(made), launching.changes(made))
        run = launching.start(made)
        run.wait(PATIENCE)
        print(run, run.summary(), run.logs(), run.trials().to_string(), run.status(), run.notes)
        print(line("show keeper"), line("plan keeper"), line("status keeper"), line("logs keeper"))
        with pytest.raises(GpuDeployError) as caught:
            run.wait(check=True)
        print(caught.value, repr(caught.value), caught.value._render_traceback_())
    assert run.state is State.FAILED
    assert "A is" in run.logs()
    assert "canary" not in out.getvalue()
    for file in mine.home.rglob("*"):
        assert not file.is_file() or b"canary" not in file.read_bytes(), file
    secret = cluster_client.get("Secret", "keeper.secrets")
    assert values(secret) == {"A": f"{CANARY}-env", "B": f"{CANARY}-file"}
    (owner,) = secret["metadata"]["ownerReferences"]
    assert (owner["kind"], owner["name"], owner["uid"]) == ("ConfigMap", "keeper.run", run.uid)
    for one in everything(cluster_client):
        assert not holds_canary(one), (one["kind"], one["metadata"]["name"])
    pod = next(one for one in everything(cluster_client) if one["kind"] == "Pod")
    given = {one["name"]: one for one in pod["spec"]["containers"][0]["env"]}
    assert given["A"]["valueFrom"] == {"secretKeyRef": {"name": "keeper.secrets", "key": "A"}}
    run.remove(yes=True)
    until(lambda: not there(cluster_client, "Secret", "keeper.secrets"))


@pytest.mark.fault(70)
def test_a_replaced_run_gets_the_new_value_of_its_secret(mine, cluster_client, monkeypatch):
    cell = "name: keeper\nsecrets: {A: env:TOKEN_OF_THE_TEST}\n---\nimport os\nprint(len(os.environ['A']))\n"
    monkeypatch.setenv("TOKEN_OF_THE_TEST", "short-secret")
    first = launch(cell, backend="kubernetes").wait(PATIENCE)
    monkeypatch.setenv("TOKEN_OF_THE_TEST", "a-much-longer-secret")
    second = launch(cell, backend="kubernetes", replace=True).wait(PATIENCE)
    assert (first.logs(), second.logs()) == ("12", "20")
    assert values(cluster_client.get("Secret", "keeper.secrets")) == {"A": "a-much-longer-secret"}


@pytest.fixture
def two_people(plain_user, other_user, namespace, python_image, tmp_path):
    rules = load(permissions.role()).value["rules"]
    plain_user.allow(*rules)
    other_user.allow(*rules)
    return [
        Notebook(tmp_path / person.name, person.kubeconfig, namespace, python_image)
        for person in (plain_user, other_user)
    ]


@pytest.mark.fault(80)
def test_another_persons_run_is_shown_with_its_owner_and_cannot_be_changed(two_people, capsys):
    plain, other = two_people
    with plain.sits_down():
        own = until_running(launch(LONG, backend="kubernetes"))
        assert own.ref.owner == "plain"
        assert own.owner is None
    with other.sits_down() as backend:
        (theirs,) = runs("kubernetes")
        assert (theirs.ref.owner, theirs.owner) == ("plain", "plain")
        assert theirs.ref in backend.find()
        assert "begun" in until(theirs.logs)
        assert any("belongs to plain" in notice for notice in theirs.summary().notices)
        assert "of plain" in repr(line("ls"))
        for forbidden in (
            lambda: theirs.stop(1),
            lambda: line("stop digits"),
            theirs.pause,
            theirs.resume,
            lambda: setattr(theirs, "parallelism", 2),
            lambda: theirs.remove(yes=True),
            lambda: launch(JOB, backend="kubernetes", replace=True),
        ):
            with pytest.raises(NotConfirmedError, match=r"belongs to plain") as caught:
                forbidden()
            assert "--take-over" in caught.value.hint
        for cell in (LONG, JOB):
            with pytest.raises(RunExistsError, match="belongs to plain"):
                launch(cell, backend="kubernetes")
        line("stop --all --yes")
        assert theirs.state is State.RUNNING
        line("stop digits --take-over --grace 1")
        assert theirs.state is State.STOPPED
        line("clean --all --yes")
        assert "deleted: nothing" in capsys.readouterr().out
        with pytest.raises(NotConfirmedError, match=r"belongs to plain"):
            line("clean digits --yes")
    with plain.sits_down():
        mine = attach("digits")
        assert (mine.owner, until(lambda: mine.is_over)) == (None, True)
        line("clean digits --yes")
        assert not runs("kubernetes")


@pytest.mark.fault(80)
def test_a_copy_of_another_persons_run_that_is_gone_can_be_cleaned(two_people):
    plain, other = two_people
    with plain.sits_down():
        own = launch(JOB, backend="kubernetes").wait(PATIENCE)
    with other.sits_down():
        theirs = attach("digits").wait(PATIENCE)
        assert theirs.logs() == "loss=0.5"
        with plain.sits_down():
            attach("digits").remove(yes=True)
        again = launch("name: digits\n---\nprint('mine')\n", backend="kubernetes").wait(PATIENCE)
        assert (again.logs(), again.owner, again.uid == own.uid) == ("mine", None, False)


@pytest.mark.fault(81)
def test_the_digest_of_the_image_is_recorded_and_shown(mine, cluster_client, python_image):
    run = launch(JOB, backend="kubernetes").wait(PATIENCE)
    (pod,) = [one for one in everything(cluster_client) if one["kind"] == "Pod"]
    digest = pod["status"]["containerStatuses"][0]["imageID"].rpartition("@")[2]
    assert digest.startswith("sha256:")
    journal = [json.loads(text) for text in (run.folder / "events.jsonl").read_text().splitlines()]
    assert any(digest in json.dumps(record) for record in journal)
    assert run.summary().images == [f"{python_image}@{digest}"]
    assert digest[:19] in str(bundle(line("status digits")))


@pytest.mark.fault(42)
@pytest.mark.parametrize("length", [40, 41, 52, 53, 63, 64, 200])
def test_a_name_of_any_length_makes_objects_that_the_cluster_takes(mine, cluster_client, length):
    title = ("n" * 300)[: length - 2] + " é"
    run = launch({"name": title, "code": "print('here')\n"}, backend="kubernetes").wait(PATIENCE)
    assert (run.state, run.logs(), run.title) == (State.SUCCEEDED, "here", title)
    root = cluster_client.get("ConfigMap", f"{run.name}.run")
    assert root["metadata"]["annotations"][marks.TITLE] == title
    assert len(run.name) <= 40


@pytest.mark.fault(42)
def test_names_that_look_alike_do_not_collide(mine):
    titles = ["lr=0.1", "lr=0-1", "LR=0.1", "Übung #1", "🚀"]
    made = [launch({"name": title, "code": f"print({title!r})\n"}, backend="kubernetes") for title in titles]
    assert len({run.name for run in made}) == len(titles)
    assert [run.wait(PATIENCE).logs() for run in made] == titles


def values(secret):
    return {key: base64.b64decode(value).decode() for key, value in secret["data"].items()}


def there(client, kind, name):
    return any(one["metadata"]["name"] == name for one in client.list(kind).items)


def everything(client):
    """Every object of the namespace but Secrets, as `kubectl get all,cm,events -o yaml` has them."""
    kinds = (
        "ConfigMap", "Pod", "Job", "CronJob", "Deployment", "ReplicaSet", "Service", "Event", "PersistentVolumeClaim",
        "PodDisruptionBudget",
    )  # fmt: skip
    return [one for kind in kinds for one in client.list(kind).items]


def holds_canary(one):
    """Whether the value of the secret is in an object, also in what is packed in it."""
    import gzip

    texts = [json.dumps(one).encode()]
    for data in (one.get("binaryData") or {}).values():
        raw = base64.b64decode(data)
        texts.append(gzip.decompress(raw) if raw[:2] == b"\x1f\x8b" else raw)
    return any(b"canary" in text for text in texts)
