"""Objects of the cluster as samples: what an explanation may need, without the rest.

With GPUDEPLOY_RECORD_SAMPLES=1 the tests on a cluster write them to tests/backends/kubernetes/samples anew.
"""

import json
import os
from pathlib import Path

FOLDER = Path(__file__).parents[1] / "backends" / "kubernetes" / "samples"
_METADATA = ("name", "uid", "creationTimestamp", "deletionTimestamp", "labels", "annotations")
_CONTAINER = ("name", "image", "resources", "startupProbe", "readinessProbe", "livenessProbe", "ports", "env")
_SPEC = (
    "restartPolicy", "nodeName", "nodeSelector", "activeDeadlineSeconds", "completions", "parallelism", "suspend",
    "replicas",
)  # fmt: skip
_STATUS_NOISE = ("podIP", "podIPs", "hostIP", "hostIPs", "qosClass", "observedGeneration", "uncountedTerminatedPods")
_SEEN = ("name", "image", "state", "lastState", "ready", "restartCount", "started")
_EVENT = (
    "type",
    "reason",
    "message",
    "count",
    "series",
    "eventTime",
    "firstTimestamp",
    "lastTimestamp",
    "involvedObject",
)
_RECORD = ("version", "name", "kind", "resources", "spec", "retries", "max_seconds", "secrets", "requirements", "service", "target", "cluster")  # fmt: skip


def keep(name, item, events, record, folder=FOLDER):
    """Write a sample, where samples are asked for."""
    if os.environ.get("GPUDEPLOY_RECORD_SAMPLES"):
        folder.mkdir(exist_ok=True)
        text = json.dumps(sample(item, events, record), indent=1, sort_keys=True, ensure_ascii=False)
        (folder / f"{name}.json").write_text(text + "\n")


def sample(item, events, record):
    """Return an object, the events about it and the record of its run, stripped."""
    metadata = _some(item["metadata"], _METADATA)
    metadata["labels"] = {
        key: value for key, value in (metadata.get("labels") or {}).items() if "queue" in key or "index" in key
    }
    metadata["annotations"] = {
        key: value for key, value in (metadata.get("annotations") or {}).items() if "container" in key or "index" in key
    }
    told = [
        {**_some(event, _EVENT), "metadata": _some(event["metadata"], ("uid", "creationTimestamp"))} for event in events
    ]
    for event in told:
        event["involvedObject"] = _some(event["involvedObject"], ("kind", "uid"))
    kept = {"metadata": metadata, "spec": _spec(item.get("spec") or {}), "status": _status(item.get("status") or {})}
    return {"item": {"kind": item["kind"], **kept}, "events": told, "record": _some(record, _RECORD)}


def _spec(spec):
    found = _some(spec, _SPEC)
    for group in ("initContainers", "containers"):
        if spec.get(group):
            found[group] = [_some(container, _CONTAINER) for container in spec[group]]
            for container in found[group]:
                container["env"] = [
                    one for one in container.get("env") or () if "secretKeyRef" in (one.get("valueFrom") or {})
                ]
    claims = [volume for volume in spec.get("volumes") or () if "persistentVolumeClaim" in volume]
    return {**found, "volumes": claims} if claims else found


def _status(status):
    found = {key: value for key, value in status.items() if key not in _STATUS_NOISE}
    for group in ("initContainerStatuses", "containerStatuses"):
        if status.get(group):
            found[group] = [_some(container, _SEEN) for container in status[group]]
    return found


def _some(value, keys):
    return {key: value[key] for key in keys if value.get(key) is not None}
