"""Requests to a supervisor: whole files in `control/`, put there by any process, seen within a tenth of a second."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any

from jupyter_gpudeploy.backends.local.layout import FIRST_EXECUTED
from jupyter_gpudeploy.events.store import write_atomically

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from jupyter_gpudeploy.backends.local.layout import LocalFolder

STOP = "stop.json"
_EXECUTE = ".exec.json"
_MISSES = 10


def request_stop(folder: LocalFolder, grace: float) -> None:
    """Ask for the end. Raises OSError, for example on a full disk."""
    write_atomically(folder.control / STOP, json.dumps({"grace": grace}))


def withdraw_stop(folder: LocalFolder) -> None:
    """Forget an earlier request to end."""
    (folder.control / STOP).unlink(missing_ok=True)


def request_execute(folder: LocalFolder, argv: Sequence[str]) -> int:
    """Ask for one more command; return its task number. Two processes that ask at once get two numbers."""
    draft = folder.control / f".draft.{os.getpid()}.{os.urandom(4).hex()}"
    write_atomically(draft, json.dumps({"argv": list(argv)}))
    number = max(executes(folder), default=FIRST_EXECUTED - 1) + 1
    try:
        while True:
            try:
                os.link(draft, folder.control / f"{number}{_EXECUTE}")
            except FileExistsError:
                number += 1
            else:
                return number
    finally:
        draft.unlink()


def executes(folder: LocalFolder) -> list[int]:
    """Return the numbers of the commands that were asked for, in order."""
    try:
        names = os.listdir(folder.control)  # noqa: PTH208 - names are wanted, not paths
    except FileNotFoundError:
        return []
    return sorted(int(name.removesuffix(_EXECUTE)) for name in names if name.endswith(_EXECUTE) and name[0] != ".")


def executed_argv(folder: LocalFolder, number: int) -> list[str]:
    """Return what was asked for under this number."""
    content: Mapping[str, Any] = json.loads((folder.control / f"{number}{_EXECUTE}").read_text("utf-8"))
    return [str(text) for text in content["argv"]]


class Requests:
    """What has come and was not seen before."""

    def __init__(self, folder: LocalFolder) -> None:
        self._folder = folder
        self._seen: set[str] = set()
        self._stop = (0, 0)
        self._misses = 0

    def poll(self) -> tuple[float | None, list[int]]:
        """Return (grace of a stop that is asked for now, numbers of new commands)."""
        try:
            names = set(os.listdir(self._folder.control))  # noqa: PTH208 - ten times a second
        except FileNotFoundError:
            self._misses += 1
            return None, []
        except OSError:
            return None, []
        self._misses = 0
        new = {name for name in names - self._seen if name.endswith(_EXECUTE) and name[0] != "."}
        self._seen |= new
        numbers = sorted(int(name.removesuffix(_EXECUTE)) for name in new)
        return (self._new_stop() if STOP in names else None), numbers

    @property
    def is_cut_off(self) -> bool:
        """Whether no request can come any more: the run's folder was deleted, and stays so when it is looked again."""
        return self._misses > _MISSES

    def _new_stop(self) -> float | None:
        """Return the grace of a stop request that is not the one seen before: a second may be more impatient."""
        file = self._folder.control / STOP
        try:
            status = file.stat()
            seen, self._stop = self._stop, (status.st_ino, status.st_mtime_ns)
            return None if seen == self._stop else float(json.loads(file.read_text("utf-8"))["grace"])
        except (OSError, ValueError, KeyError, TypeError):
            return None
