"""The Jobs of a search: one a trial, made while it runs of a template that is rendered with the run.

The template is the Job of trial 0 before its point is known. It is shown, checked and kept in the root, and never
created itself. A point is written into the ConfigMap of points first, then its Job is made, so no trial is made twice.
"""

from __future__ import annotations

import copy
import json
import time
from typing import TYPE_CHECKING, Any

from jupyter_gpudeploy.backends.kubernetes import marks, places
from jupyter_gpudeploy.backends.kubernetes.manifests.environment import literal
from jupyter_gpudeploy.backends.kubernetes.manifests.shapes import shape
from jupyter_gpudeploy.events.points import Chosen, line_of, of_line

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

Body = dict[str, Any]
POINT = "GPUDEPLOY_POINT"
"""The variable of a container that holds its task, as JSON (`programs/_pod_task.py`)."""


def template(job: Body) -> Body:
    """Return the Job of one trial as the template of all."""
    made = copy.deepcopy(job)
    made["metadata"]["annotations"] = {marks.TEMPLATE: "true"}
    for metadata in (made["metadata"], made["spec"]["template"]["metadata"]):
        metadata["labels"][marks.TASK] = "0"
    main = _main(made)
    main["env"] = [*main.get("env", []), {"name": POINT, "value": "{}"}]
    return made


def is_template(body: Mapping[str, Any]) -> bool:
    """Return whether an object is never created, and others are made of it."""
    return marks.TEMPLATE in (body["metadata"].get("annotations") or {})


def is_points(body: Mapping[str, Any]) -> bool:
    """Return whether an object holds the points of a search: with it, its launch is complete."""
    return bool(body["metadata"]["labels"].get(marks.PART) == marks.POINTS)


def template_in(found: Iterable[Body]) -> Body | None:
    """Return the template among the objects of a run."""
    return next((body for body in found if is_template(body)), None)


def trial(made: Body, name: str, chosen: Chosen) -> Body:
    """Return the Job of a trial of the run `name`; it has no owner and no uid yet."""
    job = copy.deepcopy(made)
    metadata, inner = job["metadata"], job["spec"]["template"]["metadata"]
    del metadata["annotations"]
    metadata["name"] = places.trial_name(name, chosen.number)
    for one in (metadata, inner):
        one["labels"][marks.TASK] = str(chosen.number)
    task = literal(json.dumps(dict(chosen.task)))
    main = _main(job)
    main["env"] = [{**one, "value": task} if one["name"] == POINT else one for one in main["env"]]
    return job


def points_map(name: str) -> Body:
    """Return the ConfigMap in which points are written down, before there is any."""
    labels = marks.labels(name, marks.POINTS)
    values = {"annotations": None, "immutable": None, "binary_data": None}
    return shape("configmap", name=places.points_name(name), labels=labels, **values)


def entry(chosen: Chosen) -> dict[str, str]:
    """Return what the ConfigMap says of a point: when it was chosen, beside itself."""
    content = {**json.loads(line_of(chosen)), "at": round(time.time(), 3)}
    return {_key(chosen.number): json.dumps(content, separators=(",", ":"))}


def points_in(body: Mapping[str, Any]) -> list[tuple[Chosen, float]]:
    """Return the points of a ConfigMap and when they were chosen, in their order; those before the first gap."""
    data = body.get("data") or {}
    found: list[tuple[Chosen, float]] = []
    while (text := data.get(_key(len(found)))) is not None:
        content = json.loads(text)
        found.append((of_line(content), float(content.get("at") or 0.0)))
    return found


def _key(number: int) -> str:
    return f"{number:06d}"


def _main(job: Body) -> Body:
    containers = job["spec"]["template"]["spec"]["containers"]
    found: Body = next(one for one in containers if one["name"] == places.CONTAINER)
    return found
