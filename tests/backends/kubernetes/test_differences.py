"""What `%deploy diff` shows: what the cell would change, and nothing that the server filled in."""

import copy

import pytest
from rendered import plan_of, without_our_sources

from jupyter_gpudeploy.backends.kubernetes.manifests.differences import differences
from jupyter_gpudeploy.backends.kubernetes.manifests.render import objects_of, render, stamp

SWEEP = "name: sweep\nparameters: {lr: [0.1, 0.2]}\n"
CODE = "---\nprint(lr)\n"
API = "name: api\nserve: fastapi\nport: 8000\n---\napp = 1\n"


@pytest.fixture(autouse=True)
def _without_our_sources(monkeypatch):
    without_our_sources(monkeypatch)


def rendered(cell, base):
    return objects_of(render(plan_of(cell, base)))


def live(cell, base):
    """As a server gives it back: with an owner and a uid, defaults, and its own fields."""
    found = stamp(rendered(cell, base), "u-1", "x.run")
    for one in found:
        one["metadata"] |= {
            "uid": "o-1",
            "resourceVersion": "7",
            "generation": 1,
            "namespace": "ml",
            "managedFields": [{}],
        }
        one["status"] = {"active": 1}
    for one in found:
        template = one.get("spec", {}).get("template")
        if template:
            template["spec"] |= {"dnsPolicy": "ClusterFirst", "schedulerName": "default-scheduler"}
            container = template["spec"]["containers"][0]
            container |= {"terminationMessagePath": "/dev/termination-log", "imagePullPolicy": "IfNotPresent"}
            for variable in container["env"]:
                if "fieldRef" in variable.get("valueFrom", {}):
                    variable["valueFrom"]["fieldRef"]["apiVersion"] = "v1"
        if one["kind"] == "Service":
            one["spec"]["ports"][0] |= {"protocol": "TCP"}
    return found


def named(found, kind):
    return next(one for one in found if one["kind"] == kind)


@pytest.mark.parametrize("cell", [SWEEP + CODE, API])
def test_what_the_server_fills_in_is_no_difference(cell, tmp_path):
    assert differences(rendered(cell, tmp_path), live(cell, tmp_path)) == {}


def test_a_changed_field_is_shown_with_its_old_and_its_new_value(tmp_path):
    new = rendered(SWEEP + "parallelism: 2\ngpus: 1\n" + CODE, tmp_path)
    found = differences(new, live(SWEEP + CODE, tmp_path))
    text = found["Job/sweep"]
    assert "-  parallelism: 1\n" in text
    assert "+  parallelism: 2\n" in text
    assert "+          limits:\n" in text or "nvidia.com/gpu" in text
    assert text.startswith("--- cluster: Job/sweep\n+++ cell: Job/sweep\n")


def test_what_somebody_changed_on_the_cluster_is_shown(tmp_path):
    there = live(API, tmp_path)
    spec = named(there, "Deployment")["spec"]
    spec["replicas"] = 3
    spec["template"]["spec"]["containers"][0]["env"].append({"name": "DEBUG", "value": "1"})
    spec["template"]["spec"]["containers"].append({"name": "sidecar", "image": "x"})
    text = differences(rendered(API, tmp_path), there)["Deployment/api"]
    assert "-  replicas: 3" in text
    assert "DEBUG" in text
    assert "sidecar" in text


def test_a_stop_is_no_difference(tmp_path):
    there = live(SWEEP + CODE, tmp_path)
    named(there, "Job")["spec"]["suspend"] = True
    assert differences(rendered(SWEEP + CODE, tmp_path), there) == {}


def test_the_order_of_named_items_is_no_difference(tmp_path):
    there = live(API, tmp_path)
    named(there, "Deployment")["spec"]["template"]["spec"]["containers"][0]["env"].reverse()
    assert differences(rendered(API, tmp_path), there) == {}


def test_objects_of_one_side_only_are_shown_whole(tmp_path):
    new = rendered(API, tmp_path)
    there = [one for one in live(API, tmp_path) if one["kind"] != "Service"]
    there.append({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "old", "uid": "7"}, "data": {"a": "1"}})
    found = differences(new, there)
    assert set(found) == {"Service/api", "ConfigMap/old"}
    assert all(line.startswith(("+", "@")) for line in found["Service/api"].splitlines()[2:])
    assert "uid" not in found["ConfigMap/old"]


def test_nothing_given_is_changed(tmp_path):
    new, there = rendered(API, tmp_path), live(SWEEP + CODE, tmp_path)
    before = copy.deepcopy((new, there))
    differences(new, there)
    assert (new, there) == before
