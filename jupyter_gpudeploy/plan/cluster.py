"""What is decided for a cluster alone: the cell's word, else the profile's, else a default."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from jupyter_gpudeploy.errors import PlanError
from jupyter_gpudeploy.plan.types import ClusterOptions
from jupyter_gpudeploy.quantities import parse_memory
from jupyter_gpudeploy.registry import did_you_mean

if TYPE_CHECKING:
    from collections.abc import Mapping

    from jupyter_gpudeploy.plan.types import Target
    from jupyter_gpudeploy.servers.base import ServerPreset
    from jupyter_gpudeploy.spec.models import Spec

KEYS = (
    "image", "gpu_type", "gpu_resource", "node_selector", "tolerations", "queue", "priority", "storage", "shm",
    "upload", "schedule", "time_zone", "expose", "host", "gateway", "image_pull_secrets", "service_account",
    "keep_hours",
)  # fmt: skip
"""The keys of a cell that only a cluster can honour."""

KEEP_SECONDS = 7 * 86400.0
_DEVICE_CLASS = "device-class:"
_EXPOSED_BY = {"route": "Route", "httproute": "HTTPRoute"}


def options(spec: Spec, target: Target, server: ServerPreset | None) -> ClusterOptions:
    """Return the decisions. Raises PlanError for what contradicts the target."""
    resource = spec.gpu_resource or target.gpu_resource
    device_class = resource.removeprefix(_DEVICE_CLASS) if resource.startswith(_DEVICE_CLASS) else None
    return ClusterOptions(
        image=spec.image or (server.image if server and server.image else "") or target.image or default_image(),
        gpu_resource=target.gpu_resource if device_class else resource,
        device_class=device_class,
        node_selector={**target.node_selector, **_gpu_selector(spec, target), **spec.node_selector},
        tolerations=(*target.tolerations, *spec.tolerations),
        queue=spec.queue or target.queue,
        priority=spec.priority or target.priority,
        storage=spec.storage or target.storage,
        storage_class=target.storage_class,
        shm=parse_memory(spec.shm) if spec.shm else None,
        schedule=spec.schedule,
        time_zone=spec.time_zone,
        keep_seconds=spec.keep_hours * 3600 if spec.keep_hours else KEEP_SECONDS,
        expose=_expose(spec, target),
        host=spec.host,
        gateway=spec.gateway or target.gateway,
        image_pull_secrets=(*target.image_pull_secrets, *spec.image_pull_secrets),
        service_account=spec.service_account or target.service_account,
        upload=_upload(spec),
        nodes=spec.nodes,
        replicas=spec.replicas,
    )


def default_image() -> str:
    """Return the image of this kernel's own Python."""
    return f"docker.io/library/python:{sys.version_info.major}.{sys.version_info.minor}-slim"


def _gpu_selector(spec: Spec, target: Target) -> Mapping[str, str]:
    """Return the node label that stands for the GPU model; a name without a profile is the label itself."""
    if spec.gpu_type is None:
        return {}
    if target.gpu_types and spec.gpu_type not in target.gpu_types and "-" not in spec.gpu_type:
        raise PlanError(
            f"gpu_type: {target.cluster} knows no {spec.gpu_type!r}", hint=did_you_mean(spec.gpu_type, target.gpu_types)
        )
    return {target.gpu_label: target.gpu_types.get(spec.gpu_type, spec.gpu_type)}


def _expose(spec: Spec, target: Target) -> str:
    """Return how a server is reached: as asked, else by what the cluster has when `route: true`, else by a forward."""
    asked = spec.expose or (target.expose if spec.route else None)
    if asked is None and spec.route:
        there = target.kinds or frozenset()
        asked = next((way for way, kind in _EXPOSED_BY.items() if kind in there), "forward")
    asked = asked or "forward"
    needs = _EXPOSED_BY.get(asked)
    if needs and target.kinds is not None and needs not in target.kinds:
        raise PlanError(
            f"expose: {asked}: {target.cluster} has no {needs}", hint="leave expose: out, or expose: ingress"
        )
    if asked == "httproute" and not (spec.gateway or target.gateway):
        raise PlanError("expose: httproute needs to know its Gateway", hint="gateway: NAMESPACE/NAME")
    return asked


def _upload(spec: Spec) -> tuple[str, ...] | None:
    if spec.upload is None or spec.upload is True:
        return None
    return () if spec.upload is False else tuple(spec.upload)
