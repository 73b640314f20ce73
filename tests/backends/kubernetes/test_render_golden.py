"""What is rendered, word for word. GOLDEN=write writes the files anew; read the difference before you keep it."""

import os
from pathlib import Path

import pytest
from cells import ALL, EXAMPLES
from rendered import plan_of, without_our_sources
from strict import check

from jupyter_gpudeploy.backends.kubernetes.manifests.render import MANIFESTS, objects_of, render, root, stamp

GOLDEN = Path(__file__).parent / "golden"


@pytest.fixture(params=ALL, scope="module")
def name(request):
    return request.param


@pytest.fixture(scope="module")
def rendering(name):
    cell, known = ALL[name]
    with pytest.MonkeyPatch.context() as patch:
        without_our_sources(patch)
        return render(plan_of(cell, EXAMPLES, **known))


def test_manifests_are_rendered_as_they_were(name, rendering):
    found = "".join(
        f"# --- {path}\n{text}" for path, text in rendering.files.items() if path.startswith(MANIFESTS)
    )  # fmt: skip
    file = GOLDEN / f"{name}.yaml"
    if os.environ.get("GOLDEN") == "write":
        file.write_text(found, "utf-8")
    assert found == file.read_text("utf-8")


def test_every_golden_file_has_its_cell():
    assert {file.stem for file in GOLDEN.glob("*.yaml")} == set(ALL)


def test_every_manifest_is_valid_to_the_letter(rendering):
    for one in stamp([*objects_of(rendering), root(rendering)], "3f2c", f"{rendering.name}.run"):
        check(one)


def test_pods_pass_the_restricted_standard(rendering):
    for pod in _pods(objects_of(rendering)):
        spec = pod["spec"]
        assert spec["securityContext"]["runAsNonRoot"] is True
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert spec["securityContext"].get("runAsUser") != 0
        assert spec["automountServiceAccountToken"] is False
        assert spec["enableServiceLinks"] is False
        for container in [*spec.get("initContainers", []), *spec["containers"]]:
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "capabilities": {"drop": ["ALL"]},
            }
        allowed = {"configMap", "downwardAPI", "emptyDir", "persistentVolumeClaim", "projected", "secret", "name"}
        assert all(set(volume) <= allowed for volume in spec["volumes"])


def test_openshift_chooses_the_numbers_itself(name, rendering):
    is_openshift = ALL[name][1].get("flavour") == "openshift"
    for pod in _pods(objects_of(rendering)):
        numbers = {"runAsUser", "runAsGroup", "fsGroup"} & set(pod["spec"]["securityContext"])
        assert numbers == (set() if is_openshift else {"runAsUser", "runAsGroup", "fsGroup"})


def _pods(value):
    if isinstance(value, dict):
        if isinstance(value.get("spec"), dict) and "containers" in value["spec"]:
            yield value
        for part in value.values():
            yield from _pods(part)
    elif isinstance(value, list):
        for part in value:
            yield from _pods(part)
