"""Starting one attempt: the GPUs it leases, the port it gets, its command, environment and log."""

from __future__ import annotations

import os
import resource
from contextlib import suppress
from typing import TYPE_CHECKING, Any, NamedTuple

from jupyter_gpudeploy.backends.local.attempts import Attempt
from jupyter_gpudeploy.backends.local.holdings import Grant, Holdings
from jupyter_gpudeploy.backends.local.program import HOST, Program
from jupyter_gpudeploy.errors import BackendError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from jupyter_gpudeploy.backends.local.attempts import Outcome
    from jupyter_gpudeploy.backends.local.edits import Edits
    from jupyter_gpudeploy.backends.local.layout import LocalFolder
    from jupyter_gpudeploy.backends.local.loop import Loop
    from jupyter_gpudeploy.backends.local.states import Chronicle
    from jupyter_gpudeploy.backends.local.warmth import WarmStart


_OWN_DESCRIPTORS = 24
_TASK_DESCRIPTORS = 3


class Turn(NamedTuple):
    """A task that is to be started. `failures` counts the attempts that were answered with a further one."""

    task: int
    attempt: int = 1
    failures: int = 0


class Live(NamedTuple):
    """A task that was started, and what it holds. `log` is relative to the run's folder."""

    turn: Turn
    attempt: Attempt
    grant: Grant
    port: int | None
    log: str

    @property
    def details(self) -> dict[str, Any]:
        """What the journal says of it."""
        found: dict[str, Any] = {"pid": self.attempt.pid, "log": self.log}
        if self.grant.devices:
            found["gpus"] = list(self.grant.devices)
        if self.port is not None:
            found |= {"port": self.port, "url": f"http://{HOST}:{self.port}"}
        return found


class Starter:
    """Starts the attempts of one run. A manual run holds its GPUs itself (`held`), in every other each task its own."""

    def __init__(self, folder: LocalFolder, program: Program, loop: Loop, chronicle: Chronicle) -> None:
        self._folder = folder
        self._record = program.record
        self._program = program
        self._loop = loop
        self._chronicle = chronicle
        self._edits = _edits(self._record)
        self._holdings = Holdings(folder, program.uid, self._record["resources"]["gpus"], chronicle)
        self._ports: set[int] = set()
        self._warm: WarmStart | None = None
        self._held: Grant | None = None
        self._prepared = -1
        for name in ("logs", "metrics", "out"):
            (folder.path / name).mkdir(exist_ok=True)

    def warm_up(self, on_change: Callable[[], None]) -> None:
        """Prepare the process that tasks are forked from, where the run has one; `on_change` when that is decided."""
        if self._record["warm"]:
            from jupyter_gpudeploy.backends.local.warmth import WarmStart

            self._warm = WarmStart(self._loop, self._program, self._chronicle, on_change)

    @property
    def is_warming_up(self) -> bool:
        """Whether tasks had better wait."""
        return self._warm is not None and self._warm.is_preparing

    def hold(self) -> Grant | None:
        """Take GPUs for the run itself, once; None while they are not free. Raises BackendError."""
        self._held = self._held or self._holdings.take(None)
        return self._held

    def start(self, turn: Turn, on_end: Callable[[Attempt, Outcome], None]) -> Live | None:
        """Start an attempt; None while it must wait for GPUs.

        Raises BackendError when it cannot be started, OSError when descriptors or processes run out.
        """
        grant = self._held or self._holdings.take(turn.task)
        if grant is None:
            return None
        try:
            return self._start(turn, grant, on_end)
        except BaseException:
            self._give_back(grant)
            raise

    def expect(self, more: bool) -> None:  # noqa: FBT001 - its only argument
        """Say whether further tasks wait."""
        if self._warm is not None and self._warm.template is not None:
            self._warm.template.expect(more)

    def prepare(self, task: int) -> None:
        """Make the folder of a task; done ahead for the next one, so that a free slot waits for a process alone."""
        if task != self._prepared:
            self._prepared = task
            with suppress(FileExistsError):
                os.mkdir(f"{self._folder.path}/out/{task}")  # noqa: PTH102 - half the time of Path.mkdir

    def ended(self, live: Live) -> None:
        """Give back what a task held."""
        self._ports.discard(live.port or 0)
        self._give_back(live.grant)

    def close(self) -> None:
        """Give back what the run held."""
        if self._warm is not None:
            self._warm.close()
            self._warm = None
        if self._held is not None:
            self._holdings.give_back(self._held)

    def _start(self, turn: Turn, grant: Grant, on_end: Callable[[Attempt, Outcome], None]) -> Live:
        task = turn.task
        self._tell_edits(turn)
        port = self._port(task) if self._record["service"] else None
        address = {} if port is None else {"PORT": str(port), "HOST": HOST}
        environment = self._program.environment(task, turn.attempt, {**grant.environment, **address})
        argv = self._program.command(task, port)
        executable = self._program.executable(argv[0], environment)
        self.prepare(task)
        attempt = Attempt(self._loop, (self._program.uid, task), turn.attempt, on_end=on_end, on_gap=self._on_gap)
        log = f"logs/{task}.{turn.attempt}.log"
        self._spawn(attempt, f"{self._folder.path}/{log}", executable, argv, environment)
        if port is not None:
            self._ports.add(port)
        if grant is not self._held:
            self._holdings.hand_over(grant, task, attempt.pid)
        return Live(turn, attempt, grant, port, log)

    def _spawn(
        self, attempt: Attempt, log: str, executable: str, argv: Sequence[str], environment: Mapping[str, str]
    ) -> None:
        """Fork the task from the template; where there is none, or it has just died, start it afresh."""
        hidden = self._program.hidden(environment)
        if self._warm is not None and self._warm.template is not None:
            try:
                attempt.start(log, executable, argv, environment, self._warm.template, hidden)
            except BackendError:
                self._warm.look()
                if self._warm.template is not None:
                    raise
            else:
                return
        attempt.start(log, executable, argv, environment, hidden=hidden)

    def _give_back(self, grant: Grant) -> None:
        if grant is not self._held:
            self._holdings.give_back(grant)

    def _tell_edits(self, turn: Turn) -> None:
        for file in self._edits.new() if self._edits is not None else ():
            what = "trial" if self._record["kind"] == "sweep" else "task"
            self._chronicle.notice(
                f"{file.name} was changed after the launch: {what} {turn.task} and later run the new text", turn.task
            )

    def _port(self, task: int) -> int:
        from jupyter_gpudeploy.backends.local.ports import choose_port

        port, reason = choose_port(self._record["service"]["port"], HOST, self._ports)
        if reason:
            self._chronicle.notice(reason, task)
        return port

    def _on_gap(self, attempt: Attempt, dropped: int) -> None:
        kept = f"{dropped} bytes not kept" if dropped else "the task goes on"
        self._chronicle.notice(f"disk full: logging paused, {kept}", attempt.task)


def _edits(record: Mapping[str, Any]) -> Edits | None:
    if not record["sources"]:
        return None
    from jupyter_gpudeploy.backends.local.edits import Edits

    return Edits(record["sources"])


def at_a_time(wanted: int, chronicle: Chronicle) -> int:
    """Return how many of the wanted tasks can run at a time with the descriptors that we may have."""
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    possible = max((limit - _OWN_DESCRIPTORS) // _TASK_DESCRIPTORS, 1)
    if wanted <= possible:
        return wanted
    chronicle.notice(f"{possible} tasks at a time and not {wanted}: only {limit} files may be open at once")
    return possible
