"""The settings file: what it holds, and every mistake in it at its place."""

import pickle

import pytest

from jupyter_gpudeploy.spec.settings import SettingsError, read_settings, settings_file

FULL = """
default_cluster: barcelona
default_backend: kubernetes
clusters:
  barcelona:
    context: bcn-prod
    kubeconfig: ~/other
    namespace: ml
    flavour: openshift
    image: registry.example/science:1.10
    queue: gpu-queue
    priority: high
    storage: 10Gi
    storage_class: fast
    gpu_types: {H100: NVIDIA-H100-80GB-HBM3}
    gpu_resource: nvidia.com/mig-1g.10gb
    node_selector: {zone: 1, gpu: true}
    tolerations: [gpu, team=ml:NoSchedule]
    image_pull_secrets: [registry]
    service_account: runner
    expose: route
    gateway: infra/main
  empty:
"""


@pytest.fixture
def file(tmp_path):
    return tmp_path / "config.yaml"


def wrong(file, text):
    file.write_text(text)
    with pytest.raises(SettingsError) as caught:
        read_settings(file)
    return caught.value


def test_everything_is_text_as_it_is_spelled(file):
    file.write_text(FULL)
    settings = read_settings(file)
    barcelona = settings.clusters["barcelona"]
    assert (settings.default_cluster, settings.default_backend) == ("barcelona", "kubernetes")
    assert barcelona.image == "registry.example/science:1.10"
    assert barcelona.node_selector == {"zone": "1", "gpu": "true"}
    assert barcelona.tolerations == ["gpu", "team=ml:NoSchedule"]
    assert settings.clusters["empty"].gpu_resource == "nvidia.com/gpu"


def test_no_file_and_an_empty_file_are_no_settings(file):
    assert read_settings(file).clusters == {}
    file.write_text("# nothing\n")
    assert read_settings(file).clusters == {}


def test_the_file_is_found_by_the_environment(monkeypatch, tmp_path):
    monkeypatch.delenv("JUPYTER_GPUDEPLOY_CONFIG", raising=False)
    monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert settings_file() == tmp_path / ".config/jupyter_gpudeploy/config.yaml"
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "xdg"))
    assert settings_file() == tmp_path / "xdg/jupyter_gpudeploy/config.yaml"
    monkeypatch.setenv("JUPYTER_GPUDEPLOY_CONFIG", "~/own.yaml")
    assert settings_file() == tmp_path / "own.yaml"


def test_a_mistake_names_file_line_and_the_nearest_key(file):
    error = wrong(file, "clusters:\n  one:\n    contxt: a\n")
    assert error.message == f"{file}: line 3:5: there is no key 'contxt' in clusters.one:"
    assert error.hint.startswith("did you mean 'context'?")
    assert wrong(file, "cluster: {}").hint.startswith("did you mean 'clusters'?")


def test_all_mistakes_are_told_at_once(file):
    text = "clusters:\n  one:\n    flavour: openstack\n    namespace: Not_A_Name\n    tolerations: gpu\n  two: text\n"
    error = wrong(file, text)
    said = [str(problem) for problem in error.problems]
    assert [problem.line for problem in error.problems] == [3, 4, 5, 6]
    assert "clusters.one.flavour must be one of kubernetes or openshift" in said[0]
    assert "clusters.one.namespace is no Kubernetes name" in said[1]
    assert "clusters.one.tolerations must be a list  → write [gpu]" in said[2]
    assert "clusters.two must be lines of `key: value`" in said[3]
    assert str(error).startswith(f"4 mistakes in {file}\n")


@pytest.mark.parametrize("text", ["- a\n", "just text\n", "clusters: [a]\n", "clusters:\n  a: {context: [x\n"])
def test_what_is_no_settings_file_is_refused(file, text):
    assert wrong(file, text).message.startswith(f"{file}: line ")


def test_a_file_that_cannot_be_read_is_named(file):
    file.write_bytes(b"\xff")
    with pytest.raises(SettingsError, match="no UTF-8 text"):
        read_settings(file)
    file.unlink()
    file.mkdir()
    with pytest.raises(SettingsError, match="cannot be read"):
        read_settings(file)


def test_the_error_survives_pickling(file):
    error = wrong(file, "clusters: 1\n")
    assert str(pickle.loads(pickle.dumps(error))) == str(error)  # noqa: S301 - our own bytes
