"""How a run is reached: its Service, what keeps a drain from taking all replicas, and the way in from outside."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from jupyter_gpudeploy.backends.kubernetes import marks, places
from jupyter_gpudeploy.backends.kubernetes.manifests.pods import is_limited, preset_of, selector
from jupyter_gpudeploy.backends.kubernetes.manifests.probes import HTTP
from jupyter_gpudeploy.backends.kubernetes.manifests.shapes import shape
from jupyter_gpudeploy.backends.kubernetes.manifests.workloads import uses_groups, uses_jobset

if TYPE_CHECKING:
    from collections.abc import Iterator

    from jupyter_gpudeploy.plan.types import ClusterOptions, Plan

PORT = 80
LEADERS = "leaderworkerset.sigs.k8s.io/worker-index"
"""The label by which the first machine of each replica is known: 0."""
_LONGEST_ANSWER = "10m"  # a generation may take minutes; routers cut connections after 30 s unless told


def services(plan: Plan, options: ClusterOptions) -> list[dict[str, Any]]:
    """Return the objects by which a run is reached, and those that its machines need to reach each other."""
    if plan.kind == "server":
        # The API has no budget for the pods of a Job, and a group goes whole.
        budget = [] if is_limited(plan) or uses_groups(plan, options) else [_budget(plan)]
        return [_service(plan, options), *budget, *_exposure(plan, options), *_monitor(plan)]
    grouped = plan.kind in ("job", "sweep") and options.nodes > 1 and not uses_jobset(plan, options)
    return [_headless(plan)] if grouped else []


def _service(plan: Plan, options: ClusterOptions) -> dict[str, Any]:
    leaders = {LEADERS: "0"} if uses_groups(plan, options) else {}
    return shape(
        "service",
        name=places.service_name(plan.name, nodes=options.nodes),
        labels=marks.labels(plan.name, marks.SERVICE),
        type="LoadBalancer" if options.expose == "loadbalancer" else "ClusterIP",
        cluster_ip=None,
        before_ready=None,
        selector={**selector(plan), **leaders},
        ports=[{"name": HTTP, "port": PORT, "targetPort": HTTP}],
    )


def _headless(plan: Plan) -> dict[str, Any]:
    """Return the Service that gives each machine a name before it is ready: they wait for each other."""
    return shape(
        "service",
        name=places.service_name(plan.name),
        labels=marks.labels(plan.name, marks.SERVICE),
        type="ClusterIP",
        cluster_ip="None",
        before_ready=True,
        selector=selector(plan),
        ports=[{"name": "rdzv", "port": places.RENDEZVOUS_PORT}],
    )


def _budget(plan: Plan) -> dict[str, Any]:
    return shape("pdb", name=plan.name, labels=marks.labels(plan.name, marks.SERVICE), selector=selector(plan))


def _exposure(plan: Plan, options: ClusterOptions) -> Iterator[dict[str, Any]]:
    common = {
        "name": plan.name,
        "labels": marks.labels(plan.name, marks.SERVICE),
        "service": places.service_name(plan.name, nodes=options.nodes),
    }
    if options.expose == "route":
        yield shape("route", **common, host=options.host, timeout=_LONGEST_ANSWER)
    elif options.expose == "ingress":
        yield shape("ingress", **common, host=options.host)
    elif options.expose == "httproute":
        hosts = [options.host] if options.host else None
        yield shape("httproute", **common, parents=[_gateway(options)], hosts=hosts, timeout=_LONGEST_ANSWER)


def _gateway(options: ClusterOptions) -> dict[str, str | None]:
    namespace, _, name = (options.gateway or "").rpartition("/")
    return {"name": name, "namespace": namespace or None}


def _monitor(plan: Plan) -> Iterator[dict[str, Any]]:
    """Let a Prometheus operator read the server's metrics, where the profile says so: few may make a PodMonitor."""
    preset = preset_of(plan)
    is_asked = plan.target is not None and plan.target.monitoring == "podmonitor"
    if is_asked and preset is not None and preset.metrics_path:
        yield shape(
            "podmonitor",
            name=plan.name,
            labels=marks.labels(plan.name, marks.SERVICE),
            selector=selector(plan),
            port="metrics" if preset.metrics_port else HTTP,
            path=preset.metrics_path,
        )
