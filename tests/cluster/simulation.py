"""Simulated nodes with 8 GPUs each: kwok plays their kubelets, so that a thousand cost little and pods run nothing.

A pod comes to such a node when it tolerates TAINT (and asks for more GPUs than the real node has, or selects LABELS).
It is created, ready and, if a Job owns it, complete, each after one to five seconds; kwok's annotations on a pod change
that (`pod-complete.stage.kwok.x-k8s.io/delay: 60s`), and its chaos labels make pods and nodes fail on demand. Each
simulated container has the same log: what LOG says.
"""

from __future__ import annotations

import json
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import build, identities, paths, processes
from .client import METADATA_LIST, Client
from .parts import Part, listens
from .system import ClusterError, command, say, timed, wait_for

if TYPE_CHECKING:
    from collections.abc import Sequence

GPUS = 8
LABELS = {"type": "kwok"}
TAINT = {"key": "kwok.x-k8s.io/node", "value": "fake", "effect": "NoSchedule"}
LOG = ("epoch=1 loss=0.5", "epoch=2 loss=0.25")
_API = "kwok.x-k8s.io/v1alpha1"
_PORT = 10247
_STAGES = ("node/fast", "node/heartbeat-with-lease", "node/chaos", "pod/general", "pod/chaos")
_SELECTED = f"labelSelector={'%2C'.join(f'{name}%3D{value}' for name, value in LABELS.items())}"


def up(nodes: int) -> None:
    """Start kwok and have so many simulated nodes Ready, in whole."""
    build.build(build.KWOK)
    if processes.main_pid(KWOK.name) is None:
        processes.start(KWOK.name, KWOK.argv())
    wait_for("kwok works", KWOK.works, KWOK.seconds)
    client = Client()
    wanted = {f"simulated-{number:04}" for number in range(1, nodes + 1)}
    with timed(f"{nodes} simulated nodes"):
        have = set(_nodes(client))
        _each(lambda name: client.delete(f"/api/v1/nodes/{name}"), have - wanted)
        _each(lambda name: client.post("/api/v1/nodes", _node(name)), wanted - have)
        wait_for("the simulated nodes are Ready", lambda: _ready(client) == nodes, 60 + nodes / 5, every=1)


def down() -> None:
    """Remove the simulated nodes and what runs on them, and end kwok. None there is no error."""
    client = Client()
    names = set(_nodes(client))
    pods = client.get("/api/v1/pods")["items"] if names else []
    there = [one["metadata"] for one in pods if one["spec"].get("nodeName") in names]
    at = [f"/api/v1/namespaces/{one['namespace']}/pods/{one['name']}?gracePeriodSeconds=0" for one in there]
    _each(client.delete, at)
    _each(client.delete, [f"/api/v1/nodes/{name}" for name in names])
    _each(client.delete, [f"/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases/{name}" for name in names])
    processes.end(processes.find(KWOK.name))
    if names:
        say(f"removed {len(names)} simulated nodes and {len(at)} pods")


def print_as(lines: Sequence[str]) -> None:
    """Have the pods that begin from now on print these lines, as the kubelet writes logs."""
    log = _log()
    draft = log.with_suffix(".new")
    draft.write_text("".join(f"2026-01-01T00:00:{place:02}Z stdout F {line}\n" for place, line in enumerate(lines)))
    draft.replace(log)


def _log() -> Path:
    return paths.run_dir() / "simulated.log"


def _each(do: Any, things: Any) -> None:
    with ThreadPoolExecutor(16) as pool:
        list(pool.map(do, things))


def _nodes(client: Client) -> list[str]:
    found = client.get(f"/api/v1/nodes?{_SELECTED}", kind=METADATA_LIST)["items"]
    return [one["metadata"]["name"] for one in found or ()]


def _ready(client: Client) -> int:
    found = client.get(f"/api/v1/nodes?{_SELECTED}")["items"]
    conditions = [one.get("status", {}).get("conditions", ()) for one in found]
    return sum(any(one["type"] == "Ready" and one["status"] == "True" for one in known) for known in conditions)


def _node(name: str) -> dict[str, Any]:
    has = {"cpu": "64", "memory": "512Gi", "pods": "250", "nvidia.com/gpu": str(GPUS)}
    labels = {
        **LABELS,
        "kubernetes.io/hostname": name,
        "nvidia.com/gpu.present": "true",
        "nvidia.com/gpu.count": str(GPUS),
        "nvidia.com/gpu.product": "NVIDIA-H100-80GB-HBM3",
    }
    metadata = {"name": name, "labels": labels, "annotations": {"kwok.x-k8s.io/node": "fake"}}
    return {"metadata": metadata, "spec": {"taints": [TAINT]}, "status": {"capacity": has, "allocatable": has}}


# --- kwok --------------------------------------------------------------------------------------------------


def _argv() -> list[str]:
    secret, config = identities.folder(), paths.run_dir() / "kwok.yaml"
    log = _log()
    print_as(LOG)
    options = {
        "cidr": "10.100.0.0/14",
        "nodeIP": paths.HOST_ADDRESS,
        "nodePort": _PORT,
        "tlsCertFile": str(secret / "apiserver.crt"),
        "tlsPrivateKeyFile": str(secret / "apiserver.key"),
        "serverAddress": f"{paths.HOST_ADDRESS}:{_PORT}",
        "enableDebuggingHandlers": True,  # logs
        "nodeLeaseDurationSeconds": 40,
        "nodeLeaseParallelism": 4,
        "nodePlayStageParallelism": 4,
        "podPlayStageParallelism": 16,
    }
    logs = {"logs": [{"logsFile": str(log), "follow": False}]}
    ours: list[dict[str, Any]] = [
        {"apiVersion": "config.kwok.x-k8s.io/v1alpha1", "kind": "KwokConfiguration", "options": options},
        {"apiVersion": _API, "kind": "ClusterLogs", "metadata": {"name": "all"}, "spec": logs},
    ]
    config.write_text("\n---\n".join([*(json.dumps(one) for one in ours), _stages()]))
    return [
        str(paths.program("kwok")),
        f"--config={config}",
        f"--kubeconfig={identities.kubeconfig()}",
        "--manage-nodes-with-annotation-selector=kwok.x-k8s.io/node=fake",
    ]


def _stages() -> str:
    """What happens to nodes and pods, as the module of kwok tells it. Kept beside the program."""
    kept = paths.cache() / "kwok-stages.yaml"
    if not kept.exists():
        if not shutil.which("go"):
            raise ClusterError("the stages of simulated pods are fetched with Go, and there is no `go` here")
        where = ["go", "list", "-m", "-f", "{{.Dir}}", "sigs.k8s.io/kwok"]
        command(["go", "mod", "download", "sigs.k8s.io/kwok"], cwd=build.KWOK.folder, env={"GOWORK": "off"})
        root = Path(command(where, cwd=build.KWOK.folder, env={"GOWORK": "off"}).strip()) / "kustomize" / "stage"
        files = [path for stage in _STAGES for path in sorted((root / stage).glob("*.yaml"))]
        texts = [path.read_text() for path in files if path.name != "kustomization.yaml"]
        kept.write_text("\n---\n".join(texts))
    return kept.read_text()


KWOK = Part("kwok", _argv, lambda: listens(paths.HOST_ADDRESS, _PORT))
