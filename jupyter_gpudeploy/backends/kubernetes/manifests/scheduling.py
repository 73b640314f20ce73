"""On which node a pod may run, and what it reserves there."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from jupyter_gpudeploy.quantities import kubernetes_memory

if TYPE_CHECKING:
    from jupyter_gpudeploy.plan.types import ClusterOptions, Plan

_SHM_LIMIT = 8 * 2**30
_EFFECTS = ("NoSchedule", "PreferNoSchedule", "NoExecute")
_SHARED_TAINTS = {"nvidia.com": "nvidia.com/gpu", "gpu.intel.com": "gpu.intel.com/i915"}
CLAIM = "gpu"
"""What a pod calls its ResourceClaim."""


def resources(plan: Plan, options: ClusterOptions) -> dict[str, Any] | None:
    """Return requests and limits. Memory is limited to what is requested; processors are never limited."""
    requests: dict[str, str] = {}
    limits: dict[str, str] = {}
    wanted = plan.resources
    if wanted.cpu is not None:
        requests["cpu"] = cpu_quantity(wanted.cpu)
    if wanted.memory is not None:
        requests["memory"] = limits["memory"] = kubernetes_memory(wanted.memory)
    if wanted.gpus and options.device_class is None:
        requests[options.gpu_resource] = limits[options.gpu_resource] = str(wanted.gpus)
    claims = [{"name": CLAIM}] if wanted.gpus and options.device_class is not None else None
    found = {"requests": requests or None, "limits": limits or None, "claims": claims}
    return found if any(found.values()) else None


def cpu_quantity(cpu: float) -> str:
    """Return processors as a Kubernetes quantity: `4`, `500m`."""
    return str(int(cpu)) if cpu == int(cpu) else f"{max(1, round(cpu * 1000))}m"


def tolerations(plan: Plan, options: ClusterOptions) -> list[dict[str, str]] | None:
    """Return what taints a pod bears: those of GPU nodes when it has GPUs, and those that were named."""
    found = [toleration(text) for text in dict.fromkeys(options.tolerations)]
    if plan.resources.gpus:
        domain = options.gpu_resource.partition("/")[0]
        key = _SHARED_TAINTS.get(domain, options.gpu_resource)
        found.insert(0, {"key": key, "operator": "Exists", "effect": "NoSchedule"})
    return found or None


def toleration(text: str) -> dict[str, str]:
    """Return what `key`, `key=value`, `key=value:Effect` or `key:Effect` says."""
    rest, separator, effect = text.rpartition(":")
    if not separator or effect not in _EFFECTS:
        rest, effect = text, ""
    key, has_value, value = rest.partition("=")
    found = {"key": key, "operator": "Equal" if has_value else "Exists"}
    if has_value:
        found["value"] = value
    return {**found, "effect": effect} if effect else found


def shared_memory(plan: Plan, options: ClusterOptions) -> str | None:
    """Return the size of /dev/shm, None for the 64 MiB that a container has anyway. It counts as memory of the pod."""
    if options.shm is not None:
        return kubernetes_memory(options.shm)
    if not plan.resources.gpus:
        return None
    memory = plan.resources.memory
    return kubernetes_memory(_SHM_LIMIT if memory is None else min(_SHM_LIMIT, memory // 2))


def spread(selector: dict[str, str]) -> list[dict[str, Any]]:
    """Return the wish that replicas run on different nodes; they run all the same where they cannot."""
    return [
        {
            "maxSkew": 1,
            "topologyKey": "kubernetes.io/hostname",
            "whenUnsatisfiable": "ScheduleAnyway",
            "labelSelector": {"matchLabels": selector},
        }
    ]


def is_resource_name(text: str) -> bool:
    """Return whether this can be the name of an extended resource: `domain/name`."""
    return re.fullmatch(r"[a-z0-9]([a-z0-9.-]*[a-z0-9])?/[A-Za-z0-9]([A-Za-z0-9_.-]*[A-Za-z0-9])?", text) is not None
