"""CPU and memory of trees of processes, from /proc: one listing and one short file a process.

psutil would read the same files in two to four times the time, and we know /proc already (backends/local/procfs.py).
A process belongs to what marks it, or to what its parent belongs to. That is settled when it is first seen, and again
every REFRESH_SECONDS, so a look costs nothing for the thousands of processes that are none of ours.
"""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, NamedTuple

from jupyter_gpudeploy.events.types import ProcessSample

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Mapping

REFRESH_SECONDS = 30.0
_TICKS = os.sysconf("SC_CLK_TCK")
_PAGE = os.sysconf("SC_PAGE_SIZE")
_STATE, _PARENT, _USER, _SYSTEM, _START, _RESIDENT = 0, 1, 11, 12, 19, 21  # places in `stat`, from its third field on


class Usage(NamedTuple):
    """What some processes take. `cpu`: percent of one core since the look before, None at the first."""

    cpu: float | None
    memory: int
    processes: int


class _Seen(NamedTuple):
    """A process that is ours, at the look before. `start` tells it from another one with the same pid."""

    key: Hashable
    start: int
    ticks: int


class ProcessTable:
    """The processes of this machine, by what they belong to.

    `mark(pid)` returns what a process is marked with, None for nothing; it is asked once for each new process.
    """

    def __init__(self, mark: Callable[[int], Hashable | None], clock: Callable[[], float] = time.monotonic) -> None:
        self._mark = mark
        self._clock = clock
        self._known: set[int] = set()
        self._ours: dict[int, _Seen] = {}
        self._refreshed = self._looked = -float("inf")
        self._has_looked = False

    def look(self, roots: Mapping[int, Hashable]) -> dict[Hashable, Usage]:
        """Return what each takes. `roots`: processes that are known to belong to something, whatever their marks."""
        now = self._clock()
        pids = {int(name) for name in os.listdir("/proc") if "0" < name < ":"}  # noqa: PTH208 - numbers among names
        if now - self._refreshed >= REFRESH_SECONDS:
            self._known, self._refreshed = set(), now
        self._settle(pids, roots)
        seconds, self._looked = now - self._looked, now
        used: dict[Hashable, list[int]] = {}
        for pid, seen in list(self._ours.items()):
            fields = _stat(pid)
            if fields is None or int(fields[_START]) != seen.start:
                del self._ours[pid]
                continue
            if fields[_RESIDENT] == b"0":  # it is ending and has given its memory back: no look at what it takes
                continue
            ticks = int(fields[_USER]) + int(fields[_SYSTEM])
            sums = used.setdefault(seen.key, [0, 0, 0])
            for place, more in enumerate((ticks - seen.ticks, int(fields[_RESIDENT]), 1)):
                sums[place] += more
            self._ours[pid] = seen._replace(ticks=ticks)
        had_looked, self._has_looked = self._has_looked, True
        return {
            key: Usage(100 * ticks / _TICKS / seconds if had_looked and seconds > 0 else None, pages * _PAGE, count)
            for key, (ticks, pages, count) in used.items()
        }  # fmt: skip

    def _settle(self, pids: set[int], roots: Mapping[int, Hashable]) -> None:
        """Find out to what the new ones belong."""
        new = (pids - self._known) | {pid for pid in roots if pid in pids and self._is_another(pid, roots)}
        self._known = pids
        for pid in self._ours.keys() - pids:
            del self._ours[pid]
        stats = {pid: fields for pid in new if (fields := _stat(pid)) is not None}
        keys: dict[int, Hashable | None] = {}
        for pid, fields in stats.items():
            key = self._key(pid, stats, roots, keys)
            start = int(fields[_START])
            before = self._ours.pop(pid, None)
            if key is None:
                continue
            if before is not None and before.start == start:
                ticks = before.ticks
            else:  # one that came since the last look has used since then all that it has used
                ticks = 0 if self._is_young(start) else _ticks(fields)
            self._ours[pid] = _Seen(key, start, ticks)

    def _is_another(self, pid: int, roots: Mapping[int, Hashable]) -> bool:
        return pid not in self._ours or self._ours[pid].key != roots[pid]

    def _is_young(self, start: int) -> bool:
        """Whether a process began after the last look, by the clock of the kernel."""
        return self._has_looked and start / _TICKS >= time.clock_gettime(time.CLOCK_BOOTTIME) - (
            self._clock() - self._looked
        )

    def _key(
        self,
        pid: int,
        stats: Mapping[int, list[bytes]],
        roots: Mapping[int, Hashable],
        keys: dict[int, Hashable | None],
    ) -> Hashable | None:
        """Return to what a process belongs: the nearest above it that is known to belong to something tells."""
        way = []
        found: Hashable | None = None
        while pid:
            if pid in keys or (pid not in stats and pid in self._ours):
                found = keys[pid] if pid in keys else self._ours[pid].key
                break
            way.append(pid)
            found = roots[pid] if pid in roots else self._mark(pid) if pid in stats else None
            if found is not None or pid not in stats:
                break
            pid = int(stats[pid][_PARENT])
        keys.update(dict.fromkeys(way, found))
        return found


class Processes:
    """The tree of one process, as a source."""

    def __init__(self, pid: int, task: int | None = None) -> None:
        self.trouble = ""
        self._pid = pid
        self._task = task
        self._table: ProcessTable | None = ProcessTable(lambda _: None)

    def look(self) -> list[ProcessSample]:
        """Return what it takes; nothing once it is gone."""
        if self._table is None:
            return []
        usage = self._table.look({self._pid: self._pid}).get(self._pid)
        self.trouble = "" if usage else f"there is no process {self._pid}"
        return [ProcessSample(time.time(), self._task, *usage)] if usage else []

    def close(self) -> None:
        """Look no more."""
        self._table = None


def _stat(pid: int) -> list[bytes] | None:
    """Return the fields of /proc/<pid>/stat from the third on; None for one that is gone or a zombie."""
    try:
        descriptor = os.open(f"/proc/{pid}/stat", os.O_RDONLY | os.O_CLOEXEC)  # half the time of `open`
        try:
            fields = os.read(descriptor, 4096).rpartition(b")")[2].split()
        finally:
            os.close(descriptor)
    except OSError:
        return None
    return None if not fields or fields[_STATE] in (b"Z", b"X") else fields


def _ticks(fields: list[bytes]) -> int:
    return int(fields[_USER]) + int(fields[_SYSTEM])


EXPORT = Processes
