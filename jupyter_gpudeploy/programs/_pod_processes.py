"""What a pod's PID 1 needs to know of processes, of memory, and of files that change. Standard library, Python 3.8."""

from __future__ import annotations

import os
import signal
import subprocess
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

TASK_MARK = "GPUDEPLOY_TASK"
_PR_SET_CHILD_SUBREAPER = 36
_IN_MODIFY, _IN_MOVED_TO, _IN_CREATE = 0x2, 0x80, 0x100
_CGROUP = Path("/sys/fs/cgroup")
_UNLIMITED = 1 << 60


def adopt_orphans() -> None:
    """Become the parent of every descendant that loses its own, as PID 1 is anyway (Linux)."""
    library = _library()
    if os.getpid() != 1 and library is not None:
        library.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def start(argv: Sequence[str], environment: Mapping[str, str], folder: str, output: int) -> subprocess.Popen[bytes]:
    """Start a program in a session of its own, stdout and stderr into `output`. Raises OSError."""
    return subprocess.Popen(
        list(argv),
        env=dict(environment),
        cwd=folder,
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=output,
        start_new_session=True,
    )


def reap() -> dict[int, int]:
    """Return what has ended, and take it from the table of processes: pid -> exit code, minus the signal's number."""
    ended: dict[int, int] = {}
    with suppress(ChildProcessError):
        while True:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if pid == 0:
                break
            ended[pid] = -os.WTERMSIG(status) if os.WIFSIGNALED(status) else os.WEXITSTATUS(status)
    return ended


def has_ended(pid: int) -> bool:
    """Return whether a child has ended, also one that was not reaped yet."""
    try:
        return os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
    except ChildProcessError:
        return True


HELPERS: set[int] = set()
"""Processes that were started for this program itself: nobody waits for their end."""


def descendants() -> list[int]:
    """Return every living process that descends from this one, but for HELPERS."""
    children: dict[int, list[int]] = {}
    for name in os.listdir("/proc"):  # noqa: PTH208 - names are wanted, not paths
        if name.isdigit():
            parent = _parent(int(name))
            if parent is not None:
                children.setdefault(parent, []).append(int(name))
    found: list[int] = []
    waiting = [os.getpid()]
    while waiting:
        own = [pid for pid in children.get(waiting.pop(), []) if pid not in HELPERS]
        found += own
        waiting += own
    return found


def carries(pid: int, task: str) -> bool:
    """Return whether a process was started with the mark of this task."""
    try:
        return f"{TASK_MARK}={task}".encode() in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    except OSError:
        return False


def send(pids: Iterable[int], number: int) -> None:
    """Send a signal to each of them that is still there."""
    for pid in pids:
        with suppress(ProcessLookupError, PermissionError):
            os.kill(pid, number)


def send_group(group: int, number: int) -> None:
    """Send a signal to a group, if anybody is left in it."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(group, number)


def signal_name(number: int) -> str:
    """Return `SIGSEGV` for 11."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


class Memory(NamedTuple):
    """What the container's cgroup says, in bytes. None = it does not say. `kills`: by the kernel, for want of it."""

    limit: int | None
    peak: int | None
    kills: int


def memory(cgroup: Path = _CGROUP) -> Memory:
    """Return how much memory the container may use and has used (cgroup v2, else v1)."""
    old = cgroup / "memory"
    limit = number(cgroup / "memory.max") or number(old / "memory.limit_in_bytes")
    peak = number(cgroup / "memory.peak") or number(old / "memory.max_usage_in_bytes")
    kills = field(cgroup / "memory.events", "oom_kill") or field(old / "memory.oom_control", "oom_kill")
    return Memory(None if limit is None or limit >= _UNLIMITED else limit, peak, kills or 0)


class Watch:
    """Wakes whoever polls `descriptor` when a watched file is written to (inotify). -1 where that cannot be had."""

    def __init__(self) -> None:
        self._library = _library()
        self.descriptor = -1
        if self._library is not None:
            self.descriptor = self._library.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)

    def add(self, path: Path) -> None:
        """Watch one more file, or the names in one more folder."""
        if self._library is None or self.descriptor < 0:
            return
        mask = _IN_CREATE | _IN_MOVED_TO if path.is_dir() else _IN_MODIFY
        if self._library.inotify_add_watch(self.descriptor, os.fsencode(str(path)), mask) < 0:
            os.close(self.descriptor)
            self.descriptor = -1

    def take(self) -> None:
        """Forget what has happened until now."""
        with suppress(OSError):
            while os.read(self.descriptor, 1 << 16):
                pass


def _library() -> Any:  # noqa: ANN401 - ctypes gives no better
    """Return the C library, or None for a Python without ctypes or a system without these calls."""
    try:
        import ctypes

        library = ctypes.CDLL(None, use_errno=True)
        for name in ("prctl", "inotify_init1", "inotify_add_watch"):
            getattr(library, name)
    except (ImportError, OSError, AttributeError):
        return None
    return library


def _parent(pid: int) -> int | None:
    """Return the parent of a living process; None for one that has ended."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
    except OSError:
        return None
    return None if len(fields) < 2 or fields[0] in (b"Z", b"X") else int(fields[1])  # noqa: PLR2004 - state and parent


def number(file: Path) -> int | None:
    """Return the number that is all of a file; None where there is none."""
    try:
        return int(file.read_text("ascii"))
    except (OSError, ValueError):
        return None


def field(file: Path, name: str) -> int | None:
    """Return the number behind a name in a file of names and numbers; None where there is none."""
    try:
        for line in file.read_text("ascii").splitlines():
            words = line.split()
            if words[:1] == [name]:
                return int(words[1])
    except (OSError, ValueError, IndexError):
        pass
    return None
