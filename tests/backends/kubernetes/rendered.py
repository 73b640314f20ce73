"""Plans for a made-up cluster, and what they are rendered to. Our own sources are replaced: their changes are no news."""

from pathlib import Path

from jupyter_gpudeploy.backends.base import Capabilities
from jupyter_gpudeploy.backends.kubernetes.manifests import archives, payload
from jupyter_gpudeploy.backends.kubernetes.manifests.render import objects_of, render
from jupyter_gpudeploy.checkout import checkout
from jupyter_gpudeploy.plan.build import build
from jupyter_gpudeploy.plan.types import Target
from jupyter_gpudeploy.spec.cell import read

EXAMPLES = Path(__file__).parents[3] / "examples"
IMAGE = "registry.example/python:3.11"


def target(**known):
    return Target(**{"cluster": "barcelona", "namespace": "ml", "image": IMAGE, **known})


def plan_of(cell, base, **known):
    there = target(**known)
    can = Capabilities(
        "kubernetes", "barcelona/ml", there, nodes=None, replicas=None, routes=True, memory_limits=True
    )  # fmt: skip
    (asked,) = read(cell)
    found = checkout(asked.spec.git) if asked.spec.git else None
    return build(asked.spec, can, base=Path(base), cell=cell, checkout=found)


def objects(cell, base, **known):
    """The rendered objects by kind; of several of a kind the last."""
    return {one["kind"]: one for one in objects_of(render(plan_of(cell, base, **known)))}


def pod_of(found):
    """The pod template of whatever makes pods in `found`."""
    for kind in ("Deployment", "Job"):
        if kind in found:
            return found[kind]["spec"]["template"]
    if "CronJob" in found:
        return found["CronJob"]["spec"]["jobTemplate"]["spec"]["template"]
    return found["JobSet"]["spec"]["replicatedJobs"][0]["template"]["spec"]["template"]


def container_of(found):
    (container,) = pod_of(found)["spec"]["containers"]
    return container


def variables(container):
    """The environment; references as what they refer to."""
    found = {}
    for one in container["env"]:
        source = one.get("valueFrom", {})
        reference = source.get("secretKeyRef") or source.get("fieldRef")
        found[one["name"]] = one.get("value", reference)
    return found


def without_our_sources(monkeypatch):
    small = archives.pack([archives.Member("runtime/jupyter_gpudeploy/__init__.py", b"")])
    monkeypatch.setattr(payload, "runtime", lambda: small)
    monkeypatch.setattr(payload, "runtime_texts", lambda: {"boot.py": b"boot", "install.py": b"install"})
