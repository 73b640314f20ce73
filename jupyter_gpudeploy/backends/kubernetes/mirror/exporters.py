"""The DCGM exporters of a cluster, one a node, through the API server's proxy: where they are and may be asked.

Whoever runs the cluster says where they are (`dcgm:` of the profile), or they are looked for in the namespaces in which
NVIDIA's operator puts them. Being refused is remembered for a while, and costs nothing.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from jupyter_gpudeploy.errors import BackendError
from jupyter_gpudeploy.sources.dcgm import Dcgm

if TYPE_CHECKING:
    from collections.abc import Mapping

    from jupyter_gpudeploy.backends.kubernetes.api.client import Cluster

NAMESPACES = ("gpu-operator", "nvidia-gpu-operator", "dcgm-exporter", "monitoring")
LABELS = ("app=nvidia-dcgm-exporter", "app.kubernetes.io/name=dcgm-exporter")
_PORT = 9400
_FRESH_SECONDS = 300.0


class Exporters:
    """Where the exporter of each node is. One thread."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._of_node: dict[str, tuple[str, str, int]] = {}
        self._looked_at = 0.0
        self.trouble = ""

    def source(self, node: str, pods: Mapping[str, int]) -> Dcgm | None:
        """Return the source of these pods (name -> task) of our namespace on a node; None where there is none."""
        if not self._looked_at or time.monotonic() - self._looked_at > _FRESH_SECONDS:
            self._looked_at = time.monotonic()
            self._of_node = self._find()
        place = self._of_node.get(node)
        if place is None:
            return None

        def fetch() -> str:
            try:
                return self._cluster.page(*place, "/metrics")
            except BackendError as error:
                raise ConnectionError(error.message) from error

        return Dcgm(fetch, {(self._cluster.namespace, pod): task for pod, task in pods.items()})

    def _find(self) -> dict[str, tuple[str, str, int]]:
        settings = self._cluster.settings
        said = settings.dcgm if settings is not None else None
        found: dict[str, tuple[str, str, int]] = {}
        for namespace in (said,) if said else NAMESPACES:
            for labels in LABELS:
                try:
                    pods = self._cluster.list("Pod", labels=labels, namespace=namespace).items
                except BackendError as error:
                    self.trouble = error.message
                    break  # who may not list here may not with other labels either
                found.update(_places(namespace, pods))
            if found:
                break
        return found


def _places(namespace: str, pods: list[dict[str, Any]]) -> dict[str, tuple[str, str, int]]:
    """Return node -> (namespace, pod, port) of the exporters that run."""
    found = {}
    for pod in pods:
        node = (pod.get("spec") or {}).get("nodeName")
        if node and (pod.get("status") or {}).get("phase") == "Running":
            ports = [one for container in pod["spec"].get("containers") or () for one in container.get("ports") or ()]
            number = next((int(one["containerPort"]) for one in ports if one.get("name") == "metrics"), _PORT)
            found[node] = namespace, pod["metadata"]["name"], number
    return found
