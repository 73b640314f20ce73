"""A Plan as the objects of a cluster. Pure: the same plan and files give the same text, and nothing is touched.

The text is what a person reads (`%deploy show`): archives are shown by their size and hash, and lie beside it in
`Rendering.payload`. Nothing rendered knows the run's uid: `root` makes the object whose creation gives it, and `stamp`
puts it onto all others.
"""

from __future__ import annotations

import base64
import copy
import gzip
import hashlib
import json
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import jupyter_gpudeploy
from jupyter_gpudeploy.backends.base import Rendering
from jupyter_gpudeploy.backends.kubernetes import marks, places
from jupyter_gpudeploy.backends.kubernetes.manifests import archives, payload, probes, storage, trials
from jupyter_gpudeploy.backends.kubernetes.manifests.pods import (
    Program,
    idle_seconds,
    key_variable,
    options_of,
    own_image,
    task_seconds,
)
from jupyter_gpudeploy.backends.kubernetes.manifests.services import services
from jupyter_gpudeploy.backends.kubernetes.manifests.shapes import shape
from jupyter_gpudeploy.backends.kubernetes.manifests.workloads import workload
from jupyter_gpudeploy.errors import PlanError
from jupyter_gpudeploy.plan.record import record_of, record_text

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from jupyter_gpudeploy.backends.base import Upload
    from jupyter_gpudeploy.plan.types import ClusterOptions, Plan

BACKEND = "kubernetes"
MANIFESTS = "manifests/"
_ROOT_BYTES = 900 * 2**10
_NO_RUNS: Mapping[str, Path] = MappingProxyType({})


def render(plan: Plan, runs: Mapping[str, Path] = _NO_RUNS) -> Rendering:
    """Return the manifests in the order in which they are applied, `run.json`, `cell.txt` and the cell's program.

    `runs`: the folders of the runs that the program attaches to (`attached.attached_names`). Raises PlanError.
    """
    from jupyter_gpudeploy.spec.yaml import load
    from jupyter_gpudeploy.spec.yaml_dump import dump_yaml

    options = options_of(plan)
    carried, upload = ([], None) if own_image(plan) else _carried(plan, options, runs)
    found = objects(plan, options, carried, upload)
    files = {}
    for index, one in enumerate(found, start=1):
        text = dump_yaml(one)
        if load(text).value != one:
            raise PlanError(f"{one['kind']} {one['metadata']['name']} cannot be written as YAML")
        files[f"{MANIFESTS}{index * 10:03d}-{one['kind'].lower()}-{one['metadata']['name']}.yaml"] = text
    files["run.json"] = record_text({**record_of(plan), **_own_record(plan)})
    if plan.cell:
        files["cell.txt"] = plan.cell
    files |= {f"code/{path}": text for path, text in plan.files.items()}
    return Rendering(BACKEND, plan.name, plan.fingerprint, files, _payload(plan, carried), upload)


def objects(
    plan: Plan, options: ClusterOptions, carried: Sequence[archives.Carried], upload: Upload | None = None
) -> list[dict[str, Any]]:
    """Return every object of the run but its root and its Secrets, in the order in which they are applied."""
    code = Program(tuple(_code_name(plan, one) for one in carried), upload)
    found = [_config_map(plan, one) for one in carried]
    if (claim := storage.claim(plan, options)) is not None:
        found.append(claim)
    if plan.resources.gpus and options.device_class:
        labels = marks.labels(plan.name, marks.WORK)
        device = {"device_class": options.device_class, "count": plan.resources.gpus}
        found.append(shape("resourceclaimtemplate", name=plan.name, labels=labels, **device))
    if plan.search is not None:
        found.append(trials.points_map(plan.name))
    return [*found, *services(plan, options), workload(plan, options, code)]


def key_secret(plan: Plan) -> str | None:
    """Return the name of the Secret in which a launch puts the key of this server (under `places.KEY`), or None.

    None for a server that knows no keys, and for one whose key the cell gives itself. `api_key` in the record.
    """
    variable = key_variable(plan)
    if variable is None or variable in plan.environment or variable in plan.secrets:
        return None
    return places.key_name(plan.name)


def _own_record(plan: Plan) -> dict[str, Any]:
    """Return what a cluster's record says besides, or otherwise, than the plan."""
    idle = idle_seconds(plan)
    rate = probes.per_second() if idle and plan.service else None
    limit = task_seconds(plan) if plan.kind in ("job", "sweep") else None
    return {"api_key": key_secret(plan), "idle_seconds": idle, "probes_per_second": rate, "task_seconds": limit}


def objects_of(rendering: Rendering) -> list[dict[str, Any]]:
    """Return the objects of the manifests, archives put in, in the order in which they are applied."""
    from jupyter_gpudeploy.spec.yaml import load

    found = [load(text).value for path, text in rendering.files.items() if path.startswith(MANIFESTS)]
    for one in found:
        for key in one.get("binaryData", {}):
            data = rendering.payload[f"{one['metadata']['name']}/{key}"]
            one["binaryData"][key] = base64.b64encode(data).decode()
    return found


def root(rendering: Rendering, annotations: Mapping[str, str] = MappingProxyType({})) -> dict[str, Any]:
    """Return the ConfigMap whose creation is the claim of the name, and whose uid is the run's.

    It holds the record, the cell and all other objects. Where these are too large together, the archives are left out
    of the objects; who completes such a launch needs them from somewhere else. Raises PlanError for a record that is
    too large by itself.
    """
    record = json.loads(rendering.files["run.json"])
    every = objects_of(rendering)
    data = {
        places.RECORD: _packed(rendering.files["run.json"].encode()),
        places.CELL: _packed(rendering.files.get("cell.txt", "").encode()),
        places.OBJECTS: _packed(json.dumps(every).encode()),
    }
    if _size(data) > _ROOT_BYTES:
        data[places.OBJECTS] = _packed(json.dumps([without_data(one) for one in every]).encode())
    if _size(data) > _ROOT_BYTES:
        message = f"the record of {rendering.name} is {_size(data):,} bytes, packed: a ConfigMap holds {_ROOT_BYTES:,}"
        raise PlanError(message, hint="fewer trials, or shorter parameters")
    own = {
        marks.FINGERPRINT: rendering.fingerprint,
        marks.TITLE: str(record.get("title", rendering.name)),
        marks.VERSION: jupyter_gpudeploy.__version__,
    }
    body = shape(
        "configmap",
        name=places.root_name(rendering.name),
        labels=marks.labels(rendering.name, marks.ROOT),
        annotations={**own, **annotations},
        immutable=None,
        binary_data=None,
    )
    return {**body, "binaryData": {key: base64.b64encode(value).decode() for key, value in data.items()}}


def objects_in(root_object: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the objects that a root holds, as rendered. Those without their archives have `binaryData` of nulls."""
    found: list[dict[str, Any]] = json.loads(unpacked(root_object, places.OBJECTS))
    return found


def unpacked(root_object: Mapping[str, Any], key: str) -> bytes:
    """Return one of the texts that a root holds: `places.RECORD`, `places.CELL` or `places.OBJECTS`."""
    return gzip.decompress(base64.b64decode(root_object["binaryData"][key]))


def is_complete(one: Mapping[str, Any]) -> bool:
    """Return whether an object of a root has its archives."""
    return None not in one.get("binaryData", {}).values()


def stamp(found: Sequence[Mapping[str, Any]], uid: str, root_name: str) -> list[dict[str, Any]]:
    """Return the objects with the uid of their run and an owner: deleting the root deletes them.

    The uid is also on the pods and in what selects them, so that pods of an earlier run of this name are never taken
    for this one's. A claim of `storage:` is kept after the run and gets neither.
    """
    owner = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "name": root_name,
        "uid": uid,
        "controller": False,
        "blockOwnerDeletion": False,
    }
    stamped = [copy.deepcopy(dict(one)) for one in found]
    for one in stamped:
        if one["metadata"]["labels"][marks.PART] != marks.STORAGE:
            one["metadata"]["ownerReferences"] = [owner]
            _mark(one, uid)
    return stamped


def without_data(one: Mapping[str, Any]) -> dict[str, Any]:
    """Return the object without its archives."""
    data = one.get("binaryData")
    return {**one, "binaryData": dict.fromkeys(data)} if data else dict(one)


def _mark(value: Any, uid: str) -> None:  # noqa: ANN401 - any JSON
    """Put the uid beside the name of the run, wherever that stands as a label or in a selector."""
    if isinstance(value, dict):
        if isinstance(value.get(marks.RUN), str):
            value[marks.UID] = uid
        for part in value.values():
            _mark(part, uid)
    elif isinstance(value, list):
        for part in value:
            _mark(part, uid)


def _carried(
    plan: Plan, options: ClusterOptions, runs: Mapping[str, Path]
) -> tuple[list[archives.Carried], Upload | None]:
    """Return what ConfigMaps carry, and what is too large for them."""
    packed = {"runtime.tar.gz": payload.runtime()}
    texts = payload.runtime_texts()
    archive, upload = payload.work(plan, options, runs)
    if archive is not None:
        packed["work.tar.gz"] = archive
    if upload is not None:
        texts = {**texts, **payload.receiver_text()}
    return archives.spread(texts, packed), upload


def _config_map(plan: Plan, carried: archives.Carried) -> dict[str, Any]:
    return shape(
        "configmap",
        name=_code_name(plan, carried),
        labels=marks.labels(plan.name, marks.CODE),
        annotations=None,
        immutable=True,
        binary_data=dict(carried.shown),
    )


def _code_name(plan: Plan, carried: archives.Carried) -> str:
    """Return a name that is another one when the content is: what is shown of each key names it."""
    digest = hashlib.sha256(json.dumps(carried.shown, sort_keys=True).encode()).hexdigest()[:8]
    return f"{plan.name}.code-{digest}"


def _payload(plan: Plan, carried: Sequence[archives.Carried]) -> dict[str, bytes]:
    return {f"{_code_name(plan, one)}/{key}": data for one in carried for key, data in one.data.items()}


def _packed(data: bytes) -> bytes:
    return gzip.compress(data, mtime=0)


def _size(data: Mapping[str, bytes]) -> int:
    return sum(len(value) for value in data.values())
