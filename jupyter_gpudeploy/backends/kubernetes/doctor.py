"""`%deploy doctor`: what a cluster is, what we may do there, and what is free, as rows for a person to read.

Nothing is changed, and nothing of it fails: what cannot be found out is a row that says so.
"""

from __future__ import annotations

import re
from collections import Counter
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

from jupyter_gpudeploy.backends.kubernetes.api.errors import ApiError
from jupyter_gpudeploy.backends.kubernetes.api.permissions import PERMISSIONS, role
from jupyter_gpudeploy.errors import BackendError
from jupyter_gpudeploy.quantities import parse_memory
from jupyter_gpudeploy.report import Level, Report, Row, Section

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from jupyter_gpudeploy.backends.kubernetes.api.client import Cluster
    from jupyter_gpudeploy.backends.kubernetes.api.permissions import Permission

OPTIONAL_KINDS = {
    "Route": "expose: route",
    "HTTPRoute": "expose: httproute",
    "LocalQueue": "queue:",
    "JobSet": "JobSet for nodes:",
    "LeaderWorkerSet": "one server over several nodes",
    "ScaledObject": "autoscaling by KEDA",
    "PodMonitor": "scraping of servers by Prometheus",
}
_GPU = re.compile(r"(?:.*[./])?(?:gpu|mig-[\w.]+|xe|i915|tpu|Ascend\w+)")


def examine(cluster: Cluster) -> Report:
    """Return what there is to know about a cluster and this namespace of it. Asks about 15 questions."""
    connection = Section("Connection", tuple(_connection(cluster)))
    if any(row.level == "error" for row in connection.rows):
        return Report(_title(cluster), (connection,))
    rights = _section("Rights", _rights, cluster)
    sections = (
        connection,
        rights,
        _section("What the cluster has", _kinds, cluster),
        _section("Quota", _quota, cluster),
        _section("GPUs", _gpus, cluster),
    )
    is_missing = any(row.level in {"error", "warning"} for row in rights.rows)
    return Report(_title(cluster), sections, role() if is_missing else "")


def _section(title: str, find: Callable[[Cluster], Iterable[Row]], cluster: Cluster) -> Section:
    rows: list[Row] = []
    try:
        rows.extend(find(cluster))
    except BackendError as error:
        rows.append(Row("error", "cut short", error.message, error.hint))
    return Section(title, tuple(rows))


def _title(cluster: Cluster) -> str:
    return f"namespace {cluster.namespace!r} of {cluster.access.place}"


def _connection(cluster: Cluster) -> Iterator[Row]:
    try:
        yield Row("ok", "server", f"Kubernetes {cluster.version()}")
        yield Row("ok", "you", cluster.user or "unknown")
        flavour = "OpenShift" if cluster.is_openshift else "Kubernetes"
        said = " (as the settings say)" if cluster.settings is not None and cluster.settings.flavour else ""
        yield Row("info", "flavour", flavour + said)
    except BackendError as error:
        yield Row("error", "server", error.message, error.hint)
    for warning in cluster.warnings:
        yield Row("warning", "TLS", warning, "ask for the CA of the cluster: certificate-authority in the kubeconfig")
    try:
        yield Row("info", "client", f"kubernetes {version('kubernetes')}, urllib3 {version('urllib3')}")
    except PackageNotFoundError as error:
        yield Row("warning", "client", f"{error.name} is not installed", "pip install jupyter-gpudeploy[kubernetes]")


def _kinds(cluster: Cluster) -> Iterator[Row]:
    for kind, use in OPTIONAL_KINDS.items():
        if cluster.has(kind):
            yield Row("ok", kind, cluster.kind(kind).api_version)
        else:
            yield Row("info", kind, "no", f"{use} is off")


def _rights(cluster: Cluster) -> Iterator[Row]:
    for permission in PERMISSIONS:
        if not permission.kind or cluster.has(permission.kind):
            for resource in permission.resources:
                yield _right(cluster, permission, resource)


def _right(cluster: Cluster, permission: Permission, resource: str) -> Row:
    plural, _, subresource = resource.partition("/")
    answers = {verb: cluster.can_i(verb, plural, permission.group, subresource) for verb in permission.verbs}
    named = f"{resource}.{permission.group}" if permission.group else resource
    missing = [verb for verb, answer in answers.items() if answer is False]
    if missing:
        level: Level = "error" if permission.needed else "warning"
        return Row(level, named, f"may not {', '.join(missing)}", permission.without)
    if None in answers.values():
        return Row("info", named, "the server does not tell")
    return Row("ok", named, ", ".join(permission.verbs))


def _quota(cluster: Cluster) -> Iterator[Row]:
    try:
        quotas = cluster.list("ResourceQuota").items
    except ApiError as error:
        yield Row("info", "quota", "not visible", error.said)
        return
    if not quotas:
        yield Row("info", "quota", "none in this namespace")
    for quota in quotas:
        status = quota.get("status") or {}
        for resource, hard in sorted((status.get("hard") or {}).items()):
            used = (status.get("used") or {}).get(resource, "0")
            is_full = _number(used) >= _number(hard)
            hint = "nothing more can be started with it" if is_full else ""
            yield Row("warning" if is_full else "ok", resource, f"{used} of {hard} used", hint)


def _gpus(cluster: Cluster) -> Iterator[Row]:
    try:
        nodes = cluster.list("Node").items
    except ApiError:
        yield Row("info", "nodes", "not visible", "which GPUs there are is known to whoever runs the cluster")
        return
    wanted = cluster.settings.gpu_resource if cluster.settings is not None else "nvidia.com/gpu"
    label = cluster.settings.gpu_label if cluster.settings is not None else "nvidia.com/gpu.product"
    total: Counter[str] = Counter()
    models: Counter[str] = Counter()
    for node in nodes:
        for resource, count in _of_gpus((node.get("status") or {}).get("allocatable") or {}, wanted):
            total[resource] += count
            models[str((node["metadata"].get("labels") or {}).get(label, "unknown"))] += count
    used = _used(cluster, wanted)
    for resource, count in sorted(total.items()):
        yield Row(
            "ok", resource, f"{count} on the nodes" if used is None else f"{count - used[resource]} of {count} free"
        )
    if used is None:
        yield Row("info", "in use", "not visible: the pods of other namespaces cannot be listed")
    if not total:
        yield Row("info", "GPUs", f"none on {len(nodes)} nodes")
    yield from (Row("info", "model", f"{model}: {count}") for model, count in sorted(models.items()))


def _used(cluster: Cluster, wanted: str) -> Counter[str] | None:
    try:
        pods = cluster.list("Pod", everywhere=True, fields="status.phase!=Succeeded,status.phase!=Failed").items
    except ApiError:
        return None
    used: Counter[str] = Counter()
    for pod in pods:
        for resource, count in _requested(pod, wanted):
            used[resource] += count
    return used


def _requested(pod: dict[str, Any], wanted: str) -> Iterator[tuple[str, int]]:
    """Yield the GPUs of a pod that has a node. GPUs cannot be shared, so limits are requests."""
    if not pod["spec"].get("nodeName"):
        return
    for container in pod["spec"].get("containers") or []:
        yield from _of_gpus((container.get("resources") or {}).get("limits") or {}, wanted)


def _of_gpus(resources: dict[str, Any], wanted: str) -> Iterable[tuple[str, int]]:
    return [
        (name, int(_number(count)))
        for name, count in resources.items()
        if (name == wanted or _GPU.fullmatch(name)) and _number(count) >= 1
    ]


def _number(quantity: object) -> float:
    """Return a quantity as a number, 0 for one that is not understood."""
    text = str(quantity)
    try:
        return float(text[:-1]) / 1000 if text.endswith("m") else float(parse_memory(text))
    except ValueError:
        return 0.0
