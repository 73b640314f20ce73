"""Everything that is rendered is taken by a real API server: strictly, without a warning, as restricted as can be."""

from __future__ import annotations

import json
import secrets
import sys
from pathlib import Path
from typing import Any

import pytest

sys.path.append(str(Path(__file__).parents[1] / "backends" / "kubernetes"))

from cells import ALL, EXAMPLES
from rendered import plan_of, without_our_sources

from jupyter_gpudeploy.backends.kubernetes.api.kinds import KINDS
from jupyter_gpudeploy.backends.kubernetes.manifests.render import objects_of, render, root, stamp

from .foreign import ForeignCluster
from .system import wait_for

CUSTOM = {"Route", "HTTPRoute", "JobSet", "LeaderWorkerSet", "PodMonitor"}
CRDS = ("route", "gateway", "kueue", "jobset", "lws", "prometheus")
RESTRICTED = {f"pod-security.kubernetes.io/{mode}": "restricted" for mode in ("enforce", "warn")}


@pytest.fixture(scope="module")
def rest(cluster: Any, request: pytest.FixtureRequest) -> Any:
    """Send one request; return (status, headers, body)."""
    import urllib3
    from kubernetes import config

    if not isinstance(cluster, ForeignCluster):
        request.getfixturevalue("crds")  # the kinds of others, by the schemas that their projects publish
    with config.new_client_from_config(config_file=str(cluster.kubeconfig())) as client:
        settings = client.configuration
        given = {auth["key"]: auth["value"] for auth in settings.auth_settings().values() if auth["in"] == "header"}
    pool = urllib3.PoolManager(ca_certs=settings.ssl_ca_cert, cert_file=settings.cert_file, key_file=settings.key_file)

    def send(method: str, path: str, body: Any = None, kind: str = "application/json") -> tuple[int, Any, Any]:
        headers = {"Content-Type": kind, "Accept": "application/json", **given}
        data = None if body is None else json.dumps(body).encode()
        answer = pool.request(method, settings.host + path, body=data, headers=headers, timeout=30, retries=False)
        return answer.status, answer.headers, _content(answer.data)

    yield send
    pool.clear()


@pytest.fixture(scope="module")
def restricted(rest: Any) -> Any:
    """A namespace in which the restricted standard is enforced, and pods that break it are warned of."""
    name = f"t-rendered-{secrets.token_hex(3)}"
    made = {"metadata": {"name": name, "labels": {**RESTRICTED, "gpudeploy.test": "true"}}}
    assert rest("POST", "/api/v1/namespaces", made)[0] == 201
    yield name
    rest("DELETE", f"/api/v1/namespaces/{name}")


@pytest.fixture
def found(name: str, monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """Every object of one cell, as a launch would send it."""
    without_our_sources(monkeypatch)
    cell, known = ALL[name]
    rendering = render(plan_of(cell, EXAMPLES, **known))
    return [root(rendering), *stamp(objects_of(rendering), "3f2c", f"{rendering.name}.run")]


@pytest.mark.parametrize("name", ALL)
def test_a_server_takes_every_object_without_a_warning(found: Any, rest: Any, restricted: str) -> None:
    unknown = []
    for body in found:
        path = KINDS[body["kind"]].path(restricted)
        if body["kind"] in CUSTOM and rest("GET", path)[0] == 404:
            unknown.append(body["kind"])
            continue
        query = f"/{body['metadata']['name']}?dryRun=All&fieldManager=jupyter-gpudeploy&fieldValidation=Strict"
        status, headers, answer = rest("PATCH", path + query, body, "application/apply-patch+yaml")
        assert status in (200, 201), f"{body['kind']}: {answer.get('message')}"
        assert headers.getlist("warning") == [], body["kind"]
    if unknown:
        pytest.skip(f"all but {', '.join(unknown)}, which this cluster does not know")


def test_every_kind_of_others_that_is_rendered_is_known_here(rest: Any, restricted: str, monkeypatch: Any) -> None:
    without_our_sources(monkeypatch)
    renderings = [render(plan_of(cell, EXAMPLES, **known)) for cell, known in ALL.values()]
    assert {one["kind"] for rendering in renderings for one in objects_of(rendering)} >= CUSTOM
    if missing := {kind for kind in CUSTOM if rest("GET", KINDS[kind].path(restricted))[0] == 404}:
        pytest.skip(f"this cluster does not know {', '.join(sorted(missing))}")


@pytest.mark.parametrize("name", ALL)
def test_every_pod_passes_the_restricted_standard(found: Any, rest: Any, restricted: str) -> None:
    for template in _templates(found):
        spec = {key: value for key, value in template["spec"].items() if key not in _MADE_BY_OTHERS}
        pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "pod"}, "spec": spec}
        status, _, answer = rest("POST", f"/api/v1/namespaces/{restricted}/pods?dryRun=All&fieldValidation=Strict", pod)
        assert status == 201, answer.get("message")


def test_what_is_rendered_runs_where_the_restricted_standard_is_enforced(
    rest: Any, restricted: str, python_image: str, tmp_path: Path
) -> None:
    (tmp_path / "data.txt").write_text("41")
    job = "name: sum\ngpus: 1\nmemory: 256Mi\nparameters: {n: [1, 2]}\nparallelism: 2\n---\n" + _SUM
    server = "name: files\nserve: command\nrun: python3 -m http.server {port} --bind {host}\nport: 8080\n"
    for cell in (job, server):
        rendering = render(plan_of(cell, tmp_path, image=python_image))
        status, _, made = rest("POST", KINDS["ConfigMap"].path(restricted), root(rendering))
        assert status == 201, made.get("message")
        for body in stamp(objects_of(rendering), made["metadata"]["uid"], made["metadata"]["name"]):
            path = f"{KINDS[body['kind']].path(restricted)}/{body['metadata']['name']}?fieldManager=jupyter-gpudeploy"
            status, _, answer = rest("PATCH", path, body, "application/apply-patch+yaml")
            assert status == 201, answer.get("message")
    jobs, deployments = KINDS["Job"].path(restricted), KINDS["Deployment"].path(restricted)
    wait_for("the job", lambda: rest("GET", f"{jobs}/sum")[2]["status"].get("completedIndexes") == "0,1", 120)
    wait_for("the server", lambda: rest("GET", f"{deployments}/files")[2]["status"].get("availableReplicas"), 120)


_SUM = """
import os
from pathlib import Path
assert int(Path("data.txt").read_text()) + n == 41 + n
assert os.getuid() == 1000 and os.environ["GPUDEPLOY_TASK"] == str(n - 1)
from jupyter_gpudeploy import log, output_dir
log(value=n)
(output_dir() / "kept").write_text("x")
Path("/dev/shm/x").write_text("x")
"""


def _content(data: bytes) -> Any:
    try:
        return json.loads(data or b"null")
    except ValueError:
        return {"message": data.decode(errors="replace")}


_MADE_BY_OTHERS = {"serviceAccountName", "priorityClassName"}


def _templates(value: Any) -> Any:
    if isinstance(value, dict):
        if isinstance(value.get("spec"), dict) and "containers" in value["spec"]:
            yield value
        for part in value.values():
            yield from _templates(part)
    elif isinstance(value, list):
        for part in value:
            yield from _templates(part)
