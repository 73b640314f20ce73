"""One program that runs in a pod, from its start until nothing of it is left. Standard library, Python 3.8."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jupyter_gpudeploy.programs import _pod_processes as processes
from jupyter_gpudeploy.programs._pod_files import MetricFiles, Metrics, Outputs

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from jupyter_gpudeploy.programs._pod_sender import Sender
    from jupyter_gpudeploy.programs._pod_task import Place

LEFTOVER_GRACE = 2.0
_KILL_SECONDS = 3.0
_CHUNK = 1 << 16
_TURN = 1 << 22
_NOT_FOUND, _NOT_STARTED = 127, 126


class Command:
    """A task, or (`is_executed`) a command in a manual run, whose lines are sent as records.

    Call `begin`, then `step` whenever something may have happened, until `is_over`; `exit_code` is what the shell would
    say. `wakes` is a descriptor to poll, or -1. `printed`: the bytes that an executed command has printed so far.
    """

    def __init__(
        self, place: Place, sender: Sender, task: Mapping[str, Any], attempt: int, *, is_executed: bool
    ) -> None:
        self.is_over = False
        self.exit_code = 0
        self.reason = ""
        self.wakes = -1
        self._place = place
        self._sender = sender
        self._task = task
        self.number: int = task["number"]
        self._attempt = attempt
        self._is_executed = is_executed
        self._extra = {"exec": self.number} if is_executed else {}
        self._mask = sender.mask()
        self.printed = 0
        self._pid = 0
        self._has_exited = False
        self._asked = 0
        self._kill_at = float("inf")
        self._clearing = False
        self._kills = processes.memory().kills
        self.metrics = Metrics(place.metrics(self.number), sender, self._extra)
        words = place.filled(task.get("metric_files", ()), self.number)
        self._files = MetricFiles(words, str(place.output(self.number)), place.work, sender)

    @property
    def metrics_file(self) -> Path:
        """What to watch for changes."""
        return self._place.metrics(self.number)

    @property
    def was_asked(self) -> bool:
        """Whether it was told to end while it ran."""
        return bool(self._asked)

    @property
    def is_ending(self) -> bool:
        """Whether it is to be looked at again soon."""
        return self._has_exited or self._kill_at < float("inf")

    def begin(self) -> None:
        """Start it. What cannot be started says so in its output, and is over."""
        argv = self._place.filled(self._task["argv"], self.number)
        self._place.output(self.number).mkdir(parents=True, exist_ok=True)
        Path(self._place.work).mkdir(parents=True, exist_ok=True)
        try:
            self._start(argv, self._place.environment(self._task, self._attempt))
        except (OSError, ValueError) as error:
            self._fail(argv, error)

    def _start(self, argv: Sequence[str], environment: Mapping[str, str]) -> None:
        if not (self._mask.is_needed or self._is_executed):
            self._process = processes.start(argv, environment, self._place.work, 1)
        else:
            self.wakes, write_end = os.pipe()
            os.set_blocking(self.wakes, False)
            try:
                self._process = processes.start(argv, environment, self._place.work, write_end)
            finally:
                os.close(write_end)
        self._pid = self._process.pid

    def _fail(self, argv: Sequence[str], error: Exception) -> None:
        is_missing = isinstance(error, FileNotFoundError) and "/" not in argv[0]
        self.reason = (
            f"no program {argv[0]!r} on PATH" if is_missing else f"{argv[0]!r:.200} cannot be started: {error}"
        )
        self._print(f"{self.reason}\n".encode("utf-8", "surrogateescape"))
        self.exit_code = _NOT_FOUND if isinstance(error, FileNotFoundError) else _NOT_STARTED
        self._finish()

    def ask(self, number: int) -> None:
        """Forward a signal that asks for the end."""
        if self._pid and not self._has_exited and not processes.has_ended(self._pid):
            self._asked = number
            processes.send_group(self._pid, number)

    def hand_over(self, exit_code: int, reason: str) -> None:
        """Send what is there, while it goes on, as if it had ended: when it does, all that is sent again."""
        self.pump()
        self.metrics.poll()
        self._files.poll()
        self._send_outputs()
        if not self._is_executed:
            self._tell(exit_code, reason)

    def tell(self, number: int) -> None:
        """Forward a signal that ends nothing."""
        if self._pid and not self._has_exited:
            processes.send_group(self._pid, number)

    def exited(self, ended: Mapping[int, int]) -> None:
        """Take its exit code, if it is among those that ended."""
        if self._has_exited or self._pid not in ended:
            return
        code = ended[self._pid]
        self._process.returncode = code
        self._has_exited = True
        self.exit_code = code if code >= 0 else 128 - code
        if code < 0:
            self.reason = f"ended by {processes.signal_name(-code)}"
        if self._asked:
            self.reason = f"stopped by {processes.signal_name(self._asked)}"
            self.exit_code = self.exit_code or 128 + self._asked  # told to end, it has not done all its work
        self._say_whether_memory_ran_out()

    def _say_whether_memory_ran_out(self) -> None:
        memory = processes.memory()
        if memory.kills > self._kills and self.exit_code:
            limit = f" (limit {memory.limit >> 20} MiB)" if memory.limit else ""
            self.reason = f"out of memory{limit}"

    def step(self) -> None:
        """Send what is new, and do what is due."""
        self.pump()
        self.metrics.poll()
        if self.is_over:
            return
        now = time.monotonic()
        if now >= self._kill_at:
            processes.send(self._left(), signal.SIGKILL)
        if self._has_exited:
            self._clear(now)

    def look_at_files(self) -> None:
        """Send what has changed in its metric files."""
        self._files.poll()

    def _clear(self, now: float) -> None:
        """End what it has left behind; it is over when nothing is left, or when it cannot be ended."""
        left = self._left()
        if left and not self._clearing:
            self._clearing = True
            processes.send(left, signal.SIGTERM)
            self._kill_at = min(self._kill_at, now + LEFTOVER_GRACE)
        if not left or now > self._kill_at + _KILL_SECONDS:
            self._finish()

    def _left(self) -> list[int]:
        found = processes.descendants()
        return [pid for pid in found if processes.carries(pid, str(self.number))] if self._is_executed else found

    def pump(self) -> None:
        """Take what it has printed."""
        taken = 0
        while self.wakes >= 0 and taken < _TURN:
            try:
                data = os.read(self.wakes, _CHUNK)
            except BlockingIOError:
                return
            if not data:
                os.close(self.wakes)
                self.wakes = -1
            taken += len(data)
            self._print(self._mask.feed(data))

    def _print(self, data: bytes) -> None:
        if not self._is_executed:
            self._sender.write(data)
            return
        for start in range(0, len(data), 1 << 13):
            piece = data[start : start + (1 << 13)]
            text = piece.decode("utf-8", "surrogateescape")
            self._sender.send_as_is("output", {**self._extra, "at": self.printed, "text": text})
            self.printed += len(piece)

    def _finish(self) -> None:
        self.pump()
        self._print(self._mask.rest())
        if self.wakes >= 0:
            os.close(self.wakes)
            self.wakes = -1
        self.metrics.poll()
        self._files.poll(ended=True)
        self._send_outputs()
        self.is_over = True
        self._tell(self.exit_code, self.reason)

    def _send_outputs(self) -> None:
        storage = self._place.cluster.get("storage")
        kept = f"stay on the volume of the run ({storage})" if storage else "stay in the pod: too large for its log"
        left = Outputs(self._place.output(self.number), self._sender, self._extra, kept, self._attempt)
        left.send(self._files.sent)

    def _tell(self, exit_code: int, reason: str) -> None:
        """Send how it ended."""
        peak = processes.memory().peak
        self._sender.send(
            "ended",
            {
                **self._extra,
                "attempt": self._attempt,
                "time": time.time(),
                "exit_code": exit_code,
                "reason": reason,
                **({"memory_peak": peak} if peak else {}),
            },
        )
