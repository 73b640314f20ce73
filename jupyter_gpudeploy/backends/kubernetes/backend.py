"""The Kubernetes backend: the seam's promises, kept by objects on a cluster and mirrors on this machine."""

from __future__ import annotations

import functools
import json
import logging
import os
import shutil
import threading
import time
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jupyter_gpudeploy.backends.base import Capabilities, Endpoint, Rendering, RunRef, Upload
from jupyter_gpudeploy.backends.kubernetes import control, keeping, launch, marks, places
from jupyter_gpudeploy.backends.kubernetes.client_errors import UnreachableError
from jupyter_gpudeploy.backends.kubernetes.layout import BROKEN, MirrorFolder, Place, place_of
from jupyter_gpudeploy.backends.kubernetes.layout import places as known_places
from jupyter_gpudeploy.backends.kubernetes.reach import LIVING
from jupyter_gpudeploy.errors import BackendError, RunNotFoundError
from jupyter_gpudeploy.events import history
from jupyter_gpudeploy.events.status import Status
from jupyter_gpudeploy.events.store import JournalReader, state_root, write_atomically
from jupyter_gpudeploy.names import safe_name
from jupyter_gpudeploy.report import Report, Row, Section

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from contextlib import AbstractContextManager

    from jupyter_gpudeploy.backends.kubernetes.client import Cluster
    from jupyter_gpudeploy.backends.kubernetes.mirror import Mirror
    from jupyter_gpudeploy.backends.kubernetes.reach import Reach
    from jupyter_gpudeploy.backends.kubernetes.reader import Readers
    from jupyter_gpudeploy.backends.kubernetes.uploads import Uploading
    from jupyter_gpudeploy.events.types import LogLine, StateChange
    from jupyter_gpudeploy.plan.types import Note, Plan
    from jupyter_gpudeploy.sources.base import MetricSource

_LOG = logging.getLogger(__name__)
_CAUGHT_UP_SECONDS = 5.0
_OFFLINE_SECONDS = 10.0
_DRIVER_SECONDS = 15.0
_HARVEST_SECONDS = 60.0
_LOOK_SECONDS = 0.05
_BATCH = ("job", "sweep")


class KubernetesBackend:
    """Runs on clusters. What it holds are connections and mirrors; losing them loses nothing."""

    def __init__(self, root: Path | None = None) -> None:
        self._root = root
        self._lock = threading.RLock()
        self._clusters: dict[tuple[str, str], Cluster] = {}
        self._mirrors: dict[str, Mirror] = {}
        self._reach: dict[str, Reach] = {}
        self._readers: dict[str, Readers] = {}
        self._uploads: dict[str, Uploading] = {}
        self._unreachable: dict[str, float] = {}
        self._drivers: dict[str, tuple[float, str | None]] = {}

    def capabilities(self, cluster: str | None = None, namespace: str | None = None) -> Capabilities:
        """Say what is known of a cluster: its profile, and what it served when it was asked last."""
        from jupyter_gpudeploy.backends.kubernetes.target import target_of

        found, name = self._connect(cluster, namespace)
        target = target_of(found, name, self._root)
        return Capabilities(
            "kubernetes",
            f"{name}/{found.namespace}",
            target,
            nodes=None,
            replicas=None,
            routes=True,
            memory_limits=True,
        )

    def advice(self, plan: Plan) -> Sequence[Note]:
        """Return what goes along, what stays, and what a cluster cannot do of it."""
        from jupyter_gpudeploy.backends.kubernetes.advice import advice

        return advice(plan)

    def render(self, plan: Plan) -> Rendering:
        """Return the manifests of a run, and its record."""
        from jupyter_gpudeploy.backends.kubernetes.attached import attached_names
        from jupyter_gpudeploy.backends.kubernetes.render import render

        found = {name: self._attached(plan, name) for name in attached_names(plan)}
        return render(plan, {name: folder for name, folder in found.items() if folder is not None})

    def ahead(self, name: str | None) -> AbstractContextManager[None]:  # noqa: ARG002 - nothing can be begun
        """Begin nothing."""
        return nullcontext()

    def launch(self, rendering: Rendering) -> RunRef:
        """Create the run, or find it. Raises RunExistsError for another one of that name."""
        cluster, name = self._connect(*_where(rendering))
        place = self._place(cluster, name)
        root, key, left_out = launch.launch(cluster, rendering, str(place), _driver())
        folder = place.folder_of(root.ref) or place.make(root.ref, root.files)
        if key:
            write_atomically(folder.key_file, key)
        is_old = time.time() - root.ref.created > _CAUGHT_UP_SECONDS
        self._follow(cluster, folder, root.ref, left_out, patience=_CAUGHT_UP_SECONDS if is_old else 0)
        if rendering.upload is not None:
            self._send(cluster, folder, root.ref, rendering.upload)
        return root.ref

    def find(self) -> Sequence[RunRef]:
        """Return the runs of the cluster that is used by default, and of every place that has a mirror here.

        Where a cluster does not answer, its runs are those with a mirror.
        """
        found: dict[str, RunRef] = {}
        for place in self._places():
            for ref in self._refs(place):
                found[ref.uid] = ref
        return sorted(found.values(), key=lambda ref: ref.created, reverse=True)

    def find_archived(self) -> Sequence[RunRef]:
        """Return the runs whose mirror was moved aside."""
        refs = [ref for place in known_places(self._root) for ref in place.refs(archived=True)]
        return sorted(refs, key=lambda ref: ref.created, reverse=True)

    def folder(self, ref: RunRef) -> MirrorFolder:
        """Return the mirror of a run, made anew from the cluster where there is none. Raises RunNotFoundError."""
        place = self._place_of(ref)
        folder = place.folder_of(ref)
        if folder is None:
            cluster = self._cluster_of(ref)
            root = launch.read_root(cluster, ref.name, ref.place)
            if root is None or root.ref.uid != ref.uid:
                hint = "it was removed or replaced"
                raise RunNotFoundError(f"the run {ref.name!r} ({ref.uid}) is not in {ref.place}", hint=hint)
            folder = place.make(root.ref, root.files)
        if not self._is_followed(ref) and not history.has_final_record(folder.events_file):
            try:
                self._follow(self._cluster_of(ref), folder, ref)
            except BackendError:
                return folder  # what was seen of it can be read; `lost` says why there is no more
        return folder

    def lost(self, ref: RunRef) -> str | None:
        """Return why the run is no more, although its end was not seen."""
        mirror = self._mirrors.get(ref.uid)
        return None if mirror is None else mirror.lost

    def states(self, ref: RunRef, stop: threading.Event) -> Iterator[StateChange]:
        """Yield every state change, from the beginning."""
        return history.follow_states(self.folder(ref), functools.partial(self.lost, ref), stop)

    def logs(self, ref: RunRef, task: int, stop: threading.Event, since: int | None = None) -> Iterator[LogLine]:
        """Yield what a task printed."""
        return history.follow_logs(self.folder(ref), task, functools.partial(self.lost, ref), stop, since)

    def download(
        self, ref: RunRef, task: int, target: Path, path: str = "", progress: Callable[[int, int], None] | None = None
    ) -> list[Path]:
        """Bring files of a task's output folder here: those of its log, its run's volume, or its living pod."""
        from jupyter_gpudeploy.backends.kubernetes.results import download

        cluster, readers = functools.partial(self._cluster_of, ref), functools.partial(self._readers_of, ref)
        return download(cluster, readers, ref, self.folder(ref), task, target, path, progress)

    def endpoint(self, ref: RunRef, task: int = 0) -> Endpoint:
        """Return where a server is reached from here: its Route or the like, else a port of this machine."""
        folder = self.folder(ref)
        if folder.record()["service"] is None:
            raise BackendError(f"{ref.name} has no address: it is no server", hint="serve: makes one")
        return self._reach_of(ref, folder).endpoint(task)

    def forward(self, ref: RunRef, port: int, task: int = 0) -> str:
        """Return the URL of a port of this machine that leads to that port in the run's pod."""
        reach = self._reach_of(ref, self.folder(ref))
        reach.ready_pod(task, wait=0, states=LIVING)
        return reach.forward(port, task).url

    def changes(self, rendering: Rendering) -> str:
        """Return how the cell's objects differ from those on the cluster."""
        from jupyter_gpudeploy.backends.kubernetes.differences import differences
        from jupyter_gpudeploy.backends.kubernetes.render import objects_of

        cluster, _ = self._connect(*_where(rendering))
        wanted = objects_of(rendering)
        kinds = dict.fromkeys(str(body["kind"]) for body in wanted)
        ours = marks.selector(run=rendering.name)
        live = [body for kind in kinds for body in cluster.list(kind, labels=ours).items]
        live = [body for body in live if body["metadata"]["labels"].get(marks.PART) != marks.ROOT]
        return "\n".join(differences(wanted, live).values())

    def examine(self, cluster: str | None = None, namespace: str | None = None) -> Report:
        """Ask the cluster what it is and what we may do there."""
        from jupyter_gpudeploy.backends.kubernetes.connect import connect
        from jupyter_gpudeploy.backends.kubernetes.doctor import examine

        try:
            with connect(cluster, namespace) as found:  # what another connection has asked before may be over
                return examine(found)
        except BackendError as error:
            return Report(
                cluster or "Kubernetes", (Section("Connection", (Row("error", error.message, "", error.hint),)),)
            )

    def keep_secret(
        self, name: str, values: Mapping[str, str], *, cluster: str | None = None, namespace: str | None = None
    ) -> None:
        """Keep the values in a Secret of ours, with what it held before. A Secret of somebody else is left alone."""
        keeping.keep(self._connect(cluster, namespace)[0], name, values)

    def sources(self, ref: RunRef, task: int) -> Sequence[MetricSource]:  # noqa: ARG002 - the seam's signature
        """Return nothing yet: GPUs and servers' metrics pages have no reader here."""
        return ()

    def execute(self, ref: RunRef, argv: Sequence[str]) -> int:
        """Start one more command in a manual run's pod; its number is 1000 or above."""
        folder = self.folder(ref)
        if folder.record()["kind"] != "manual":
            raise BackendError(f"{ref.name} is no environment that stays up", hint="launch one with mode: manual")
        if not argv:
            raise BackendError("there is no command to execute", hint='for example run.exec("python train.py")')
        status = self._status(folder)
        if status.state.is_final:
            raise BackendError(f"{ref.name} has ended", hint="launch it again")
        pod = self._reach_of(ref, folder).ready_pod(0)
        with self._lock:
            number = max([control.FIRST_EXECUTED - 1, *self._status(folder).tasks]) + 1
            number = control.execute(self._cluster_of(ref), pod, number, argv)
            self._await_task(folder, number)
        return number

    def resume(self, ref: RunRef) -> None:
        """Go on with a run that was stopped. Raises BackendError for one that has ended by itself."""
        folder = self.folder(ref)
        cluster = self._cluster_of(ref)
        root = launch.read_root(cluster, ref.name, ref.place)
        if root is None or root.ref.uid != ref.uid or marks.STOPPED not in root.annotations:
            raise BackendError(f"{ref.name} was not stopped: there is nothing to resume", hint="launch it anew")
        self._release(ref)
        control.proceed(cluster, ref, int((root.record.get("cluster") or {}).get("replicas") or 1))
        self._follow(cluster, folder, ref, anew=True)
        deadline = time.monotonic() + _CAUGHT_UP_SECONDS  # another process may hold the mirror
        while history.has_final_record(folder.events_file) and time.monotonic() < deadline:
            time.sleep(_LOOK_SECONDS)

    def stop(self, ref: RunRef, grace_seconds: float = 10) -> None:
        """Ask for the end, and return at once."""
        folder = self.folder(ref)
        if not history.has_final_record(folder.events_file):
            control.stop(self._cluster_of(ref), ref, grace_seconds)
        if (reach := self._reach.pop(ref.uid, None)) is not None:
            reach.close()

    def driver(self, ref: RunRef) -> str | None:
        """Return which other process launched the run, as far as this machine can tell that it lives.

        Displays ask twice a second; the cluster is asked every 15 s.
        """
        asked, answer = self._drivers.get(ref.uid, (-_DRIVER_SECONDS, None))
        if time.monotonic() - asked >= _DRIVER_SECONDS:
            answer = self._ask_driver(ref)
            self._drivers[ref.uid] = time.monotonic(), answer
        return answer

    def _ask_driver(self, ref: RunRef) -> str | None:
        try:
            found = self._cluster_of(ref).get("ConfigMap", places.root_name(ref.name))["metadata"]
            who = json.loads((found.get("annotations") or {})[marks.DRIVER])
            host, pid, since = str(who["host"]), int(who["pid"]), time.localtime(float(who["since"]))
        except (BackendError, *BROKEN):
            return None
        if host == os.uname().nodename and (pid == os.getpid() or not Path(f"/proc/{pid}").exists()):
            return None
        return f"pid {pid} on {host}, since {time.strftime('%H:%M', since)}"

    def stale(self, ref: RunRef) -> str | None:
        """Return since when the cluster tells nothing of the run, and why."""
        mirror = self._mirrors.get(ref.uid)
        since = mirror.stale_since if mirror is not None else None
        if mirror is None or since is None:
            return None
        return f"not up to date since {time.strftime('%H:%M:%S', time.localtime(since))}: {mirror.why_stale}"

    def owner(self, ref: RunRef) -> str | None:
        """Return which other person launched the run, as the API server calls that person."""
        folder = self._place_of(ref).folder_of(ref)
        if not ref.owner or (folder is not None and folder.path.parent.name == "replaced"):
            return None  # what was archived is a copy of this machine's
        if self._is_silent(ref.place):
            return None
        try:
            return None if self._cluster_of(ref).user in (None, ref.owner) else ref.owner
        except BackendError:
            self._unreachable[ref.place] = time.monotonic()
            return None

    def parallelism(self, ref: RunRef) -> int:
        """Return how many tasks may run at once now."""
        if history.has_final_record((folder := self.folder(ref)).events_file) or folder.record()["kind"] not in _BATCH:
            return int(folder.record()["parallelism"])
        return control.parallelism(self._cluster_of(ref), ref)

    def set_parallelism(self, ref: RunRef, count: int) -> None:
        """Change it on the living Job."""
        if count < 1:
            raise BackendError(f"{ref.name}: parallelism must be 1 or more, not {count}", hint="pause lets nothing run")
        self._must_live(ref)
        control.set_parallelism(self._cluster_of(ref), ref, count)

    def pause(self, ref: RunRef) -> None:
        """Suspend the Job: its pods are ended, and begin anew later."""
        self._must_live(ref)
        control.pause(self._cluster_of(ref), ref, is_paused=True)

    def unpause(self, ref: RunRef) -> None:
        """Let a suspended Job go on."""
        self._must_live(ref)
        control.pause(self._cluster_of(ref), ref, is_paused=False)

    def archive(self, ref: RunRef) -> None:
        """Free the name of a run that has ended: its mirror stays, and what the cluster keeps of it goes."""
        folder = self._ended(ref, "archived")
        place = self._place_of(ref)
        if folder.path.parent == place.runs:
            control.remove(self._cluster_of(ref), ref)
            self._release(ref)
            place.set_aside(folder)

    def remove(self, ref: RunRef) -> None:
        """Delete a run that has ended, here and on the cluster. Storage that was asked for stays."""
        folder = self._ended(ref, "removed")
        if folder.path.parent == self._place_of(ref).runs:
            control.remove(self._cluster_of(ref), ref)
        self._release(ref)
        gone = folder.path.with_name(f".{ref.name}.{ref.uid}.removed")
        folder.path.rename(gone)
        shutil.rmtree(gone)

    def close(self) -> None:
        """End every thread of this object. The runs go on."""
        for uid in [*self._mirrors]:
            self._mirrors.pop(uid).close()
        for uid in [*self._reach]:
            self._reach.pop(uid).close()
        for uid in [*self._uploads]:
            self._uploads.pop(uid).close()
        for place in [*self._readers]:
            self._readers.pop(place).close()

    def _connect(self, cluster: str | None, namespace: str | None) -> tuple[Cluster, str]:
        """Return the connection, and the name by which the cluster is asked for again."""
        from jupyter_gpudeploy.backends.kubernetes.connect import connect, default_name

        name = cluster or default_name()
        with self._lock:
            wanted = name, namespace or ""
            if wanted not in self._clusters:
                made = connect(name, namespace)
                self._clusters[wanted] = self._clusters.setdefault((name, made.namespace), made)
            return self._clusters[wanted], name

    def _attached(self, plan: Plan, name: str) -> Path | None:
        """Return the folder of a run that the plan attaches to: one of the same place, else of this machine."""
        wanted = f"{plan.target.cluster}/{plan.target.namespace}" if plan.target else ""
        here = [place.runs for place in known_places(self._root) if str(place) == wanted]
        for runs in (*here, (self._root or state_root()) / "runs"):
            for folder in (runs / name, runs / safe_name(name)):
                if (folder / "run.json").is_file():
                    return folder
        return None

    def _place(self, cluster: Cluster, name: str) -> Place:
        return place_of(name, cluster.namespace, cluster.id, self._root)

    def _place_of(self, ref: RunRef) -> Place:
        for place in known_places(self._root):
            if str(place) == ref.place:
                return place
        name, _, _ = ref.place.rpartition("/")
        return self._place(self._cluster_of(ref), name)

    def _cluster_of(self, ref: RunRef) -> Cluster:
        name, _, namespace = ref.place.rpartition("/")
        return self._connect(name, namespace)[0]

    def _places(self) -> list[Place]:
        found = {str(place): place for place in known_places(self._root)}
        try:
            cluster, name = self._connect(None, None)
        except BackendError:
            return [*found.values()]
        place = self._place(cluster, name)
        return [*{**found, str(place): place}.values()]

    def _refs(self, place: Place) -> list[RunRef]:
        """Return the runs of a place: those on the cluster, and mirrors of what is no longer there."""
        mirrored = {ref.uid: ref for ref in place.refs()}
        if self._is_silent(str(place)):
            return [*mirrored.values()]
        try:
            cluster, _ = self._connect(place.cluster, place.namespace)
            roots = cluster.list("ConfigMap", labels=marks.selector(part=marks.ROOT)).items
        except BackendError as error:
            if not isinstance(error, UnreachableError):  # it answered, and what it said helps
                _LOG.warning("%s", error)
            self._unreachable[str(place)] = time.monotonic()
            return [*mirrored.values()]
        there = []
        for body in roots:
            try:
                there.append(launch.ref_of(body, str(place)))
            except BROKEN:
                continue
        known = {ref.uid: ref for ref in there}
        gone = [ref for uid, ref in mirrored.items() if uid not in known and ref.owner not in ("", cluster.user)]
        for ref in gone:  # another person removed it: there is nothing to see any more
            del mirrored[ref.uid]
        return [*{**mirrored, **known}.values()]

    def _is_silent(self, place: str) -> bool:
        """Whether this cluster did not answer a moment ago."""
        return time.monotonic() - self._unreachable.get(place, -_OFFLINE_SECONDS) < _OFFLINE_SECONDS

    def _must_live(self, ref: RunRef) -> None:
        if history.has_final_record(self.folder(ref).events_file):
            raise BackendError(f"{ref.name} has ended", hint="launch it anew, or resume it")

    def _is_followed(self, ref: RunRef) -> bool:
        mirror = self._mirrors.get(ref.uid)
        return mirror is not None and not mirror.is_over

    def _follow(
        self,
        cluster: Cluster,
        folder: MirrorFolder,
        ref: RunRef,
        notices: Sequence[str] = (),
        *,
        anew: bool = False,
        patience: float = _CAUGHT_UP_SECONDS,
    ) -> None:
        """Keep the mirror of a run up to date from now on; return when it has caught up, or could not in `patience`.

        `anew`: also that of a run that has ended, because it goes on.
        """
        from jupyter_gpudeploy.backends.kubernetes.diagnose import explain
        from jupyter_gpudeploy.backends.kubernetes.mirror import Mirror

        with self._lock:
            if self._is_followed(ref) or (history.has_final_record(folder.events_file) and not anew):
                return
            mirror = self._mirrors[ref.uid] = Mirror(cluster, folder, ref, folder.record(), explain=explain)
            mirror.start()
        mirror.wait_caught_up(patience)
        for notice in notices:
            mirror.note(notice, None)

    def _release(self, ref: RunRef) -> None:
        for held in (self._mirrors, self._reach, self._uploads):
            if (kept := held.pop(ref.uid, None)) is not None:
                kept.close()

    def _reach_of(self, ref: RunRef, folder: MirrorFolder) -> Reach:
        from jupyter_gpudeploy.backends.kubernetes.reach import Reach

        with self._lock:
            if ref.uid not in self._reach:
                self._reach[ref.uid] = Reach(self._cluster_of(ref), ref, folder)
            return self._reach[ref.uid]

    def _send(self, cluster: Cluster, folder: MirrorFolder, ref: RunRef, upload: Upload) -> None:
        """Bring to the pods of a run what was too large for its objects, from now on."""
        from jupyter_gpudeploy.backends.kubernetes.uploads import Uploading

        def tell(message: str, level: str) -> None:
            if (mirror := self._mirrors.get(ref.uid)) is not None:
                mirror.note(message, None, level)

        with self._lock:
            if (earlier := self._uploads.pop(ref.uid, None)) is not None:
                earlier.close()
            is_over = functools.partial(history.has_final_record, folder.events_file)
            self._uploads[ref.uid] = Uploading(cluster, ref, upload, tell, is_over)
            self._uploads[ref.uid].start()

    def _readers_of(self, ref: RunRef) -> Readers:
        from jupyter_gpudeploy.backends.kubernetes.reader import Readers

        with self._lock:
            if ref.place not in self._readers:
                self._readers[ref.place] = Readers(self._cluster_of(ref))
            return self._readers[ref.place]

    def _ended(self, ref: RunRef, verb: str) -> MirrorFolder:
        """Return the mirror of a run that has ended, with all that the cluster has of it. Raises BackendError."""
        folder = self.folder(ref)
        mirror = self._mirrors.get(ref.uid)
        if mirror is not None and not history.has_final_record(folder.events_file):
            mirror.wait_caught_up(_CAUGHT_UP_SECONDS)
            deadline = time.monotonic() + _HARVEST_SECONDS
            is_alive = control.is_alive(self._cluster_of(ref), ref)
            while not is_alive and not history.has_final_record(folder.events_file) and time.monotonic() < deadline:
                time.sleep(_LOOK_SECONDS)  # its logs are read to their end first
        if not history.has_final_record(folder.events_file) and self.lost(ref) is None:
            raise BackendError(f"{ref.name} is alive and cannot be {verb}", hint="stop it first")
        return folder

    @staticmethod
    def _status(folder: MirrorFolder) -> Status:
        return Status.of((), JournalReader(folder.events_file).poll())

    def _await_task(self, folder: MirrorFolder, number: int) -> None:
        """Return when the mirror has seen the command begin, so that whoever follows it finds it."""
        deadline = time.monotonic() + _CAUGHT_UP_SECONDS * 2
        while number not in self._status(folder).tasks and time.monotonic() < deadline:
            time.sleep(0.02)


def _driver() -> dict[str, Any]:
    return {"host": os.uname().nodename, "pid": os.getpid(), "since": time.time()}


def _where(rendering: Rendering) -> tuple[str | None, str | None]:
    """Return the cluster and the namespace that a rendering is for."""
    target = json.loads(rendering.files["run.json"]).get("target") or {}
    return target.get("cluster"), target.get("namespace")
