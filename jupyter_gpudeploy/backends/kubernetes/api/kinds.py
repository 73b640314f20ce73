"""Every kind of object that we touch, by its name, and the path at which the API server keeps it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import quote

from jupyter_gpudeploy.errors import BackendError
from jupyter_gpudeploy.registry import did_you_mean

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping


class Kind(NamedTuple):
    """`also`: other versions in which clusters serve the kind, newest first; then discovery chooses."""

    name: str
    api_version: str
    plural: str
    namespaced: bool = True
    also: tuple[str, ...] = ()

    @property
    def group(self) -> str:
        """`batch`; empty for the core."""
        return self.api_version.rpartition("/")[0]

    def path(self, namespace: str, name: str = "", subresource: str = "") -> str:
        """Return the path of the collection, of an object, or of a subresource of it."""
        root = "/api/v1" if self.api_version == "v1" else f"/apis/{self.api_version}"
        within = f"/namespaces/{quote(namespace, safe='')}" if self.namespaced and namespace else ""
        rest = "".join(f"/{quote(part, safe='')}" for part in (name, subresource) if part)
        return f"{root}{within}/{self.plural}{rest}"


def _table() -> Iterator[Kind]:
    for name, plural in (
        ("Pod", "pods"), ("Service", "services"), ("ConfigMap", "configmaps"), ("Secret", "secrets"),
        ("Event", "events"),
        ("PersistentVolumeClaim", "persistentvolumeclaims"), ("ServiceAccount", "serviceaccounts"),
        ("ResourceQuota", "resourcequotas"), ("LimitRange", "limitranges"), ("Endpoints", "endpoints"),
    ):  # fmt: skip
        yield Kind(name, "v1", plural)
    yield Kind("Namespace", "v1", "namespaces", namespaced=False)
    yield Kind("Node", "v1", "nodes", namespaced=False)
    yield Kind("Deployment", "apps/v1", "deployments")
    yield Kind("ReplicaSet", "apps/v1", "replicasets")
    yield Kind("StatefulSet", "apps/v1", "statefulsets")
    yield Kind("Job", "batch/v1", "jobs")
    yield Kind("CronJob", "batch/v1", "cronjobs")
    yield Kind("PodDisruptionBudget", "policy/v1", "poddisruptionbudgets")
    yield Kind("HorizontalPodAutoscaler", "autoscaling/v2", "horizontalpodautoscalers")
    yield Kind("Ingress", "networking.k8s.io/v1", "ingresses")
    yield Kind("IngressClass", "networking.k8s.io/v1", "ingressclasses", namespaced=False)
    yield Kind("PriorityClass", "scheduling.k8s.io/v1", "priorityclasses", namespaced=False)
    yield Kind("StorageClass", "storage.k8s.io/v1", "storageclasses", namespaced=False)
    yield Kind("ResourceClaimTemplate", "resource.k8s.io/v1", "resourceclaimtemplates")
    yield Kind("DeviceClass", "resource.k8s.io/v1", "deviceclasses", namespaced=False)
    yield Kind("PodMetrics", "metrics.k8s.io/v1beta1", "pods")
    yield Kind("Route", "route.openshift.io/v1", "routes")
    yield Kind("Gateway", "gateway.networking.k8s.io/v1", "gateways", also=("gateway.networking.k8s.io/v1beta1",))
    yield Kind("HTTPRoute", "gateway.networking.k8s.io/v1", "httproutes", also=("gateway.networking.k8s.io/v1beta1",))
    kueue = ("kueue.x-k8s.io/v1beta2", "kueue.x-k8s.io/v1beta1")
    yield Kind("LocalQueue", kueue[0], "localqueues", also=kueue[1:])
    yield Kind("Workload", kueue[0], "workloads", also=kueue[1:])
    seen = ("visibility.kueue.x-k8s.io/v1beta2", "visibility.kueue.x-k8s.io/v1beta1")
    yield Kind("PendingWorkloadsSummary", seen[0], "localqueues", also=seen[1:])
    yield Kind("JobSet", "jobset.x-k8s.io/v1alpha2", "jobsets")
    yield Kind("LeaderWorkerSet", "leaderworkerset.x-k8s.io/v1", "leaderworkersets")
    yield Kind("ScaledObject", "keda.sh/v1alpha1", "scaledobjects")
    yield Kind("PodMonitor", "monitoring.coreos.com/v1", "podmonitors")
    yield Kind("ServiceMonitor", "monitoring.coreos.com/v1", "servicemonitors")
    yield Kind("Workflow", "argoproj.io/v1alpha1", "workflows")
    yield Kind("CronWorkflow", "argoproj.io/v1alpha1", "cronworkflows")


KINDS = {kind.name: kind for kind in _table()}


class Maker(NamedTuple):
    """A kind whose controller makes the pods of runs: created last, halted by a stop, waited for by a removal.

    `halt`: the field of its spec that lets no pod live, and the value that does. `is_everywhere`: every cluster has it.
    """

    kind: str
    halt: tuple[str, Any]
    is_everywhere: bool = True


MAKERS = (
    Maker("Job", ("suspend", True)),
    Maker("JobSet", ("suspend", True), is_everywhere=False),
    Maker("CronJob", ("suspend", True)),
    Maker("Deployment", ("replicas", 0)),
    Maker("LeaderWorkerSet", ("replicas", 0), is_everywhere=False),
)
MAKER_KINDS = tuple(maker.kind for maker in MAKERS)


def watched_kind(record: Mapping[str, Any]) -> str:
    """Return the kind that tells how a run stands. A JobSet and a CronJob make Jobs; what has an end is one, too."""
    if record["kind"] == "server" and int((record.get("cluster") or {}).get("nodes") or 1) > 1:
        return "LeaderWorkerSet"
    return "Deployment" if record["kind"] in ("server", "manual") and not is_limited(record) else "Job"


def is_limited(record: Mapping[str, Any]) -> bool:
    """Return whether the server or the environment of this record comes to an end, and is a Job therefore."""
    return bool(record.get("max_seconds") or record.get("idle_seconds"))


def kind_named(name: str) -> Kind:
    """Return the Kind called `name`. Raises BackendError."""
    if name in KINDS:
        return KINDS[name]
    raise BackendError(f"there is no kind {name!r} among those that are used", hint=did_you_mean(name, KINDS))
