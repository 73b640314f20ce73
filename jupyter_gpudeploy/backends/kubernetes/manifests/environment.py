"""The environment of containers. What a task itself is given is in its record; here stands what the pod must know."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from jupyter_gpudeploy.backends.kubernetes import marks, places
from jupyter_gpudeploy.backends.kubernetes.manifests.probes import TASK_GRACE_SECONDS

if TYPE_CHECKING:
    from collections.abc import Mapping

    from jupyter_gpudeploy.plan.types import ClusterOptions, Plan
    from jupyter_gpudeploy.servers.base import Container

_INDEX = "batch.kubernetes.io/job-completion-index"
_FAILURES = {
    "GPUDEPLOY_FAILURES": "batch.kubernetes.io/job-index-failure-count",
    "GPUDEPLOY_IGNORED_FAILURES": "batch.kubernetes.io/job-index-ignored-failure-count",
}
_JOB = "batch.kubernetes.io/job-name"
_RESTARTS = "jobset.sigs.k8s.io/restart-attempt"
_USER = "gpudeploy"
LEADER, WORKER = "LWS_LEADER_ADDRESS", "LWS_WORKER_INDEX"
"""What LeaderWorkerSet puts before the variables of its pods: the first machine's address, and which this one is."""

Variable = dict[str, Any]


def of_runner(plan: Plan, options: ClusterOptions, *, in_jobset: bool) -> list[Variable]:
    """Return the environment of a container that runs our program: who it is, where it may write, its secrets."""
    found = [
        _label("GPUDEPLOY_RUN", marks.UID),
        _field("GPUDEPLOY_POD", "metadata.name"),
        _field("GPUDEPLOY_NODE", "spec.nodeName"),
        *_texts({"GPUDEPLOY_GRACE_SECONDS": str(TASK_GRACE_SECONDS)}),
        *_homes(),
    ]
    if plan.kind == "server" and options.nodes > 1:
        found += _of_group(options)
    if plan.kind in ("job", "sweep"):
        if in_jobset:
            found.append(_label("GPUDEPLOY_FAILURES", _RESTARTS))
        else:
            found += [_annotation(name, annotation) for name, annotation in _FAILURES.items()]
        if options.nodes > 1:
            found += _of_nodes(plan, options, in_jobset=in_jobset)
    if options.storage:
        found += _texts({"GPUDEPLOY_STORAGE": places.STORAGE, "HF_HOME": f"{places.STORAGE}/cache/hf"})
        if options.schedule:
            found.append(_label("GPUDEPLOY_ROUND", _JOB))
    if plan.requirements:
        found += _texts({"PYTHONUSERBASE": places.DEPENDENCIES})
    return [*found, *secrets(plan)]


def of_server(plan: Plan, options: ClusterOptions, server: Container, key: str | None) -> list[Variable]:
    """Return the environment of a server in its own image. What the cell says in `env:` wins."""
    cache = f"{places.STORAGE if options.storage else places.ROOT}/cache"
    own = {name: f"{cache}/{folder}" for name, folder in server.caches.items()} | dict(server.environment)
    if server.startup_variable and plan.service:
        own[server.startup_variable] = str(round(plan.service.health.startup_seconds))
    said = own | dict(plan.environment) | dict(plan.tasks[0].environment) | {"PYTHONUNBUFFERED": "1"}
    found = [_label("GPUDEPLOY_RUN", marks.UID), *_homes(said), *_texts(said)]
    if key and key not in plan.environment and key not in plan.secrets:
        found.append(_secret(key, places.key_name(plan.name), places.KEY))
    return [*found, *secrets(plan)]


def of_installer() -> list[Variable]:
    """Return the environment of the container that installs requirements."""
    return [*_homes(), *_texts({"PYTHONUSERBASE": places.DEPENDENCIES, "PIP_BREAK_SYSTEM_PACKAGES": "1"})]


def secrets(plan: Plan) -> list[Variable]:
    """Return the secrets as references, never as values."""
    found = []
    for name, reference in plan.secrets.items():
        if reference.source == "cluster":
            secret, _, key = reference.key.partition("/")
            found.append(_secret(name, secret, key))
        else:
            found.append(_secret(name, places.secrets_name(plan.name), name))
    return found


def literal(text: str) -> str:
    """Return a text such that Kubernetes, which replaces `$(NAME)` and `$$` in commands and values, leaves it alone."""
    return text.replace("$", "$$") if "$(" in text or "$$" in text else text


def _of_nodes(plan: Plan, options: ClusterOptions, *, in_jobset: bool) -> list[Variable]:
    """Return what the machines of one task know of each other, as torchrun reads it (PET_*) and as torch does."""
    service = places.service_name(plan.name)
    first = f"{plan.name}-{places.GROUP}-0-0.{plan.name}" if in_jobset else f"{plan.name}-0.{service}"
    address = {"MASTER_ADDR": first, "MASTER_PORT": str(places.RENDEZVOUS_PORT)}
    processes = max(plan.resources.gpus, 1)
    found = [
        *_texts({"GPUDEPLOY_NODES": str(options.nodes), "NNODES": str(options.nodes), **address}),
        _annotation("NODE_RANK", _INDEX),
        *_texts({"PET_NNODES": str(options.nodes), "PET_NPROC_PER_NODE": str(processes)}),
        _annotation("PET_NODE_RANK", _INDEX),
        *_texts({f"PET_{name}": value for name, value in address.items()}),
    ]
    if processes == 1:
        found += [*_texts({"WORLD_SIZE": str(options.nodes)}), _annotation("RANK", _INDEX)]
    return found


def _of_group(options: ClusterOptions) -> list[Variable]:
    """Return what the machines of one server know of each other; LeaderWorkerSet's own variables come before them."""
    nodes = str(options.nodes)
    return [
        *_texts({"GPUDEPLOY_NODES": nodes, "NNODES": nodes, "MASTER_PORT": str(places.RENDEZVOUS_PORT)}),
        {"name": "MASTER_ADDR", "value": f"$({LEADER})"},
        {"name": "NODE_RANK", "value": f"$({WORKER})"},
    ]


def _homes(said: Mapping[str, str] | None = None) -> list[Variable]:
    """Return HOME and USER: a user without an entry in /etc/passwd has neither, and torch asks for both."""
    own = {"HOME": places.HOME, "USER": _USER}
    return _texts({name: value for name, value in own.items() if name not in (said or {})})


def _texts(values: Mapping[str, str]) -> list[Variable]:
    return [{"name": name, "value": literal(value)} for name, value in values.items()]


def _label(name: str, label: str) -> Variable:
    return _field(name, f"metadata.labels['{label}']")


def _annotation(name: str, annotation: str) -> Variable:
    return _field(name, f"metadata.annotations['{annotation}']")


def _field(name: str, path: str) -> Variable:
    return {"name": name, "valueFrom": {"fieldRef": {"fieldPath": path}}}


def _secret(name: str, secret: str, key: str) -> Variable:
    return {"name": name, "valueFrom": {"secretKeyRef": {"name": secret, "key": key}}}
