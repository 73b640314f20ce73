"""The process that samples GPUs and processes once a second, for all living runs of a state root.

It only looks and writes `samples.jsonl` of the runs that live; it is no part of any run, and when it dies nothing else
does. Each GPU is asked once, whoever holds it, and only while somebody does. It ends a minute after the last run has.
"""

from __future__ import annotations

import os
import signal
import time
import traceback
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from jupyter_gpudeploy.backends.local import processes
from jupyter_gpudeploy.backends.local.layout import LocalFolder
from jupyter_gpudeploy.backends.local.living import LivingRun
from jupyter_gpudeploy.backends.local.recorders import LOCK, ensure
from jupyter_gpudeploy.events.history import has_final_record
from jupyter_gpudeploy.events.types import GpuSample, ProcessSample
from jupyter_gpudeploy.sources.processes import ProcessTable

if TYPE_CHECKING:
    from collections.abc import Hashable, Mapping

    from jupyter_gpudeploy.backends.local.pages import Pages
    from jupyter_gpudeploy.events.types import Sample
    from jupyter_gpudeploy.sources._gpus import Gpus
    from jupyter_gpudeploy.sources.processes import Usage

EVERY_SECONDS = 1.0
IDLE_SECONDS = 60.0
_OTHERS_EVERY = 10  # turns
_GPU_IDLE_TURNS = 30
_BROKEN = (OSError, ValueError, KeyError, TypeError)


def main(root: str, lock: int) -> None:
    """Record until there has been nothing to record for a while. `lock`: the descriptor that says that we are there."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    with suppress(OSError):
        os.nice(5)
    with suppress(OSError):  # where memory runs out, this goes before any run does
        Path("/proc/self/oom_score_adj").write_text("800", "ascii")
    place = Path(root)
    try:
        Recorder(place).record(lock)
    except Exception:  # noqa: BLE001 - it is told where it can be found, and the next launch begins anew
        with suppress(OSError):
            (place / "recorder.log").write_text(traceback.format_exc(), "utf-8")


class Recorder:
    """Everything that one recorder knows. `turn` is one look at everything."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._runs: dict[str, LivingRun] = {}
        self._over: dict[str, tuple[int, int]] = {}
        self._table = ProcessTable(processes.marks)
        self._gpus: Gpus | None = None
        self._pages: Pages | None = None
        self._known_gpus: set[str] = set()
        self._turn = 0
        self._gpu_turn = self._opened_turn = 0

    @property
    def names(self) -> set[str]:
        """The runs that live."""
        return {*self._runs}

    def record(self, lock: int) -> None:
        """Look again and again, until there has been nothing to see for IDLE_SECONDS, or the root is gone."""
        due = last = time.monotonic()
        while self._is_mine(lock):
            self.turn()
            now = time.monotonic()
            last = now if self._runs else last
            if now - last > IDLE_SECONDS:
                break
            due = max(due + EVERY_SECONDS, now)
            time.sleep(due - now)
        self.close()
        os.close(lock)
        self._find(everything=True)
        if self._runs:  # one was launched while we were about to leave
            ensure(self._root)

    def turn(self) -> None:
        """Look at everything once, and write it."""
        self._find(everything=self._turn % _OTHERS_EVERY == 0)
        for run in self._runs.values():
            try:
                run.poll()
            except _BROKEN:  # a journal with something strange in it: that run goes unmeasured, the others do not
                run.is_over = True
        roots = {
            task.pid: (run.uid, str(number))
            for run in self._runs.values()
            if run.is_kept()
            for number, task in run.tasks.items()
        }
        usages = self._table.look(roots) if self._runs else {}
        gpus = self._look_at_gpus()
        now = time.time()
        taken = _by_run(usages, now)
        for run in self._runs.values():
            run.write([*self._of_gpus(run, gpus, now), *taken.get(run.uid, ()), *self._of_page(run)], self._turn)
        self._forget(usages)
        if self._pages is not None:
            self._pages.keep(
                (run.uid, number, task.url)
                for run in self._runs.values()
                for number, task in run.tasks.items()
                if task.is_ready
            )
        self._turn += 1

    def close(self) -> None:
        """Let go of everything."""
        for run in self._runs.values():
            run.close()
        if self._gpus is not None:
            self._gpus.close()
        if self._pages is not None:
            self._pages.keep(())

    def _is_mine(self, lock: int) -> bool:
        """Whether the root is still there, and the lock in it is ours."""
        try:
            return os.path.samestat(os.fstat(lock), (self._root / LOCK).stat())
        except OSError:
            return False

    def _find(self, *, everything: bool) -> None:
        """Find runs that live. Those that were over are looked at again with `everything`: they may be resumed."""
        try:
            entries = {entry.name: entry for entry in os.scandir(self._root / "runs") if entry.name[0] != "."}
        except OSError:
            entries = {}
        for name in self._over.keys() - entries.keys():
            del self._over[name]
        for name, run in [*self._runs.items()]:
            if name not in entries or entries[name].inode() != run.inode:  # removed, or another run has its name
                run.close()
                del self._runs[name]
        for name, entry in entries.items():
            if name in self._runs or (name in self._over and not everything):
                continue
            folder = LocalFolder(entry.path)
            with suppress(*_BROKEN):
                stamp = _stamp(folder)
                if self._over.get(name) == stamp:
                    continue
                if has_final_record(folder.events_file):
                    self._over[name] = stamp
                else:
                    self._runs[name] = LivingRun(folder)
                    self._over.pop(name, None)

    def _forget(self, usages: Mapping[Hashable, Usage]) -> None:
        """Let go of runs that are over: ended, gone, or without a supervisor and without a process."""
        alive = {key[0] for key in usages if isinstance(key, tuple)}
        for name, run in [*self._runs.items()]:
            if run.is_over or not (run.is_kept() or run.uid in alive):
                run.close()
                del self._runs[name]
                with suppress(OSError):
                    self._over[name] = _stamp(run.folder)

    def _look_at_gpus(self) -> dict[str, GpuSample]:
        if any(run.holds_gpus for run in self._runs.values()):
            self._gpu_turn = self._turn
            if self._gpus is None:
                from jupyter_gpudeploy.sources._gpus import Gpus

                self._gpus, self._opened_turn = Gpus(), self._turn
            found = {sample.gpu: sample for sample in self._gpus.look()}
            self._known_gpus |= found.keys()
            return found
        if self._gpus is not None and self._turn - self._gpu_turn > _GPU_IDLE_TURNS:
            self._gpus.close()
            self._gpus = None
        return {}

    def _of_gpus(self, run: LivingRun, found: Mapping[str, GpuSample], now: float) -> list[Sample]:
        """Return what is known of the GPUs of a run; now and then, of which of them nothing can be."""
        held: dict[str, int | None] = dict.fromkeys(run.gpus)
        held.update((gpu, number) for number, task in run.tasks.items() for gpu in task.gpus)
        samples: list[Sample] = []
        for gpu, task in held.items():
            if gpu in found:
                samples.append(found[gpu]._replace(time=now, task=task))
            elif gpu not in self._known_gpus and (self._turn - self._opened_turn) % _OTHERS_EVERY == _OTHERS_EVERY - 1:
                samples.append(GpuSample(now, gpu, task))
        return samples

    def _of_page(self, run: LivingRun) -> list[Sample]:
        ready = {number: task for number, task in run.tasks.items() if task.is_ready and task.url}
        if not ready or not run.preset:
            return []
        if self._pages is None:
            from jupyter_gpudeploy.backends.local.pages import Pages

            self._pages = Pages()
        return [
            point for number, task in ready.items() for point in self._pages.take(run.uid, number, run.preset, task.url)
        ]


def _by_run(usages: Mapping[Hashable, Usage], now: float) -> dict[str, list[Sample]]:
    """Return what the processes of each run's tasks take, by the run's uid. Supervisors belong to no task."""
    found: dict[str, list[Sample]] = {}
    for key, usage in usages.items():
        if isinstance(key, tuple) and key[1].isdigit():
            cpu = usage.cpu if usage.cpu is None else round(usage.cpu, 1)
            found.setdefault(key[0], []).append(ProcessSample(now, int(key[1]), cpu, usage.memory, usage.processes))
    return found


def _stamp(folder: LocalFolder) -> tuple[int, int]:
    """Return what changes when a run gets another folder, or its journal grows. A run may have none yet."""
    try:
        found = folder.events_file.stat()
    except FileNotFoundError:
        return folder.path.stat().st_ino, -1
    return found.st_ino, found.st_size
