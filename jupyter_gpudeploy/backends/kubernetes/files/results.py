"""What a task left in its output folder comes home: from the mirror, the run's volume, or the pod while it lives.

Small results of a task that has ended came through its log already. The rest lies on the volume of the run, where it
has one (`storage:`), read through a pod that has it mounted; else in the pod of the task, and is gone with it.
"""

from __future__ import annotations

import json
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from jupyter_gpudeploy.backends.kubernetes import marks, places
from jupyter_gpudeploy.backends.kubernetes.api.errors import ApiError
from jupyter_gpudeploy.backends.kubernetes.files.arrivals import why_no_place
from jupyter_gpudeploy.backends.kubernetes.files.reader import CONTAINER as READER
from jupyter_gpudeploy.backends.kubernetes.files.transfer import Source, Transfer
from jupyter_gpudeploy.backends.kubernetes.known import Known
from jupyter_gpudeploy.errors import BackendError
from jupyter_gpudeploy.events import outputs
from jupyter_gpudeploy.quantities import format_memory

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from jupyter_gpudeploy.backends.base import RunRef
    from jupyter_gpudeploy.backends.kubernetes.api.client import Cluster
    from jupyter_gpudeploy.backends.kubernetes.files.reader import Readers
    from jupyter_gpudeploy.events.store import RunFolder

_SHOWN = 5
_LIVING_SECONDS = 5.0
_STORAGE = "storage: 10Gi in the cell keeps what its tasks leave"


class Home:
    """What is known here of a task's results: the journal, and the files that came through its log."""

    def __init__(self, known: Known, task: int) -> None:
        self.task = task
        self.record = known.record
        self.output = known.folder.output(task)
        self.status = known.status()
        self._task = self.status.tasks.get(task)
        self._is_executed = self.record["kind"] == "manual"
        self._balance = _balance(known.folder.balance_file(task))

    @property
    def has_volume(self) -> bool:
        """Whether what the task leaves lies on a volume."""
        return bool((self.record.get("cluster") or {}).get("storage"))

    @property
    def has_ended(self) -> bool:
        """Whether nothing more is written."""
        return self.status.state.is_final or (self._task is not None and self._task.state.is_final)

    @property
    def pod(self) -> str:
        """The pod in which the task runs, or ran last; empty where it has had none."""
        own = self.status if self.record["kind"] == "manual" else self._task
        return str(own.details.get("pod", "")) if own is not None else ""

    @property
    def turn(self) -> str:
        """The Job of the round in which the task ran last; empty where no schedule starts it."""
        return str(self._task.details.get("round", "")) if self._task is not None else ""

    def is_whole(self, path: str) -> bool:
        """Return whether all that the task left there came through its log."""
        if self._balance is None or self._task is None or not self._task.state.is_final:
            return False
        is_last = self._is_executed or self._balance["attempt"] == self._task.attempt
        files, left = self._balance["files"], self._balance["left"]
        if not is_last or files is None or self._balance["left_count"] > len(left):
            return False
        wanted = [(name, size) for name, size, _ in files if _is_below(name, path)]
        if any(_is_below(name, path) for name, _ in left) or (path and not wanted):
            return False
        return all(_size(self.output / name) == size for name, size in wanted)

    def missing(self) -> str:
        """Return what did not come through the log, as a sentence; empty where nothing is known to be missing."""
        if self._balance is None:
            return "it ended before it could send what it left"
        shown = [f"{name} ({format_memory(size)})" for name, size in self._balance["left"][:_SHOWN]]
        more = self._balance["left_count"] - len(shown)
        listed = ", ".join(shown) + (f" and {more} more" if more > 0 else "")
        return f"{listed} did not fit into its log and went with its pod" if shown else ""


class Results:
    """The results of one run. Of many tasks one after the other, the journal is read once and the pods are listed once.

    `cluster` and `readers` are asked for only where the cluster is needed. Any thread may call.
    """

    def __init__(
        self, cluster: Callable[[], Cluster], readers: Callable[[], Readers], ref: RunRef, folder: RunFolder
    ) -> None:
        self._cluster = cluster
        self._readers = readers
        self._ref = ref
        self._known = Known(folder)
        self._pods = _Living(cluster, ref)

    def is_of(self, ref: RunRef, folder: RunFolder) -> bool:
        """Return whether these are the results of this run, in this folder."""
        return self._ref.uid == ref.uid and self._known.folder.path == folder.path

    def download(self, task: int, target: Path, path: str, progress: Callable[[int, int], None] | None) -> list[Path]:
        """Bring what a task left, or `path` below its output folder, into `target`; return the files.

        Raises BackendError.
        """
        path = _checked(path)
        home = Home(self._known, task)
        if home.is_whole(path):
            home.output.mkdir(parents=True, exist_ok=True)
            return outputs.copy(home.output, target, path)
        if _is_foreign(home.record):
            raise BackendError(f"{self._ref.name} is a server in an image of its own: it has no output folder")
        begun = time.monotonic()
        while True:
            try:
                with self._source(home) as source:
                    if source is None:
                        break
                    return Transfer(self._cluster(), source, path, target, home.output, progress or _silent).run()
            except ApiError:
                if self._pods.listed_at > begun:
                    raise
                self._pods.forget()  # the pod may have ended since they were listed
        return _remains(self._ref, home, task, target, path)

    @contextmanager
    def _source(self, home: Home) -> Iterator[Source | None]:
        """Give a container that sees what the task left, None where there is none any more."""
        living = self._pods.names("" if home.has_ended else home.pod)
        if not home.has_volume:
            found = home.pod in living
            yield Source(home.pod, places.CONTAINER, f"{places.OUT}/{home.task}") if found else None
            return
        folder = f"{places.STORAGE}/{places.output_folder(self._ref.name, self._ref.uid, home.turn)}/{home.task}"
        if living:
            yield Source(home.pod if home.pod in living else living[0], places.CONTAINER, folder)
            return
        with self._readers().reader(self._ref, home.record) as pod:
            yield Source(pod, READER, folder)


class _Living:
    """The pods of a run whose program runs, as they were listed a moment ago."""

    def __init__(self, cluster: Callable[[], Cluster], ref: RunRef) -> None:
        self._cluster = cluster
        self._labels = marks.selector(uid=ref.uid)
        self._names: list[str] = []
        self._lock = threading.Lock()
        self.listed_at = float("-inf")

    def names(self, wanted: str = "") -> list[str]:
        """Return their names. They are listed again after a while, and where `wanted` is not among them."""
        with self._lock:
            is_old = time.monotonic() - self.listed_at > _LIVING_SECONDS
            if is_old or (wanted and wanted not in self._names):
                pods = self._cluster().list("Pod", labels=self._labels, fields="status.phase=Running").items
                self._names = [str(pod["metadata"]["name"]) for pod in pods if _runs(pod)]
                self.listed_at = time.monotonic()
            return self._names

    def forget(self) -> None:
        """Have them listed again the next time."""
        self.listed_at = float("-inf")


def _runs(pod: Mapping[str, Any]) -> bool:
    """Return whether the program of a pod runs."""
    seen = {one["name"]: one for one in pod.get("status", {}).get("containerStatuses") or ()}
    runs = "running" in (seen.get(places.CONTAINER, {}).get("state") or {})
    return runs and "deletionTimestamp" not in pod["metadata"]


def _checked(path: str) -> str:
    """Return a path below an output folder; empty for all of it. Raises BackendError for any other."""
    path = path.strip("/") if not path.startswith("/") else path
    if path in ("", "."):
        return ""
    if why := why_no_place(path):
        raise BackendError(f"{path!r} is no path below the task's output folder: {why}", hint="like model/best.pt")
    return path


def _remains(ref: RunRef, home: Home, task: int, target: Path, path: str) -> list[Path]:
    """Copy what the mirror has. Raises BackendError that says what else there was, and why it cannot be had."""
    if not home.has_ended:
        raise BackendError(
            f"task {task} of {ref.name} has no pod that runs now", hint="try again when it runs or has ended"
        )
    copied = outputs.copy(home.output, target, path) if (home.output / path).exists() else []
    if missing := home.missing():
        came = f"; {len(copied)} files that came are in {target}" if copied else ""
        raise BackendError(f"of task {task} of {ref.name}: {missing}{came}", hint=_STORAGE)
    return copied or outputs.copy(home.output, target, path)


def _is_foreign(record: Mapping[str, Any]) -> bool:
    """Return whether nothing of ours runs in the pods of this run."""
    service = record.get("service")
    if not service:
        return False
    from jupyter_gpudeploy.plan.program import preset

    return preset(service["preset"]).container is not None


def _balance(file: Path) -> dict[str, Any] | None:
    try:
        found: dict[str, Any] = json.loads(file.read_bytes())
    except (OSError, ValueError):
        return None
    return found


def _is_below(name: str, path: str) -> bool:
    return not path or name == path or name.startswith(f"{path}/")


def _size(file: Path) -> int:
    try:
        return file.stat().st_size
    except OSError:
        return -1


def _silent(_done: int, _total: int) -> None:
    return
