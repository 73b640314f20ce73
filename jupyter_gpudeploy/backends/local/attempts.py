"""One attempt of one task: from the spawn to the moment when nothing of it is left."""

from __future__ import annotations

import errno
import os
import signal
import time
from typing import TYPE_CHECKING, NamedTuple, Protocol

from jupyter_gpudeploy.backends.local import processes
from jupyter_gpudeploy.backends.local.processes import Ending
from jupyter_gpudeploy.backends.local.pump import Pump
from jupyter_gpudeploy.errors import BackendError
from jupyter_gpudeploy.events.types import State

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from jupyter_gpudeploy.backends.local.loop import Loop, Timer
    from jupyter_gpudeploy.backends.local.procfs import Identity

_LEFTOVER_GRACE = 2.0
_LIMIT_GRACE = 10.0
_ENDING_STEP = 0.03
_DEFAULT_SIGNALS = (signal.SIGINT, signal.SIGHUP, signal.SIGTERM, signal.SIGPIPE, signal.SIGXFSZ)


class Spawner(Protocol):
    """What can start a process other than spawning it anew: a warm template."""

    def spawn(self, argv: Sequence[str], environment: Mapping[str, str], stdout: int) -> int:
        """Start a process whose stdout and stderr are this descriptor; return its pid."""


class Outcome(NamedTuple):
    """How an attempt ended. `exit_code` as a shell counts it: 128 + number for a signal.

    `again`: whether a further attempt makes sense.
    """

    state: State
    reason: str = ""
    exit_code: int | None = None
    again: bool = True


class Attempt:
    """A process, its log, and whatever it started. `on_end` is called once, when all of it is gone.

    Its processes are those that descend from it, and orphans of ours (the supervisor adopts orphans) that stayed in
    its session or carry its mark. A run launched from inside it, supervisor and all, is none of them.
    """

    def __init__(
        self,
        loop: Loop,
        marks: tuple[str, int],
        number: int,
        *,
        on_end: Callable[[Attempt, Outcome], None],
        on_gap: Callable[[Attempt, int], None],
    ) -> None:
        self._loop = loop
        self._marks = (marks[0], str(marks[1]))
        self._on_end = on_end
        self._on_gap = on_gap
        self._pump: Pump | None = None
        self._limit: Timer | None = None
        self._ending: Ending | None = None
        self._outcome: Outcome | None = None
        self._exited = False
        self.task = marks[1]
        self.number = number
        self.pid = 0
        self.started = 0.0

    def start(
        self, log: str, executable: str, argv: Sequence[str], environment: Mapping[str, str],
        template: Spawner | None = None, hidden: Iterable[bytes] = (),
    ) -> None:  # fmt: skip
        """Start the process. Raises BackendError when it cannot be started, OSError when descriptors run out."""
        pump = Pump(self._loop, log, lambda dropped: self._on_gap(self, dropped), hidden)
        try:
            if template is None:
                self.pid = _spawn(executable, argv, environment, pump.write_end)
            else:
                self.pid = template.spawn(argv, environment, pump.write_end)
        except BaseException:
            pump.started()
            pump.close()
            raise
        pump.started()
        self._pump = pump
        self.started = time.monotonic()
        self._loop.adopt(self.pid, self._on_exit, watch=template is None)

    def limit(self, seconds: float, outcome: Outcome) -> None:
        """End it with `outcome` when it takes longer than this."""
        self._limit = self._loop.after(seconds, lambda: self.end(outcome, _LIMIT_GRACE))

    def end(self, outcome: Outcome, grace: float) -> None:
        """End it and everything it started; it ends with `outcome`, whatever its exit code."""
        if self._outcome is None:
            self._outcome = outcome
        if self._ending is None:
            self._end_tree(grace)
        else:
            self._ending.hurry(grace)

    @property
    def pids(self) -> list[int]:
        """The processes of this attempt that live now."""
        return [who.pid for who in self._tree() or ()]

    def _on_exit(self, code: int) -> None:
        self._exited = True
        natural = _outcome(code)
        if self._outcome is None:
            self._outcome = natural
        else:
            self._outcome = self._outcome._replace(exit_code=natural.exit_code)
        self._end_leftovers()

    def _end_leftovers(self) -> None:
        """End what the process left behind; a moment later, when it cannot be told now what that is."""
        if self._ending is not None:
            return
        left = self._tree()
        if left is None:
            self._loop.after(_ENDING_STEP, self._end_leftovers)
        elif left:
            self._end_tree(_LEFTOVER_GRACE)
        else:
            self._finish()

    def _end_tree(self, grace: float) -> None:
        self._ending = Ending(self._tree, grace)
        self._step()

    def _step(self) -> None:
        if self._ending is not None and (self._ending.step() and self._gone()):
            self._finish()
        else:
            self._loop.after(_ENDING_STEP, self._step)

    def _gone(self) -> bool:
        """Reap what ended meanwhile; true also for a process that only the kernel holds any more."""
        self._loop.reap()
        return self._exited or bool(self._ending and self._ending.left)

    def _finish(self) -> None:
        if self._limit is not None:
            self._limit.cancel()
        if self._pump is not None:
            self._pump.close()
            self._pump = None
            self._on_end(self, self._outcome or Outcome(State.FAILED, "it cannot be ended"))

    def _tree(self) -> list[Identity] | None:
        """Return what lives of it; None when that cannot be told now."""
        found = processes.own_children()
        if found is None:
            return None
        known = self._loop.children
        mine = [pid for pid in found if pid not in known and self._is_mine(pid)]
        if not self._exited:
            mine.append(self.pid)
        return processes.identities([*mine, *processes.descendants(mine, self._marks[0])]) if mine else []

    def _is_mine(self, pid: int) -> bool:
        marks = processes.marks(pid)
        return marks == self._marks or (
            processes.session(pid) == self.pid and not processes.is_of_another(pid, self._marks[0])
        )


def _spawn(executable: str, argv: Sequence[str], environment: Mapping[str, str], output: int) -> int:
    """Start a process in a session of its own, with default signals, nothing to read, and nothing else open."""
    try:
        return os.posix_spawn(
            executable,
            list(argv),
            environment,
            file_actions=[
                (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
                (os.POSIX_SPAWN_DUP2, output, 1),
                (os.POSIX_SPAWN_DUP2, output, 2),
            ],
            setsid=True,
            setsigmask=(),
            setsigdef=_DEFAULT_SIGNALS,
        )
    except OSError as error:
        if error.errno in (errno.EMFILE, errno.ENFILE, errno.EAGAIN, errno.ENOMEM):
            raise
        raise BackendError(f"{executable} cannot be started: {error.strerror}") from None
    except ValueError as error:
        raise BackendError(f"{executable} cannot be started: {error}") from None


def _outcome(code: int) -> Outcome:
    if code == 0:
        return Outcome(State.SUCCEEDED, exit_code=0)
    if code > 0:
        return Outcome(State.FAILED, f"exit code {code}", code)
    try:
        name = signal.Signals(-code).name
    except ValueError:
        name = f"signal {-code}"
    return Outcome(State.FAILED, f"killed by {name}", 128 - code)
