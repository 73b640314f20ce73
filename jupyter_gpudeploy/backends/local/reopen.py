"""A run that was stopped goes on: what is not done waits again, and the run has no end any more."""

from __future__ import annotations

import fcntl
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

from jupyter_gpudeploy.backends.local import control
from jupyter_gpudeploy.backends.local.states import Chronicle
from jupyter_gpudeploy.errors import BackendError
from jupyter_gpudeploy.events.history import has_final_record
from jupyter_gpudeploy.events.types import State

if TYPE_CHECKING:
    from collections.abc import Iterator

    from jupyter_gpudeploy.backends.local.layout import LocalFolder

_LOCK_SECONDS = 5.0
_UNDONE = ("job", "sweep")


def reopen(folder: LocalFolder) -> None:
    """Write into the journal of a stopped run that it waits again. Raises BackendError where nothing is left to do.

    The journal has one writer: we are it for a moment, under the lock that a supervisor holds. When this returns, no
    reader takes the run for ended. A second caller finds that it has no end, and leaves it alone.
    """
    with _locked(folder):
        if not has_final_record(folder.events_file):
            return
        record = folder.record()
        chronicle = Chronicle(folder)
        try:
            undone = [number for number, end in chronicle.results.items() if end.state is State.STOPPED]
            if chronicle.state is not State.STOPPED or record["kind"] not in _UNDONE or not undone:
                raise BackendError(f"{record['name']} has ended: there is nothing to resume", hint="launch it anew")
            control.withdraw_stop(folder)
            for number in sorted(undone):
                begun = max(chronicle.started.get(number, 0), len(folder.log_files(number)))
                chronicle.task(number, State.WAITING, attempt=begun + 1)
            chronicle.run(State.WAITING, f"resumed: {len(undone)} of {len(record['tasks'])} are to be done")
        finally:
            chronicle.close()


@contextmanager
def _locked(folder: LocalFolder) -> Iterator[None]:
    """Hold the run's lock. Its supervisor lets go of it a moment after it has written the end."""
    deadline = time.monotonic() + _LOCK_SECONDS
    with folder.lock_file.open("ab") as stream:
        while True:
            try:
                fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if not has_final_record(folder.events_file):
                    break  # somebody else has resumed it, and it is kept again
                if time.monotonic() > deadline:
                    raise BackendError("its supervisor has not left yet", hint="resume it a moment later") from None
                time.sleep(0.02)
            else:
                break
        yield
