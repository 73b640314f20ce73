"""The local backend: the seam's promises, kept by folders and supervisors."""

from __future__ import annotations

import errno
import functools
import json
import logging
import os
import shutil
import signal
import time
from contextlib import nullcontext
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from jupyter_gpudeploy.backends.base import Answer, App, Capabilities, Endpoint, Rendering, RunRef, check_command
from jupyter_gpudeploy.backends.local import claim, control, keepers, processes, recorders
from jupyter_gpudeploy.backends.local.layout import LocalFolder
from jupyter_gpudeploy.backends.local.loss import why_lost
from jupyter_gpudeploy.backends.local.procfs import is_alive
from jupyter_gpudeploy.backends.local.render import render
from jupyter_gpudeploy.backends.local.reopen import reopen
from jupyter_gpudeploy.errors import BackendError, RunExistsError, RunNotFoundError
from jupyter_gpudeploy.events import history, outputs
from jupyter_gpudeploy.events.store import JournalReader, state_root
from jupyter_gpudeploy.programs import app

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from contextlib import AbstractContextManager
    from pathlib import Path

    from jupyter_gpudeploy.backends.base import Glance
    from jupyter_gpudeploy.events.types import LogLine, StateChange
    from jupyter_gpudeploy.plan.types import Note, Plan
    from jupyter_gpudeploy.report import Report
    from jupyter_gpudeploy.sources.base import MetricSource

_LOG = logging.getLogger(__name__)
_BROKEN = (OSError, ValueError, KeyError, TypeError)
_START_SECONDS = 2.0
_APPS = "apps"


class LocalBackend:
    """Runs on this machine. It holds nothing: any number of these, in any process, see and drive the same runs."""

    def __init__(self, root: Path | None = None) -> None:
        self._root = root

    @property
    def root(self) -> Path:
        """The folder in which everything is kept (`layout.state_root`, unless another was given)."""
        return self._root or state_root()

    @property
    def runs(self) -> Path:
        """The folder of the runs."""
        return self.root / "runs"

    def capabilities(self, cluster: str | None = None, namespace: str | None = None) -> Capabilities:  # noqa: ARG002 - one place
        """Say what this machine has."""
        from jupyter_gpudeploy.backends.local.gpus import Leases

        devices = Leases(self.root).available()
        return Capabilities(
            backend="local",
            where=os.uname().nodename,
            gpus=len(devices),
            gpu_names=devices.names,
            cpus=float(len(os.sched_getaffinity(0))),
            memory=os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
            warm=True,
            has_module=_has_module,
            has_program=lambda name: shutil.which(name) is not None,
        )

    def advice(self, plan: Plan) -> Sequence[Note]:  # noqa: ARG002 - the seam's signature
        """Return nothing: what this machine can do is in its Capabilities."""
        return ()

    def render(self, plan: Plan) -> Rendering:
        """Return the files of a run."""
        return render(plan)

    def launch(self, rendering: Rendering) -> RunRef:
        """Claim the name and start the supervisor. Raises RunExistsError for a name that another run has."""
        keeper = keepers.take_waiting()
        while True:
            ref = claim.claim(rendering, self.runs, keeper.uid if keeper is not None else "")
            if ref is not None:
                claim.start_supervisor(self._folder(ref.name), keeper)
                recorders.ensure(self.root)
                return ref
            try:
                found = claim.read_ref(self._folder(rendering.name))
            except FileNotFoundError:
                if not self._folder(rendering.name).path.exists():
                    continue  # it was removed a moment ago
                raise _broken(self._folder(rendering.name)) from None
            except _BROKEN:
                raise _broken(self._folder(rendering.name)) from None
            return self._same(found, rendering)

    def ahead(self, name: str | None) -> AbstractContextManager[None]:
        """Begin what can be done before it is known what to launch, unless a run of that name is there already."""
        return nullcontext() if name is not None and self._folder(name).path.exists() else keepers.ahead()

    def find(self, cluster: str | None = None, namespace: str | None = None) -> Sequence[RunRef]:  # noqa: ARG002 - one place
        """Return the runs of this machine, newest first. A folder that is no run is left out, and logged."""
        return self._refs(self.runs)

    def troubles(self) -> Sequence[str]:
        """Return nothing: this machine is here."""
        return ()

    def answers(self) -> Sequence[Answer]:
        """Return this machine, which always answers."""
        return (Answer("this machine"),)

    def glance(self, ref: RunRef) -> Glance | None:  # noqa: ARG002 - the seam's signature
        """Return None: it is all in its folder."""
        return None

    def find_archived(self) -> Sequence[RunRef]:
        """Return the runs that were moved aside, newest first."""
        return self._refs(self.root / "replaced")

    def _refs(self, place: Path) -> list[RunRef]:
        found = []
        try:
            entries = sorted(os.scandir(place), key=lambda entry: entry.name)
        except FileNotFoundError:
            return []
        for entry in entries:
            if entry.name.startswith(".") or not entry.is_dir():
                continue
            try:
                found.append(claim.read_ref(LocalFolder(entry.path)))
            except _BROKEN as error:
                _LOG.warning("%s is no run that can be read (%s): left out", entry.path, error)
        return sorted(found, key=lambda ref: ref.created, reverse=True)

    def folder(self, ref: RunRef) -> LocalFolder:
        """Return the folder of a run, also of one that was archived. Raises RunNotFoundError."""
        for path in (self.runs / ref.name, self._archived(ref)):
            folder = LocalFolder(path)
            try:
                if claim.read_ref(folder).uid == ref.uid:
                    return folder
            except _BROKEN:
                continue
        raise RunNotFoundError(f"the run {ref.name!r} ({ref.uid}) is not there", hint="it was removed or replaced")

    def lost(self, ref: RunRef) -> str | None:
        """Return why nobody keeps this run, although it has not ended."""
        try:
            return why_lost(self.folder(ref), ref)
        except RunNotFoundError:
            return "its folder is gone"

    def states(self, ref: RunRef, stop: threading.Event) -> Iterator[StateChange]:
        """Yield every state change, from the beginning."""
        self._revive(ref)
        return history.follow_states(self.folder(ref), functools.partial(self.lost, ref), stop)

    def logs(self, ref: RunRef, task: int, stop: threading.Event, since: int | None = None) -> Iterator[LogLine]:
        """Yield what a task printed."""
        return history.follow_logs(self.folder(ref), task, functools.partial(self.lost, ref), stop, since)

    def endpoint(self, ref: RunRef, task: int = 0) -> Endpoint:
        """Return the address of a replica that has a process now. Raises BackendError."""
        from jupyter_gpudeploy.events.status import Status

        folder = self.folder(ref)
        status = Status.of((), JournalReader(folder.events_file).poll())
        found = status.tasks.get(task)
        if found is None or found.state.is_final or "url" not in found.details or self.lost(ref) is not None:
            state = "waiting" if found is None else found.state.value
            raise BackendError(f"{ref.name} has no address: its task {task} is {state}", hint=_address_hint(folder))
        path = str(folder.record()["service"]["path"])
        return Endpoint(str(found.details["url"]) + path.rstrip("/"))

    def sources(self, ref: RunRef, task: int) -> Sequence[MetricSource]:
        """Return what the recorder of this machine measures of it; where a living run has none, it is started."""
        from jupyter_gpudeploy.sources.recorded import Recorded

        folder = self.folder(ref)
        if not history.has_final_record(folder.events_file):
            recorders.ensure(self.root, now_and_then=True)
        return (Recorded(folder, task),)

    def execute(self, ref: RunRef, argv: Sequence[str]) -> int:
        """Start one more command in a manual run; its number is 1000 or above."""
        folder = self.folder(ref)
        check_command(ref, folder.record(), argv)
        self._check_kept(ref, folder)
        return control.request_execute(folder, argv)

    def start_app(self, ref: RunRef, name: str) -> int:
        """Start it as one more command; what must be known of it lies in the run's folder."""
        return self.execute(ref, ["python", app.__file__, "run", name, str(self.folder(ref).path / _APPS)])

    def app(self, ref: RunRef, name: str) -> App | None:
        """Return what it left in the run's folder, while it runs."""
        folder = self.folder(ref)
        check_command(ref, folder.record(), [name])
        found = app.show(name, folder.path / _APPS)
        return App(**found) if found else None

    def resume(self, ref: RunRef) -> None:
        """Give a lost or stopped run a supervisor again. Raises BackendError for one that has ended by itself."""
        folder = self.folder(ref)
        if history.has_final_record(folder.events_file):
            reopen(folder)
            claim.write_driver(folder)
            claim.start_supervisor(folder)
            recorders.ensure(self.root)
        elif self.lost(ref) is not None:
            control.withdraw_stop(folder)
            claim.write_driver(folder)
            claim.start_supervisor(folder)

    def stop(self, ref: RunRef, grace_seconds: float = 10) -> None:
        """Ask the supervisor to end everything. A lost run gets a supervisor that does nothing else."""
        folder = self.folder(ref)
        if history.has_final_record(folder.events_file):
            return
        try:
            control.request_stop(folder, grace_seconds)
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise BackendError(f"{ref.name} cannot be asked to stop: {error.strerror}") from error
            self._terminate(folder)
        if not _is_kept(folder):
            claim.start_supervisor(folder)

    def forward(self, ref: RunRef, port: int, task: int = 0) -> str:
        """Return the port itself: it is on this machine. Raises BackendError while the task has no process."""
        from jupyter_gpudeploy.events.status import Status

        folder = self.folder(ref)
        status = Status.of((), JournalReader(folder.events_file).poll())
        found = status if folder.record()["kind"] == "manual" else status.tasks.get(task)
        if found is None or found.state.is_final:
            raise BackendError(f"{ref.name} has no process: its task {task} is {found.state if found else 'waiting'}")
        return f"http://127.0.0.1:{port}"

    def download(
        self,
        ref: RunRef,
        task: int,
        target: Path,
        path: str = "",
        progress: Callable[[int, int], None] | None = None,  # noqa: ARG002 - it is not far
    ) -> list[Path]:
        """Copy files of a task's output folder, which is on this machine anyway."""
        return outputs.copy(self.folder(ref).output(task), target, path)

    def changes(self, rendering: Rendering) -> str:
        """Return how the files differ from those of the run of that name."""
        folder = self._folder(rendering.name)
        return outputs.differences(folder.path, rendering.files) if folder.path.exists() else ""

    def examine(self, cluster: str | None = None, namespace: str | None = None) -> Report:  # noqa: ARG002 - one place
        """Say what this machine has, and what holds it."""
        from jupyter_gpudeploy.backends.local.doctor import examine

        return examine(self.capabilities(), self.root, len(self.find()))

    def keep_secret(
        self, name: str, values: Mapping[str, str], *, cluster: str | None = None, namespace: str | None = None
    ) -> None:
        """Refuse: a cell that runs here refers to the environment or to a file."""
        del values, cluster, namespace
        raise BackendError(
            f"this machine keeps no secrets: {name!r} would lie here in plain text",
            hint="secrets: {NAME: env:NAME} or file:PATH; or --backend kubernetes",
        )

    def driver(self, ref: RunRef, *, must_know: bool = False) -> str | None:  # noqa: ARG002 - the seam's signature
        """Return which other living process launched this run or took it up."""
        try:
            who = json.loads((self.folder(ref).path / "driver.json").read_bytes())
            is_other = who["host"] == os.uname().nodename and int(who["pid"]) != os.getpid() and is_alive(who)
            since = time.strftime("%H:%M", time.localtime(who["since"]))
        except _BROKEN:
            return None
        return f"pid {who['pid']} on {who['host']}, since {since}" if is_other else None

    def stale(self, ref: RunRef) -> str | None:  # noqa: ARG002 - the seam's signature
        """Return None: what is known of a run is what its files say."""
        return None

    def owner(self, ref: RunRef, *, must_know: bool = False) -> str | None:  # noqa: ARG002 - the seam's signature
        """Return None: each person has runs of their own."""
        return None

    def parallelism(self, ref: RunRef) -> int:
        """Return how many tasks run at once."""
        return int(self.folder(ref).record()["parallelism"])

    def set_parallelism(self, ref: RunRef, count: int) -> None:  # noqa: ARG002 - the seam's signature
        """Refuse."""
        raise BackendError(
            f"a local run keeps its parallelism: {ref.name} has {self.parallelism(ref)}",
            hint="change it in the cell, and --replace",
        )

    def pause(self, ref: RunRef) -> None:
        """Refuse."""
        raise BackendError(f"a local run cannot be paused: {ref.name}", hint="stop ends it, and resume goes on with it")

    def unpause(self, ref: RunRef) -> None:
        """Refuse: it cannot have been paused."""
        raise BackendError(f"a local run cannot be paused: {ref.name} is not", hint="resume goes on with a stopped one")

    def archive(self, ref: RunRef) -> None:
        """Move a run that has ended aside, so that its name is free."""
        folder = self._ended(ref, "archived")
        target = self._archived(ref)
        if folder.path != target:
            target.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            folder.path.rename(target)

    def remove(self, ref: RunRef) -> None:
        """Delete the folder of a run that has ended."""
        folder = self._ended(ref, "removed")
        gone = folder.path.with_name(f".{ref.name}.{ref.uid}.removed")
        folder.path.rename(gone)
        shutil.rmtree(gone)

    def _folder(self, name: str) -> LocalFolder:
        return LocalFolder(self.runs / name)

    def _archived(self, ref: RunRef) -> Path:
        return self.root / "replaced" / f"{ref.name}-{ref.uid}"

    def _same(self, found: RunRef, rendering: Rendering) -> RunRef:
        if found.fingerprint != rendering.fingerprint:
            raise RunExistsError(
                f"a run called {rendering.name!r} exists, and it is another one",
                hint="give this one another name, or replace that one",
            )
        self._revive(found)
        return found

    def _revive(self, ref: RunRef) -> None:
        """Start the supervisor of a run whose launching process was killed before it could."""
        folder = self.folder(ref)
        if not folder.supervisor_file.exists() and time.time() - ref.created > _START_SECONDS:
            claim.start_supervisor(folder)

    def _ended(self, ref: RunRef, verb: str) -> LocalFolder:
        """Return the folder of a run whose supervisor has left. Raises BackendError while it lives."""
        folder = self.folder(ref)
        deadline = time.monotonic() + _START_SECONDS
        while _is_kept(folder) or not (history.has_final_record(folder.events_file) or self.lost(ref)):
            # a supervisor that has written the run's end leaves at once
            if not history.has_final_record(folder.events_file) or time.monotonic() > deadline:
                raise BackendError(f"{ref.name} is alive and cannot be {verb}", hint="stop it first")
            time.sleep(0.01)
        if processes.tree(ref.uid):
            raise BackendError(f"processes of {ref.name} are still there: it cannot be {verb}", hint="stop it first")
        return folder

    def _check_kept(self, ref: RunRef, folder: LocalFolder) -> None:
        if history.has_final_record(folder.events_file):
            raise BackendError(f"{ref.name} has ended", hint="launch it again")
        reason = self.lost(ref)
        if reason is not None:
            raise BackendError(f"{ref.name} is lost: {reason}", hint="resume it, or launch it again")

    @staticmethod
    def _terminate(folder: LocalFolder) -> None:
        who = processes.kept_by(folder.supervisor_file)
        if who is not None:
            processes.send(who, signal.SIGTERM)


def _is_kept(folder: LocalFolder) -> bool:
    who = processes.kept_by(folder.supervisor_file)
    return who is not None and processes.is_alive(who)


def _has_module(name: str) -> bool:
    """Return whether tasks can import this module; they run with this process's interpreter."""
    try:
        return find_spec(name) is not None
    except (ImportError, ValueError):
        return False


def _address_hint(folder: LocalFolder) -> str:
    record: dict[str, Any] = folder.record()
    return "wait until it is ready, or see its log" if record["service"] else "it is no server"


def _broken(folder: LocalFolder) -> BackendError:
    return BackendError(f"{folder.path} is in the way and no run that can be read", hint="move it away")
