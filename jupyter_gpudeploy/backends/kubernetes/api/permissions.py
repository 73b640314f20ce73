"""What a person must be allowed to do in a namespace, and what is off without it; `role.yaml` is it as a Role."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator

_READ = ("get", "list", "watch")
_ALL = (*_READ, "create", "patch", "delete")
_KEPT = ("get", "list", "create", "patch", "delete")
_CALL = ("get", "create")


class Permission(NamedTuple):
    """Verbs on resources of one group. `kind`: asked only where the cluster has that kind. `without`: what is off.

    `needed`: nothing works without it. A subresource is written `pods/log`.
    """

    group: str
    resources: tuple[str, ...]
    verbs: tuple[str, ...]
    without: str
    needed: bool = False
    kind: str = ""


PERMISSIONS = (
    Permission("", ("configmaps",), _ALL, "runs cannot be started or found", needed=True),
    Permission("", ("pods",), (*_READ, "create", "delete"), "runs cannot be followed", needed=True),
    Permission("", ("pods/log",), ("get",), "no logs and no metrics come back", needed=True),
    Permission("batch", ("jobs",), _ALL, "no jobs and no sweeps", needed=True),
    Permission("apps", ("deployments",), _ALL, "no servers and no manual runs"),
    Permission("", ("services",), _KEPT, "no servers"),
    # With websockets a client gets; since 1.35 the server asks for create as well.
    Permission("", ("pods/exec",), _CALL, "no commands in manual runs, no download of live files, no GPU samples"),
    Permission("", ("pods/portforward",), _CALL, "servers cannot be reached from the notebook without a route"),
    Permission("", ("secrets",), ("create", "patch", "delete"), "no secrets: and no key for servers"),
    Permission("", ("events",), ("list", "watch"), "why a pod does not start stays unknown"),
    Permission("", ("persistentvolumeclaims",), ("get", "list", "create", "delete"), "no storage:"),
    Permission("batch", ("cronjobs",), _ALL, "no schedule:"),
    Permission("policy", ("poddisruptionbudgets",), _KEPT, "servers are not protected when nodes are drained"),
    Permission("", ("resourcequotas",), ("list",), "the quota is not shown"),
    Permission("networking.k8s.io", ("ingresses",), _KEPT, "no expose: ingress"),
    Permission("resource.k8s.io", ("resourceclaimtemplates",), _KEPT, "no GPUs by DRA"),
    Permission("route.openshift.io", ("routes",), _KEPT, "no expose: route", kind="Route"),
    Permission("route.openshift.io", ("routes/custom-host",), ("create",), "no host: of a route", kind="Route"),
    Permission("gateway.networking.k8s.io", ("httproutes",), _KEPT, "no expose: httproute", kind="HTTPRoute"),
    Permission("kueue.x-k8s.io", ("localqueues",), ("list",), "a queue that is not there is not noticed before",
               kind="LocalQueue"),
    Permission("visibility.kueue.x-k8s.io", ("localqueues/pendingworkloads",), ("get",), "no place in the queue",
               kind="PendingWorkloadsSummary"),
    Permission(
        "kueue.x-k8s.io", ("workloads",), ("list", "patch"), "why it waits is unknown; Kueue may undo a stop",
        kind="Workload",
    ),
    Permission("jobset.x-k8s.io", ("jobsets",), _KEPT, "several nodes run as an Indexed Job", kind="JobSet"),
    Permission(
        "leaderworkerset.x-k8s.io", ("leaderworkersets",), _ALL, "no servers over several nodes", kind="LeaderWorkerSet"
    ),
    Permission(
        "monitoring.coreos.com", ("podmonitors",), _KEPT, "Prometheus does not scrape servers", kind="PodMonitor"
    ),
)  # fmt: skip


def role() -> str:
    """Return the Role to ask for, as YAML: `kubectl apply -n NAMESPACE -f -` takes it."""
    return (Path(__file__).parent / "role.yaml").read_text("utf-8")


def rendered() -> str:
    """Return what role.yaml must hold."""
    return "\n".join(_lines()) + "\n"


def _lines() -> Iterator[str]:
    yield "# What jupyter-gpudeploy asks for in a namespace, and what is off without it."
    yield "# Bind it: kubectl create rolebinding NAME -n NAMESPACE --role=jupyter-gpudeploy --user=USER"
    yield "apiVersion: rbac.authorization.k8s.io/v1"
    yield "kind: Role"
    yield "metadata: {name: jupyter-gpudeploy}"
    yield "rules:"
    for one in PERMISSIONS:
        yield f"  # {'needed, else' if one.needed else 'without it'}: {one.without}"
        yield f'  - apiGroups: ["{one.group}"]'
        yield f"    resources: [{', '.join(one.resources)}]"
        yield f"    verbs: [{', '.join(one.verbs)}]"
