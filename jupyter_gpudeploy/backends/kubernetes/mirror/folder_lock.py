"""Who writes into the mirror of a run: the one who has the lock in its folder, as long as that is the run's folder."""

from __future__ import annotations

import fcntl
import os
from typing import TYPE_CHECKING

from jupyter_gpudeploy.backends.kubernetes.layout import BROKEN, MirrorFolder

if TYPE_CHECKING:
    from pathlib import Path

_NAME = "mirror.lock"


def take(folder: Path) -> int | None:
    """Return the lock, to be closed; None while another process or thread has it. Raises FileNotFoundError.

    The folder at a path can be another run's by the time it is ours: see `is_whose`.
    """
    try:
        lock = os.open(folder / _NAME, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except FileNotFoundError:
        raise
    except OSError:
        return None
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(lock)
        return None
    return lock


def is_whose(folder: Path, uid: str) -> bool:
    """Whether the folder is this run's, and not that of another one which has taken the name."""
    try:
        return MirrorFolder(folder).ref().uid == uid
    except BROKEN:
        return True


def is_held(folder: Path, lock: int) -> bool:
    """Whether the folder that stands at this path is still the one whose lock this is."""
    try:
        return os.path.samestat(os.fstat(lock), (folder / _NAME).stat())
    except OSError:
        return False
