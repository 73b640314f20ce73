"""Kinds that other projects add to a cluster, installed from their published schemas, without their controllers.

Versions and checksums stand in crds/go.mod and crds/go.sum; Go fetches the modules, and only files of them are read.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import paths, processes
from .client import METADATA_LIST, Client
from .system import ClusterError, command, timed, wait_for

if TYPE_CHECKING:
    from collections.abc import Iterable

_MODULES = paths.HERE / "crds"
_KUEUE = "kueue@config/components/crd/bases/kueue.x-k8s.io_"
_ARGO = "argo-workflows/v3@manifests/base/crds/full/argoproj.io_"
_GATEWAY = "gateway-api@config/crd/standard/gateway.networking.k8s.io_"
_PROMETHEUS = "prometheus-operator@example/prometheus-operator-crd/monitoring.coreos.com_"
_KEDA = "keda/v2@config/crd/bases/keda.sh_"
# name -> the end of a module's path, @, a file in it
SETS = {
    "route": ("openshift/api@route/v1/route.crd.yaml",),
    "gateway": (f"{_GATEWAY}gatewayclasses.yaml", f"{_GATEWAY}gateways.yaml", f"{_GATEWAY}httproutes.yaml"),
    "kueue": tuple(
        f"{_KUEUE}{kind}.yaml"
        for kind in ("clusterqueues", "localqueues", "resourceflavors", "workloadpriorityclasses", "workloads")
    ),
    "jobset": ("jobset@config/components/crd/bases/jobset.x-k8s.io_jobsets.yaml",),
    "lws": ("lws@config/crd/bases/leaderworkerset.x-k8s.io_leaderworkersets.yaml",),
    "keda": (f"{_KEDA}scaledobjects.yaml", f"{_KEDA}triggerauthentications.yaml"),
    "prometheus": (f"{_PROMETHEUS}podmonitors.yaml", f"{_PROMETHEUS}servicemonitors.yaml"),
    "argo": (f"{_ARGO}workflows.yaml", f"{_ARGO}cronworkflows.yaml"),
}
_AT = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"


def install(*names: str) -> None:
    """Install sets of kinds, all without names, and wait until the API server serves them. Raises ClusterError."""
    client, wanted = Client(), _definitions(names)
    for one in wanted:
        if not client.exists(f"{_AT}/{one['metadata']['name']}"):
            client.post(_AT, one)
    wait_for("the API server serves them", lambda: all(is_served(client, one) for one in wanted))


def remove(*names: str) -> None:
    """Remove sets of kinds with all objects of them, all without names; those not installed are no error.

    The kinds of a controller that runs (controllers.py) stay.
    """
    left = [name for name in names or SETS if processes.main_pid(name) is None]
    client, wanted = Client(), _definitions(left) if left else []
    for one in wanted:
        client.delete(f"{_AT}/{one['metadata']['name']}")
    names_left = {one["metadata"]["name"] for one in wanted}
    wait_for("the end of the kinds", lambda: not names_left & _names(client))


def installed() -> list[str]:
    """The sets that are installed whole."""
    here = _names(Client())
    return [name for name in SETS if {one["metadata"]["name"] for one in _definitions([name])} <= here]


def _names(client: Client) -> set[str]:
    """Of all kinds that are not the API server's own. Only the metadata travels: the schemas are megabytes."""
    return {one["metadata"]["name"] for one in client.get(_AT, kind=METADATA_LIST)["items"] or ()}


def is_served(client: Client, definition: dict[str, Any]) -> bool:
    """Whether the API server knows a kind in all its versions."""
    group, plural = definition["spec"]["group"], definition["spec"]["names"]["plural"]
    found = [client.get(f"/apis/{group}/{version['name']}") for version in definition["spec"]["versions"]]
    return all(any(one["name"] == plural for one in answer["resources"]) for answer in found)


def _definitions(names: Iterable[str]) -> list[dict[str, Any]]:
    unknown = set(names) - set(SETS)
    if unknown:
        raise ClusterError(f"no kinds are called {', '.join(sorted(unknown))}; there are {', '.join(SETS)}")
    content = json.loads(_make().read_text())
    return [one for name in list(names) or SETS for one in content[name]]


def _make() -> Path:
    """Fetch what is missing and return one file: set -> definitions."""
    target, stamp = paths.cache() / "crds.json", paths.cache() / ".crds.made"
    wanted = hashlib.sha256(json.dumps(SETS).encode() + (_MODULES / "go.sum").read_bytes()).hexdigest()
    if not target.exists() or not stamp.exists() or stamp.read_text() != wanted:
        with timed("made the kinds of others"):
            modules = _fetch()
            content = {name: [_read(modules, one) for one in files] for name, files in SETS.items()}
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(json.dumps(content))
        stamp.write_text(wanted)
    return target


def _fetch() -> dict[str, Path]:
    """Module -> the folder that Go has put it into."""
    if not shutil.which("go"):
        raise ClusterError("the schemas of other projects are fetched with Go, and there is no `go` here")
    lines = [line.split() for line in (_MODULES / "go.mod").read_text().splitlines() if line.startswith("\t")]
    wanted = [f"{module}@{version}" for module, version in lines]
    answers = command(["go", "mod", "download", "-json", *wanted], cwd=_MODULES, env={"GOWORK": "off"})
    found: dict[str, Path] = {}
    decoder, place = json.JSONDecoder(), 0
    while place < len(answers.rstrip()):
        answer, end = decoder.raw_decode(answers[place:].lstrip())
        place += len(answers[place:]) - len(answers[place:].lstrip()) + end
        found[answer["Path"]] = Path(answer["Dir"])
    return found


def _read(modules: dict[str, Path], one: str) -> dict[str, Any]:
    import yaml

    ending, _, name = one.partition("@")
    folder = next(folder for module, folder in modules.items() if module.endswith(f"/{ending}"))
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    return dict(without_prose(yaml.load((folder / name).read_bytes(), loader)))  # noqa: S506 - safe, and in C


def without_prose(schema: Any) -> Any:
    """Drop descriptions: with them Argo's schema is larger than the API server takes."""
    if isinstance(schema, list):
        return [without_prose(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    kept = {key: value for key, value in schema.items() if not (key == "description" and isinstance(value, str))}
    return {key: without_prose(value) for key, value in kept.items()}
