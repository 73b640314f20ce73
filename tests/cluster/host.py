"""What the cluster takes of this machine besides processes and a network: one folder, and control groups."""

from __future__ import annotations

import contextlib
import fcntl
import shutil
import signal
import time
from pathlib import Path
from typing import TYPE_CHECKING

from . import paths, processes, system
from .system import ClusterError, command, say

if TYPE_CHECKING:
    from collections.abc import Iterator

CGROUP = "gpudeploy"
MEMORY_TO_SPARE = 8 << 20  # KiB
# All pods together weigh as much as so many sessions of a busy machine; usual is one, and then they starve.
WEIGHT = 8


@contextlib.contextmanager
def lock() -> Iterator[None]:
    """One `prepare`, `up` or `down` at a time on this machine."""
    path = Path(f"{paths.run_dir()}.lock")
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("waiting for another prepare, up or down")
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


# --- the folder ---


def make_folder() -> None:
    """Make the folder of the running cluster, in memory where there is enough.

    Unpacking images makes tens of thousands of files, and `down` deletes them: slow on a disk (README.md has both).
    """
    folder = paths.run_dir()
    fresh = not folder.exists()
    folder.mkdir(parents=True, exist_ok=True)
    if fresh and _spare_memory() >= MEMORY_TO_SPARE:
        command(["mount", "-t", "tmpfs", "-o", "mode=755", "gpudeploy-cluster", folder])


def delete_folder() -> None:
    """Delete the folder with all that is mounted in it."""
    for _ in range(20):
        _unmount(paths.run_dir())
        shutil.rmtree(paths.run_dir(), ignore_errors=True)
        if not paths.run_dir().exists():
            return
        time.sleep(0.1)
    raise ClusterError(f"{paths.run_dir()} could not be deleted whole")


def _spare_memory() -> int:
    lines = Path("/proc/meminfo").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("MemAvailable:"))


def _unmount(root: Path) -> None:
    mounts = [line.split()[1].replace("\\040", " ") for line in Path("/proc/mounts").read_text().splitlines()]
    for mount in reversed([one for one in mounts if f"{one}/".startswith(f"{root}/")]):
        with contextlib.suppress(ClusterError):
            command(["umount", "--lazy", mount])


# --- control groups ---


def make_cgroups() -> None:
    """The kubelet puts pods below a group of ours, so that `down` can find them all."""
    for hierarchy in system.hierarchies():
        group = hierarchy / CGROUP
        group.mkdir(exist_ok=True)
        for name, usual in (("cpu.shares", 1024), ("cpu.weight", 100)):
            if (group / name).exists():
                (group / name).write_text(str(WEIGHT * usual))


def kill_cgroups() -> None:
    """Kill what runs in pods."""
    pids = set()
    for group in _groups():
        with contextlib.suppress(OSError):
            pids |= {int(word) for word in (group / "cgroup.procs").read_text().split()}
    processes.end(pids - {0}, signal.SIGKILL)


def remove_cgroups() -> None:
    """Remove the groups, which must be empty."""
    for group in sorted(_groups(), key=lambda path: -len(path.parts)):
        with contextlib.suppress(OSError):
            group.rmdir()


def _groups() -> list[Path]:
    return [path.parent for place in system.hierarchies() for path in (place / CGROUP).rglob("cgroup.procs")]
