"""What /proc says of processes that need not be our children."""

from __future__ import annotations

import functools
import os
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping

PROC = Path("/proc")
_STATE, _START = 0, 19  # places in `stat`


class Identity(NamedTuple):
    """One process and no other: a pid alone is given again, after a reboot even together with its start time."""

    pid: int
    start_time: int
    boot_id: str


def identity(pid: int | None = None) -> Identity:
    """Return who a process is, ourselves without `pid`. Its start time is 0 where there is no /proc or no process."""
    pid = os.getpid() if pid is None else pid
    return Identity(pid, start_time(pid) or 0, boot_id())


def is_alive(holder: Mapping[str, object]) -> bool:
    """Say whether the process with this `pid`, `start_time` and `boot_id` still runs. A zombie does not."""
    try:
        pid, started = int(str(holder["pid"])), int(str(holder["start_time"]))
    except (KeyError, ValueError):
        return False
    if str(holder.get("boot_id", "")) != boot_id():
        return False
    return start_time(pid) == started if has_proc() else _answers_signals(pid)


def stat(pid: int) -> list[bytes] | None:
    """Return the fields of /proc/<pid>/stat from the third on, since a name may hold blanks.

    None for one that is gone, and for one that has ended and was not yet waited for.
    """
    try:
        with open(f"{PROC}/{pid}/stat", "rb") as stream:  # noqa: PTH123 - called for every process of the machine
            fields = stream.read().rpartition(b")")[2].split()
    except OSError:
        return None
    return None if not fields or fields[_STATE] in (b"Z", b"X") else fields


def start_time(pid: int) -> int | None:
    """Return when a process started, in clock ticks since boot; None for one that is gone or a zombie."""
    fields = stat(pid)
    return None if fields is None else int(fields[_START])


@functools.cache
def boot_id() -> str:
    """Return what changes with every boot of this machine; empty where it cannot be known."""
    try:
        return (PROC / "sys/kernel/random/boot_id").read_text("utf-8").strip()
    except OSError:
        return ""


@functools.cache
def has_proc() -> bool:
    """Say whether this system has a /proc to read."""
    return (PROC / "self/stat").exists()


def name(pid: int) -> str:
    """Return what a process is called, without its folder; empty for one that is gone."""
    try:
        return (PROC / str(pid) / "comm").read_text("utf-8", "replace").strip()
    except OSError:
        return ""


def _answers_signals(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
