"""The seam between what is decided and what is alive.

A backend is asked what it can do (`Capabilities`); nobody branches on its class. Its methods may be called from any
thread. Nothing it returns holds a process or a connection open except while a generator of it is being read.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from jupyter_gpudeploy.errors import BackendError

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from contextlib import AbstractContextManager
    from pathlib import Path

    from jupyter_gpudeploy.events.store import RunFolder
    from jupyter_gpudeploy.events.types import LogLine, State, StateChange
    from jupyter_gpudeploy.plan.types import Note, Plan, Target
    from jupyter_gpudeploy.report import Report
    from jupyter_gpudeploy.sources.base import MetricSource


class Capabilities(NamedTuple):
    """What a backend can do. None = could not find out. `target`: what is known of the cluster, where it is one."""

    backend: str
    where: str
    target: Target | None = None
    gpus: int | None = None
    gpu_names: tuple[str, ...] = ()
    cpus: float | None = None
    memory: int | None = None
    nodes: int | None = 1
    replicas: int | None = 1
    routes: bool = False
    memory_limits: bool = False
    warm: bool = False
    has_module: Callable[[str], bool] | None = None
    has_program: Callable[[str], bool] | None = None
    kinds: frozenset[str] = frozenset({"job", "sweep", "server", "manual"})


class Upload(NamedTuple):
    """What is sent after the launch, because it is too large for what is written. `size`: bytes, unpacked.

    `digest` is of its content. `pieces()` yields its bytes; it reads the user's files, and raises BackendError where
    they are not what they were.
    """

    digest: str
    files: int
    size: int
    pieces: Callable[[], Iterator[bytes]]


class Rendering(NamedTuple):
    """What would be written: relative path -> text, in reading order. The same plan gives the same text.

    `payload`: what is no text, by the place in the files at which it stands; there its size and hash are shown.
    """

    backend: str
    name: str
    fingerprint: str
    files: Mapping[str, str]
    payload: Mapping[str, bytes] = MappingProxyType({})
    upload: Upload | None = None

    def __str__(self) -> str:
        return "\n".join(f"# --- {path}\n{text.rstrip()}\n" for path, text in self.files.items())


class RunRef(NamedTuple):
    """A run that exists, by whoever started it. `uid` is never given twice; `name` may be, one after the other.

    `place` is where it lives, for a backend that has several places: `cluster/namespace`. `owner` is the person who
    started it, where the backend knows persons.
    """

    backend: str
    name: str
    uid: str
    fingerprint: str
    created: float
    place: str = ""
    owner: str = ""


class Glance(NamedTuple):
    """What is known of a run that nobody looks at. `folder`: what was seen of it, None for nothing.

    `state`: what it is in now, where that is known better than the folder says; `reason`: why.
    """

    folder: RunFolder | None
    state: State | None = None
    reason: str = ""


class Answer(NamedTuple):
    """A place that was asked which runs it has. `problem`: why it did not answer, empty where it did.

    `place` is what RunRef says, for a backend that has several; else what a person calls it. `hint`: the way out.
    """

    place: str
    problem: str = ""
    hint: str = ""


class Endpoint(NamedTuple):
    """Where a server is reached. `headers` belong on every request."""

    url: str
    headers: Mapping[str, str] = MappingProxyType({})


class App(NamedTuple):
    """An application that runs in a manual run, on 127.0.0.1 there; `token` opens it, and is shown to nobody else."""

    port: int
    token: str


class Backend(Protocol):
    """One place in which runs live."""

    def capabilities(self, cluster: str | None = None, namespace: str | None = None) -> Capabilities:
        """Say what can be done here, or in that place for a backend that has several. Cheap."""

    def advice(self, plan: Plan) -> Sequence[Note]:
        """Return what a person should know of this plan here, beyond what Capabilities tell. Pure, as `render` is."""

    def render(self, plan: Plan) -> Rendering:
        """Return what `launch` would write. Pure: nothing is touched, the same plan gives the same text."""

    def ahead(self, name: str | None) -> AbstractContextManager[None]:
        """Begin what does not depend on the plan, while the plan is made; `launch` within the block profits from it.

        `name`: of the run, where it is known. What was begun and not used by the end of the block leaves no trace.
        """

    def launch(self, rendering: Rendering) -> RunRef:
        """Start it and return at once.

        Idempotent: a run of that name with the same fingerprint is returned as it is, whatever its state; launching
        is safe against a second kernel that does the same at the same moment. Raises RunExistsError for a run of that
        name with another fingerprint.
        """

    def find(self, cluster: str | None = None, namespace: str | None = None) -> Sequence[RunRef]:
        """Return every run of ours that is still there, whoever started it, newest first.

        `cluster`, `namespace`: only of that place, for a backend that has several. What cannot be asked is left out,
        and told by `troubles`; it takes a few seconds at most.
        """

    def troubles(self) -> Sequence[str]:
        """Return what the last `find` could not ask, and why: `here/ml could not be asked: ...`."""

    def answers(self) -> Sequence[Answer]:
        """Return which places the last `find` asked, and which of them did not answer."""

    def glance(self, ref: RunRef) -> Glance | None:
        """Return what is known of a run without beginning to follow it; None where following it costs nothing."""

    def find_archived(self) -> Sequence[RunRef]:
        """Return every run that was archived, newest first."""

    def folder(self, ref: RunRef) -> RunFolder:
        """Return the folder in which this run's journal and logs are kept on this machine."""

    def lost(self, ref: RunRef) -> str | None:
        """Return why nobody keeps this run any more although it has not ended, or None."""

    def states(self, ref: RunRef, stop: threading.Event) -> Iterator[StateChange]:
        """Yield every state change from the beginning, then new ones until the run has ended or `stop` is set.

        With `stop` set from the start: what there is now, and no waiting. A lost run ends with State.LOST.
        """

    def logs(self, ref: RunRef, task: int, stop: threading.Event, since: int | None = None) -> Iterator[LogLine]:
        """Yield what a task printed, all attempts, then new lines until the task has ended or `stop` is set.

        `since` leaves out all but the last `since` lines of what is already there. The values of the run's secrets are
        hidden in the lines, and in whatever the backend keeps of them.
        """

    def endpoint(self, ref: RunRef, task: int = 0) -> Endpoint:
        """Return where a replica is reached. Raises BackendError while it has no address."""

    def sources(self, ref: RunRef, task: int) -> Sequence[MetricSource]:
        """Return where GPU samples and server metrics of this task come from."""

    def execute(self, ref: RunRef, argv: Sequence[str]) -> int:
        """Start one more command in a manual run's environment; return its task number. Raises BackendError."""

    def start_app(self, ref: RunRef, name: str) -> int:
        """Start an application (`programs.app`) in a manual run; return its task number. Raises BackendError."""

    def app(self, ref: RunRef, name: str) -> App | None:
        """Return where that application listens, None while it does not run. Raises BackendError."""

    def resume(self, ref: RunRef) -> None:
        """Go on with a lost or stopped run: what has not ended by itself runs anew, as a further attempt.

        When this returns, the run is not over. Raises BackendError for one that has nothing left to do.
        """

    def stop(self, ref: RunRef, grace_seconds: float = 10) -> None:
        """Ask the run to end and return at once: terminate, then kill what is left after the grace."""

    def forward(self, ref: RunRef, port: int, task: int = 0) -> str:
        """Return a URL of this machine that leads to a port of a task, for as long as this process lives.

        Raises BackendError while the task has no process.
        """

    def download(
        self, ref: RunRef, task: int, target: Path, path: str = "", progress: Callable[[int, int], None] | None = None
    ) -> list[Path]:
        """Copy what a task left in its output folder, or `path` below it, into `target`; return the files.

        What is there already and the same is not copied again. `progress(done, total)`, in bytes, is called as they
        come. Raises BackendError for what cannot be had any more; what could be had is in `target` then.
        """

    def changes(self, rendering: Rendering) -> str:
        """Return what launching it would change of the run of that name, as a unified diff; empty for nothing."""

    def examine(self, cluster: str | None = None, namespace: str | None = None) -> Report:
        """Look at the place itself: what is there, what we may do, what is free. Changes nothing and never fails."""

    def keep_secret(
        self, name: str, values: Mapping[str, str], *, cluster: str | None = None, namespace: str | None = None
    ) -> None:
        """Keep secret values under a name that cells can refer to. Raises BackendError where there is no such place."""

    def driver(self, ref: RunRef, *, must_know: bool = False) -> str | None:
        """Return which other living kernel launched or took over this run ("pid 12 on host, since 14:02"), or None.

        At once, for displays: None where nobody can tell now. `must_know`: for what depends on it; raises BackendError.
        """

    def stale(self, ref: RunRef) -> str | None:
        """Return since when what is known of a run is not up to date, and why, as a sentence; None while it is."""

    def owner(self, ref: RunRef, *, must_know: bool = False) -> str | None:
        """Return which other person started this run; None for our own. `must_know`: as for `driver`."""

    def parallelism(self, ref: RunRef) -> int:
        """Return how many tasks may run at once now."""

    def set_parallelism(self, ref: RunRef, count: int) -> None:
        """Let so many tasks run at once from now on. Raises BackendError where that cannot be changed."""

    def pause(self, ref: RunRef) -> None:
        """Let nothing run until `unpause`: what runs is ended, and begins anew then. Raises BackendError."""

    def unpause(self, ref: RunRef) -> None:
        """Take a pause back. Raises BackendError for a run that is not paused."""

    def archive(self, ref: RunRef) -> None:
        """Free the name of a run that has ended: what is kept of it moves aside, nothing is deleted."""

    def remove(self, ref: RunRef) -> None:
        """Delete what is kept of a run that has ended. Raises BackendError while it lives."""


def check_command(ref: RunRef, record: Mapping[str, Any], argv: Sequence[str]) -> None:
    """Raise BackendError where a run takes no further commands, or this is none."""
    if record["kind"] != "manual":
        raise BackendError(f"{ref.name} is no environment that stays up", hint="launch one with mode: manual")
    if not argv:
        raise BackendError("there is no command to execute", hint='for example run.exec("python train.py")')
