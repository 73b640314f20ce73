"""Kinds of others and simulated nodes: what the starter adds to the cluster on demand."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from . import crds as kinds_of_others
from . import simulation
from .system import ClusterError, wait_for

if TYPE_CHECKING:
    from collections.abc import Callable

    from .cluster import Cluster

CRDS = ("route", "gateway", "kueue", "jobset", "lws", "keda", "prometheus")


def test_kinds_of_others_are_there_and_know_their_fields(crds: tuple[str, ...], own_cluster: Cluster) -> None:
    assert set(crds) <= set(kinds_of_others.installed())
    route = {
        "apiVersion": "route.openshift.io/v1",
        "kind": "Route",
        "metadata": {"name": "a"},
        "spec": {"to": {"kind": "Service", "name": "a"}, "prot": {}},
    }
    at = "/apis/route.openshift.io/v1/namespaces/default/routes?dryRun=All&fieldValidation=Strict"
    with pytest.raises(ClusterError, match=r'unknown field "spec\.prot"'):
        own_cluster.client().post(at, route)
    del route["spec"]["prot"]  # type: ignore[attr-defined]
    own_cluster.client().post(at, route)


def test_simulated_nodes_run_a_job_and_have_its_logs(
    simulated: Callable[[int], None], own_cluster: Cluster, namespace: str
) -> None:
    simulated(3)
    client, main = (
        own_cluster.client(),
        {"name": "main", "image": "none", "resources": {"limits": {"nvidia.com/gpu": 8}}},
    )
    pod = {"restartPolicy": "Never", "tolerations": [simulation.TAINT], "containers": [main]}
    job = {"completions": 3, "parallelism": 3, "completionMode": "Indexed", "template": {"spec": pod}}
    jobs = f"/apis/batch/v1/namespaces/{namespace}/jobs"
    client.post(jobs, {"metadata": {"name": "many"}, "spec": job})
    wait_for("the job ends", lambda: client.get(f"{jobs}/many")["status"].get("succeeded") == 3, 90)
    pods = client.get(f"/api/v1/namespaces/{namespace}/pods")["items"]
    assert {one["spec"]["nodeName"] for one in pods} == {"simulated-0001", "simulated-0002", "simulated-0003"}
    log = client.text(f"/api/v1/namespaces/{namespace}/pods/{pods[0]['metadata']['name']}/log")
    assert log.splitlines() == list(simulation.LOG)
