"""The cluster itself: what the other tests rely on."""

from __future__ import annotations

import contextlib
import json
import subprocess
import urllib.error
from typing import TYPE_CHECKING, Any

import pytest

from . import foreign, paths
from .client import Client
from .system import ClusterError, wait_for

if TYPE_CHECKING:
    from pathlib import Path

    from .cluster import Cluster
    from .conftest import Person

SERVER = """
import http.server, socket
http.server.ThreadingHTTPServer(("", 8000), http.server.SimpleHTTPRequestHandler).serve_forever()
"""


def pod(name: str, code: str, image: str, **container: Any) -> dict[str, Any]:
    main = {"name": "main", "image": image, "command": ["python", "-uc", code], **container}
    metadata = {"name": name, "labels": {"app": name}}
    return {"metadata": metadata, "spec": {"restartPolicy": "Never", "containers": [main]}}


def ended(client: Client, namespace: str, name: str) -> dict[str, Any]:
    at = f"/api/v1/namespaces/{namespace}/pods/{name}"
    wait_for("the pod ends", lambda: client.get(at)["status"]["phase"] in {"Succeeded", "Failed"}, 90)
    return dict(client.get(at)["status"])


def test_a_pod_reaches_a_service_by_its_name(own_cluster: Cluster, namespace: str, python_image: str) -> None:
    client, at = own_cluster.client(), f"/api/v1/namespaces/{namespace}"
    client.post(f"{at}/pods", pod("web", SERVER, python_image, readinessProbe={"httpGet": {"path": "/", "port": 8000}}))
    client.post(
        f"{at}/services",
        {
            "metadata": {"name": "web"},
            "spec": {"selector": {"app": "web"}, "ports": [{"port": 80, "targetPort": 8000}]},
        },
    )
    code = f"import time, urllib.request\nwhile True:\n  try: print(urllib.request.urlopen('http://web.{namespace}.svc.cluster.local', timeout=2).status); break\n  except OSError: time.sleep(0.2)"
    client.post(f"{at}/pods", pod("ask", code, python_image))
    assert ended(client, namespace, "ask")["phase"] == "Succeeded"
    assert client.text(f"{at}/pods/ask/log").strip() == "200"


def test_the_scheduler_counts_the_made_up_gpus(own_cluster: Cluster, namespace: str, python_image: str) -> None:
    client, at = own_cluster.client(), f"/api/v1/namespaces/{namespace}/pods"
    client.post(at, pod("greedy", "pass", python_image, resources={"limits": {"nvidia.com/gpu": "5"}}))

    def reason() -> str:
        return str(client.get(f"{at}/greedy")["status"].get("conditions", [{}])[0].get("message", ""))

    wait_for("the scheduler's word", lambda: "Insufficient nvidia.com/gpu" in reason(), 30)


def test_a_container_above_its_memory_is_killed(own_cluster: Cluster, namespace: str, python_image: str) -> None:
    client = own_cluster.client()
    code = "print(len(bytearray(b'x' * (200 << 20))))"
    client.post(
        f"/api/v1/namespaces/{namespace}/pods", pod("fat", code, python_image, resources={"limits": {"memory": "32Mi"}})
    )
    state = ended(client, namespace, "fat")["containerStatuses"][0]["state"]["terminated"]
    assert (state["reason"], state["exitCode"]) == ("OOMKilled", 137)


def test_a_plain_user_may_do_only_what_it_is_allowed(plain_user: Person) -> None:
    as_plain, at = Client("plain"), f"/api/v1/namespaces/{plain_user.namespace}"
    with pytest.raises(ClusterError, match='User "plain" cannot list resource "pods"'):
        as_plain.get(f"{at}/pods")
    plain_user.allow({"apiGroups": [""], "resources": ["pods"], "verbs": ["list"]})
    wait_for("the role", lambda: as_plain.get(f"{at}/pods")["items"] == [], 10)
    with pytest.raises(ClusterError, match="configmaps"):
        as_plain.get(f"{at}/configmaps")
    assert json.loads(plain_user.kubeconfig.read_text())["contexts"][0]["context"]["namespace"] == plain_user.namespace


def test_each_part_comes_back_after_a_crash(breakable_cluster: Cluster, namespace: str, python_image: str) -> None:
    for name in ("kube-apiserver", "etcd", "containerd", "kubelet", "kube-scheduler", "kube-controller-manager"):
        breakable_cluster.kill(name)
        assert not breakable_cluster.works(name)
        breakable_cluster.start(name)
    client = breakable_cluster.client()
    wait_for("the API server and its etcd", lambda: client.text("/readyz") == "ok", 30)
    client.post(
        f"/api/v1/namespaces/{namespace}/pods",
        pod("after", "print('still here')", python_image, resources={"limits": {"nvidia.com/gpu": "1"}}),
    )
    assert ended(client, namespace, "after")["phase"] == "Succeeded"


def test_a_frozen_server_keeps_its_connections_and_is_silent(breakable_cluster: Cluster) -> None:
    breakable_cluster.freeze("kube-apiserver")
    assert not breakable_cluster.works("kube-apiserver")
    breakable_cluster.thaw("kube-apiserver")
    breakable_cluster.wait("kube-apiserver")


def test_the_kubelet_takes_settings_until_it_is_restarted(breakable_cluster: Cluster) -> None:
    def setting() -> str:
        at = f"/api/v1/nodes/{paths.NODE}/proxy/configz"
        with contextlib.suppress(ClusterError, urllib.error.URLError):
            return str(breakable_cluster.client().get(at)["kubeletconfig"]["containerLogMaxSize"])
        return ""

    breakable_cluster.restart("kubelet", containerLogMaxSize="64Ki")
    assert setting() == "64Ki"
    breakable_cluster.restart("kubelet")
    assert setting() == "10Mi"


def test_the_node_has_the_devices_that_are_asked_for(breakable_cluster: Cluster) -> None:
    breakable_cluster.set_gpus({"amd.com/gpu": 2, "nvidia.com/mig-1g.10gb": 7})
    capacity = breakable_cluster.client().get(f"/api/v1/nodes/{paths.NODE}")["status"]["allocatable"]
    assert {name: count for name, count in capacity.items() if "/" in name} == {
        "amd.com/gpu": "2",
        "nvidia.com/mig-1g.10gb": "7",
    }


def test_only_the_named_context_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    first.write_text(
        json.dumps(
            {"current-context": "default", "contexts": [{"name": "default", "context": {"cluster": "a", "user": "a"}}]}
        )
    )
    second.write_text(
        json.dumps(
            {
                "contexts": [{"name": "mine", "context": {"cluster": "b", "user": "b"}}],
                "clusters": [{"name": "b", "cluster": {"server": "https://b", "certificate-authority": "ca.crt"}}],
                "users": [{"name": "b", "user": {"token": "t"}}],
            }
        )
    )
    monkeypatch.setenv("KUBECONFIG", f"{first}:{second}")
    taken = foreign.only_context("mine")
    assert taken["current-context"] == "mine"
    assert [entry["name"] for entry in taken["contexts"]] == ["mine"]
    assert taken["clusters"][0]["cluster"]["certificate-authority"] == str(tmp_path / "ca.crt")
    with pytest.raises(ValueError, match="no kubeconfig has a context nowhere; there are default, mine"):
        foreign.only_context("nowhere")


def test_the_made_up_nvidia_smi_answers_queries() -> None:
    argv = [
        str(paths.HERE / "image" / "nvidia-smi"),
        "--query-gpu=index,memory.total,utilization.gpu",
        "--format=csv,noheader,nounits",
    ]
    rows = subprocess.run(
        argv, capture_output=True, text=True, check=True, env={"GPUS": "2", "PATH": "/usr/bin:/bin"}
    ).stdout.splitlines()
    assert [row.split(", ")[:2] for row in rows] == [["0", "81559"], ["1", "81559"]]
    assert all(40 <= int(row.split(", ")[2]) <= 100 for row in rows)
