"""The client against a real API server and a real kubelet."""

import contextlib
import re
import threading
import time

import pytest

from jupyter_gpudeploy.backends.kubernetes import marks
from jupyter_gpudeploy.backends.kubernetes.api import permissions
from jupyter_gpudeploy.backends.kubernetes.api.connect import connect
from jupyter_gpudeploy.backends.kubernetes.api.errors import (
    ApiError,
    ConflictError,
    CredentialsError,
    ForbiddenError,
    NotFoundError,
)
from jupyter_gpudeploy.backends.kubernetes.doctor import examine
from jupyter_gpudeploy.spec.yaml import load

MEGABYTE = 1024 * 1024
SERVE = "import http.server as h; h.test(h.SimpleHTTPRequestHandler, h.ThreadingHTTPServer, port=8000)"


@pytest.fixture
def client(kubeconfig, namespace, monkeypatch, tmp_path):
    monkeypatch.setenv("KUBECONFIG", str(kubeconfig))
    monkeypatch.setenv("JUPYTER_GPUDEPLOY_CONFIG", str(tmp_path / "config.yaml"))
    with connect(namespace=namespace) as client:
        yield client


@pytest.fixture
def as_plain(plain_user, monkeypatch, tmp_path):
    monkeypatch.setenv("KUBECONFIG", str(plain_user.kubeconfig))
    monkeypatch.setenv("JUPYTER_GPUDEPLOY_CONFIG", str(tmp_path / "config.yaml"))
    with connect() as client:
        yield client


@pytest.fixture
def pod(client, python_image):
    """A running pod that serves its working folder on port 8000."""
    container = {
        "name": "main",
        "image": python_image,
        "imagePullPolicy": "IfNotPresent",
        "command": ["python3", "-u", "-c", SERVE],
    }
    spec = {"containers": [container], "terminationGracePeriodSeconds": 0}
    client.create({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a", "labels": {"x": "y"}}, "spec": spec})
    until(lambda: client.get("Pod", "a")["status"].get("phase") == "Running", 60)
    until(lambda: serves(client), 30)
    return "a"


def until(done, seconds):
    deadline = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def serves(client):
    try:
        return fetch(client).startswith(b"HTTP/1.0 200")
    except OSError:
        return False


def fetch(client, path="/", port=8000):
    with client.connect_port("a", port) as socket:
        socket.settimeout(20)
        socket.sendall(f"GET {path} HTTP/1.0\r\n\r\n".encode())
        taken = b""
        while data := socket.recv(65536):
            taken += data
        return taken


def config_map(name, **data):
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "labels": {"x": "y"}}, "data": data}


def test_an_object_is_made_read_listed_changed_and_deleted_by_its_uid(client):
    made = client.create(config_map("one", a="1"))
    with pytest.raises(ConflictError) as caught:
        client.create(config_map("one", a="1"))
    assert caught.value.reason == "AlreadyExists"
    assert client.get("ConfigMap", "one")["data"] == {"a": "1"}
    assert [item["metadata"]["name"] for item in client.list("ConfigMap", labels="x=y").items] == ["one"]
    client.patch("ConfigMap", "one", {"data": {"a": "2"}})
    with pytest.raises(ConflictError):
        client.delete("ConfigMap", "one", uid="00000000-0000-0000-0000-000000000000")
    client.delete("ConfigMap", "one", uid=made["metadata"]["uid"])
    until(lambda: not client.list("ConfigMap", labels="x=y").items, 30)  # in the foreground: after what it owns
    with pytest.raises(NotFoundError, match="cannot read ConfigMap 'one' in namespace"):
        client.get("ConfigMap", "one")


def test_apply_is_ours_idempotent_and_refuses_what_another_manager_owns(client):
    first = client.apply(config_map("one", a="1"))
    assert client.apply(config_map("one", a="1"))["metadata"]["resourceVersion"] == first["metadata"]["resourceVersion"]
    assert first["metadata"]["managedFields"][0]["manager"] == marks.FIELD_MANAGER
    client._transport.json(_other_apply(client, config_map("one", a="2")))
    with pytest.raises(ConflictError) as caught:
        client.apply(config_map("one", a="1"))
    assert caught.value.causes[0]["field"] == ".data.a"
    assert client.apply(config_map("one", a="1"), force=True)["data"] == {"a": "1"}


def _other_apply(client, body):
    from jupyter_gpudeploy.backends.kubernetes.api.transport import Call

    path = f"/api/v1/namespaces/{client.namespace}/configmaps/one"
    query = [("fieldManager", "somebody"), ("force", "true")]
    return Call("PATCH", path, "apply", query, body, "application/apply-patch+yaml")


def test_a_dry_run_changes_nothing_and_says_what_would_be_refused(client):
    client.apply(config_map("one", a="1"), dry_run=True)
    client.create(config_map("one", a="1"), dry_run=True)
    assert client.list("ConfigMap", labels="x=y").items == []
    job = {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "j"}, "spec": {"parallelism": -1}}
    with pytest.raises(ApiError) as caught:
        client.apply(job, dry_run=True)
    assert caught.value.status == 422
    assert any(cause["field"] == "spec.parallelism" for cause in caught.value.causes)


def test_a_list_of_many_pages_is_whole(client, monkeypatch):
    from jupyter_gpudeploy.backends.kubernetes.api import objects as module

    for number in range(7):
        client.create(config_map(f"n{number}"))
    monkeypatch.setattr(module, "PAGE", 3)
    assert len(client.list("ConfigMap", labels="x=y").items) == 7
    assert len(client.list("ConfigMap", labels="x=y", all_pages=False).items) == 3


def test_a_watch_goes_on_where_the_list_ended_and_ends_by_itself(client):
    since = client.list("ConfigMap", labels="x=y").resource_version
    threading.Timer(0.3, lambda: change(client)).start()
    watch = client.watch("ConfigMap", labels="x=y", resource_version=since, timeout_seconds=3)
    seen = [(event["type"], event["object"]["metadata"].get("name")) for event in watch if event["type"] != "BOOKMARK"]
    assert seen == [("ADDED", "one"), ("DELETED", "one")]


def change(client):
    client.create(config_map("one"))
    client.delete("ConfigMap", "one", propagation="Background")


def test_megabytes_go_in_and_come_out_and_the_end_of_stdin_is_told(client, pod):
    sent = bytes(range(256)) * (5 * MEGABYTE // 256)
    result = client.execute(pod, "main", ["cat"], stdin=[sent])
    assert (result.exit_code, len(result.stdout), result.stdout == sent) == (0, len(sent), True)
    hashed = client.execute(pod, "main", ["sha256sum"], stdin=(sent[at : at + 999] for at in range(0, MEGABYTE, 999)))
    assert hashed.exit_code == 0
    assert hashed.stdout.endswith(b"-\n")


def test_a_command_is_words_not_a_shell_line_and_its_end_is_told_exactly(client, pod):
    code = "import sys; print(sys.argv[1:]); print('oh', file=sys.stderr); sys.exit(7)"
    result = client.execute(pod, "main", ["python3", "-c", code, "a b", "$HOME", "'", "é", ""])
    assert result == (7, b"['a b', '$HOME', \"'\", '\xc3\xa9', '']\n", b"oh\n")
    with pytest.raises(ApiError, match=r"no such file|not found"):
        client.execute(pod, "main", ["no-such-program"])
    with pytest.raises(ApiError):
        client.execute(pod, "no-such-container", ["true"])
    with pytest.raises(NotFoundError):
        client.execute("no-such-pod", "main", ["true"])


def test_output_comes_as_it_is_printed_and_a_command_can_be_left(client, pod):
    code = "import time\nfor n in range(10**6): print(n, flush=True); time.sleep(0.05)"
    stop = threading.Event()
    taken = []

    def on_output(channel, data):
        taken.append((channel, data))
        if len(taken) == 3:
            stop.set()

    result = client.execute(pod, "main", ["python3", "-c", code], on_output=on_output, stop=stop)
    assert result == (None, b"", b"")
    assert b"".join(data for _, data in taken).startswith(b"0\n1\n2\n")


def test_a_port_is_reached_by_several_connections_at_once(client, pod):
    client.execute(pod, "main", ["python3", "-c", f"open('/tmp/big', 'wb').write(bytes({3 * MEGABYTE}))"])
    client.execute(pod, "main", ["cp", "/tmp/big", "/big"])
    taken = []
    threads = [threading.Thread(target=lambda: taken.append(len(fetch(client, "/big")))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(taken) == 4
    assert min(taken) > 3 * MEGABYTE


def test_a_port_where_nobody_listens_says_so(client, pod):
    with client.connect_port(pod, 9) as socket:
        socket.settimeout(20)
        with contextlib.suppress(OSError):
            socket.sendall(b"x")
        assert socket.recv(10) == b""
        until(lambda: socket.failure, 10)
        assert "refused" in socket.failure


def test_a_log_is_followed_and_a_finished_one_ends(client, pod):
    fetch(client, "/once")
    with contextlib.closing(client.open_log(pod, "main", follow=True)) as log:
        taken = b""
        while b"/once" not in taken:
            taken += log.read()
    assert taken.split(b" ", 1)[0].startswith(b"20")
    log = client.open_log(pod, "main", follow=False, timestamps=False, tail_lines=1)
    assert log.read().count(b"\n") == 1
    assert log.read() == b""


@pytest.mark.fault(14)
def test_a_user_without_rights_learns_what_is_missing(as_plain):
    assert as_plain.can_i("list", "pods") is False
    assert as_plain.can_i("create", "jobs", "batch") is False
    assert as_plain.user == "plain"
    with pytest.raises(ForbiddenError, match="list pods in namespace") as caught:
        as_plain.list("Pod")
    assert "Role" in caught.value.hint


def test_rights_are_seen_one_by_one(plain_user, as_plain):
    plain_user.allow({"apiGroups": [""], "resources": ["pods", "pods/log"], "verbs": ["get", "list"]})
    assert as_plain.can_i("list", "pods") is True
    assert as_plain.can_i("get", "pods", subresource="log") is True
    assert as_plain.can_i("get", "pods", subresource="exec") is False
    assert as_plain.can_i("delete", "pods") is False
    assert as_plain.list("Pod").items == []


@pytest.mark.fault(13)
def test_a_wrong_token_is_refused_with_the_way_out_and_a_new_one_in_the_file_is_taken(plain_user, as_plain):
    right = plain_user.kubeconfig.read_text()
    (token,) = re.findall(r'token"?: "?([^\s",}]+)', right)
    plain_user.kubeconfig.write_text(right.replace(token, "wrong"))
    plain_user.allow({"apiGroups": [""], "resources": ["pods"], "verbs": ["list"]})
    with connect() as broken:
        with pytest.raises(CredentialsError, match=r"does not accept the token of user .* \(401\)") as caught:
            broken.list("Pod")
        assert "sign in" in caught.value.hint
        plain_user.kubeconfig.write_text(right)
        assert broken.list("Pod").items == []


def test_the_server_says_what_it_is(client):
    assert client.version().startswith("v1.")
    assert {"v1", "apps/v1", "batch/v1"} <= client.groups()
    assert client.has("Job")
    assert client.can_i("create", "jobs", "batch") is True


def test_the_doctor_of_an_administrator_finds_all_rights_and_the_gpus(client):
    report = examine(client)
    assert report.is_usable
    assert report.role == ""
    assert rows(report, "Connection")["server"].value.startswith("Kubernetes v1.")
    assert {row.level for row in rows(report, "Rights").values()} == {"ok"}


def test_the_doctor_counts_free_gpus_and_the_quota(client, own_cluster, python_image):
    quota = {"hard": {"requests.nvidia.com/gpu": "1", "pods": "5"}}
    client.create({"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "q"}, "spec": quota})
    limits = {"limits": {"nvidia.com/gpu": "1"}}
    container = {"name": "main", "image": python_image, "command": ["sleep", "60"], "resources": limits}
    body = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a"}, "spec": {"containers": [container]}}
    until(lambda: client.get("ResourceQuota", "q").get("status", {}).get("hard"), 30)
    client.create(body)
    until(lambda: client.get("Pod", "a")["spec"].get("nodeName"), 30)
    until(lambda: rows(examine(client), "Quota")["pods"].value == "1 of 5 used", 30)
    report = examine(client)
    assert rows(report, "Quota")["requests.nvidia.com/gpu"].level == "warning"
    assert "free" in rows(report, "GPUs")["nvidia.com/gpu"].value
    client.delete("Pod", "a", grace_seconds=0)


def test_the_doctor_of_a_user_without_rights_says_what_is_off(as_plain):
    report = examine(as_plain)
    rights = rows(report, "Rights")
    assert not report.is_usable
    assert rights["jobs.batch"].level == "error"
    assert rights["pods/exec"].value == "may not get, create"
    assert rows(report, "GPUs")["nodes"].value == "not visible"
    assert "kind: Role" in report.role


def test_who_is_bound_to_the_documented_role_lacks_nothing_and_it_works(plain_user, as_plain, python_image):
    plain_user.allow(*load(permissions.role()).value["rules"])
    report = examine(as_plain)
    assert report.is_usable
    assert {row.level for row in rows(report, "Rights").values()} == {"ok"}
    container = {"name": "main", "image": python_image, "imagePullPolicy": "IfNotPresent", "command": ["sleep", "60"]}
    spec = {"containers": [container], "terminationGracePeriodSeconds": 0, "restartPolicy": "Never"}
    job = {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "a"}, "spec": {"template": {"spec": spec}}}
    as_plain.apply(job)
    until(lambda: running(as_plain), 60)
    assert as_plain.execute(running(as_plain), "main", ["echo", "hello"]) == (0, b"hello\n", b"")
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s"}, "stringData": {"a": "b"}}
    as_plain.apply(secret)
    with pytest.raises(ForbiddenError):
        as_plain.get("Secret", "s")
    as_plain.delete("Secret", "s")


def running(client):
    pods = client.list("Pod", labels="job-name=a").items
    return next((pod["metadata"]["name"] for pod in pods if pod["status"].get("phase") == "Running"), None)


def rows(report, title):
    (section,) = [section for section in report.sections if section.title == title]
    return {row.subject: row for row in section.rows}
