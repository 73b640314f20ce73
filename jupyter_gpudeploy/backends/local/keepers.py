"""Starting a supervisor: the process that will keep a run, and until it is told which, waits and does nothing.

So its start overlaps with the planning of what it is to keep. When nothing comes of that, or whoever started it is
killed, it ends without a trace: it sees the end of the pipe by which it would be told.
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, TYPE_CHECKING, Self

import jupyter_gpudeploy
from jupyter_gpudeploy.backends.local.processes import SUPERVISOR_MARK

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import TracebackType

    from jupyter_gpudeploy.backends.local.layout import LocalFolder

_PROGRAM = """\
import os
if os.fork():
    os._exit(0)
os.setsid()
import sys
sys.path.append(sys.argv.pop())
from jupyter_gpudeploy.backends.local.supervisor import main
main()
"""
_KERNEL_ONLY = ("JPY_PARENT_PID", "JPY_SESSION_NAME", "IPY_INTERRUPT_EVENT", "JPY_INTERRUPT_EVENT")
_waiting = threading.local()


class Keeper:
    """A supervisor that waits to be told its run, whose uid is settled already. Its own output goes to `log`."""

    def __init__(self, uid: str, log: IO[bytes] | int = subprocess.DEVNULL) -> None:
        self.uid = uid
        self.exit_code: int | None = None
        root = Path(jupyter_gpudeploy.__file__).parent.parent
        self._process = subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", _PROGRAM, str(root)],
            stdin=subprocess.PIPE, stdout=log, stderr=log, bufsize=0,
            env=inherited() | {SUPERVISOR_MARK: uid}, start_new_session=True,
        )  # fmt: skip

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.dismiss()

    def keep(self, folder: LocalFolder) -> bool:
        """Tell it which run to keep; return whether it could be told. For one run only."""
        if self.exit_code is not None or self._process.stdin is None:
            return False
        self.exit_code = self._process.wait()  # of the first process, which leaves as soon as it has made the second
        try:
            self._process.stdin.write(os.fsencode(folder.path) + b"\0")
        except OSError:
            return False
        return self.exit_code == 0

    def dismiss(self) -> None:
        """Let go of it. One that was not told anything ends."""
        if self._process.stdin is not None:
            with suppress(OSError):
                self._process.stdin.close()
        self.exit_code = self._process.wait()


def new_uid() -> str:
    """Return a uid that no other run has."""
    return os.urandom(6).hex()


@contextmanager
def ahead() -> Iterator[None]:
    """Have a supervisor ready for the next run that this thread launches while the context lasts."""
    try:
        keeper = Keeper(new_uid())
    except OSError:  # what is wrong will be told by the launch itself
        yield
        return
    with keeper:
        _waiting.keeper = keeper
        try:
            yield
        finally:
            _waiting.keeper = None


def take_waiting() -> Keeper | None:
    """Return the one that is ready in this thread, for this caller alone."""
    keeper: Keeper | None = getattr(_waiting, "keeper", None)
    _waiting.keeper = None
    return keeper


def inherited() -> dict[str, str]:
    """Return this process's environment without what is true for a kernel alone, or for the run that we are part of."""
    environment = {
        name: value
        for name, value in os.environ.items()
        if name not in _KERNEL_ONLY and not name.startswith("GPUDEPLOY_")
    }
    if environment.get("MPLBACKEND", "").startswith("module://"):
        del environment["MPLBACKEND"]  # the kernel's inline backend draws into a notebook that a task does not have
    return environment
