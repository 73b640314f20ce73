"""Runs on a Kubernetes or OpenShift cluster: the cluster is the truth, a folder on this machine mirrors it.

`EXPORT` is loaded when it is asked for: whoever needs one file of this package needs not all of it.
"""

from __future__ import annotations

from typing import Any


def __getattr__(name: str) -> Any:  # noqa: ANN401 - the registry's own signature
    if name == "EXPORT":
        from jupyter_gpudeploy.backends.kubernetes.backend import KubernetesBackend

        return KubernetesBackend
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
