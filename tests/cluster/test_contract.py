"""The promises of a backend, on a real cluster."""

import pytest

from jupyter_gpudeploy.backends.kubernetes.backend import KubernetesBackend
from jupyter_gpudeploy.plan.types import ClusterOptions
from jupyter_gpudeploy.testing.backend_contract import BackendContract


@pytest.fixture
def settings(namespace, kubeconfig, python_image, tmp_path, monkeypatch):
    """A person with a settings file: one profile, which is the cluster of the tests and a fresh namespace."""
    file = tmp_path / "config.yaml"
    profile = f"{{kubeconfig: {kubeconfig}, context: CONTEXT, namespace: {namespace}, image: {python_image}}}"
    context = __import__("json").loads(kubeconfig.read_text())["current-context"]
    file.write_text(f"default_cluster: here\nclusters:\n  here: {profile.replace('CONTEXT', context)}\n")
    monkeypatch.setenv("JUPYTER_GPUDEPLOY_CONFIG", str(file))
    monkeypatch.setenv("JUPYTER_GPUDEPLOY_HOME", str(tmp_path / "home"))
    return file


class TestKubernetesBackend(BackendContract):
    patience = 120.0

    @pytest.fixture
    def backend(self, settings):
        made = KubernetesBackend()
        yield made
        made.close()

    @pytest.fixture
    def own_fields(self, backend, python_image):
        return {"target": backend.capabilities().target, "cluster": ClusterOptions(image=python_image)}
