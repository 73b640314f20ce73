"""Where everything lies, and which versions and addresses there are."""

from __future__ import annotations

import os
from pathlib import Path

HERE = Path(__file__).parent
PROGRAMS = HERE / "programs"

KUBERNETES = "v1.37.2"
NODE = "node-1"
BRIDGE = "gpudeploy0"
HOST_ADDRESS = "10.97.0.1"  # of the API server, the kubelet and DNS, on the bridge
POD_RANGE = "10.97.0.0/16"
SERVICE_RANGE = "10.98.0.0/16"
DNS_DOMAIN = "cluster.local"
API_PORT = 6443
API_URL = f"https://{HOST_ADDRESS}:{API_PORT}"
ETCD_URL = "http://127.0.0.1:22379"
ETCD_PEER_URL = "http://127.0.0.1:22380"

CACHE_VARIABLE = "GPUDEPLOY_CLUSTER_CACHE"
RUN_VARIABLE = "GPUDEPLOY_CLUSTER_RUN"
PART_VARIABLE = "GPUDEPLOY_CLUSTER_PART"

PAUSE_IMAGE = "localhost/gpudeploy-pause:test"
PYTHON_IMAGE = "localhost/gpudeploy-python:test"
NONROOT_IMAGE = "localhost/gpudeploy-python:nonroot"
EXAMPLES_IMAGE = "localhost/gpudeploy-examples:test"


def cache() -> Path:
    """What is built once for a version of Kubernetes: programs, images, CRDs."""
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    root = Path(os.environ.get(CACHE_VARIABLE) or Path(home) / "jupyter_gpudeploy-cluster")
    return root / KUBERNETES


def run_dir() -> Path:
    """What the one running cluster writes. `down` deletes it. Short, for the sake of the sockets in it."""
    return Path(os.environ.get(RUN_VARIABLE) or "/var/lib/gpudeploy-cluster")


def program(name: str) -> Path:
    """A built program."""
    return cache() / "bin" / name


def logs() -> Path:
    """One file a part."""
    return run_dir() / "logs"
