"""NVIDIA GPUs of a cluster, through the page of a DCGM exporter: all GPUs of a node, with the pods that hold them.

The exporter fills `pod` and `namespace` only where it was set up to, so a GPU is known by its UUID as well. Its names
have been lower case once; Prometheus adds `exported_` where a label was taken. Memory is told in MiB.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from jupyter_gpudeploy.events.types import GpuSample
from jupyter_gpudeploy.sources.base import percent
from jupyter_gpudeploy.sources.prometheus import parse as lines_of
from jupyter_gpudeploy.sources.prometheus import pattern

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

_MIB = 1 << 20
_UNKNOWN = 9e18  # DCGM's blanks: 0x7ffffffffffffff0 and what follows it
_FIELDS = {
    "utilization": ("DCGM_FI_DEV_GPU_UTIL", "dcgm_gpu_utilization"),
    "active": ("DCGM_FI_PROF_GR_ENGINE_ACTIVE", "dcgm_fi_prof_gr_engine_active"),
    "used": ("DCGM_FI_DEV_FB_USED", "dcgm_fb_used"),
    "free": ("DCGM_FI_DEV_FB_FREE", "dcgm_fb_free"),
    "reserved": ("DCGM_FI_DEV_FB_RESERVED",),
    "total": ("DCGM_FI_DEV_FB_TOTAL",),
    "power": ("DCGM_FI_DEV_POWER_USAGE", "dcgm_power_usage"),
    "temperature": ("DCGM_FI_DEV_GPU_TEMP", "dcgm_gpu_temp"),
}
_FIELD_OF = {name: field for field, names in _FIELDS.items() for name in names}
_PATTERN = pattern([*_FIELD_OF])


class Dcgm:
    """The GPUs of some pods, or of some UUIDs. `pods`: (namespace, pod) -> task; `uuids`: UUID -> task."""

    def __init__(
        self,
        fetch: Callable[[], str],
        pods: Mapping[tuple[str, str], int | None] | None = None,
        uuids: Mapping[str, int | None] | None = None,
    ) -> None:
        self.trouble = ""
        self._fetch: Callable[[], str] | None = fetch
        self._pods = dict(pods or {})
        self._uuids = dict(uuids or {})

    def look(self) -> list[GpuSample]:
        """Ask for the page, and return the samples of what is ours."""
        if self._fetch is None:
            return []
        try:
            text = self._fetch()
        except (OSError, ValueError) as error:
            self.trouble = f"the DCGM exporter does not answer: {error}"
            return []
        found = parse(text, time.time(), self._pods, self._uuids)
        self.trouble = "" if found else "the DCGM exporter tells nothing of these GPUs"
        return found

    def close(self) -> None:
        """Ask no more."""
        self._fetch = None


def parse(
    text: str,
    now: float,
    pods: Mapping[tuple[str, str], int | None] | None = None,
    uuids: Mapping[str, int | None] | None = None,
) -> list[GpuSample]:
    """Return a sample a GPU, or a part of one in MIG mode; of all where neither `pods` nor `uuids` are given.

    The utilisation of a part is the share of time in which its graphics engine was active, where the exporter tells it.
    """
    readings: dict[tuple[str, str], dict[str, float]] = {}
    labels_of: dict[tuple[str, str], dict[str, str]] = {}
    for line in lines_of(text, _PATTERN):
        labels = {name.lower(): value for name, value in line.labels.items()}
        key = labels.get("uuid") or labels.get("gpu", ""), labels.get("gpu_i_id", "")
        labels_of.setdefault(key, {}).update({name: value for name, value in labels.items() if value})
        if 0 <= line.value < _UNKNOWN:
            readings.setdefault(key, {})[_FIELD_OF[line.name]] = line.value
    found = []
    for key, labels in labels_of.items():
        place = _pod(labels)
        if not pods and not uuids:
            task = None
        elif pods and place in pods:
            task = pods[place]
        elif uuids and key[0] in uuids:
            task = uuids[key[0]]
        else:
            continue
        found.append(_sample(labels, readings.get(key, {}), now, task))
    return found


def _sample(labels: Mapping[str, str], reading: Mapping[str, float], now: float, task: int | None) -> GpuSample:
    part = labels.get("gpu_i_id", "")
    active = reading.get("active")
    utilization = reading.get("utilization", None if active is None or not part else 100 * active)
    used, total = reading.get("used"), reading.get("total")
    if total is None and used is not None and "free" in reading:
        total = used + reading["free"] + reading.get("reserved", 0.0)
    return GpuSample(
        now,
        labels.get("gpu", labels.get("uuid", "")) + (f":{part}" if part else ""),
        task,
        percent(utilization),
        None if used is None else int(used * _MIB),
        None if total is None else int(total * _MIB),
        reading.get("power"),
        reading.get("temperature"),
    )


def _pod(labels: Mapping[str, str]) -> tuple[str, str]:
    def first(*names: str) -> str:
        return next((labels[name] for name in names if labels.get(name)), "")

    return first("exported_namespace", "namespace", "pod_namespace"), first("exported_pod", "pod", "pod_name")


EXPORT = Dcgm
