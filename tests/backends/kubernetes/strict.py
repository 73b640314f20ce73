"""A strict check of manifests without a cluster: every field known, every type right, as the API server would have it.

The models of the package `kubernetes` from 37 on forbid unknown fields and convert nothing. Kinds of no model (CRDs)
are checked against a server in tests/cluster.
"""

import pytest

_MODELS = {
    "ConfigMap": "V1ConfigMap",
    "CronJob": "V1CronJob",
    "Deployment": "V1Deployment",
    "Ingress": "V1Ingress",
    "Job": "V1Job",
    "Pod": "V1Pod",
    "PersistentVolumeClaim": "V1PersistentVolumeClaim",
    "PodDisruptionBudget": "V1PodDisruptionBudget",
    "ResourceClaimTemplate": "V1ResourceClaimTemplate",
    "Secret": "V1Secret",
    "Service": "V1Service",
}
CUSTOM = frozenset({"Route", "HTTPRoute", "JobSet", "LeaderWorkerSet", "PodMonitor"})


def check(body):
    """Raise for a manifest that a server would refuse for its shape."""
    client = pytest.importorskip("kubernetes.client")
    if body["kind"] in CUSTOM:
        return
    model = getattr(client, _MODELS[body["kind"]])
    if not hasattr(model, "model_validate"):
        pytest.skip("the strict models come with kubernetes 37")
    model.model_validate(body)
    _check_quantities(body)


def _check_quantities(value, path=""):
    """The models take any object for a quantity; only text is right."""
    if isinstance(value, dict):
        for key, part in value.items():
            if path.endswith((".requests", ".limits")):
                assert isinstance(part, str), f"{path}.{key}: {part!r}"
            _check_quantities(part, f"{path}.{key}")
    elif isinstance(value, list):
        for index, part in enumerate(value):
            _check_quantities(part, f"{path}[{index}]")
