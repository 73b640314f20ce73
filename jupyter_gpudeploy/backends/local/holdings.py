"""The GPUs that one run holds for its tasks. Nothing of GPUs is imported or asked for by a run that wants none."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, NamedTuple

from jupyter_gpudeploy.backends.local import processes
from jupyter_gpudeploy.backends.local.procfs import identity
from jupyter_gpudeploy.errors import BackendError
from jupyter_gpudeploy.events.types import State

if TYPE_CHECKING:
    from collections.abc import Mapping

    from jupyter_gpudeploy.backends.local.gpus import Lease, Leases
    from jupyter_gpudeploy.backends.local.layout import LocalFolder
    from jupyter_gpudeploy.backends.local.states import Chronicle

_HIDDEN = {"nvidia-smi": {"CUDA_VISIBLE_DEVICES": ""}, "rocm-smi": {"HIP_VISIBLE_DEVICES": "-1"}}


class Grant(NamedTuple):
    """GPUs for one task, or none."""

    devices: tuple[str, ...]
    environment: Mapping[str, str]
    lease: Lease | None = None


class Holdings:
    """Leases GPUs for the tasks of a run, `count` each."""

    def __init__(self, folder: LocalFolder, run: str, count: int, chronicle: Chronicle) -> None:
        self._root = folder.root
        self._run = run
        self._count = count
        self._chronicle = chronicle
        self._leases: Leases | None = None
        self._told_waiting: set[int | None] = set()
        self.nothing = Grant((), _hidden(os.environ.get("PATH", os.defpath)))

    def take(self, task: int | None) -> Grant | None:
        """Return GPUs for a task, or for the run itself; None while not enough are free, which is said once.

        Raises BackendError when this machine has not so many.
        """
        if self._count == 0:
            return self.nothing
        leases = self._opened()
        total = len(leases.available())
        if self._count > total:
            raise BackendError(f"asks for {self._count} GPUs, this machine has {total}")
        lease = leases.acquire(self._count, self._holder(task))
        if lease is None:
            self._tell_waiting(task, total)
            return None
        if lease.notice:
            self._chronicle.notice(lease.notice, task)
        self._told_waiting.discard(task)
        return Grant(lease.devices, lease.environment, lease)

    def hand_over(self, grant: Grant, task: int, pid: int) -> None:
        """Let a lease last also as long as the task's own process, even when nobody keeps the run any more."""
        who = processes.identity(pid) if grant.lease is not None else None
        if grant.lease is not None and who is not None:
            self._opened().hand_over(grant.lease, {**self._holder(task), "process": who._asdict()})

    def give_back(self, grant: Grant) -> None:
        """End a lease."""
        if grant.lease is not None:
            self._opened().release(grant.lease)

    def _holder(self, task: int | None) -> dict[str, object]:
        return {"run": self._run, "task": task, **identity()._asdict()}

    def _opened(self) -> Leases:
        if self._leases is None:
            from jupyter_gpudeploy.backends.local.gpus import Leases

            self._leases = Leases(self._root)
        return self._leases

    def _tell_waiting(self, task: int | None, total: int) -> None:
        if task in self._told_waiting:
            return
        self._told_waiting.add(task)
        reason = f"waiting for {self._count} free GPU{'s' if self._count > 1 else ''} of {total}"
        if task is None:
            self._chronicle.run(State.WAITING, reason)
        else:
            self._chronicle.task(task, State.WAITING, reason=reason)


def _hidden(path: str) -> dict[str, str]:
    """Return what hides every GPU from a task that asked for none; nothing on a machine without GPUs."""
    for tool, environment in _HIDDEN.items():
        if any(os.access(os.path.join(place, tool), os.X_OK) for place in path.split(os.pathsep)):  # noqa: PTH118 - words of PATH
            return environment
    return {}
