"""What the panel may do with runs: read a log or the results, stop, clean. Each takes a run, never a path."""

from __future__ import annotations

import logging
import threading
from typing import TYPE_CHECKING, Any

from jupyter_gpudeploy.errors import BackendError, GpuDeployError, RunNotFoundError
from jupyter_gpudeploy.events.paging import page
from jupyter_gpudeploy.events.store import RunFolder
from jupyter_gpudeploy.events.text import one_line
from jupyter_gpudeploy.events.types import State
from jupyter_gpudeploy.server import tables

if TYPE_CHECKING:
    from collections.abc import Sequence

    from jupyter_gpudeploy.server.looking import Known, Looking

TASKS = 2000
GONE = "it is not there any more"
_LOG = logging.getLogger(__name__)


class HasEndedError(BackendError):
    """What was asked for makes sense only of a run that is alive."""


def log(known: Known, task: int | None, start: int, attempt: int | None) -> dict[str, Any]:
    """Return what the newest attempt of a task printed from byte `start` on (paging.page). Raises RunNotFoundError.

    Where `attempt` is an older one, the newest begins.
    """
    run = known.run
    status = run.status()
    if task is None:
        task = min(status.tasks, default=0)
    if task not in status.tasks:
        raise RunNotFoundError(f"{run.name} has no task {task}", hint="its tasks are in the answer without one")
    files = RunFolder(run.folder).log_files(task)
    newest, file = files[-1] if files else (1, RunFolder(run.folder).log_file(task))
    is_next = attempt is not None and attempt != newest
    found = page(file, -1 if is_next else start, is_over=status.tasks[task].state.is_final)
    rows = run.summary(log_lines=0, metrics=False).rows
    return {
        "task": task,
        "attempt": newest,
        "tasks": [{"number": row.task, "name": one_line(row.name), "state": str(row.state)} for row in rows[:TASKS]],
        "text": found.text,
        "from": found.start,
        "to": found.end,
        "size": found.size,
        "cut": found.is_cut or is_next,
    }


def results(known: Known) -> dict[str, Any]:
    """Return the trials as a table (tables.results)."""
    found = tables.results(known.run)
    if known.run.is_over:
        known.run.forget()
    return found


def stop(known: Known) -> dict[str, Any]:
    """Begin to stop a run. Raises NotConfirmedError for another person's, HasEndedError for one that has ended.

    What goes wrong later is told with the run.
    """
    run = known.run
    run.must_be_mine(take_over=False)
    if run.is_followed and run.is_over and run.state is not State.LOST:
        raise HasEndedError(f"{run.name} has ended already: {run.state}")
    if not known.is_stopping:
        known.is_stopping, known.problem = True, ""
        threading.Thread(target=_stop, args=[known], name="jupyter_gpudeploy stop", daemon=True).start()
    return {"stopping": True}


def _stop(known: Known) -> None:
    try:
        known.run.stop()
    except GpuDeployError as error:
        known.problem = f"could not be stopped: {error.message}"
        _LOG.warning("%s %s", known.run.name, known.problem)
    finally:
        known.is_stopping = False


def clean(looking: Looking, uids: Sequence[str]) -> dict[str, Any]:
    """Delete what is kept of runs that have ended; say which were kept, and why. Raises RunNotFoundError for none."""
    chosen = {uid: looking.known(uid) for uid in uids}
    if not any(chosen.values()):
        raise RunNotFoundError("none of these runs is there", hint="they were removed or replaced")
    cleaned, kept = [], []
    for uid, known in chosen.items():
        reason = GONE if known is None else _clean(known)
        if reason:
            kept.append({"id": uid, "reason": one_line(reason)})
        else:
            cleaned.append(uid)
    return {"cleaned": cleaned, "kept": kept}


def _clean(known: Known) -> str:
    """Delete a run and return nothing, or why it was kept."""
    run = known.run
    try:
        if not run.is_over:
            return f"{run.name} is {run.state}: only runs that have ended are deleted"
        run.remove(yes=True)
    except GpuDeployError as error:
        return error.message
    except OSError as error:
        return f"{run.name}: {error.strerror}"
    return ""
