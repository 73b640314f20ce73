"""Where things lie in a pod, and what the objects of a run are called."""

from __future__ import annotations

ROOT = "/gpudeploy"
IN = f"{ROOT}/in"  # the code ConfigMaps and the record of the root ConfigMap, read-only
HOME = f"{ROOT}/home"
CODE = f"{ROOT}/code"  # Slot.CODE
WORK = f"{ROOT}/work"  # Slot.SOURCES
OUT = f"{ROOT}/out"  # of a task: <OUT>/<number>
DEPENDENCIES = f"{ROOT}/deps"  # what `requirements:` asks for
STORAGE = f"{ROOT}/storage"  # the claim of `storage:`, whole
BOOT = f"{IN}/boot.py"
INSTALL = f"{IN}/install.py"
RECEIVE = f"{IN}/receive.py"
APP = f"{ROOT}/runtime/jupyter_gpudeploy/programs/app.py"
APPS = f"{ROOT}/state/apps"  # what must be known of applications that run
UPLOADED = f"{ROOT}/state/upload"  # what was uploaded, until it is unpacked
KEPT = f"{STORAGE}/code"  # the same on the claim of `storage:`, kept: <digest>.tar.gz

CONTAINER = "main"
INSTALLER = "requirements"
RECEIVER = "receiver"

KEY = "key"
"""The one key of the Secret that `key_secret` names."""
RENDEZVOUS_PORT = 29500
GROUP = "node"
"""What a JobSet calls its machines."""
RECORD = "run.json.gz"
CELL = "cell.txt.gz"
OBJECTS = "objects.json.gz"


def root_name(name: str) -> str:
    """Return what the root ConfigMap of a run is called."""
    return f"{name}.run"


def secrets_name(name: str) -> str:
    """Return what the Secret with the values from the notebook's machine is called."""
    return f"{name}.secrets"


def points_name(name: str) -> str:
    """Return what the ConfigMap with the points of a search is called."""
    return f"{name}.points"


def trial_name(name: str, number: int) -> str:
    """Return what the Job of a trial is called that is one of its own."""
    return f"{name}--{number}"


def key_name(name: str) -> str:
    """Return what the Secret with the key of a server is called."""
    return f"{name}.key"


def service_name(name: str, *, nodes: int = 1) -> str:
    """Return what the Service of a run is called; `nodes`: machines of each replica of a server.

    A LeaderWorkerSet makes a Service of its own name, by which the machines of a replica find each other.

    A Service called `vllm` would give every pod of the namespace that has service links a VLLM_PORT, and vLLM would not
    start there (kubernetes.io, "accessing the Service"; vllm/envs.py).
    """
    return f"{name}-server" if name in {"vllm", "llama-arg"} or nodes > 1 else name


def output_folder(name: str, uid: str, turn: str = "") -> str:
    """Return where in the claim of `storage:` a run leaves files; `<number>/` of each task below it.

    `turn`: the Job of one round of a schedule; each has a folder of its own.
    """
    return f"runs/{uid}/rounds/{turn}/{name}" if turn else f"runs/{uid}/{name}"
