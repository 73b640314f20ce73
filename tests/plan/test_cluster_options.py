import pytest

from jupyter_gpudeploy.backends.base import Capabilities
from jupyter_gpudeploy.errors import PlanError
from jupyter_gpudeploy.plan.build import build
from jupyter_gpudeploy.plan.types import Target
from jupyter_gpudeploy.spec.models import Spec

HERE = Capabilities("local", "this machine", gpus=0, cpus=2)
TARGET = Target(
    "barcelona", "me", image="localhost/python", gpu_types={"H100": "NVIDIA-H100-80GB-HBM3"}, queue="team",
    storage="20Gi", node_selector={"pool": "gpu"}, kinds=frozenset({"Route"}),
)  # fmt: skip
THERE = Capabilities("kubernetes", "barcelona", target=TARGET, nodes=None, replicas=None, routes=True)


def plan(tmp_path, can, **header):
    return build(Spec.model_validate({"run": "echo x", **header}), can, base=tmp_path)


def messages(made, level):
    return {note.field: note.message for note in made.notes if note.level == level}


def test_a_plan_for_this_machine_has_no_cluster(tmp_path):
    assert plan(tmp_path, HERE).cluster is None


def test_the_cell_wins_over_the_profile_and_the_profile_over_the_default(tmp_path):
    chosen = plan(tmp_path, THERE, queue="mine", gpu_type="H100", tolerations=["gpu"]).cluster
    assert (chosen.image, chosen.queue, chosen.storage) == ("localhost/python", "mine", "20Gi")
    assert chosen.node_selector == {"pool": "gpu", "nvidia.com/gpu.product": "NVIDIA-H100-80GB-HBM3"}
    bare = THERE._replace(target=Target("x", "y"))
    assert plan(tmp_path, bare).cluster.image.startswith("docker.io/library/python:3.")


def test_a_gpu_model_that_the_profile_does_not_know_is_refused_with_the_known_ones(tmp_path):
    with pytest.raises(PlanError, match="H100"):
        plan(tmp_path, THERE, gpu_type="H10")
    assert plan(tmp_path, THERE, gpu_type="NVIDIA-L4").cluster.node_selector["nvidia.com/gpu.product"] == "NVIDIA-L4"


def test_a_gpu_may_be_asked_for_by_a_resource_claim(tmp_path):
    chosen = plan(tmp_path, THERE, gpus=1, gpu_resource="device-class:gpu.nvidia.com").cluster
    assert (chosen.device_class, chosen.gpu_resource) == ("gpu.nvidia.com", "nvidia.com/gpu")


@pytest.mark.fault(32)
def test_a_route_is_taken_where_there_is_one_else_a_forward_and_what_is_missing_is_said(tmp_path):
    server = {"run": "python -m http.server {port}", "serve": "command"}
    assert plan(tmp_path, THERE, **server, route=True).cluster.expose == "route"
    assert plan(tmp_path, THERE, **server).cluster.expose == "forward"
    without = THERE._replace(target=TARGET._replace(kinds=frozenset()))
    assert plan(tmp_path, without, **server, route=True).cluster.expose == "forward"
    with pytest.raises(PlanError, match="barcelona has no Route"):
        plan(tmp_path, without, **server, expose="route")
    with pytest.raises(PlanError, match="Gateway"):
        plan(tmp_path, THERE._replace(target=TARGET._replace(kinds=None)), **server, expose="httproute")


def test_what_only_a_cluster_can_do_is_said_on_this_machine(tmp_path):
    made = plan(tmp_path, HERE, image="x", schedule="0 6 * * *", keep_hours=1)
    assert messages(made, "error") == {"schedule": "this machine starts nothing by the clock"}
    assert messages(made, "warning") == {"image": "has no meaning on this machine: left out"}
