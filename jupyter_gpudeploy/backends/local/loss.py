"""Why nobody keeps a run any more: one sentence, told from what its supervisor left behind."""

from __future__ import annotations

import fcntl
import json
import os
import time
from typing import TYPE_CHECKING, Any

from jupyter_gpudeploy.backends.local import processes
from jupyter_gpudeploy.backends.local.procfs import Identity, boot_id
from jupyter_gpudeploy.events.history import has_final_record

if TYPE_CHECKING:
    from jupyter_gpudeploy.backends.base import RunRef
    from jupyter_gpudeploy.backends.local.layout import LocalFolder

_START_SECONDS = 10.0


def why_lost(folder: LocalFolder, ref: RunRef) -> str | None:
    """Return the sentence, or None for a run that is kept or has ended."""
    if has_final_record(folder.events_file):
        return None
    try:
        left: dict[str, Any] = json.loads(folder.supervisor_file.read_bytes())
        who = Identity(int(left["pid"]), int(left["start_time"]), str(left["boot_id"]))
    except FileNotFoundError:
        is_young = time.time() - ref.created < _START_SECONDS
        is_coming = is_young or _is_starting(folder) or _is_locked(folder)
        return None if is_coming else "it was never started: who launched it was killed meanwhile"
    except (ValueError, KeyError, TypeError):
        return None if _is_locked(folder) else "the record of its supervisor cannot be read"
    if processes.is_alive(who) or _is_starting(folder) or has_final_record(folder.events_file):
        return None
    return _why_dead(folder, ref, who, str(left.get("host", "")))


def _why_dead(folder: LocalFolder, ref: RunRef, who: Identity, host: str) -> str | None:
    if who.boot_id == boot_id():
        return f"its supervisor (pid {who.pid}) was killed{_still_there(ref)}"
    if host == os.uname().nodename:
        return f"lost with the restart of this machine{_when()}"
    return None if _is_locked(folder) else f"it was kept on another machine ({host}), which keeps it no more"


def _is_starting(folder: LocalFolder) -> bool:
    """Return whether a supervisor was started a moment ago and has not said yet who it is."""
    try:
        started = folder.lock_file.stat().st_mtime
        if time.time() - started > _START_SECONDS:
            return False
        return not folder.supervisor_file.exists() or started > folder.supervisor_file.stat().st_mtime
    except FileNotFoundError:
        return False


def _still_there(ref: RunRef) -> str:
    count = len(processes.tree(ref.uid))
    return f"; {count} of its processes still run" if count else ""


def _when() -> str:
    booted = processes.boot_time()
    return "" if booted is None else time.strftime(" at %Y-%m-%d %H:%M", time.localtime(booted))


def _is_locked(folder: LocalFolder) -> bool:
    """Return whether a supervisor holds the run's lock, on whichever machine."""
    try:
        with folder.lock_file.open("rb") as stream:
            fcntl.flock(stream, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False
