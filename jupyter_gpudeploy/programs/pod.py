"""PID 1 of a pod: it starts the task, passes signals on, sends records home, and ends with the task's exit code.

`programs.boot` unpacks and calls `main`. Everything is said by `in/run.json.gz` (the record of the run) and the
environment: GPUDEPLOY_RUN (the uid), JOB_COMPLETION_INDEX or GPUDEPLOY_TASK, GPUDEPLOY_FAILURES and
GPUDEPLOY_IGNORED_FAILURES (of this index, so far), GPUDEPLOY_GRACE_SECONDS, GPUDEPLOY_NODE, GPUDEPLOY_POD, the secrets
under their own names, GPUDEPLOY_TERMINATION_LOG. Below the root: `in/` (what was sent), `runtime/`, `deps/`, `code/`,
`work/`, `home/`, `out/`, `metrics/`, `requests/` (of a manual run), `state/` (of ours).

The exit code is the task's, 128+n where signal n ended it. It is 143 for one that was told to stop, whatever it says
itself: a pod that is evicted would pass for one that has done its work, or has failed; and 124 where the time that it
may take was over. It is 0 for a server or an environment that ends because nothing happened in it for `idle_seconds`
of the record, which ends its Job. It is 1 where this program itself cannot go on, as on a full volume.
stdout and stderr of the task are the container's stdout itself, unless secrets must be hidden in them. What a task
leaves behind is ended with it.

A task that was told to stop is killed by the node, which knows how long it may take; or here, where `state/grace`
says less, since not every node heeds a grace that is shortened once it has begun. GPUDEPLOY_GRACE_SECONDS after the
signal all that it has left so far is sent, for the node may kill everything from then on.

Standard library alone, Python 3.8.
"""

from __future__ import annotations

import gzip
import json
import os
import platform
import select
import signal
import sys
import time
import traceback
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jupyter_gpudeploy.events.wire import TOLD_TO_END
from jupyter_gpudeploy.programs import _pod_processes as processes
from jupyter_gpudeploy.programs._idle import Idle
from jupyter_gpudeploy.programs._pod_command import Command
from jupyter_gpudeploy.programs._pod_sampling import Sampling
from jupyter_gpudeploy.programs._pod_sender import Sender
from jupyter_gpudeploy.programs._pod_task import Place, executed, first_attempt

if TYPE_CHECKING:
    from collections.abc import Mapping

_GRACE = 25.0
_LOOK_SECONDS = 1.0
_BUSY_SECONDS = 0.05
_REST_SECONDS = 0.005
_TERMINATION_LIMIT = 4096
_REASON_LIMIT = 1000
_LEFT_OVER = 1 << 12
_TOLD = ("exit_code", "reason", "attempt")
_KILLED = 128 + signal.SIGKILL
TOOK_TOO_LONG = 124
"""The exit code of a task that was told to end when its time was over, as `timeout` has it."""


def main(root: Path) -> int:
    """Run the pod below `root`; return the exit code."""
    given = dict(os.environ)
    try:
        record = json.loads(gzip.decompress((root / "in" / "run.json.gz").read_bytes()))
        pod = Pod(Place(root, record, given))
    except Exception as error:  # noqa: BLE001 - whatever it is, the user is to learn of it
        end = _failed(error, first_attempt(given))
        Sender(os.dup(1), given.get("GPUDEPLOY_RUN", "")).send("ended", end)
        _leave(given, json.dumps({name: end[name] for name in _TOLD}).encode())
        return 1
    try:
        return pod.run()
    except Exception as error:  # noqa: BLE001 - as above
        return pod.fail(error)
    finally:
        pod.tell_the_end()


class Pod:
    """The process that is PID 1. One thread; signals and changed files wake it."""

    def __init__(self, place: Place) -> None:
        self._place = place
        self._sender = Sender(os.dup(1), place.uid, place.hidden())
        self._sampling = Sampling(self._sender, place.record, place.given.get("PATH"))
        self._watch = processes.Watch()
        self._attempt = place.attempt()
        self._commands: list[Command] = []
        self._requests = place.root / "requests"
        self._grace = float(place.given.get("GPUDEPLOY_GRACE_SECONDS") or _GRACE)
        self._asked = 0
        self._asked_late = False
        self._asked_at = float("inf")
        self._late_at = float("inf")
        self._look_at = 0.0
        self._ended: Command | None = None
        self._end: dict[str, Any] | None = None
        self._idle = _idle_of(place)
        self._is_idle = ""
        self._taken: set[str] = set()
        self._printed = (0, 0, 0)
        self._kill_at = float("inf")

    def run(self) -> int:
        """Run until the task has ended, or a manual run is told to stop. Return the exit code."""
        self._take_signals()
        processes.adopt_orphans()
        self._sender.send("began", _facts(self._place, self._attempt))
        if self._place.is_manual:
            self._open_requests()
        else:
            self._begin(self._place.task())
        while not self._is_over():
            self._wait()
            self._take_requests()
            self._step()
        self._end_the_rest()
        return self._exit_code()

    def _exit_code(self) -> int:
        """Return what Kubernetes is told. By it, it knows whether the pod was taken away or has failed by itself."""
        if self._ended is None or self._is_idle:
            return 0
        if not self._ended.was_asked:
            return self._ended.exit_code
        return TOOK_TOO_LONG if self._asked_late else TOLD_TO_END

    def fail(self, error: Exception) -> int:
        """End everything, because this program itself cannot go on, and say why. Return the exit code."""
        self._end = _failed(error, self._attempt)
        self._sender.send("ended", self._end)
        with suppress(OSError):
            self._end_the_rest()
        return 1

    def tell_the_end(self) -> None:
        """Leave the last word where the kubelet reads it: exit code, reason, and the last values of the metrics."""
        ended = self._ended
        end = self._end or {"exit_code": 0, "reason": "stopped" if self._asked else "", "attempt": self._attempt}
        if ended is not None and self._end is None:
            end = {**end, "exit_code": ended.exit_code, "reason": ended.reason}
        if self._is_idle:
            end = {**end, "exit_code": 0, "reason": self._is_idle}
        metrics = {} if ended is None else dict(ended.metrics.last)
        while True:
            text = _hidden(json.dumps({**{name: end[name] for name in _TOLD}, "metrics": metrics}), self._sender)
            if len(text) <= _TERMINATION_LIMIT or not metrics:
                break
            metrics.popitem()
        _leave(self._place.given, text)

    def _take_signals(self) -> None:
        wakes, wake = os.pipe()
        for descriptor in (wakes, wake):
            os.set_blocking(descriptor, False)
        signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
        self._wakes = wakes
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT):
            signal.signal(number, self._stop)
        for number in (signal.SIGUSR1, signal.SIGUSR2, signal.SIGWINCH):
            signal.signal(number, self._pass_on)
        signal.signal(signal.SIGCHLD, lambda *_: None)

    def _stop(self, number: int, _frame: object) -> None:
        """Tell everything that runs, at once: the loop may be waiting for whoever reads our output."""
        self._asked_late = self._asked_late or (not self._asked and self._place.is_out_of_time())
        self._asked = number
        self._asked_at = min(self._asked_at, time.monotonic())
        self._late_at = min(self._late_at, self._asked_at + self._grace)
        for command in self._commands:
            command.ask(number)

    def _pass_on(self, number: int, _frame: object) -> None:
        for command in self._commands:
            command.tell(number)

    def _is_over(self) -> bool:
        if self._place.is_manual:
            return bool(self._asked) and not self._commands
        return not self._commands

    def _begin(self, task: Mapping[str, Any], *, is_executed: bool = False) -> None:
        command = Command(self._place, self._sender, task, 1 if is_executed else self._attempt, is_executed=is_executed)
        self._commands.append(command)
        self._watch.add(command.metrics_file)
        command.begin()
        if self._asked:
            command.ask(self._asked)

    def _wait(self) -> None:
        """Wait until something may have happened; a little longer where much does."""
        poll = select.poll()
        poll.register(self._wakes, select.POLLIN)
        busy = [command.wakes for command in self._commands if command.wakes >= 0]
        for descriptor in (self._watch.descriptor, *busy):
            if descriptor >= 0:
                poll.register(descriptor, select.POLLIN)
        is_quiet = self._watch.descriptor >= 0 and not any(command.is_ending for command in self._commands)
        found = poll.poll((_LOOK_SECONDS if is_quiet else _BUSY_SECONDS) * 1000)
        with suppress(BlockingIOError):
            os.read(self._wakes, _LEFT_OVER)
        if any(descriptor != self._wakes for descriptor, _ in found):
            time.sleep(_REST_SECONDS)
        if self._watch.descriptor >= 0:
            self._watch.take()

    def _step(self) -> None:
        ended = processes.reap()
        is_due = time.monotonic() >= self._look_at
        if is_due:
            self._look_at = time.monotonic() + _LOOK_SECONDS
        for command in self._commands:
            command.exited(ended)
            command.step()
            if is_due:
                command.look_at_files()
        if is_due:
            self._sampling.look()
        if self._idle is not None and is_due:
            self._look_whether_idle(self._idle)
        over = [command for command in self._commands if command.is_over]
        for command in over:
            if self._place.is_manual:
                (self._requests / f"{command.number}.ended").touch()
            else:
                self._ended = command
        self._commands = [command for command in self._commands if not command.is_over]
        if self._asked:
            self._end_in_time()

    def _end_in_time(self) -> None:
        """Hand over what there is before the node may kill, and kill what had less time than the node gives."""
        since = time.monotonic() - self._asked_at
        shorter = _shorter_grace(self._place.root, self._grace)
        if shorter is not None and since >= shorter and self._commands:
            self._grace, self._late_at = shorter, float("inf")
            self._hand_over()
            processes.send(processes.descendants(), signal.SIGKILL)
        elif time.monotonic() >= self._late_at:
            self._late_at = float("inf")
            self._hand_over()

    def _look_whether_idle(self, idle: Idle) -> None:
        """End everything when nothing has happened for too long; kill what does not end, for no kubelet does here."""
        if self._is_idle:
            if time.monotonic() >= self._kill_at:
                processes.send(processes.descendants(), signal.SIGKILL)
            return
        if self._asked:
            return
        printed = sum(command.printed for command in self._commands), len(self._commands), len(self._taken)
        if self._place.is_manual and printed != self._printed:
            self._printed = printed
            idle.happened()
        reason = idle.look(processes.descendants())
        if reason:
            self._is_idle = reason
            self._kill_at = time.monotonic() + self._grace
            self._sender.send("notice", {"message": f"stopped: {reason}", "level": "info", "time": time.time()})
            self._stop(signal.SIGTERM, None)
            self._late_at = float("inf")

    def _hand_over(self) -> None:
        """Send what is there of everything that does not end: whoever kills it next kills this program, too."""
        if not self._commands:
            return
        reason = f"killed: it had not ended {self._grace:g} s after {processes.signal_name(self._asked)}"
        for command in self._commands:
            command.hand_over(_KILLED, reason)
        end = {"exit_code": _KILLED, "reason": reason, "attempt": self._attempt, "metrics": {}}
        _leave(self._place.given, json.dumps(end).encode())

    def _open_requests(self) -> None:
        """Take commands from now on. Those that ran when the container ended before are told to have ended."""
        self._requests.mkdir(parents=True, exist_ok=True)
        self._watch.add(self._requests)
        for taken in self._requests.glob("*.taken"):
            ended = taken.with_suffix(".ended")
            if not ended.exists():
                ended.touch()
                reason = "ended with its container"
                code = 128 + signal.SIGKILL
                lost = {"exec": int(taken.stem), "attempt": 1, "time": time.time(), "exit_code": code, "reason": reason}
                self._sender.send("ended", lost)

    def _take_requests(self) -> None:
        if not self._place.is_manual or self._asked:
            return
        names = set(os.listdir(self._requests))  # noqa: PTH208 - names are wanted, not paths
        for name in sorted(names):
            number = name[: -len(".json")]
            if not name.endswith(".json") or not number.isdigit() or f"{number}.taken" in names:
                continue
            argv = json.loads((self._requests / name).read_text("utf-8"))
            (self._requests / f"{number}.taken").touch()
            self._taken.add(number)
            self._sender.send("exec", {"exec": int(number), "argv": argv, "time": time.time()})
            self._begin(executed(int(number), argv), is_executed=True)

    def _end_the_rest(self) -> None:
        """Kill what has come since; PID 1 takes the whole pod with it anyway."""
        self._sampling.close()
        processes.send(processes.descendants(), signal.SIGKILL)
        processes.reap()


def _shorter_grace(root: Path, usual: float) -> float | None:
    """Return the seconds that `boot.py grace` left word of, where they are fewer than the usual."""
    try:
        seconds = float((root / "state" / "grace").read_text("ascii"))
    except (OSError, ValueError):
        return None
    return seconds if seconds < usual else None


def _idle_of(place: Place) -> Idle | None:
    """Return what sees whether anything happens, where that is asked."""
    seconds = place.record.get("idle_seconds")
    if not seconds or place.record["kind"] not in ("server", "manual"):
        return None
    service, resources = place.record.get("service") or {}, place.record.get("resources") or {}
    return Idle(
        seconds,
        [service["port"]] if service else [],
        () if resources.get("gpus") else None,
        sees_clients=False,
        probes_per_second=float(place.record.get("probes_per_second") or 0),
    )


def _facts(place: Place, attempt: int) -> dict[str, Any]:
    """Return what is told of the place in which an attempt begins."""
    return {
        "attempt": attempt,
        "time": time.time(),
        "python": platform.python_version(),
        "pod": place.given.get("GPUDEPLOY_POD") or platform.node(),
        "node": place.given.get("GPUDEPLOY_NODE", ""),
        "cpus": len(os.sched_getaffinity(0)),
        "memory": processes.memory().limit,
    }


def _failed(error: Exception, attempt: int) -> dict[str, Any]:
    """Return what is told of the end of a pod whose own program cannot go on; its traceback is in the log."""
    traceback.print_exc()
    what = f"{type(error).__name__}: {error}"
    if isinstance(error, OSError) and error.filename:
        what = f"{error.strerror}: {error.filename}"
    reason = f"the pod cannot run its task: {what}"
    return {"attempt": attempt, "time": time.time(), "exit_code": 1, "reason": reason[:_REASON_LIMIT]}


def _leave(given: Mapping[str, str], text: bytes) -> None:
    """Leave a last word where the kubelet reads it."""
    file = given.get("GPUDEPLOY_TERMINATION_LOG") or "/dev/termination-log"
    with suppress(OSError), Path(file).open("r+b") as stream:  # the kubelet has made it
        stream.write(text[:_TERMINATION_LIMIT])
        stream.truncate()


def _hidden(text: str, sender: Sender) -> bytes:
    mask = sender.mask()
    return mask.feed(text.encode()) + mask.rest()


if __name__ == "__main__":
    sys.exit(main(Path(os.environ.get("GPUDEPLOY_POD_ROOT") or "/gpudeploy")))
