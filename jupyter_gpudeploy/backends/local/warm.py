"""A warm start: trials of one script forked from a process that has imported its libraries already.

Opt-in, for a fork keeps what the imports left: the template refuses to serve when they started threads or initialised
CUDA. What is set by the environment before an interpreter starts (PYTHONHASHSEED, PYTHONWARNINGS) or before a library
is imported (OMP_NUM_THREADS) is the template's, the same for all trials.
"""

from __future__ import annotations

import _socket  # `socket` and `subprocess` would take a quarter of a supervisor's start
import os
import select
import signal
import sys
import time
from contextlib import suppress
from typing import TYPE_CHECKING

from jupyter_gpudeploy.errors import BackendError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

READY_SECONDS = 600.0
_STARTED_SECONDS = 60.0
_CLOSE_SECONDS = 2.0
_SPARE_SECONDS = 0.2
_STEP_SECONDS = 0.001
_PROGRAM = f"{__file__.removesuffix('warm.py')}_template.py"
_ORDER, _GIVE, _KEEP = b"o", b"g", b"k"
_GONE = (ConnectionError, TimeoutError)
_FLAGS = _socket.MSG_DONTWAIT | _socket.MSG_CMSG_CLOEXEC
_ROOM_FOR_ONE = _socket.CMSG_SPACE(4)
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
        self._arguments = [cwd, script, *preload]
        self._environment = dict(environment)
        self._control: _socket.socket | None = None
        self._code: int | None = None
        self._errors = -1
        self._rest = b""
        self._ready = False
        self._why_not = ""
        self._failed = ""
        self._descriptors: list[int] = []
        self._spares: dict[int, _socket.socket] = {}
        self._gives = True
        self._trials: dict[int, int] = {}
        self._ended: list[tuple[int, int]] = []
        self._died = False
        self.pid = 0
        # Ends that `spawn` comes across wait for `poll`, so something else must tell that they do.
        self._events = select.epoll()
        self._bell = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._events.register(self._bell, select.EPOLLIN)

    def start(self) -> None:
        """Start the process and return; its imports take their time. Raises BackendError if it cannot be started."""
        self._control, theirs = _socket.socketpair()
        self._events.register(self._control, select.EPOLLIN)
        self._errors = os.memfd_create("template errors")
        os.set_inheritable(theirs.fileno(), True)
        try:
            self.pid = os.posix_spawnp(
                self._words[0],
                [*self._words, _PROGRAM, str(theirs.fileno()), *self._arguments],
                {**self._environment, **_ROOM},
                file_actions=[
                    (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
                    (os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0),
                    (os.POSIX_SPAWN_DUP2, self._errors, 2),
                ],
            )
        except OSError as error:
            self.close()
            raise BackendError(f"the warm template cannot be started: {error}") from error
        finally:
            theirs.close()

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
        given = self._environment
        changes = [f"{name}={text}" for name, text in environment.items() if given.get(name) != text]
        changes.sort(key=_is_no_mark)  # a trial shows as much of its environment as there is room for
        changes += [name for name in given if name not in environment]
        blobs = [_blob(argv), _blob(changes)]
        request = b"".join([*(len(blob).to_bytes(4, "big") for blob in blobs), *blobs])
        while True:
            pid, channel = self._take_spare()
            try:
                _send(channel, request, stdout)
            except _GONE:
                continue  # somebody has killed it
            finally:
                channel.close()
            self._trials[pid] = -1
            return pid

    def expect(self, more: bool) -> None:  # noqa: FBT001 - its only argument
        """Say whether further trials will be spawned: then the end of one brings a spare for the next."""
        if more is not self._gives and self._ready:
            self._gives = more
            self._wish(_GIVE if more else _KEEP)

    def _take_spare(self) -> tuple[int, _socket.socket]:
        """Return a process that waits for its trial. Raises BackendError when there is none to be had."""
        if not self._spares:
            self._failed = ""
            self._wish(_ORDER)
            self._wait(lambda: bool(self._spares or self._failed), _STARTED_SECONDS, "to fork a trial")
        if not self._spares:
            raise BackendError(self._failed)
        return self._spares.popitem()

    def _wish(self, wish: bytes) -> None:
        with suppress(OSError):  # it has died: the next look says how
            self._open.send(wish)

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
        self._dismiss()
        if self._control is not None:
            self._control.close()
        if self.pid:
            self._wait_for_end()
        _close(self._errors)
        for handle in self._trials.values():
            _close(handle)
        if not self._events.closed:
            self._events.close()
            os.close(self._bell)
        self._trials, self._control, self._errors, self.pid = {}, None, -1, 0
        self._ready, self._why_not = False, self._why_not or "it was closed"

    def has_ended(self, code: int) -> None:
        """Tell the exit code of the template itself, where its parent has waited for it elsewhere."""
        self._code = code

    def _dismiss(self) -> None:
        """End the spares, and give them the moment that this takes."""
        for channel in self._spares.values():
            channel.close()
        deadline = time.monotonic() + _SPARE_SECONDS
        for handle in map(_handle, self._spares):
            if handle >= 0:
                poll = select.poll()
                poll.register(handle, select.POLLIN)
                poll.poll(max(deadline - time.monotonic(), 0) * 1000)
                os.close(handle)
        self._spares.clear()

    @property
    def _open(self) -> _socket.socket:
        if self._control is None:
            raise BackendError("the warm template was not started, or is closed")
        return self._control

    def _wait(self, is_done: Callable[[], bool], seconds: float, what: str) -> None:
        """Take messages in until it is done. Raises BackendError when that takes longer, or cannot be any more."""
        self._take()
        if is_done():
            return
        poll = select.poll()
        poll.register(self._open, select.POLLIN)
        deadline = time.monotonic() + seconds
        while True:
            self._complain()
            left = deadline - time.monotonic()
            if left <= 0:
                raise BackendError(f"the warm template took more than {seconds:g} s {what}")
            poll.poll(left * 1000)
            self._take()
            if is_done():
                return

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
                data, ancillary, _, _ = self._open.recvmsg(1 << 16, _ROOM_FOR_ONE, _FLAGS)
            except BlockingIOError:
                return
            except ConnectionError:
                data, ancillary = b"", []
            if not data:
                self._bereave()
            self._descriptors += [int.from_bytes(content[:4], sys.byteorder) for _, _, content in ancillary]
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
        elif kind == "spare":
            channel = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM, 0, self._descriptors.pop(0))
            self._spares[int(rest)] = channel
        else:
            self._failed = rest

    def _bereave(self) -> None:
        """The template is gone. From now on the descriptor tells the ends of its trials."""
        self._dismiss()
        code = self._wait_for_end()
        self._ready = False
        self._why_not = self._why_not or f"the template died ({code}): {self._last_words()}"
        self._died = True
        self._events.unregister(self._open)
        for pid in list(self._trials):
            handle = self._trials[pid] = _handle(pid)
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
        channel = self._spares.pop(pid, None)
        if channel is not None:
            channel.close()
            return
        _close(self._trials.pop(pid, -1))
        self._ended.append((pid, code))
        if len(self._ended) == 1:
            os.eventfd_write(self._bell, 1)

    def _last_words(self) -> str:
        if self._errors < 0:
            return ""
        said = os.pread(self._errors, os.fstat(self._errors).st_size, 0)
        lines = said.decode("utf-8", "replace").strip().splitlines()
        return lines[-1] if lines else "it said nothing"

    def _wait_for_end(self) -> int:
        """Wait until the template has ended, not for long. Return its exit code."""
        deadline = time.monotonic() + _CLOSE_SECONDS
        killed = False
        while self._code is None:
            try:
                pid, status = os.waitpid(self.pid, os.WNOHANG)
            except ChildProcessError:
                self._code = 0
                break
            if pid:
                self._code = os.waitstatus_to_exitcode(status)
            elif time.monotonic() < deadline:
                time.sleep(_STEP_SECONDS)
            elif not killed:
                killed = True
                os.kill(self.pid, signal.SIGKILL)
            else:
                time.sleep(_STEP_SECONDS)
        return self._code


def _is_no_mark(word: str) -> bool:
    return not word.startswith("GPUDEPLOY_")


def _send(channel: _socket.socket, request: bytes, stdout: int) -> None:
    """Send a request with its output."""
    channel.settimeout(_STARTED_SECONDS)
    descriptor = stdout.to_bytes(4, sys.byteorder)
    sent = channel.sendmsg([request], [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, descriptor)])
    if sent < len(request):
        channel.sendall(request[sent:])


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
