"""Starts, finds and ends the processes of the parts. Each carries its part's name in its environment."""

from __future__ import annotations

import contextlib
import os
import signal
from pathlib import Path
from typing import TYPE_CHECKING

from . import paths
from .system import wait_for

if TYPE_CHECKING:
    from collections.abc import Iterable


def find(part: str | None = None) -> dict[int, str]:
    """Living processes of this cluster: pid -> part. What a part started (shims) has the part's name too."""
    wanted = f"{paths.PART_VARIABLE}={part}".encode() if part else f"{paths.PART_VARIABLE}=".encode()
    found = {}
    for folder in Path("/proc").iterdir():
        if not folder.name.isdecimal():
            continue
        with contextlib.suppress(OSError):
            for entry in (folder / "environ").read_bytes().split(b"\0"):
                if (entry == wanted or (part is None and entry.startswith(wanted))) and _is_alive(folder):
                    found[int(folder.name)] = entry.partition(b"=")[2].decode()
    return found


def main_pid(part: str) -> int | None:
    """The process that `start` made, while it lives."""
    with contextlib.suppress(OSError, ValueError):
        pid = int(_pid_file(part).read_text())
        if find_one(pid) == part:
            return pid
    return None


def find_one(pid: int) -> str | None:
    """The part that a living process belongs to."""
    with contextlib.suppress(OSError):
        for entry in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0"):
            name, _, value = entry.partition(b"=")
            if name == paths.PART_VARIABLE.encode() and _is_alive(Path(f"/proc/{pid}")):
                return value.decode()
    return None


def start(part: str, argv: list[str]) -> int:
    """Start a part in a session of its own; its output is appended to its log. Returns its pid."""
    paths.logs().mkdir(parents=True, exist_ok=True)
    _pid_file(part).parent.mkdir(parents=True, exist_ok=True)
    path = f"{paths.cache() / 'bin'}:{os.environ.get('PATH', '')}:/usr/sbin:/sbin"
    env = {"PATH": path, "HOME": "/root", "LANG": "C.UTF-8", paths.PART_VARIABLE: part}
    log = str(log_file(part))
    # Not Popen: the part outlives this program, and nobody here waits for it.
    pid = os.posix_spawn(
        argv[0],
        argv,
        env,
        file_actions=[
            (os.POSIX_SPAWN_OPEN, 0, "/dev/null", os.O_RDONLY, 0),
            (os.POSIX_SPAWN_OPEN, 1, log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644),
            (os.POSIX_SPAWN_DUP2, 1, 2),
        ],
        setsid=True,
    )
    _pid_file(part).write_text(str(pid))
    return pid


def log_file(part: str) -> Path:
    """What a part says."""
    return paths.logs() / f"{part}.log"


def end(pids: Iterable[int], number: signal.Signals = signal.SIGTERM, patience: float = 10) -> None:
    """Signal the processes and wait until they are gone; after `patience` seconds SIGKILL."""
    left = set(pids)
    _signal(left, number)
    with contextlib.suppress(Exception):
        wait_for("the end of the processes", lambda: not _reap(left), patience, every=0.05)
    if _reap(left):
        _signal(left, signal.SIGKILL)
        wait_for("the end of killed processes", lambda: not _reap(left), 30, every=0.05)


def _signal(pids: Iterable[int], number: signal.Signals) -> None:
    for pid in list(pids):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)


def _reap(pids: set[int]) -> set[int]:
    for pid in list(pids):
        with contextlib.suppress(ChildProcessError):
            os.waitpid(pid, os.WNOHANG)
        if not _is_alive(Path(f"/proc/{pid}")):
            pids.discard(pid)
    return pids


def _is_alive(folder: Path) -> bool:
    with contextlib.suppress(OSError):
        return (folder / "stat").read_text().rpartition(")")[2].split()[0] not in {"Z", "X"}
    return False


def _pid_file(part: str) -> Path:
    return paths.run_dir() / "pids" / part
