"""Whether anything happens in some processes: what decides when a server or an environment has been idle for too long.

Something happens when a processor or a GPU is used, when somebody connects to the server, and when the caller says so
(`happened`). Nothing is asked of the program. While a server does not listen yet, it is loading, which is no idleness.

Where all connections of the machine can be seen (`sees_clients`), each client is told apart, and our own health checks
come from OWN_ADDRESS. In a pod, connections are only counted: those beyond what the health checks make, three or more.

Standard library alone, Python 3.8.
"""

from __future__ import annotations

import os
import subprocess
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

OWN_ADDRESS = "127.0.0.2"
"""Our own health checks come from this address of the loopback, so that they are told from requests (Linux)."""

CPU_SHARE = 0.02
"""Of one processor: less is nothing."""

GPU_PERCENT = 3.0
"""Of a GPU's time: less is nothing."""

_OWN = {"0200007F", "0000000000000000FFFF00000200007F"}
_LISTEN = "0A"
_FEW = 3
_GPU_SECONDS = 15.0
_TOOL = ("nvidia-smi", "--query-gpu=utilization.gpu", "--format=csv,noheader,nounits")
_TICKS = os.sysconf("SC_CLK_TCK")
_USER_TIME, _SYSTEM_TIME, _CHILDREN_TIME = 11, 12, 15  # places in /proc/PID/stat after the name


class Idle:
    """Looks every now and then, by `look`. `port`: the server's; `gpus`: of these alone, all for (), none for None.

    `probes_per_second`: connections that are health checks and not from OWN_ADDRESS.
    """

    def __init__(
        self,
        seconds: float,
        ports: Sequence[int] = (),
        gpus: Sequence[str] | None = None,
        *,
        sees_clients: bool = True,
        probes_per_second: float = 0.0,
    ) -> None:
        self.seconds = seconds
        self.ports = list(ports)
        self.window = min(60.0, max(seconds / 10, 0.5))
        self._gpus = gpus
        self._sees_clients = sees_clients
        self._rate = probes_per_second
        self._since = self._looked_at = time.monotonic()
        self._ticks: dict[int, int] = {}
        self._clients: set[tuple[str, str]] = set()
        self._counted = (self._since, accepted())
        self._asking: subprocess.Popen[bytes] | None = None
        self._asked_at = 0.0

    def happened(self) -> None:
        """Take that something happened just now."""
        self._since = time.monotonic()
        if not self._sees_clients:
            self._counted = (self._since, accepted())

    def look(self, pids: Iterable[int]) -> str:
        """Look at the processes; return `idle for 30 min` when nothing has happened for so long, else nothing."""
        now = time.monotonic()
        elapsed = now - self._looked_at
        if elapsed < self.window:
            if self._sees_clients and self.ports and self._new_clients():
                self.happened()
            return ""
        self._looked_at = now
        if self._is_used(list(pids), elapsed):
            self.happened()
        return f"idle for {_words(self.seconds)}" if now - self._since >= self.seconds else ""

    def close(self) -> None:
        """Let go of what is being asked."""
        if self._asking is not None:
            with suppress(OSError):
                self._asking.kill()
            self._asking.communicate()
            self._asking = None

    def _is_used(self, pids: Sequence[int], elapsed: float) -> bool:
        """Ask all there is to ask, for each answer is compared with that of the next time."""
        asked = [self._spent(pids) / elapsed > CPU_SHARE, self._gpu_is_used(), self._is_asked()]
        return any(asked)

    def _spent(self, pids: Sequence[int]) -> float:
        """Return the seconds of processors since the last look."""
        before, self._ticks = self._ticks, {pid: ticks for pid in pids if (ticks := _ticks_of(pid)) is not None}
        return sum(max(0, ticks - before.get(pid, 0)) for pid, ticks in self._ticks.items()) / _TICKS

    def _is_asked(self) -> bool:
        if not self.ports:
            return False
        if not any(listens(port) for port in self.ports):
            return True
        if self._sees_clients:
            return self._new_clients()
        since, count = self._counted
        return accepted() - count - self._rate * (time.monotonic() - since) >= _FEW

    def _new_clients(self) -> bool:
        """Whether somebody has connected since, or still is."""
        before, self._clients = self._clients, clients(self.ports)
        return bool(self._clients - before) or bool(connected(self.ports))

    def _gpu_is_used(self) -> bool:
        """Take the answer that was asked for the last time, and ask again: asking may take seconds."""
        if self._gpus is None:
            return False
        used = False
        if self._asking is not None:
            if self._asking.poll() is None:
                if time.monotonic() - self._asked_at < _GPU_SECONDS:
                    return False
                self._asking.kill()
            text = self._asking.communicate()[0].decode("utf-8", "replace")
            used = any(_percent(line) >= GPU_PERCENT for line in text.splitlines())
        chosen = ["-i", ",".join(self._gpus)] if self._gpus else []
        self._asked_at = time.monotonic()
        try:
            self._asking = subprocess.Popen(
                [*_TOOL, *chosen], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
            )
        except OSError:
            self._asking = self._gpus = None
        return used


def clients(ports: Sequence[int]) -> set[tuple[str, str]]:
    """Return who is connected, or was a minute ago, as (address, port) in hexadecimal; not our health checks."""
    wanted = {f"{port:04X}" for port in ports}
    found = set()
    for here, there, state in _sockets():
        if state == _LISTEN:
            continue
        if here[1] in wanted:
            found.add(there)
        elif there[1] in wanted:
            found.add(here)
    return {client for client in found if client[0] not in _OWN}


def connected(ports: Sequence[int]) -> set[tuple[str, str]]:
    """Return who is connected now."""
    wanted = {f"{port:04X}" for port in ports}
    return {there for here, there, state in _sockets() if state == "01" and here[1] in wanted and there[0] not in _OWN}


def listens(port: int) -> bool:
    """Return whether anybody listens on a port."""
    wanted = f"{port:04X}"
    return any(state == _LISTEN and here[1] == wanted for here, _, state in _sockets())


def accepted() -> int:
    """Return how many connections were taken here so far, by everybody together."""
    try:
        lines = [line.split() for line in Path("/proc/net/snmp").read_text("ascii").splitlines()]
        names, values = (line for line in lines if line and line[0] == "Tcp:")
        return int(values[names.index("PassiveOpens")])
    except (OSError, ValueError):
        return 0


def _sockets() -> list[tuple[tuple[str, str], tuple[str, str], str]]:
    """Return (own end, other end, state) of every TCP socket, an end as (address, port) in hexadecimal."""
    found = []
    for name in ("tcp", "tcp6"):
        with suppress(OSError):
            for line in Path("/proc/net", name).read_text("ascii").splitlines()[1:]:
                _, here, there, state = line.split(None, 4)[:4]
                found.append((_end(here), _end(there), state))
    return found


def _end(text: str) -> tuple[str, str]:
    address, _, port = text.partition(":")
    return address, port


def _ticks_of(pid: int) -> int | None:
    """Return the processor time of a process and of those of its children that have ended, in ticks."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
        return sum(map(int, fields[_USER_TIME:_CHILDREN_TIME]))
    except (OSError, ValueError):
        return None


def _percent(line: str) -> float:
    try:
        return float(line)
    except ValueError:  # [N/A]: a part of a GPU has no such number
        return 0.0


def _words(seconds: float) -> str:
    """Return `30 min`, as a person says it."""
    for unit, size in (("h", 3600.0), ("min", 60.0)):
        if seconds >= size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds:.3g} s"
