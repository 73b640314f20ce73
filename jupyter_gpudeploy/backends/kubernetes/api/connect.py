"""From a name to a Cluster: a profile of the settings file, a context of the kubeconfig, or the pod that we are in.

A name that is given is used or refused; nothing else is ever used in its place.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from jupyter_gpudeploy.backends.kubernetes.api import kubeconfig
from jupyter_gpudeploy.backends.kubernetes.api.client import Cluster
from jupyter_gpudeploy.backends.kubernetes.api.credentials import TokenFile, read_file
from jupyter_gpudeploy.backends.kubernetes.api.kubeconfig import Access, Kubeconfig
from jupyter_gpudeploy.errors import BackendError
from jupyter_gpudeploy.registry import did_you_mean

if TYPE_CHECKING:
    from jupyter_gpudeploy.backends.kubernetes.api.transport import Patience
    from jupyter_gpudeploy.spec.settings import ClusterSettings, Settings

IN_CLUSTER = "in-cluster"
SERVICE_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")


def connect(cluster: str | None = None, namespace: str | None = None, *, patience: Patience | None = None) -> Cluster:
    """Return the cluster called `cluster`. Nothing is sent yet.

    `cluster`: a profile, else a context, or `in-cluster`. None: the settings' default_cluster, else the kubeconfig's
    current context, else the cluster of this pod. `namespace`: else the profile's, else the context's, else `default`.
    Raises BackendError, CredentialsError, SettingsError.
    """
    from jupyter_gpudeploy.spec.settings import read_settings

    settings = read_settings()
    name = cluster or settings.default_cluster
    profile = settings.clusters.get(name) if name else None
    wanted = (profile.context or name) if profile else name
    access = _inside() if wanted == IN_CLUSTER else _outside(wanted, name, profile, settings)
    chosen = namespace or (profile.namespace if profile else None) or access.namespace
    return Cluster(access._replace(namespace=chosen), profile, patience=patience)


def known_clusters() -> list[str]:
    """Return the names that `connect` takes: profiles first, then contexts. Raises as `connect`."""
    from jupyter_gpudeploy.spec.settings import read_settings

    files, _ = kubeconfig.files()
    return list(dict.fromkeys([*read_settings().clusters, *Kubeconfig(files).contexts]))


def default_name() -> str:
    """Return the name of what `connect(None)` connects to. Raises as `connect`."""
    from jupyter_gpudeploy.spec.settings import read_settings

    files, _ = kubeconfig.files()
    return read_settings().default_cluster or Kubeconfig(files).current or IN_CLUSTER


def _outside(wanted: str | None, name: str | None, profile: ClusterSettings | None, settings: Settings) -> Access:
    files, looked = kubeconfig.files(profile.kubeconfig if profile else None)
    found = Kubeconfig(files)
    if wanted is not None:
        _refuse_unknown(wanted, name, found, profile, settings, looked)
        return found.access(wanted)
    if found.current:
        return found.access(found.current)
    if not files or not found.contexts:
        if _is_inside():
            return _inside()
        hint = "sign in with your cluster's tool (oc login, aws eks update-kubeconfig, ...), or set KUBECONFIG"
        raise BackendError(f"no kubeconfig: {looked} is not there, and this is no pod of a cluster", hint=hint)
    known = ", ".join(found.contexts)
    raise BackendError(f"{looked} has no current context", hint=f"name one: cluster: NAME; known: {known}")


def _refuse_unknown(
    wanted: str, name: str | None, found: Kubeconfig, profile: ClusterSettings | None, settings: Settings, looked: str
) -> None:
    if wanted in found.contexts:
        return
    if profile is not None:
        there = f"there is no context {wanted!r} in {looked}" if found.files else f"there is no {looked}"
        hint = did_you_mean(wanted, found.contexts) if found.files else "see kubeconfig: of the profile, or KUBECONFIG"
        raise BackendError(f"the cluster {name!r} of the settings cannot be reached: {there}", hint=hint)
    known = [*settings.clusters, *found.contexts]
    message = f"no cluster is called {wanted!r}, neither in the settings nor as a context in {looked}"
    raise BackendError(message if found.files else f"{message} (which is not there)", hint=did_you_mean(wanted, known))


def _is_inside() -> bool:
    return bool(os.environ.get("KUBERNETES_SERVICE_HOST")) and (SERVICE_ACCOUNT / "token").is_file()


def _inside() -> Access:
    """Return the access of the pod's service account. Raises BackendError, CredentialsError."""
    host, port = os.environ.get("KUBERNETES_SERVICE_HOST"), os.environ.get("KUBERNETES_SERVICE_PORT", "443")
    if not host or not (SERVICE_ACCOUNT / "token").is_file():
        reason = f"no {SERVICE_ACCOUNT}/token" if host else "KUBERNETES_SERVICE_HOST is not set"
        raise BackendError(
            f"cluster: {IN_CLUSTER} works only in a pod with a service account: {reason}",
            hint="name a context of your kubeconfig instead",
        )
    namespace = SERVICE_ACCOUNT / "namespace"
    return Access(
        server=f"https://[{host}]:{port}" if ":" in host else f"https://{host}:{port}",
        namespace=namespace.read_text("utf-8").strip() if namespace.is_file() else "default",
        credentials=TokenFile(SERVICE_ACCOUNT / "token"),
        source="the service account of this pod",
        ca=read_file(SERVICE_ACCOUNT / "ca.crt", "the CA").decode("utf-8", "replace"),
    )
