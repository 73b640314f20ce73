"""Fixtures of the tests that need a Kubernetes: the project's own, or the one that is named."""

from __future__ import annotations

import os
import re
import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

from . import crds as kinds_of_others
from . import identities, paths, simulation, system
from .cluster import Cluster
from .foreign import CONTEXT_VARIABLE, ForeignCluster

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

RBAC = "rbac.authorization.k8s.io"


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if paths.HERE in item.path.parents and "cluster" in getattr(item, "fixturenames", ()):
            item.add_marker("cluster")


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Cluster | ForeignCluster:
    """A running cluster. Never one that was not asked for: the project's own, or GPUDEPLOY_TEST_CONTEXT."""
    context = os.environ.get(CONTEXT_VARIABLE)
    if context:
        return ForeignCluster(context, tmp_path_factory.mktemp("cluster"))
    reason = system.why_not()
    if reason:
        pytest.skip(reason)
    found = Cluster()
    if not found.is_up():
        if not found.is_built():
            pytest.skip("the cluster is not built: make cluster (takes about 10 minutes, once)")
        found.up()
    return found


@pytest.fixture
def own_cluster(cluster: Cluster | ForeignCluster) -> Cluster:
    """The project's own cluster; skips on somebody else's."""
    return _own(cluster)


def _own(cluster: Cluster | ForeignCluster) -> Cluster:
    if isinstance(cluster, ForeignCluster):
        pytest.skip("needs the project's own cluster: make cluster")
    return cluster


@pytest.fixture
def breakable_cluster(own_cluster: Cluster) -> Iterator[Cluster]:
    """A cluster whose parts the test may kill, stop, freeze, set and leave so: it is repaired afterwards."""
    yield own_cluster
    own_cluster.repair()


@pytest.fixture
def kubeconfig(cluster: Cluster | ForeignCluster) -> Path:
    """The administrator's kubeconfig. It has one context."""
    return cluster.kubeconfig()


@pytest.fixture
def api(kubeconfig: Path) -> Iterator[Any]:
    """`kubernetes.client.ApiClient` of the administrator."""
    from kubernetes import config

    client = config.new_client_from_config(config_file=str(kubeconfig))  # type: ignore[no-untyped-call]
    yield client
    client.close()


@pytest.fixture
def namespace(api: Any, request: pytest.FixtureRequest) -> Iterator[str]:
    """A fresh namespace with its default account. Deleted afterwards; its pods (and GPUs) go at once."""
    from kubernetes import client

    core: Any = client.CoreV1Api(api)
    slug = re.sub(r"[^a-z0-9]+", "-", request.node.name.lower()).strip("-")[:40].strip("-")
    name = f"t-{slug}-{secrets.token_hex(3)}"
    core.create_namespace({"metadata": {"name": name, "labels": {"gpudeploy.test": "true"}}})
    try:
        system.wait_for("the default account", lambda: _has_account(core, name), 60)
        yield name
    finally:
        core.delete_namespace(name)
        core.delete_collection_namespaced_pod(name, grace_period_seconds=0)


@pytest.fixture(scope="module")
def crds(request: pytest.FixtureRequest, cluster: Cluster | ForeignCluster) -> Iterator[tuple[str, ...]]:
    """Kinds of others while a module's tests run: the sets of crds.py that its constant CRDS names, or all.

    Their controllers do not run. Argo's are large: they take the API server 13-34 s on a busy machine.
    """
    _own(cluster)
    names = tuple(getattr(request.module, "CRDS", kinds_of_others.SETS))
    kinds_of_others.install(*names)
    yield names
    kinds_of_others.remove(*names)


@pytest.fixture
def simulated(own_cluster: Cluster) -> Iterator[Callable[[int], None]]:
    """`simulated(100)`: so many simulated nodes with 8 GPUs each (see simulation.py) until the end of the test."""
    yield simulation.up
    simulation.down()


@dataclass(frozen=True, slots=True)
class Person:
    """A user who may do in `namespace` what `allow` says, and nothing else."""

    name: str
    namespace: str
    kubeconfig: Path
    api: Any

    def allow(self, *rules: dict[str, Sequence[str]]) -> None:
        """Replace what the user may do: rules as in a Role, {"apiGroups": [""], "resources": [..], "verbs": [..]}."""
        at = f"/apis/{RBAC}/v1/namespaces/{self.namespace}"
        named = {"metadata": {"name": self.name}}
        binding = {
            "roleRef": {"apiGroup": RBAC, "kind": "Role", "name": self.name},
            "subjects": [{"apiGroup": RBAC, "kind": "User", "name": self.name}],
        }
        for kind, content in (("Role", {"rules": list(rules)}), ("RoleBinding", binding)):
            body = {"apiVersion": f"{RBAC}/v1", "kind": kind, **named, **content}
            self.api.apply(f"{at}/{kind.lower()}s/{self.name}", body)


@pytest.fixture
def plain_user(own_cluster: Cluster, namespace: str, tmp_path: Path) -> Person:
    """A user without rights, whose kubeconfig names the fresh namespace."""
    return _person(own_cluster, "plain", namespace, tmp_path)


@pytest.fixture
def other_user(own_cluster: Cluster, namespace: str, tmp_path: Path) -> Person:
    """Somebody else, without rights either."""
    return _person(own_cluster, "other", namespace, tmp_path)


def _person(cluster: Cluster, name: str, namespace: str, folder: Path) -> Person:
    path = identities.write_kubeconfig(folder / f"{name}.kubeconfig", name, identities.token(name), namespace)
    return Person(name, namespace, path, cluster.client())


def _has_account(core: Any, namespace: str) -> bool:
    return any(one.metadata.name == "default" for one in core.list_namespaced_service_account(namespace).items)


@pytest.fixture(scope="session")
def python_image(cluster: Cluster | ForeignCluster) -> str:
    """Debian's Python 3.11 with pip, venv, git, curl, tar and a made-up nvidia-smi."""
    return cluster.image(paths.PYTHON_IMAGE)


@pytest.fixture(scope="session")
def examples_image(cluster: Cluster | ForeignCluster) -> str:
    """The Python image with what examples/ import."""
    return cluster.image(paths.EXAMPLES_IMAGE)


@pytest.fixture
def mine(kubeconfig: Path, namespace: str, python_image: str, tmp_path: Path) -> Iterator[Any]:
    """A person at a notebook (people.Notebook), with `backend`."""
    from .people import Notebook

    notebook: Any = Notebook(tmp_path / "mine", kubeconfig, namespace, python_image)
    with notebook.sits_down() as backend:
        notebook.backend = backend
        yield notebook


@pytest.fixture
def client(mine: Any, namespace: str) -> Iterator[Any]:
    """The cluster as that person's connection sees it."""
    from jupyter_gpudeploy.backends.kubernetes.api.connect import connect

    with connect(None, namespace) as client:
        yield client
