"""Which process is whose, and how a tree of them ends without hitting an innocent one.

A pid alone names nobody: it is given again. A process is known by its pid, the time it started (clock ticks since
boot, field 22 of /proc/<pid>/stat) and the boot it belongs to. Processes of a run carry its uid and their task in
their environment, so they are found again when whoever started them is gone. A supervisor carries a mark of its own:
a run that is launched from inside another one descends from that one's processes, and is not part of it.
"""

from __future__ import annotations

import functools
import json
import os
import signal
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from jupyter_gpudeploy.backends.local.procfs import PROC, Identity, boot_id, start_time, stat

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

RUN_MARK = "GPUDEPLOY_RUN"
TASK_MARK = "GPUDEPLOY_TASK"
SUPERVISOR_MARK = "GPUDEPLOY_SUPERVISOR"
SUPERVISOR = "supervisor"
_STAT_PARENT, _STAT_SESSION = 1, 3
_KILL_SECONDS = 5.0


def boot_time() -> float | None:
    """Return when this machine started, in seconds since the epoch; None if it does not say."""
    for line in (PROC / "stat").read_text().splitlines():
        if line.startswith("btime "):
            return float(line.split()[1])
    return None


def identity(pid: int) -> Identity | None:
    """Return who has this pid now; None for nobody, and for one that has ended and was not yet waited for."""
    started = start_time(pid)
    return None if started is None else Identity(pid, started, boot_id())


def is_alive(who: Identity) -> bool:
    """Return whether it is still this process that has the pid."""
    return who.boot_id == boot_id() and identity(who.pid) == who


def kept_by(file: Path) -> Identity | None:
    """Return who is named in a `supervisor.json`; None when it is not there or broken."""
    try:
        content = json.loads(file.read_bytes())
        return Identity(int(content["pid"]), int(content["start_time"]), str(content["boot_id"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None


def session(pid: int) -> int | None:
    """Return the session of a living process."""
    fields = stat(pid)
    return None if fields is None else int(fields[_STAT_SESSION])


def children(pid: int) -> list[int]:
    """Return the children of all threads of a process, ended ones included."""
    if not _kernel_lists_children():
        return _children_by_scan(pid)
    found: list[int] = []
    try:
        threads = os.listdir(f"/proc/{pid}/task")  # noqa: PTH208 - called for each trial
    except OSError:
        return found
    for thread in threads:
        try:
            with open(f"/proc/{pid}/task/{thread}/children", "rb") as stream:  # noqa: PTH123 - called for each trial
                found.extend(map(int, stream.read().split()))
        except OSError:
            continue
    return found


def own_children() -> list[int] | None:
    """Return what our main thread has started, and orphans that we adopted; ended ones too.

    None where descriptors have run out: it cannot be told now, and is to be asked again.
    """
    found = b""
    try:
        if not _kernel_lists_children():
            return _children_by_scan(os.getpid())
        descriptor = os.open(f"/proc/self/task/{os.getpid()}/children", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        while data := os.read(descriptor, 1 << 16):
            found += data
    finally:
        os.close(descriptor)
    return [int(pid) for pid in found.split()]


def descendants(pids: Iterable[int], run: str) -> list[int]:
    """Return all of this run that descend from these, nearest first, without these themselves.

    Supervisors, processes of other runs, and what descends from either are left out.
    """
    found: list[int] = []
    waiting = list(pids)
    seen = set(waiting)
    while waiting:
        for child in children(waiting.pop(0)):
            if child not in seen and not is_of_another(child, run):
                seen.add(child)
                found.append(child)
                waiting.append(child)
    return found


def marks(pid: int) -> tuple[str, str] | None:
    """Return (run uid, task) that a process was started with; None if it carries no mark or cannot be read.

    The task of the process that keeps a run is SUPERVISOR.
    """
    try:
        with open(f"/proc/{pid}/environ", "rb") as stream:  # noqa: PTH123 - called for every process of the machine
            environment = stream.read()
    except OSError:
        return None
    if RUN_MARK.encode() not in environment and SUPERVISOR_MARK.encode() not in environment:
        return None
    values = dict(part.partition(b"=")[::2] for part in environment.split(b"\0"))
    if SUPERVISOR_MARK.encode() in values:
        return values[SUPERVISOR_MARK.encode()].decode(errors="replace"), SUPERVISOR
    run, task = values.get(RUN_MARK.encode()), values.get(TASK_MARK.encode(), b"")
    return None if run is None else (run.decode(errors="replace"), task.decode(errors="replace"))


def is_of_another(pid: int, run: str) -> bool:
    """Return whether a process keeps a run, or belongs to another run than this one."""
    found = marks(pid)
    return found is not None and (found[0] != run or found[1] == SUPERVISOR)


def tree(run: str, task: int | None = None) -> list[Identity]:
    """Return the living processes of a run or of one of its tasks: those that carry its mark, and their descendants."""
    wanted = None if task is None else str(task)
    marked = []
    for pid in _all_pids():
        found = marks(pid)
        if found is not None and found[0] == run and found[1] != SUPERVISOR and wanted in (None, found[1]):
            marked.append(pid)
    return identities({*marked, *descendants(marked, run)} - {os.getpid()})


def identities(pids: Iterable[int]) -> list[Identity]:
    """Return the living ones among these pids."""
    return [who for pid in sorted(set(pids)) if (who := identity(pid)) is not None]


def send(who: Identity, number: signal.Signals) -> None:
    """Send a signal to this process and to no other. One that has ended, or is not ours, is left alone."""
    try:
        descriptor = os.pidfd_open(who.pid)
    except ProcessLookupError:
        return
    except OSError:
        if is_alive(who):
            _kill(who.pid, number)
        return
    try:
        if is_alive(who):
            signal.pidfd_send_signal(descriptor, number)
    except (ProcessLookupError, PermissionError):
        pass
    finally:
        os.close(descriptor)


class Ending:
    """The end of some processes, in steps: terminated first, killed after `grace` seconds, until `find` finds nobody.

    `find` is asked at every step, so that children which appear meanwhile end too. `left` is who is still there
    some seconds after being killed: only the kernel can hold those. Where `find` returns None, it cannot be told now.
    """

    def __init__(self, find: Callable[[], Iterable[Identity] | None], grace: float) -> None:
        self._find = find
        self._terminated: set[Identity] = set()
        self._deadline = time.monotonic() + grace
        self.left: list[Identity] = []

    def hurry(self, grace: float) -> None:
        """Kill after `grace` seconds from now, if that is sooner."""
        self._deadline = min(self._deadline, time.monotonic() + grace)

    def step(self) -> bool:
        """Do what is due now; return whether it is over."""
        found = self._find()
        now = time.monotonic()
        if found is None:
            return now > self._deadline + _KILL_SECONDS
        self.left = list(found)
        if not self.left or now > self._deadline + _KILL_SECONDS:
            return True
        for who in self.left:
            if now >= self._deadline:
                send(who, signal.SIGKILL)
            elif who not in self._terminated:
                self._terminated.add(who)
                send(who, signal.SIGTERM)
        return False


def end_tree(run: str, task: int | None = None, *, grace: float = 10.0) -> list[Identity]:
    """End a run's processes, or one task's, found by their marks. Blocks; return who could not be ended."""
    ending = Ending(lambda: tree(run, task), grace)
    while not ending.step():
        time.sleep(0.02)
    return ending.left


def _kill(pid: int, number: signal.Signals) -> None:
    with suppress(ProcessLookupError, PermissionError):
        os.kill(pid, number)


@functools.cache
def _kernel_lists_children() -> bool:
    return Path("/proc/thread-self/children").exists()


def _children_by_scan(pid: int) -> list[int]:
    """The same as `children` on a kernel that lists none (built without CONFIG_PROC_CHILDREN)."""
    found = []
    for candidate in _all_pids():
        fields = stat(candidate)
        if fields is not None and int(fields[_STAT_PARENT]) == pid:
            found.append(candidate)
    return found


def _all_pids() -> Iterator[int]:
    return (int(name) for name in os.listdir("/proc") if name.isdigit())  # noqa: PTH208 - names are wanted, not paths
