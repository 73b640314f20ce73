"""A warm start: trials of one script forked from a process that has imported its libraries already.

Opt-in, for a fork keeps what the imports left: the template refuses to serve when they started threads or initialised
CUDA. What is set by the environment before an interpreter starts (PYTHONHASHSEED, PYTHONWARNINGS) or before a library
is imported (OMP_NUM_THREADS) is the template's, the same for all trials.
"""

from __future__ import annotations

import array
import os
import select
import signal
import socket
import subprocess
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import IO, TYPE_CHECKING

from jupyter_gpudeploy.errors import BackendError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

READY_SECONDS = 600.0
_STARTED_SECONDS = 60.0
_CLOSE_SECONDS = 2.0
_PROGRAM = Path(__file__).with_name("_template.py")
# Room beyond the template's own environment in which a trial shows its own.
_ROOM = {"GPUDEPLOY_ROOM": "." * 4096}


class Template:
    """A process that forks trials. For one thread.

    `python` is the interpreter, or the words that start it; `environment` its whole environment while it imports
    `preload`. When the template dies its trials go on, and `poll` goes on telling their ends: with their exit codes if
    they have become children of this process (a subreaper adopts them), else as killed, for nobody knows the code.
    """

    def __init__(
        self, python: str | Sequence[str], script: str, preload: Sequence[str], cwd: str, environment: Mapping[str, str]
    ) -> None:
        self._words = [python] if isinstance(python, str) else list(python)
        self._words.append(str(_PROGRAM))
        self._arguments = [script, *preload]
        self._cwd = cwd
        self._environment = {**environment, **_ROOM}
        self._control: socket.socket | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._errors: IO[bytes] | None = None
        self._rest = b""
        self._ready = False
        self._why_not = ""
        self._answers: list[tuple[str, str]] = []
        self._trials: dict[int, int] = {}
        self._ended: list[tuple[int, int]] = []
        self._died = False
        # Ends that `spawn` comes across wait for `poll`, so something else must tell that they do.
        self._events = select.epoll()
        self._bell = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._events.register(self._bell, select.EPOLLIN)

    def start(self) -> None:
        """Start the process and return; its imports take their time. Raises BackendError if it cannot be started."""
        self._control, theirs = socket.socketpair()
        self._events.register(self._control, select.EPOLLIN)
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 - closed by `close`
        with theirs:
            try:
                self._process = subprocess.Popen(
                    [*self._words, str(theirs.fileno()), *self._arguments],
                    cwd=self._cwd,
                    env=self._environment,
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    stderr=self._errors,
                    pass_fds=(theirs.fileno(),),
                )
            except OSError as error:
                self.close()
                raise BackendError(f"the warm template cannot be started: {error}") from error

    @property
    def is_ready(self) -> bool:
        """Whether `spawn` would return at once. Raises BackendError when the template refuses or has died."""
        self._wait(lambda: not self._why_not, 0, "")
        return self._ready

    def spawn(self, argv: Sequence[str], environment: Mapping[str, str], stdout: int) -> int:
        """Fork a trial and return its pid. It leads its own session; `stdout` is its stdout and stderr.

        `argv` is what a cold start would be given, the interpreter included: what begins with the script is the
        trial's sys.argv. `environment` is all of its environment. Waits while the template still imports. Raises
        BackendError, with the reason, when no trial comes of it.
        """
        self._wait(lambda: self._ready, READY_SECONDS, "to be ready")
        # What marks the processes of a run comes first: a trial shows as much of its environment as there is room.
        marks_first = sorted(environment.items(), key=lambda entry: not entry[0].startswith("GPUDEPLOY_"))
        changes = [f"{name}={text}" for name, text in marks_first if self._environment.get(name) != text]
        changes += [name for name in self._environment if name not in environment]
        blobs = [_blob(argv), _blob(f"{name}={text}" for name, text in marks_first), _blob(changes)]
        header = b"".join(len(blob).to_bytes(4, "big") for blob in blobs)
        with suppress(OSError):  # it has died: the wait below says how
            self._open.sendmsg([header], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [stdout]))])
            self._open.sendall(b"".join(blobs))
        self._wait(lambda: bool(self._answers), _STARTED_SECONDS, "to fork a trial")
        kind, rest = self._answers.pop(0)
        if kind == "failed":
            raise BackendError(rest)
        return int(rest)

    def poll(self) -> list[tuple[int, int]]:
        """Return the trials that ended since the last call: pid, and exit code as `subprocess` counts it."""
        self._take()
        with suppress(BlockingIOError):
            os.eventfd_read(self._bell)
        ended, self._ended = self._ended, []
        return ended

    def fileno(self) -> int:
        """Return a descriptor that can be read when `poll` has something to tell, or `is_ready` has changed."""
        return self._events.fileno()

    def close(self) -> None:
        """End the template. Trials that run go on, and nobody here learns how they end."""
        if self._control is not None:
            self._control.close()
        if self._process is not None:
            self._wait_for_end(self._process)
        if self._errors is not None:
            self._errors.close()
        for handle in self._trials.values():
            _close(handle)
        if not self._events.closed:
            self._events.close()
            os.close(self._bell)
        self._trials, self._control, self._process = {}, None, None
        self._ready, self._why_not = False, self._why_not or "it was closed"

    @property
    def _open(self) -> socket.socket:
        if self._control is None:
            raise BackendError("the warm template was not started, or is closed")
        return self._control

    def _wait(self, is_done: Callable[[], bool], seconds: float, what: str) -> None:
        """Take messages in until it is done. Raises BackendError when that takes longer, or cannot be any more."""
        poll = select.poll()
        poll.register(self._open, select.POLLIN)
        deadline = time.monotonic() + seconds
        while True:
            self._take()
            if is_done():
                return
            self._complain()
            left = deadline - time.monotonic()
            if left <= 0:
                raise BackendError(f"the warm template took more than {seconds:g} s {what}")
            poll.poll(left * 1000)

    def _complain(self) -> None:
        if self._why_not:
            raise BackendError(
                f"no warm start: {self._why_not}", hint="leave it out of `warm`, or start without `warm`"
            )

    def _take(self) -> None:
        """Take in what the template has sent, without waiting."""
        if self._died:
            self._take_orphans()
        while not self._died:
            try:
                data = self._open.recv(1 << 16, socket.MSG_DONTWAIT)
            except BlockingIOError:
                return
            except ConnectionError:
                data = b""
            if not data:
                self._bereave()
            *lines, self._rest = (self._rest + data).split(b"\n")
            for line in lines:
                self._heed(*line.decode("utf-8", "replace").partition(" ")[::2])

    def _heed(self, kind: str, rest: str) -> None:
        if kind == "ready":
            self._ready = True
        elif kind == "refused":
            self._why_not = rest
        elif kind == "ended":
            pid, code = rest.split()
            self._end(int(pid), int(code))
        else:
            if kind == "started":
                self._trials[int(rest)] = _handle(int(rest))
            self._answers.append((kind, rest))

    def _bereave(self) -> None:
        """The template is gone. From now on the descriptor tells the ends of its trials."""
        code = self._wait_for_end(self._process) if self._process is not None else 0
        self._ready = False
        self._why_not = self._why_not or f"the template died ({code}): {self._last_words()}"
        self._died = True
        self._events.unregister(self._open)
        for pid, handle in list(self._trials.items()):
            if handle < 0:
                self._end(pid, -signal.SIGKILL)
            else:
                self._events.register(handle, select.EPOLLIN)
        self._take_orphans()

    def _take_orphans(self) -> None:
        readable = {handle for handle, _ in self._events.poll(0)}
        for pid in [pid for pid, handle in self._trials.items() if handle in readable]:
            try:
                _, status = os.waitpid(pid, os.WNOHANG)
                self._end(pid, os.waitstatus_to_exitcode(status))
            except ChildProcessError:
                self._end(pid, -signal.SIGKILL)

    def _end(self, pid: int, code: int) -> None:
        _close(self._trials.pop(pid, -1))
        self._ended.append((pid, code))
        os.eventfd_write(self._bell, 1)

    def _last_words(self) -> str:
        if self._errors is None or self._errors.closed:
            return ""
        self._errors.seek(0)
        lines = self._errors.read().decode("utf-8", "replace").strip().splitlines()
        return lines[-1] if lines else "it said nothing"

    @staticmethod
    def _wait_for_end(process: subprocess.Popen[bytes]) -> int:
        try:
            return process.wait(_CLOSE_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            return process.wait()


def _handle(pid: int) -> int:
    """Return a descriptor of a process, -1 where there is none to be had."""
    try:
        return os.pidfd_open(pid)
    except OSError:
        return -1


def _close(handle: int) -> None:
    if handle >= 0:
        os.close(handle)


def _blob(words: Iterable[str]) -> bytes:
    """Return words as the kernel keeps them. Raises ValueError for one that it could not keep."""
    encoded = [os.fsencode(word) for word in words]
    if any(b"\0" in word for word in encoded):
        raise ValueError("embedded null byte")
    return b"".join(word + b"\0" for word in encoded)
