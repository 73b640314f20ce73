"""The claim of `storage:` and the volumes of a pod."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from jupyter_gpudeploy.backends.kubernetes import marks, places
from jupyter_gpudeploy.backends.kubernetes.manifests.scheduling import shared_memory
from jupyter_gpudeploy.backends.kubernetes.manifests.shapes import shape
from jupyter_gpudeploy.quantities import kubernetes_memory, parse_memory

if TYPE_CHECKING:
    from collections.abc import Sequence

    from jupyter_gpudeploy.plan.types import ClusterOptions, Plan

_EXISTING = "claim:"
_SHARED_DIRECTORY = "/dev/shm"  # noqa: S108 - the shared memory of a container


def claim_name(plan: Plan, options: ClusterOptions) -> str | None:
    """Return the name of the claim that a run uses, or None."""
    if options.storage is None:
        return None
    return options.storage.removeprefix(_EXISTING) if options.storage.startswith(_EXISTING) else plan.name


def claim(plan: Plan, options: ClusterOptions) -> dict[str, Any] | None:
    """Return the PersistentVolumeClaim to make, or None. It is kept after the run: it has no owner."""
    if options.storage is None or options.storage.startswith(_EXISTING):
        return None
    together = max(plan.parallelism, options.nodes, options.replicas)
    return shape(
        "pvc",
        name=plan.name,
        labels=marks.labels(plan.name, marks.STORAGE),
        access_modes=["ReadWriteMany" if together > 1 else "ReadWriteOnce"],
        storage_class=options.storage_class,
        size=kubernetes_memory(parse_memory(options.storage)),
    )


def volumes(plan: Plan, options: ClusterOptions, code: Sequence[str] | None) -> list[dict[str, Any]]:
    """Return the volumes of a pod. `code`: the ConfigMaps with the program; None for a server of its own image."""
    found: list[dict[str, Any]] = [{"name": "gpudeploy", "emptyDir": {}}]
    if code is not None:
        record = {"name": places.root_name(plan.name), "items": [{"key": places.RECORD, "path": places.RECORD}]}
        sources = [{"configMap": {"name": name}} for name in code] + [{"configMap": record}]
        found.append({"name": "in", "projected": {"sources": sources}})
    if name := claim_name(plan, options):
        found.append({"name": "storage", "persistentVolumeClaim": {"claimName": name}})
    if size := shared_memory(plan, options):
        found.append({"name": "shm", "emptyDir": {"medium": "Memory", "sizeLimit": size}})
    return found


def mounts(plan: Plan, options: ClusterOptions, *, with_code: bool) -> list[dict[str, Any]]:
    """Return where the volumes are seen. The outputs of a run, or of a round, have a folder of their own there."""
    found: list[dict[str, Any]] = [{"name": "gpudeploy", "mountPath": places.ROOT}]
    if with_code:
        found.append({"name": "in", "mountPath": places.IN, "readOnly": True})
    if claim_name(plan, options):
        found.append({"name": "storage", "mountPath": places.STORAGE})
        if with_code:
            turn = "$(GPUDEPLOY_ROUND)" if options.schedule else ""
            folder = places.output_folder("", "$(GPUDEPLOY_RUN)", turn).rstrip("/")
            found.append({"name": "storage", "mountPath": places.OUT, "subPathExpr": folder})
    if shared_memory(plan, options):
        found.append({"name": "shm", "mountPath": _SHARED_DIRECTORY})
    return found
