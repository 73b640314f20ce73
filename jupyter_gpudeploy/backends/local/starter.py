"""Starting one attempt: the GPUs it leases, the port it gets, its command, environment and log."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, NamedTuple

from jupyter_gpudeploy.backends.local import processes
from jupyter_gpudeploy.backends.local.attempts import Attempt, Outcome
from jupyter_gpudeploy.backends.local.edits import Edits
from jupyter_gpudeploy.backends.local.gpus import Leases
from jupyter_gpudeploy.backends.local.procfs import identity
from jupyter_gpudeploy.backends.local.program import HOST, Program, is_executed
from jupyter_gpudeploy.errors import BackendError
from jupyter_gpudeploy.events.types import State

if TYPE_CHECKING:
    from collections.abc import Callable

    from jupyter_gpudeploy.backends.local.gpus import Lease
    from jupyter_gpudeploy.backends.local.layout import LocalFolder
    from jupyter_gpudeploy.backends.local.loop import Loop
    from jupyter_gpudeploy.backends.local.states import Chronicle
    from jupyter_gpudeploy.backends.local.warm import Template


class Turn(NamedTuple):
    """A task that is to be started. `failures` counts the attempts that were answered with a further one."""

    task: int
    attempt: int = 1
    failures: int = 0


class Live(NamedTuple):
    """A task that was started, and what it holds."""

    turn: Turn
    attempt: Attempt
    lease: Lease
    port: int | None

    @property
    def details(self) -> dict[str, Any]:
        """What the journal says of it."""
        found: dict[str, Any] = {"pid": self.attempt.pid, "log": f"logs/{self.turn.task}.{self.turn.attempt}.log"}
        if self.lease.devices:
            found["gpus"] = list(self.lease.devices)
        if self.port is not None:
            found |= {"port": self.port, "url": f"http://{HOST}:{self.port}"}
        return found


class Starter:
    """Starts the attempts of one run. A manual run leases its GPUs once (`held`), every other task its own."""

    def __init__(self, folder: LocalFolder, program: Program, loop: Loop, chronicle: Chronicle) -> None:
        self._folder = folder
        self._record = program.record
        self._program = program
        self._loop = loop
        self._chronicle = chronicle
        self._edits = Edits(self._record.get("sources", ()))
        self._leases = Leases(folder.root)
        self._no_gpus: Lease | None = None
        self._ports: set[int] = set()
        self._told_waiting: set[int | None] = set()
        self._template: Template | None = None
        self.held: Lease | None = None
        for name in ("logs", "metrics", "out"):
            (folder.path / name).mkdir(exist_ok=True)

    def lease(self, task: int | None) -> Lease | None:
        """Return the GPUs for a task, or for the run; None while they are not free, which is said once.

        Raises BackendError when this machine has not so many.
        """
        count = self._record["resources"]["gpus"] if task is None or not is_executed(task) else 0
        if count == 0:
            self._no_gpus = self._no_gpus or self._leases.acquire(0, {})
            return self._no_gpus
        total = len(self._leases.available())
        if count > total:
            raise BackendError(f"asks for {count} GPUs, this machine has {total}")
        lease = self._leases.acquire(count, {"run": self._program.uid, "task": task, **identity()._asdict()})
        if lease is None and task not in self._told_waiting:
            self._told_waiting.add(task)
            reason = f"waiting for {count} free GPU{'s' if count > 1 else ''} of {total}"
            self._tell_waiting(task, reason)
        elif lease is not None and lease.notice:
            self._chronicle.notice(lease.notice, task)
        return lease

    def start(self, turn: Turn, lease: Lease, on_end: Callable[[Attempt, Outcome], None]) -> Live:
        """Start an attempt. Raises BackendError when it cannot be started, OSError when descriptors run out.

        The lease is given back when that fails.
        """
        try:
            return self._start(turn, lease, on_end)
        except BaseException:
            self._leases.release(lease)
            raise

    def _start(self, turn: Turn, lease: Lease, on_end: Callable[[Attempt, Outcome], None]) -> Live:
        task = turn.task
        self._tell_edits(turn)
        port = self._port(task) if self._record.get("service") and not is_executed(task) else None
        address = {} if port is None else {"PORT": str(port), "HOST": HOST}
        held = self.held.environment if self.held else {}
        environment = self._program.environment(task, turn.attempt, {**held, **lease.environment, **address})
        if self.held:
            environment.update(held)
        argv = self._program.command(task, port)
        executable = self._program.executable(argv[0], environment)
        os.makedirs(self._folder.output(task), exist_ok=True)  # noqa: PTH103 - half the time of Path.mkdir
        attempt = Attempt(self._loop, (self._program.uid, task), turn.attempt, on_end=on_end, on_gap=self._on_gap)
        template = None if is_executed(task) else self._warm()
        attempt.start(self._folder.log_file(task, turn.attempt), executable, argv, environment, template)
        if port is not None:
            self._ports.add(port)
        if lease.id:
            self._hand_over(lease, task, attempt.pid)
        return Live(turn, attempt, lease, port)

    def ended(self, live: Live) -> None:
        """Give back what a task held."""
        self._ports.discard(live.port or 0)
        self._told_waiting.discard(live.turn.task)
        self._leases.release(live.lease)

    def close(self) -> None:
        """Give back what the run held."""
        if self._template is not None:
            self._template.close()
        if self.held is not None:
            self._leases.release(self.held)

    def _tell_waiting(self, task: int | None, reason: str) -> None:
        if task is None:
            self._chronicle.run(State.WAITING, reason)
        else:
            self._chronicle.task(task, State.WAITING, reason=reason)

    def _tell_edits(self, turn: Turn) -> None:
        for file in self._edits.new():
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

    def _hand_over(self, lease: Lease, task: int, pid: int) -> None:
        """Let the lease last as long as the task's own process, even when nobody keeps the run any more."""
        who = processes.identity(pid)
        if who is not None:
            self._leases.hand_over(lease, {"run": self._program.uid, "task": task, **who._asdict()})

    def _warm(self) -> Template | None:
        """Return the prepared process that tasks are forked from, where the run has one."""
        warm = self._record.get("warm")
        if not warm:
            return None
        if self._template is None:
            from jupyter_gpudeploy.backends.local.warm import Template

            environment = self._program.shared_environment()
            self._template = Template(
                [self._program.python], self._program.script(), warm["preload"], self._record["working_dir"], environment
            )
            self._template.start()
            self._loop.watch(self._template.fileno(), self._on_template)
        return self._template

    def _on_template(self) -> None:
        if self._template is not None:
            for pid, code in self._template.poll():
                self._loop.child_ended(pid, code)

    def _on_gap(self, attempt: Attempt, dropped: int) -> None:
        kept = f"{dropped} bytes not kept" if dropped else "the task goes on"
        self._chronicle.notice(f"disk full: logging paused, {kept}", attempt.task)
