"""A wire, over http and over https, and a Cluster at its other end."""

import pytest
from wire import Certificate, Wire


@pytest.fixture(scope="session")
def certificate(tmp_path_factory):
    return Certificate(tmp_path_factory.mktemp("tls"))


@pytest.fixture
def alone(monkeypatch, tmp_path):
    """No settings, no kubeconfig, no proxy and no pod of whoever runs the tests."""
    for name in ("KUBECONFIG", "KUBERNETES_SERVICE_HOST", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("JUPYTER_GPUDEPLOY_CONFIG", str(tmp_path / "config.yaml"))


@pytest.fixture
def wire():
    with Wire() as wire:
        yield wire


@pytest.fixture
def secure(certificate):
    with Wire(certificate) as wire:
        yield wire
