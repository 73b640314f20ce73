"""One run while it is kept: which task starts when, what becomes of those that end, and when all is over."""

from __future__ import annotations

import os
import time
from collections import deque
from typing import TYPE_CHECKING, Any

from jupyter_gpudeploy.backends.local import processes
from jupyter_gpudeploy.backends.local.attempts import Outcome
from jupyter_gpudeploy.backends.local.control import Requests
from jupyter_gpudeploy.backends.local.ends import over_time, verdict
from jupyter_gpudeploy.backends.local.loop import Loop
from jupyter_gpudeploy.backends.local.program import Program
from jupyter_gpudeploy.backends.local.starter import Live, Starter, Turn, at_a_time
from jupyter_gpudeploy.errors import BackendError
from jupyter_gpudeploy.events.types import State

if TYPE_CHECKING:
    from collections.abc import Mapping

    from jupyter_gpudeploy.backends.local.attempts import Attempt
    from jupyter_gpudeploy.backends.local.idleness import Idleness
    from jupyter_gpudeploy.backends.local.layout import LocalFolder
    from jupyter_gpudeploy.backends.local.points import Chooser
    from jupyter_gpudeploy.backends.local.procfs import Identity
    from jupyter_gpudeploy.backends.local.replicas import Replicas
    from jupyter_gpudeploy.backends.local.states import Chronicle

_TICK_SECONDS = 0.1
_LEASE_SECONDS = 0.5
_LEFTOVER_GRACE = 2.0
_LONGEST_PAUSE = 60.0
_DEFAULT_GRACE = 10.0
_WIND_SECONDS = 0.03
_OURS = "jupyter_gpudeploy.programs."
_CANNOT_WORK = 78  # as `programs/_loader.py` has it, which is too much to import here


class KeptRun:
    """Keeps one run: `keep` returns when it has ended, which is then in the journal."""

    def __init__(self, folder: LocalFolder, record: Mapping[str, Any], chronicle: Chronicle) -> None:
        self._folder = folder
        self._record = record
        self._chronicle = chronicle
        self._is_manual = record["kind"] == "manual"
        self._parallelism = at_a_time(record["parallelism"], chronicle)
        self._loop = Loop(self._on_blind)
        self._requests = Requests(folder)
        self._setup: Attempt | None = None
        self._starter: Starter | None = None
        self._replicas: Replicas | None = None
        self._idleness: Idleness | None = None
        self._program: Program | None = None
        self._chooser: Chooser | None = None
        self._waiting: deque[Turn] = deque()
        self._executes: deque[Turn] = deque()
        self._later: dict[int, Turn] = {}
        self._live: dict[int, Live] = {}
        self._results: dict[int, Outcome] = {}
        self._asked: float | None = None
        self._deadline: float | None = None
        self._verdict: Outcome | None = None
        self._winding: processes.Ending | None = None
        self._is_over = False

    def ask_to_stop(self) -> None:
        """End soon. May be called from a signal handler."""
        self._asked = _DEFAULT_GRACE

    def keep(self) -> None:
        """Keep the run until it has ended."""
        if self._record.get("search"):
            from jupyter_gpudeploy.backends.local.points import Chooser

            self._chooser = Chooser(
                self._loop, self._folder, self._record, self._chronicle,
                on_point=self._on_point, on_failure=self._on_no_point,
            )  # fmt: skip
        self._take_up_past()
        self._loop.every(_TICK_SECONDS, self._tick)
        if self._deadline is None:
            self._prepare()
        self._loop.every(_LEASE_SECONDS, self._fill)
        while not self._is_over:
            if self._asked is not None:
                grace, self._asked = self._asked, None
                self._stop(grace)
            self._loop.turn(1.0)
        self._loop.close()
        final = self._verdict or verdict(self._record["kind"], self._results)
        self._chronicle.run(final.state, final.reason)

    def _prepare(self) -> None:
        """Install what is missing, then begin."""
        if not self._record.get("missing"):
            self._begin(self._record["python"])
            return
        from jupyter_gpudeploy.backends.local.environments import start_setup

        count = len(self._record["missing"])
        self._chronicle.run(State.STARTING, f"installing {count} package{'s' if count > 1 else ''}")
        self._setup = start_setup(self._loop, self._folder, self._record, self._on_setup)

    def _on_setup(self, outcome: Outcome, python: str) -> None:
        self._setup = None
        if self._deadline is not None:
            self._judge()
        elif outcome.state is State.SUCCEEDED:
            self._begin(python)
        else:
            self._verdict = outcome
            self._wind_up()

    def _begin(self, python: str) -> None:
        self._program = Program(self._record, self._folder, python)
        self._starter = Starter(self._folder, self._program, self._loop, self._chronicle)
        self._starter.warm_up(self._fill)
        if self._record["service"]:
            from jupyter_gpudeploy.backends.local.replicas import Replicas

            total = len(self._record["tasks"])
            self._replicas = Replicas(self._loop, self._record["service"], total, self._chronicle)
        elif not self._is_manual:
            self._chronicle.run(State.RUNNING)
        elif self._record["max_seconds"]:
            self._loop.after(self._record["max_seconds"], self._on_manual_limit)
        if self._record.get("idle_seconds"):
            from jupyter_gpudeploy.backends.local.idleness import Idleness

            self._idleness = Idleness(self._loop, self._folder, self._record, self._live.values, self._on_idle)
        self._fill()

    def _take_up_past(self) -> None:
        """Queue what has no end yet; keep the ends that an earlier supervisor saw."""
        for task in self._record["tasks"]:
            number = task["number"]
            if number in self._chronicle.results:
                self._results[number] = self._chronicle.results[number]
            elif number not in self._unchosen:
                self._waiting.append(self._turn(number))

    @property
    def _unchosen(self) -> range:
        """The tasks that are to be and have no point yet."""
        return range(0) if self._chooser is None else self._chooser.left

    def _on_point(self, task: Mapping[str, Any]) -> None:
        self._record["tasks"][task["number"]] = task
        if self._program is not None:
            self._program.learn(task)
        self._waiting.append(self._turn(task["number"]))
        self._fill()

    def _on_no_point(self, why: str) -> None:
        for number in self._unchosen:
            self._settle(self._turn(number), Outcome(State.FAILED, why, again=False))
        if self._chooser is not None:
            self._chooser.close()
        self._judge()

    def _turn(self, number: int) -> Turn:
        """Return the next attempt of a task: after all that have begun, told by the journal or by a log."""
        begun = self._chronicle.started.get(number, 0)
        if begun or not self._chronicle.is_new:
            begun = max(begun, len(self._folder.log_files(number)))
        return Turn(number, begun + 1, self._chronicle.failures.get(number, 0))

    def _tick(self) -> None:
        grace, numbers = self._requests.poll()
        for number in numbers:
            if number not in self._chronicle.results:
                self._executes.append(self._turn(number))
        if numbers:
            self._fill()
        if grace is None and self._requests.is_cut_off and self._deadline is None:
            grace = _DEFAULT_GRACE
        if grace is not None:
            self._stop(grace)
        self._loop.reap()
        _ = self._chronicle.is_behind

    def _fill(self) -> None:
        """Start what can be started now."""
        if self._starter is None or self._deadline is not None or self._winding is not None:
            return
        starter = self._starter
        if self._is_manual and not self._hold(starter):
            return
        while self._executes:
            if not self._start(starter, self._executes.popleft(), self._executes):
                break
        while self._waiting and len(self._live) < self._parallelism and not starter.is_warming_up:
            if not self._start(starter, self._waiting.popleft(), self._waiting):
                break
        if self._waiting:
            starter.prepare(self._waiting[0].task)
        if self._chooser is not None and len(self._live) + len(self._waiting) < self._parallelism:
            self._chooser.ask()
        starter.expect(bool(self._waiting or self._unchosen))
        self._judge()

    def _hold(self, starter: Starter) -> bool:
        """Take the GPUs that a manual run holds for as long as it is up; return whether it has them."""
        try:
            grant = starter.hold()
        except BackendError as error:
            self._verdict = Outcome(State.FAILED, error.message)
            self._wind_up()
            return False
        if grant is not None:
            details: dict[str, Any] = {"gpus": list(grant.devices)} if grant.devices else {}
            self._chronicle.run(State.READY, **details)
        return grant is not None

    def _start(self, starter: Starter, turn: Turn, queue: deque[Turn]) -> bool:
        """Start one attempt; put it back, and return False, when there is no room for it now."""
        try:
            live = starter.start(turn, self._on_end)
        except BackendError as error:
            self._settle(turn, Outcome(State.FAILED, error.message, again=False))
            return True
        except OSError as error:
            return self._on_no_room(turn, queue, error)
        if live is None:
            queue.appendleft(turn)
            return False
        self._live[turn.task] = live
        state = State.RUNNING if self._replicas is None else State.STARTING
        self._chronicle.task(turn.task, state, attempt=turn.attempt, details=live.details)
        if self._replicas is not None:
            self._replicas.add(live)
        if self._record["max_seconds"] and not self._is_manual:
            limit = self._record["max_seconds"]
            live.attempt.limit(limit, over_time(self._record["kind"], limit))
        return True

    def _on_no_room(self, turn: Turn, queue: deque[Turn], error: OSError) -> bool:
        """Go on with as many as there are, when no further one can be started; with none there are, it has failed."""
        if not self._live:
            self._settle(turn, Outcome(State.FAILED, f"cannot be started: {os.strerror(error.errno or 0)}"))
            return True
        if self._parallelism > len(self._live):
            self._parallelism = len(self._live)
            self._chronicle.notice(f"{os.strerror(error.errno or 0)}: {self._parallelism} tasks at a time from now on")
        queue.appendleft(turn)
        return False

    def _on_manual_limit(self) -> None:
        self._verdict = over_time("manual", self._record["max_seconds"])
        self._stop(_DEFAULT_GRACE)

    def _on_idle(self, reason: str) -> None:
        self._verdict = Outcome(State.STOPPED, reason, again=False)
        self._stop(_DEFAULT_GRACE)

    def _on_end(self, attempt: Attempt, outcome: Outcome) -> None:
        live = self._live.pop(attempt.task)
        if self._replicas is not None and outcome.state is State.SUCCEEDED:
            outcome = Outcome(State.FAILED, "the server ended by itself (exit code 0)", 0)
        if outcome.exit_code == _CANNOT_WORK and self._is_ours(attempt.task):
            reason = "it cannot start as it is: see the end of its log"
            outcome = outcome._replace(reason=reason, again=False)
        if self._starter is not None:
            self._starter.ended(live)
        if self._replicas is not None:
            self._replicas.remove(live, outcome.reason)
        self._settle(live.turn, outcome)
        if self._deadline is None:
            self._fill()
        else:
            self._judge()

    def _is_ours(self, number: int) -> bool:
        """Return whether the task is a program of this package, whose exit codes we know."""
        words = [word for task in self._record["tasks"] if task["number"] == number for word in task["argv"]]
        return any(isinstance(part, str) and part.startswith(_OURS) for word in words for part in word)

    def _settle(self, turn: Turn, outcome: Outcome) -> None:
        """Note an end, or that there will be a further attempt."""
        again = outcome.state is State.FAILED and outcome.again and self._deadline is None
        if again and turn.failures < self._record["retries"] and not self._is_manual:
            pause = min(2.0**turn.failures, _LONGEST_PAUSE)
            further = Turn(turn.task, turn.attempt + 1, turn.failures + 1)
            reason = f"{outcome.reason}; attempt {further.attempt} in {pause:g} s"
            self._chronicle.task(
                turn.task, State.WAITING, attempt=further.attempt, reason=reason, exit_code=outcome.exit_code,
                details={"retry_in": pause},
            )  # fmt: skip
            self._later[turn.task] = further
            self._loop.after(pause, lambda: self._requeue(turn.task))
            if self._replicas is not None:
                self._replicas.tell()
        else:
            self._results[turn.task] = outcome
            self._chronicle.task(
                turn.task, outcome.state, attempt=turn.attempt, reason=outcome.reason, exit_code=outcome.exit_code
            )

    def _requeue(self, task: int) -> None:
        turn = self._later.pop(task, None)
        if turn is not None:
            self._waiting.appendleft(turn)
            self._fill()

    def _stop(self, grace: float) -> None:
        """End everything: what runs within `grace` seconds, what waits at once."""
        if self._winding is not None:
            self._winding.hurry(grace)
        deadline = time.monotonic() + grace
        self._deadline = deadline if self._deadline is None else min(self._deadline, deadline)
        unchosen = [self._turn(number) for number in self._unchosen]
        if self._chooser is not None:
            self._chooser.close()
        for turn in [*self._waiting, *self._later.values(), *self._executes, *unchosen]:
            self._settle(turn, Outcome(State.STOPPED, "stopped before it started"))
        for queue in (self._waiting, self._later, self._executes):
            queue.clear()
        self._verdict = self._verdict or Outcome(State.STOPPED, "stopped")
        for live in list(self._live.values()):
            live.attempt.end(Outcome(State.STOPPED, "stopped"), grace)
        if self._setup is not None:
            self._setup.end(Outcome(State.STOPPED, "stopped"), grace)
        self._judge()

    def _judge(self) -> None:
        """See whether nothing is left to be done."""
        is_busy = self._live or self._waiting or self._later or self._executes or self._setup or self._unchosen
        if self._winding is None and not is_busy and not (self._is_manual and self._deadline is None):
            self._wind_up()

    def _wind_up(self) -> None:
        """End whatever is still there of the run, then it is over."""
        if self._idleness is not None:
            self._idleness.close()
        if self._chooser is not None:
            self._chooser.close()
        if self._starter is not None:
            self._starter.close()
        grace = _LEFTOVER_GRACE
        if self._deadline is not None:
            grace = max(self._deadline - time.monotonic(), _LEFTOVER_GRACE / 4)
        self._winding = processes.Ending(self._descendants, grace)
        self._wind()

    def _wind(self) -> None:
        self._loop.reap()
        if self._winding is not None and self._winding.step():
            if self._winding.left:
                self._chronicle.notice(f"{len(self._winding.left)} processes cannot be ended")
            self._is_over = True
        else:
            self._loop.after(_WIND_SECONDS, self._wind)

    def _on_blind(self, error: OSError) -> None:
        self._chronicle.notice(f"{error.strerror}: the ends of processes are looked for 50 times a second instead")

    def _descendants(self) -> list[Identity]:
        return processes.identities(processes.descendants([os.getpid()], self._record["uid"]))
