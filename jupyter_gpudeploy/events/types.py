"""What can happen in a run and be measured of it, and the states it passes.

Times are seconds since the epoch (`time.time()` of the machine that saw the event). A `task` is the number of a
trial, a replica or an `exec`, counted from 0; `None` means the run as a whole.

Named tuples, not dataclasses: every supervisor imports them, and `dataclasses` alone would take a quarter of its start.
"""

from __future__ import annotations

import enum
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping

_NOTHING: Mapping[str, Any] = MappingProxyType({})


class State(enum.StrEnum):
    """The life of a run and of each of its tasks."""

    WAITING = "waiting"
    STARTING = "starting"
    RUNNING = "running"
    READY = "ready"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    STOPPED = "stopped"
    LOST = "lost"

    @property
    def is_final(self) -> bool:
        """Nothing follows a final state."""
        return self in _FINAL


_FINAL = frozenset({State.SUCCEEDED, State.FAILED, State.STOPPED, State.LOST})


class StateChange(NamedTuple):
    """A run or a task entered a state.

    `reason` is one sentence for a person. `details` holds what only some changes know: `pid`, `port`, `url`,
    `gpus`, `log` (the attempt's log file, relative to the run's folder), `retry_in` (seconds), `hint` (the way out of
    `reason`: an edit of the cell).
    """

    time: float
    state: State
    task: int | None = None
    attempt: int = 1
    reason: str = ""
    exit_code: int | None = None
    details: Mapping[str, Any] = _NOTHING


class Notice(NamedTuple):
    """Something a person should know that changes no state: disk full, a port taken, a file edited meanwhile."""

    time: float
    message: str
    task: int | None = None
    level: str = "warning"


class LogLine(NamedTuple):
    """One line of what a task printed, without its newline. `time` is None where the source keeps none."""

    task: int
    text: str
    attempt: int = 1
    time: float | None = None


class MetricPoint(NamedTuple):
    """One value of one metric. `value` may be NaN or infinite. `step` and `epoch` are None where not printed.

    `source` says who reported it: `log` (the `log()` call), `file` or `stdout`, and `server` for what a server says of
    itself. `line` is its line in that source, counted from 1.
    """

    task: int
    name: str
    value: float
    step: float | None = None
    epoch: float | None = None
    time: float | None = None
    attempt: int = 1
    source: str = "stdout"
    line: int = 0


class GpuSample(NamedTuple):
    """One look at one GPU. A value that could not be read is None, never 0.

    `gpu` is the word that chooses it (`0`, or the UUID of a part of one), `task` who holds it: None for the run itself.
    `utilization` is the share of time a kernel ran, in percent; memory in bytes, power in watts, temperature in °C.
    """

    time: float
    gpu: str
    task: int | None = None
    utilization: float | None = None
    memory_used: int | None = None
    memory_total: int | None = None
    power: float | None = None
    temperature: float | None = None


class ProcessSample(NamedTuple):
    """One look at the processes of a task. A value that could not be read is None, never 0.

    `cpu` is in percent of one core, since the look before. `memory` is in bytes: what the processes hold resident,
    where pages that several share count for each; in a pod, the working set of its container, which is what is limited.
    """

    time: float
    task: int | None = None
    cpu: float | None = None
    memory: int | None = None
    processes: int | None = None


Event = StateChange | Notice
Sample = GpuSample | ProcessSample | MetricPoint
