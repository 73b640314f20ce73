"""What the GPUs of pods do in which nothing of ours runs, for all runs of a process that live in one namespace.

Once a second one thread looks at every pod's `nvidia-smi` (pod_gpus.py), of at most sixteen pods. What has none, may
not be asked, or comes beyond those is looked up in the DCGM exporter of its node (exporters.py), every ten seconds,
where that can be reached. Whoever holds the mirror of a run says which pods it has.
"""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any, NamedTuple

from jupyter_gpudeploy.backends.kubernetes.mirror.exporters import Exporters
from jupyter_gpudeploy.backends.kubernetes.mirror.pod_gpus import PodGpus
from jupyter_gpudeploy.events.receive_samples import SampleReceiver
from jupyter_gpudeploy.registry import Family

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from jupyter_gpudeploy.backends.kubernetes.api.client import Cluster
    from jupyter_gpudeploy.backends.kubernetes.mirror.seen import Seen
    from jupyter_gpudeploy.events.store import RunFolder
    from jupyter_gpudeploy.events.types import Sample
    from jupyter_gpudeploy.servers.base import ServerPreset

STREAMS = 16
_EVERY_SECONDS = 1.0
_PAGE_SECONDS = 10.0


class Gauged(NamedTuple):
    """A pod whose GPUs are to be looked at, and which task of its run it is."""

    task: int
    pod: str
    uid: str
    container: str
    node: str


def are_needed(record: Mapping[str, Any]) -> bool:
    """Return whether a run has GPUs in pods in which nothing of ours runs: those of a server in its own image."""
    service = record.get("service")
    if not (service and (record.get("resources") or {}).get("gpus")):
        return False
    preset: ServerPreset = Family("jupyter_gpudeploy.servers").load(str(service["preset"]))
    return preset.container is not None


def gauged(seen: Seen) -> list[Gauged]:
    """Return the pods of a run that run now."""
    return [Gauged(task, pod.name, pod.uid, pod.container, pod.node) for task, pod in seen.running()]


class _Pod:
    """One pod: its source, and where its samples go."""

    def __init__(self, cluster: Cluster, folder: RunFolder, gauged: Gauged) -> None:
        self.gauged = gauged
        self.source = PodGpus(lambda argv: cluster.open_command(gauged.pod, gauged.container, argv), gauged.task)
        self._receiver = SampleReceiver(folder, gauged.task)

    def keep(self, samples: Sequence[Sample]) -> None:
        """Write down one look."""
        rows: list[Any] = [[sample[1], *sample[3:]] for sample in samples]
        if rows:
            self._receiver.receive({"t": samples[0].time, "g": rows})


class Gauges:
    """Looks at the GPUs of pods. A thread begins when there are any, and ends when there are none."""

    def __init__(self, cluster: Cluster, *, streams: int = STREAMS) -> None:
        self._cluster = cluster
        self._exporters = Exporters(cluster)
        self._streams = streams
        self._lock = threading.Lock()
        self._wanted: dict[str, tuple[RunFolder, tuple[Gauged, ...]]] = {}
        self._thread: threading.Thread | None = None
        self._pods: dict[tuple[str, Gauged], _Pod] = {}
        self._page_at = 0.0
        self._changed = threading.Event()

    def want(self, run: str, folder: RunFolder, pods: Sequence[Gauged]) -> None:
        """Look at these pods of a run from now on, and at no others of it. None ends it."""
        with self._lock:
            if pods:
                self._wanted[run] = folder, tuple(pods)
            elif self._wanted.pop(run, None) is None:
                return
            self._changed.set()
            if self._thread is None and self._wanted:
                self._thread = threading.Thread(target=self._run, name="look at GPUs", daemon=True)
                self._thread.start()

    def _run(self) -> None:
        due = time.monotonic()
        try:
            while self._take_up():
                self._look()
                due = max(due + _EVERY_SECONDS, time.monotonic())
                self._changed.wait(due - time.monotonic())
                self._changed.clear()
        finally:
            with self._lock:
                if self._thread is threading.current_thread():
                    self._thread = None

    def _take_up(self) -> bool:
        """Take in what is wanted now; whether anything is. The thread ends otherwise."""
        with self._lock:
            wanted = {(run, one): folder for run, (folder, pods) in self._wanted.items() for one in pods}
            if not wanted:
                self._thread = None
        for key in [key for key in self._pods if key not in wanted]:
            self._pods.pop(key).source.close()
        for key, folder in wanted.items():
            if key not in self._pods:
                self._pods[key] = _Pod(self._cluster, folder, key[1])
        return bool(wanted)

    def _look(self) -> None:
        room = self._streams - sum(pod.source.is_open for pod in self._pods.values())
        others: list[_Pod] = []
        for pod in self._pods.values():
            was_open = pod.source.is_open
            if not was_open and (pod.source.is_off or room <= 0):
                others.append(pod)
                continue
            pod.keep(pod.source.look())
            room -= pod.source.is_open - was_open
        if others and time.monotonic() >= self._page_at:
            self._page_at = time.monotonic() + _PAGE_SECONDS
            self._look_at_exporters(others)

    def _look_at_exporters(self, pods: Sequence[_Pod]) -> None:
        for node in {pod.gauged.node for pod in pods}:
            here = [pod for pod in pods if pod.gauged.node == node]
            numbers = {pod.gauged.pod: number for number, pod in enumerate(here)}  # tasks of several runs are the same
            source = self._exporters.source(node, numbers)
            found = source.look() if source is not None else []
            for number, pod in enumerate(here):
                pod.keep([sample for sample in found if sample.task == number])
