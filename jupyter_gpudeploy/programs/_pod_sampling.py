"""What a pod takes, seen from inside: its GPUs, CPU and memory, once a second. Standard library, Python 3.8.

CPU and memory are those of the container's cgroup where this program is its first process, else those of all that
descends from it. GPUs are told by one `nvidia-smi` that goes on, where the run asked for GPUs and the container has it.
What has hardly changed is sent every tenth second only: the log of a pod that idles stays short.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jupyter_gpudeploy.programs import _pod_processes as processes

if TYPE_CHECKING:
    from collections.abc import Mapping

    from jupyter_gpudeploy.programs._pod_sender import Sender

_FIELDS = "index,utilization.gpu,memory.used,memory.total,power.draw,temperature.gpu"
_QUIET_SECONDS = 10.0
_LITTLE_CPU = 2.0
_LITTLE_MEMORY = 1 << 20
_MIB = 1 << 20
_MOST_HELD = 1 << 20
_CGROUP = Path("/sys/fs/cgroup")
_USER, _SYSTEM, _RESIDENT = 11, 12, 21  # places in /proc/<pid>/stat, from its third field on


class Sampling:
    """Sends a record `samples` whenever `look` is called, unless it would say the same again. Never fails."""

    def __init__(self, sender: Sender, record: Mapping[str, Any], path: str | None) -> None:
        self._sender = sender
        wants_gpus = bool((record.get("resources") or {}).get("gpus"))
        self._gpus = _Stream(shutil.which("nvidia-smi", path=path) if wants_gpus else None)
        self._usage = _Usage()
        self._began = time.time() - time.monotonic()
        self._sent: tuple[float, list[Any], list[list[Any]]] = (-_QUIET_SECONDS, [], [])

    def look(self) -> None:
        """Look, and send what is new."""
        now = time.monotonic()
        gpus = self._gpus.rows()
        pod = self._usage.look(now)
        at, last, last_gpus = self._sent
        if now - at < _QUIET_SECONDS and gpus == last_gpus and _is_alike(pod, last):
            return
        payload: dict[str, Any] = {"t": round(self._began + now, 3), "p": pod}
        if gpus:
            payload["g"] = gpus
        self._sender.send("samples", payload)
        self._sent = (now, pod, gpus)

    def close(self) -> None:
        """End what was started for it."""
        self._gpus.close()


class _Stream:
    """The lines of one `nvidia-smi -l 1`. It is waited for by whoever reaps this program's children."""

    def __init__(self, program: str | None) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._held = b""
        if program is None:
            return
        words = [program, "--query-gpu=" + _FIELDS, "--format=csv,noheader,nounits", "-l", "1"]
        try:
            self._process = subprocess.Popen(
                words,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
            )
        except OSError:
            return
        processes.HELPERS.add(self._process.pid)
        assert self._process.stdout is not None  # noqa: S101 - it was asked for
        os.set_blocking(self._process.stdout.fileno(), False)

    def rows(self) -> list[list[Any]]:
        """Return the newest row of each GPU that has come since this was called last."""
        if self._process is None or self._process.stdout is None:
            return []
        has_ended = False
        while len(self._held) < _MOST_HELD and not has_ended:
            try:
                data = os.read(self._process.stdout.fileno(), 1 << 16)
            except BlockingIOError:
                break
            has_ended = not data
            self._held += data
        whole, _, self._held = self._held.rpartition(b"\n")
        found = {}
        for line in whole.decode("utf-8", "replace").splitlines():
            cells = [cell.strip() for cell in line.split(",")]
            if len(cells) == _FIELDS.count(",") + 1 and cells[0].isdigit():
                share, used, total, power, heat = map(_number, cells[1:])
                found[cells[0]] = [cells[0], _whole(share), _bytes(used), _bytes(total), _whole(power), _whole(heat)]
        if has_ended:
            self.close()
        return [found[name] for name in sorted(found, key=int)]

    def close(self) -> None:
        """End it."""
        if self._process is not None:
            processes.send([self._process.pid], 9)
            if self._process.stdout is not None:
                self._process.stdout.close()
            self._process.returncode = 0  # it is not this object that waits for it
            self._process = None


class _Usage:
    """CPU in percent of one core since the look before, bytes of memory, and how many processes there are."""

    def __init__(self) -> None:
        self._is_first = os.getpid() == 1
        self._cpu: float | None = None
        self._at = 0.0

    def look(self, now: float) -> list[Any]:
        pids = [pid for pid in processes.descendants() if pid not in processes.HELPERS]
        cpu, memory = _of_cgroup() if self._is_first else (None, None)
        if cpu is None or memory is None:
            own_cpu, own_memory = _of_processes(pids)
            cpu, memory = own_cpu if cpu is None else cpu, own_memory if memory is None else memory
        before, seconds = self._cpu, now - self._at
        self._cpu, self._at = cpu, now
        share = None if before is None or seconds <= 0 else round(100 * max(cpu - before, 0.0) / seconds)
        return [share, memory, len(pids)]


def _of_cgroup() -> tuple[float | None, int | None]:
    """Return (seconds of CPU, bytes of the working set) of the container (cgroup v2, else v1)."""
    micro = processes.field(_CGROUP / "cpu.stat", "usage_usec")
    nano = processes.number(_CGROUP / "cpuacct" / "cpuacct.usage")
    cpu = micro / 1e6 if micro is not None else None if nano is None else nano / 1e9
    memory = processes.number(_CGROUP / "memory.current")
    idle = processes.field(_CGROUP / "memory.stat", "inactive_file")
    if memory is None:
        memory = processes.number(_CGROUP / "memory" / "memory.usage_in_bytes")
        idle = processes.field(_CGROUP / "memory" / "memory.stat", "total_inactive_file")
    return cpu, None if memory is None else max(memory - (idle or 0), 0)


def _of_processes(pids: list[int]) -> tuple[float, int | None]:
    ticks = pages = 0
    for pid in pids:
        try:
            fields = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
        except OSError:
            continue
        ticks += int(fields[_USER]) + int(fields[_SYSTEM])
        pages += int(fields[_RESIDENT])
    memory = pages * os.sysconf("SC_PAGE_SIZE")
    return ticks / os.sysconf("SC_CLK_TCK"), memory or None  # processes that are ending have given theirs back


def _is_alike(now: list[Any], before: list[Any]) -> bool:
    if not before or None in now or None in before:
        return now == before
    is_still = abs(now[0] - before[0]) < _LITTLE_CPU and abs(now[1] - before[1]) < _LITTLE_MEMORY
    return is_still and bool(now[2] == before[2])


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def _whole(value: float | None) -> int | None:
    return None if value is None else round(value)


def _bytes(mebibytes: float | None) -> int | None:
    return None if mebibytes is None else int(mebibytes * _MIB)
