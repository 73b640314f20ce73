"""The Kubernetes backend: the seam's promises, kept by objects on a cluster and mirrors on this machine."""

from __future__ import annotations

import functools
import json
import os
import shutil
import time
from contextlib import nullcontext, suppress
from typing import TYPE_CHECKING, Any

from jupyter_gpudeploy.backends.base import App, Capabilities, Endpoint, Rendering, RunRef, check_command
from jupyter_gpudeploy.backends.kubernetes import marks
from jupyter_gpudeploy.backends.kubernetes.known import Known
from jupyter_gpudeploy.backends.kubernetes.life import control, keeping, launch, searches
from jupyter_gpudeploy.backends.kubernetes.reach import LIVING
from jupyter_gpudeploy.backends.kubernetes.runs import Runs
from jupyter_gpudeploy.errors import BackendError
from jupyter_gpudeploy.events import history
from jupyter_gpudeploy.events.store import Journal, state_root
from jupyter_gpudeploy.events.types import Notice
from jupyter_gpudeploy.names import safe_name
from jupyter_gpudeploy.report import Report, Row, Section

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from contextlib import AbstractContextManager
    from pathlib import Path

    from jupyter_gpudeploy.backends.kubernetes.files.reader import Readers
    from jupyter_gpudeploy.backends.kubernetes.files.results import Results
    from jupyter_gpudeploy.backends.kubernetes.layout import MirrorFolder
    from jupyter_gpudeploy.backends.kubernetes.reach import Reach
    from jupyter_gpudeploy.events.types import LogLine, StateChange
    from jupyter_gpudeploy.plan.types import Note, Plan
    from jupyter_gpudeploy.sources.base import MetricSource

_CAUGHT_UP_SECONDS = 5.0
_HARVEST_SECONDS = 60.0
_LOOK_SECONDS = 0.05
_BATCH = ("job", "sweep")


class KubernetesBackend(Runs):
    """Runs on clusters. What it holds are connections and mirrors; losing them loses nothing."""

    def __init__(self, root: Path | None = None) -> None:
        super().__init__(root)
        self._results: Results | None = None

    def capabilities(self, cluster: str | None = None, namespace: str | None = None) -> Capabilities:
        """Say what is known of a cluster: its profile, and what it served when it was asked last."""
        from jupyter_gpudeploy.backends.kubernetes.target import target_of

        site = self._sites.connect(cluster, namespace)
        return Capabilities(
            "kubernetes",
            str(site.place),
            target_of(site),
            nodes=None,
            replicas=None,
            routes=True,
            memory_limits=True,
        )

    def advice(self, plan: Plan) -> Sequence[Note]:
        """Return what goes along, what stays, and what a cluster cannot do of it."""
        from jupyter_gpudeploy.backends.kubernetes.manifests.advice import advice

        return advice(plan)

    def render(self, plan: Plan) -> Rendering:
        """Return the manifests of a run, and its record."""
        from jupyter_gpudeploy.backends.kubernetes.manifests.attached import attached_names
        from jupyter_gpudeploy.backends.kubernetes.manifests.render import render

        found = {name: self._attached(plan, name) for name in attached_names(plan)}
        return render(plan, {name: folder for name, folder in found.items() if folder is not None})

    def ahead(self, name: str | None) -> AbstractContextManager[None]:  # noqa: ARG002 - nothing can be begun
        """Begin nothing."""
        return nullcontext()

    def launch(self, rendering: Rendering) -> RunRef:
        """Create the run, or find it. Raises RunExistsError for another one of that name."""
        site = self._sites.connect(*_where(rendering))
        cluster, place = site.cluster, site.place

        def folder_of(root: launch.Root) -> MirrorFolder:
            return place.folder_of(root.ref) or place.make(root.ref, root.files)

        root, left_out = launch.launch(cluster, rendering, str(place), _driver(), folder_of)
        folder = folder_of(root)
        is_old = time.time() - root.ref.created > _CAUGHT_UP_SECONDS
        if left_out:
            _tell(folder, left_out)
        held = self._held(root.ref)
        held.follow(cluster, folder, _CAUGHT_UP_SECONDS if is_old else 0)
        if rendering.upload is not None:
            held.send(cluster, folder, rendering.upload)
        return root.ref

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
        return self._results_of(ref).download(task, target, path, progress)

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
        from jupyter_gpudeploy.backends.kubernetes.manifests.differences import differences
        from jupyter_gpudeploy.backends.kubernetes.manifests.render import objects_of
        from jupyter_gpudeploy.backends.kubernetes.manifests.trials import is_points, is_template

        cluster = self._sites.connect(*_where(rendering)).cluster
        wanted = [body for body in objects_of(rendering) if not (is_template(body) or is_points(body))]
        kinds = dict.fromkeys(str(body["kind"]) for body in wanted)
        ours = marks.selector(run=rendering.name)
        live = [body for kind in kinds for body in cluster.list(kind, labels=ours).items]
        live = [body for body in live if body["metadata"]["labels"].get(marks.PART) not in (marks.ROOT, marks.POINTS)]
        return "\n".join(differences(wanted, live).values())

    def examine(self, cluster: str | None = None, namespace: str | None = None) -> Report:
        """Ask the cluster what it is and what we may do there."""
        from jupyter_gpudeploy.backends.kubernetes.api.connect import connect
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
        keeping.keep(self._sites.connect(cluster, namespace).cluster, name, values)

    def sources(self, ref: RunRef, task: int) -> Sequence[MetricSource]:
        """Return what pods measure of themselves, and a server's own page."""
        from jupyter_gpudeploy.backends.kubernetes.measured import sources

        return sources(self.folder(ref), task, lambda port: self.forward(ref, port, task))

    def execute(self, ref: RunRef, argv: Sequence[str]) -> int:
        """Start one more command in a manual run's pod; its number is 1000 or above."""
        folder = self.folder(ref)
        check_command(ref, folder.record(), argv)
        status = self._status(folder)
        if status.state.is_final:
            raise BackendError(f"{ref.name} has ended", hint="launch it again")
        pod = self._reach_of(ref, folder).ready_pod(0)
        with self._held(ref).numbering:
            number = max([control.FIRST_EXECUTED - 1, *self._status(folder).tasks]) + 1
            number = control.execute(self._cluster_of(ref), pod, number, argv)
        self._await_task(folder, number)
        return number

    def start_app(self, ref: RunRef, name: str) -> int:
        """Start it as one more command; what must be known of it lies in the pod."""
        return self.execute(ref, control.app_command("run", name))

    def app(self, ref: RunRef, name: str) -> App | None:
        """Ask the pod. What it answers goes through no log."""
        folder = self.folder(ref)
        check_command(ref, folder.record(), [name])
        pod = self._reach_of(ref, folder).ready_pod(0)
        found = control.app(self._cluster_of(ref), pod, name)
        return App(**found) if found else None

    def resume(self, ref: RunRef) -> None:
        """Go on with a run that was stopped. Raises BackendError for one that has ended by itself."""
        folder = self.folder(ref)
        cluster = self._cluster_of(ref)
        root = launch.read_root(cluster, ref.name, ref.place)
        if root is None or root.ref.uid != ref.uid or marks.STOPPED not in root.annotations:
            raise BackendError(f"{ref.name} was not stopped: there is nothing to resume", hint="launch it anew")
        self._release(ref)
        control.proceed(cluster, ref, int((root.record.get("cluster") or {}).get("replicas") or 1))
        launch.complete(cluster, root.taken_up, lambda _: folder)
        self._held(ref).follow(cluster, folder, _CAUGHT_UP_SECONDS, anew=True)
        deadline = time.monotonic() + _CAUGHT_UP_SECONDS  # another process may hold the mirror
        while history.has_final_record(folder.events_file) and time.monotonic() < deadline:
            time.sleep(_LOOK_SECONDS)

    def stop(self, ref: RunRef, grace_seconds: float = 10) -> None:
        """Ask for the end, and return at once."""
        folder = self.folder(ref)
        if not history.has_final_record(folder.events_file):
            control.stop(self._cluster_of(ref), ref, grace_seconds)
        self._held(ref).leave()

    def parallelism(self, ref: RunRef) -> int:
        """Return how many tasks may run at once now."""
        if history.has_final_record((folder := self.folder(ref)).events_file) or folder.record()["kind"] not in _BATCH:
            return int(folder.record()["parallelism"])
        if self._is_search(ref):
            return searches.parallelism(self._cluster_of(ref), ref, folder.record())
        return control.parallelism(self._cluster_of(ref), ref)

    def set_parallelism(self, ref: RunRef, count: int) -> None:
        """Change it on the living Job."""
        if count < 1:
            raise BackendError(f"{ref.name}: parallelism must be 1 or more, not {count}", hint="pause lets nothing run")
        self._must_live(ref)
        change = searches.set_parallelism if self._is_search(ref) else control.set_parallelism
        change(self._cluster_of(ref), ref, count)

    def pause(self, ref: RunRef) -> None:
        """Suspend the Job: its pods are ended, and begin anew later."""
        self._must_live(ref)
        pause = searches.pause if self._is_search(ref) else control.pause
        pause(self._cluster_of(ref), ref, is_paused=True)

    def unpause(self, ref: RunRef) -> None:
        """Let a suspended Job go on."""
        self._must_live(ref)
        pause = searches.pause if self._is_search(ref) else control.pause
        pause(self._cluster_of(ref), ref, is_paused=False)

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

    def _attached(self, plan: Plan, name: str) -> Path | None:
        """Return the folder of a run that the plan attaches to: one of the same place, else of this machine."""
        here = []
        if plan.target is not None:
            with suppress(BackendError):
                here = [self._sites.connect(plan.target.cluster, plan.target.namespace).place.runs]
        for runs in (*here, (self._root or state_root()) / "runs"):
            for folder in (runs / name, runs / safe_name(name)):
                if (folder / "run.json").is_file():
                    return folder
        return None

    def _reach_of(self, ref: RunRef, folder: MirrorFolder) -> Reach:
        return self._held(ref).reach(self._cluster_of(ref), folder)

    def _results_of(self, ref: RunRef) -> Results:
        """Return the results of a run; those asked for last are kept, for the tasks of a run are asked for in turn."""
        from jupyter_gpudeploy.backends.kubernetes.files.results import Results

        folder = self.folder(ref)
        with self._lock:
            if self._results is None or not self._results.is_of(ref, folder):
                cluster, readers = functools.partial(self._cluster_of, ref), functools.partial(self._readers_of, ref)
                self._results = Results(cluster, readers, ref, folder)
            return self._results

    def _readers_of(self, ref: RunRef) -> Readers:
        return self._sites.of(ref).readers()

    def _ended(self, ref: RunRef, verb: str) -> MirrorFolder:
        """Return the mirror of a run that has ended, with all that the cluster has of it. Raises BackendError."""
        folder = self.folder(ref)
        mirror = self._held(ref).mirror
        if mirror is not None and not history.has_final_record(folder.events_file):
            mirror.wait_caught_up(_CAUGHT_UP_SECONDS)
            deadline = time.monotonic() + _HARVEST_SECONDS
            is_alive = control.is_alive(self._cluster_of(ref), ref)
            while not (is_alive or mirror.lost or history.has_final_record(folder.events_file)):
                if time.monotonic() > deadline:
                    break
                time.sleep(_LOOK_SECONDS)  # its logs are read to their end first
        if not history.has_final_record(folder.events_file) and self.lost(ref) is None:
            raise BackendError(f"{ref.name} is alive and cannot be {verb}", hint="stop it first")
        return folder

    def _await_task(self, folder: MirrorFolder, number: int) -> None:
        """Return when the mirror has seen the command begin, so that whoever follows it finds it."""
        deadline = time.monotonic() + _CAUGHT_UP_SECONDS * 2
        known = Known(folder)
        while number not in known.status().tasks and time.monotonic() < deadline:
            time.sleep(0.02)


def _driver() -> dict[str, Any]:
    return {"host": os.uname().nodename, "pid": os.getpid(), "since": time.time()}


def _tell(folder: MirrorFolder, notices: Sequence[str]) -> None:
    """Write into the journal of a run that was just launched, before its mirror begins."""
    journal = Journal(folder.events_file)
    for notice in notices:
        journal.append(Notice(time.time(), notice))
    journal.close()


def _where(rendering: Rendering) -> tuple[str | None, str | None]:
    """Return the cluster and the namespace that a rendering is for."""
    target = json.loads(rendering.files["run.json"]).get("target") or {}
    return target.get("cluster"), target.get("namespace")
