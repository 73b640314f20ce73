"""The process that keeps one run: it starts the tasks, sees them end, and writes down what happened.

It lives in its own session, holds nothing of the kernel that launched the run, and needs the standard library alone.
Everything it knows is in the run's folder; a new supervisor can go on where a killed one stopped.
"""

from __future__ import annotations

import ctypes
import fcntl
import json
import os
import signal
import time
from typing import TYPE_CHECKING

from jupyter_gpudeploy.backends.local import control, processes
from jupyter_gpudeploy.backends.local.layout import LocalFolder
from jupyter_gpudeploy.backends.local.procfs import identity
from jupyter_gpudeploy.backends.local.run import KeptRun
from jupyter_gpudeploy.backends.local.states import Chronicle
from jupyter_gpudeploy.errors import BackendError
from jupyter_gpudeploy.events.store import write_atomically
from jupyter_gpudeploy.events.types import State

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

_PR_SET_CHILD_SUBREAPER = 36
_LEFTOVER_GRACE = 5.0
_FULL_DISK_SECONDS = 600.0


def main() -> None:
    """Keep the run whose folder is told by stdin, until it has ended. A second keeper leaves at once."""
    path = _told()
    if not path:
        return
    folder = LocalFolder(path)
    lock = _take_lock(folder)
    if lock is None:
        return
    os.environ.pop(processes.SUPERVISOR_MARK, None)  # we go on showing it in /proc; nothing inherits it
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    _adopt_orphans()
    write_atomically(folder.supervisor_file, json.dumps({**identity()._asdict(), "host": os.uname().nodename}))
    record = folder.record()
    chronicle = Chronicle(folder)
    try:
        if not chronicle.state.is_final:
            _keep(folder, record, chronicle)
    finally:
        chronicle.close()
        os.close(lock)


def _keep(folder: LocalFolder, record: Mapping[str, Any], chronicle: Chronicle) -> None:
    try:
        if not chronicle.is_new:
            _end_leftovers(folder, record["uid"], chronicle)
        os.chdir(record["working_dir"])
        run = KeptRun(folder, record, chronicle)
        signal.signal(signal.SIGTERM, lambda _number, _frame: run.ask_to_stop())
        run.keep()
    except Exception as error:  # noqa: BLE001 - whatever it is, the run must not end without a word
        processes.end_tree(record["uid"], grace=2.0)
        reason = f"{type(error).__name__}: {error}"
        if isinstance(error, OSError) and error.filename == record["working_dir"]:
            reason = f"the working directory {record['working_dir']} is not there"
        elif not isinstance(error, BackendError):
            import traceback

            traceback.print_exc()
            reason = f"the supervisor failed ({reason}); its log tells more: {folder.supervisor_log}"
        chronicle.run(State.FAILED, reason)
    _wait_for_room(folder, chronicle)


def _told() -> str:
    """Wait to be told the folder; empty when nothing came of it. Then let go of whoever told it."""
    told = b""
    while not told.endswith(b"\0") and (more := os.read(0, 1 << 16)):
        told += more
    null = os.open(os.devnull, os.O_RDWR)
    os.dup2(null, 0)
    os.close(null)
    if not told.endswith(b"\0"):
        return ""
    path = os.fsdecode(told[:-1])
    log = os.open(LocalFolder(path).supervisor_log, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
    os.dup2(log, 1)
    os.dup2(log, 2)
    os.close(log)
    return path


def _take_lock(folder: LocalFolder) -> int | None:
    """Return the descriptor that holds the run's lock for as long as we live, or None when another holds it."""
    descriptor = os.open(folder.lock_file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    return descriptor


def _adopt_orphans() -> None:
    """Become the parent of every descendant that loses its own, so that none can leave us (Linux)."""
    library = ctypes.CDLL(None, use_errno=True)
    if library.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_CHILD_SUBREAPER)")


def _end_leftovers(folder: LocalFolder, run: str, chronicle: Chronicle) -> None:
    """End what an earlier supervisor started and could not see end."""
    count = len(processes.tree(run))
    asked, _ = control.Requests(folder).poll()
    left = processes.end_tree(run, grace=_LEFTOVER_GRACE if asked is None else asked)
    ended = f"; {count} processes of it were still there and were ended" if count else ""
    was_resumed = chronicle.state is State.WAITING  # a supervisor never writes that
    chronicle.notice(
        f"taken up again after {'it was stopped' if was_resumed else 'its supervisor was gone'}{ended}", level="info"
    )
    if left:
        chronicle.notice(f"{len(left)} processes of the time before cannot be ended")


def _wait_for_room(folder: LocalFolder, chronicle: Chronicle) -> None:
    """Stay until the end is on the disk, when that is full; not for ever, and not when told to go."""
    requests = control.Requests(folder)
    requests.poll()  # what has ended the run already
    deadline = time.monotonic() + _FULL_DISK_SECONDS
    while chronicle.is_behind and time.monotonic() < deadline and requests.poll()[0] is None:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        time.sleep(0.5)
