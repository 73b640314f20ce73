"""Why a pod has no node: the scheduler's sentence, read back into what was asked and how many nodes lack it."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, NamedTuple

from jupyter_gpudeploy.backends.kubernetes.diagnosis.findings import (
    Finding,
    condition,
    latest,
    quoted,
    request,
    shortened,
)
from jupyter_gpudeploy.backends.kubernetes.manifests.workloads import QUEUE
from jupyter_gpudeploy.quantities import kubernetes_memory, parse_cpu, parse_memory

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

_NODES = re.compile(r"0/(\d+) nodes are available: (.*?)\.?(?= (?:no new claims|preemption:|No preemption)| *$)")
_PART = re.compile(r"(\d+) (.+)")
_NO_HELP = "Preemption is not helpful for scheduling"
_TAINT = re.compile(r"taint(?:\(s\))?(?: \{([^}]*)\})?")
_UNWELL = {
    "node.kubernetes.io/not-ready": "not ready",
    "node.kubernetes.io/unreachable": "unreachable",
    "node.kubernetes.io/unschedulable": "taken out of service",
    "node.kubernetes.io/memory-pressure": "short of memory",
    "node.kubernetes.io/disk-pressure": "short of disk",
    "node.kubernetes.io/pid-pressure": "short of process numbers",
    "node.kubernetes.io/network-unavailable": "without network",
    "node.cloudprovider.kubernetes.io/uninitialized": "still being set up",
}
_A_CLASS = "storage_class: one that the cluster has"
_OTHERS = (
    ("volume node affinity", "the volume is on a node that does not take it", "not where the volume is", ""),
    (
        "PersistentVolume's node affinity",
        "the volume is on a node that does not take it",
        "not where the volume is",
        "",
    ),
    ("persistent volumes to bind", "no node can get the volume", "cannot get the volume", _A_CLASS),
    ("Too many pods", "every node has as many pods as it may", "with as many pods as it may", ""),
    ("were unschedulable", "every node is taken out of service", "taken out of service", ""),
    ("cannot allocate all claims", "no node has the devices of its claim free", "without the devices of its claim", ""),
)
_BUILT_IN = {"cpu", "memory", "ephemeral-storage"}


class Lack(NamedTuple):
    """What `nodes` of them lack: `none` when all do, `some` for others; `lasts`: no pod that ends would change it."""

    nodes: int
    none: str
    some: str
    hint: str = ""
    lasts: bool = False


def why_unscheduled(
    pod: Mapping[str, Any], events: Sequence[Mapping[str, Any]], record: Mapping[str, Any]
) -> Finding | None:
    """Return why no node takes a pod; None for one that has a node, or that the scheduler has not looked at."""
    if (pod.get("spec") or {}).get("nodeName"):
        return None
    said = condition(pod, "PodScheduled")
    if said.get("reason") == "SchedulingGated":
        queue = (pod["metadata"].get("labels") or {}).get(QUEUE)
        return Finding(f"waits in the queue {queue}" if queue else "waits for another controller to let it go")
    message = said.get("message") or latest(events, "FailedScheduling").get("message", "")
    return (_of_a_claim(message, pod) or _of_nodes(message, pod, record)) if message else None


def _of_a_claim(message: str, pod: Mapping[str, Any]) -> Finding | None:
    missing = quoted(r'persistentvolumeclaim "([^"]+)" not found', message)
    if missing:
        return Finding(f"there is no volume claim {missing}", "storage: 20Gi makes one", permanent=True)
    volumes = (pod.get("spec") or {}).get("volumes") or ()
    claims = [volume["persistentVolumeClaim"]["claimName"] for volume in volumes if "persistentVolumeClaim" in volume]
    name = f" {claims[0]}" if claims else ""
    if "unbound immediate PersistentVolumeClaims" in message:
        return Finding(f"no storage was found for the volume claim{name}", _A_CLASS)
    if re.search(r'persistentvolumeclaim "[^"]+" is being deleted', message):
        return Finding(f"the volume claim{name} is being deleted", "storage: claim: one that stays", permanent=True)
    return None


def _of_nodes(message: str, pod: Mapping[str, Any], record: Mapping[str, Any]) -> Finding:
    if "no nodes available" in message or message.startswith("0/0 "):
        return Finding("the cluster has no node")
    nodes = _NODES.match(message)
    if nodes is None:
        return Finding(f"no node takes it: {shortened(message)}")
    total = int(nodes[1])
    parts = [part for text in nodes[2].split(", ") if (part := _PART.fullmatch(text))]
    for_good = int(quoted(rf"(\d+) {_NO_HELP}", message) or 0) == total
    lacks = [_lack(int(part[1]), part[2], pod, record, for_good=for_good) for part in parts]
    return _together(total, lacks, message)


def _together(total: int, lacks: Sequence[Lack], message: str) -> Finding:
    if not lacks:
        return Finding(f"no node takes it: {shortened(message)}")
    hint = next((lack.hint for lack in lacks if lack.hint), "")
    permanent = all(lack.lasts for lack in lacks)
    if len(lacks) == 1 and lacks[0].nodes >= total:
        return Finding(lacks[0].none, hint, permanent)
    if all(lack.nodes >= total for lack in lacks):
        return Finding("; ".join(lack.none for lack in lacks), hint, permanent)
    parts = ", ".join(f"{lack.nodes} {lack.some}" for lack in lacks)
    return Finding(f"none of {total} nodes takes it: {parts}", hint, permanent)


def _lack(count: int, text: str, pod: Mapping[str, Any], record: Mapping[str, Any], *, for_good: bool) -> Lack:
    if text.startswith("Insufficient "):
        return _insufficient(count, text.removeprefix("Insufficient "), pod, for_good=for_good)
    if "taint" in text:
        return _tainted(count, text)
    if "affinity/selector" in text:
        return _unlike(count, pod, record)
    for known, none, some, hint in _OTHERS:
        if known in text:
            return Lack(count, none, some, hint)
    plain = shortened(text.replace("node(s) ", ""))
    return Lack(count, f"no node takes it: {plain}", plain)


def _insufficient(count: int, resource: str, pod: Mapping[str, Any], *, for_good: bool) -> Lack:
    asked = request(pod, resource)
    what = f"{asked} {resource}".strip() if resource not in _BUILT_IN else f"{asked} of {resource}".removeprefix(" of ")
    if resource == "cpu":
        what = f"{asked} processors"
    if for_good:
        return Lack(count, f"no node has {what}", f"without {what}", _less(resource, asked), lasts=True)
    return Lack(count, f"no node has {what} free", f"without {what} free", _less(resource, asked))


def _less(resource: str, asked: str) -> str:
    """Return the key of the cell that asks for less: one GPU, or half of what was asked."""
    try:
        if resource == "memory":
            return f"memory: {kubernetes_memory(parse_memory(asked) // 2)}"
        if resource == "cpu":
            return f"cpu: {parse_cpu(asked) / 2:g}"
        return "gpus: 1" if resource not in _BUILT_IN and int(asked) > 1 else ""
    except ValueError:
        return ""


def _tainted(count: int, text: str) -> Lack:
    found = _TAINT.search(text)
    key, _, value = ((found[1] if found else "") or "").partition(":")
    key, value = key.strip(), value.strip()
    if key in _UNWELL:
        return Lack(count, f"every node is {_UNWELL[key]}", _UNWELL[key])
    if not key:
        hint = "tolerations: [KEY]; kubectl describe nodes names the taint"
        return Lack(count, "every node has a taint that it does not tolerate", "with a taint", hint, lasts=True)
    taint = f"{key}={value}" if value else key
    hint = "" if key.startswith("node-role.kubernetes.io/") else f"tolerations: [{taint}]"
    return Lack(count, f"every node has the taint {taint}", f"with the taint {taint}", hint, lasts=True)


def _unlike(count: int, pod: Mapping[str, Any], record: Mapping[str, Any]) -> Lack:
    """Return what labels the nodes do not have, by the key of the cell that asks for them."""
    wanted: Mapping[str, str] = (pod.get("spec") or {}).get("nodeSelector") or {}
    target = record.get("target") or {}
    gpu = wanted.get(target.get("gpu_label") or "nvidia.com/gpu.product", "")
    labels = ", ".join(f"{key}={value}" for key, value in wanted.items()) or "asked for"
    plural = "label" if len(wanted) <= 1 else "labels"
    if gpu and len(wanted) == 1:
        names = ", ".join(_other_types(target, gpu))
        hint = f"gpu_type: {names}" if names else "gpu_type: leave it out"
        return Lack(count, f"no node has a GPU of the type {gpu}", f"without a GPU of the type {gpu}", hint, lasts=True)
    hint = "node_selector: leave it out" if wanted else ""
    return Lack(count, f"no node has the {plural} {labels}", f"without the {plural} {labels}", hint, lasts=True)


def _other_types(target: Mapping[str, Any], gpu: str) -> Iterator[str]:
    for name, label in (target.get("gpu_types") or {}).items():
        if label != gpu:
            yield name
