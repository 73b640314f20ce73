"""One task of a run on a cluster: from the pods that it had to the changes of its state, in their order.

A pod of a Job is one attempt; where a container is started again inside its pod (a server, a manual run), each start
is one. What is told of an attempt is told in the order in which it happened, and the end of one only when its log was
read to the end: readers of a run's folder stop there, or go on with the next attempt's log.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from jupyter_gpudeploy.backends.kubernetes.facts import end_of, was_suspended
from jupyter_gpudeploy.backends.kubernetes.mirror.attempts import Attempt, LogOrder, Surroundings, Told
from jupyter_gpudeploy.events.types import State, StateChange
from jupyter_gpudeploy.events.wire import TOLD_TO_END
from jupyter_gpudeploy.quantities import format_seconds

if TYPE_CHECKING:
    from collections.abc import Mapping

    from jupyter_gpudeploy.backends.kubernetes.facts import JobFacts, PodFacts

SETTLE_SECONDS = 0.5
"""For so long an exit code 0 is not believed: the Event that tells of an eviction comes by another way."""

_RANK = {State.WAITING: 0, State.STARTING: 1, State.RUNNING: 2, State.READY: 2}
_BACK_OFF_SECONDS = 3.0
_BACK_OFF = re.compile(r"back-off (\w+) restarting")


class TaskTrack:
    """The attempts of one task, and what was told of them. `had_pod`: whether the attempt told last had one."""

    __slots__ = ("_drained", "_known", "attempts", "had_pod", "index", "number", "told")

    def __init__(self, number: int, index: int, told: Told | None = None) -> None:
        self.number = number
        self.index = index
        self.told = told or Told()
        self.attempts: dict[int, Attempt] = {}
        self.had_pod = False
        self._known = told is not None
        self._drained: dict[int, str] = {}

    def see(self, pod: PodFacts, first: int) -> None:
        """Take in a pod, whose container's first start is attempt `first`."""
        for restart in range(pod.restarts + 1):
            attempt = self.attempts.get(first + restart)
            if attempt is None:
                if first + restart < self.told.attempt or (first + restart == self.told.attempt and self._is_over):
                    continue
                attempt = self.attempts[first + restart] = Attempt(pod, restart)
            attempt.pod = pod
            attempt.was_ready = attempt.was_ready or pod.ready is not None

    @property
    def _is_over(self) -> bool:
        return self.told.state.is_final

    def drained(self, attempt: int, words: str = "") -> None:
        """Note that the log of an attempt was read to its end, and what the pod said there about its end."""
        self._drained[attempt] = words

    @property
    def is_ending(self) -> bool:
        """Whether its last attempt has ended, its log too, and it is not known yet what follows."""
        attempt = self.attempts.get(self.told.attempt)
        if self._is_over or attempt is None or attempt.ended_at is None:
            return False
        return attempt.started is None or self.told.attempt in self._drained

    def orders(self) -> list[LogOrder]:
        """Return the logs that are to be copied now: one, as a rule."""
        return [
            self._order(number, attempt)
            for number, attempt in sorted(self.attempts.items())
            if number not in self._drained and attempt.started is not None
        ]

    def _order(self, number: int, attempt: Attempt) -> LogOrder:
        pod, last = attempt.pod, attempt.is_last_start
        gone = pod.gone or attempt.restart < pod.restarts - 1
        return LogOrder(
            self.number, number, pod.name, pod.uid, pod.container, pod.container_id if last else "",
            attempt.restart, not last, attempt.has_ended, gone, pod.restartable,
        )  # fmt: skip

    def next_change(self, around: Surroundings) -> StateChange | None:
        """Return what is to be told next, and take it as told; None when there is nothing more for now."""
        change = self._next(around)
        if change is not None:
            change = change._replace(time=max(change.time, self.told.time))
            self.had_pod = change.attempt in self.attempts or (self.had_pod and change.attempt == self.told.attempt)
            self.told = Told(change.attempt, change.state, change.reason, change.time)
            self._known = True
            for number in [number for number in self.attempts if number < change.attempt]:
                del self.attempts[number]
        return change

    def _next(self, around: Surroundings) -> StateChange | None:
        further = min((number for number in self.attempts if number > self.told.attempt), default=None)
        if self._is_over:
            return self._after_the_end(further, around)
        attempt = self.attempts.get(self.told.attempt)
        if attempt is None:
            return self._begin(further, around) if further is not None else self._without_pod(around)
        if attempt.has_ended:
            return self._ended(attempt, further, around)
        return self._alive(self.told.attempt, attempt, around)

    def _ended(self, attempt: Attempt, further: int | None, around: Surroundings) -> StateChange | None:
        """Return what follows on the end of an attempt, once its log was read."""
        if attempt.ended_at is None:
            attempt.ended_at = around.monotonic
        if attempt.started is not None and self.told.state in (State.WAITING, State.STARTING):
            return self._change(State.RUNNING, self.told.attempt, attempt.started, details=_place(attempt.pod))
        if attempt.started is not None and self.told.attempt not in self._drained:
            return None
        if further is not None and not self._is_stopped(attempt, around):
            reason, _ = self._end_words(attempt, around)
            if around.is_scheduled and self.attempts[further].pod.job != attempt.pod.job:
                return self._end_of_round(attempt, around)
            return self._again(further, attempt, reason, around)
        return self._end(attempt, around)

    def _end_of_round(self, attempt: Attempt, around: Surroundings) -> StateChange:
        """Return the end of a task whose schedule has fired again since."""
        number, time, exit_ = self.told.attempt, attempt.finished or 0.0, attempt.exit
        if attempt.pod.phase == "Succeeded" and attempt.pod.uid not in around.evicted:
            return self._change(State.SUCCEEDED, number, time, exit_code=0)
        reason, hint = self._end_words(attempt, around)
        code = exit_.code if exit_ else None
        return self._change(State.FAILED, number, time, reason, code, {"hint": hint} if hint else {})

    def _after_the_end(self, further: int | None, around: Surroundings) -> StateChange | None:
        """A task that was stopped goes on when its run does; one that succeeded did not when it was evicted."""
        goes_on = around.is_scheduled or self.told.state is State.STOPPED
        if further is not None and goes_on and not around.is_stopping:
            return self._begin(further, around)
        if self.told.state is State.STOPPED and around.is_going_on:
            return self._change(State.WAITING, self.told.attempt + self.had_pod, around.clock)
        attempt = self.attempts.get(self.told.attempt)
        if self.told.state is State.SUCCEEDED and attempt is not None and attempt.pod.uid in around.evicted:
            return self._change(State.FAILED, self.told.attempt, around.clock, around.evicted[attempt.pod.uid], 0)
        return None

    def _begin(self, number: int, around: Surroundings) -> StateChange:
        pod = self.attempts[number].pod
        state = State.WAITING if pod.scheduled is None else State.STARTING
        time = pod.created if pod.scheduled is None else pod.scheduled
        return self._change(state, number, time or around.clock, details=_named(pod, around))

    def _alive(self, number: int, attempt: Attempt, around: Surroundings) -> StateChange | None:
        pod = attempt.pod
        state, time, reason, hint = self._standing(attempt, around)
        if not self._known:
            return self._begin(number, around)
        if (state, reason) == (self.told.state, self.told.reason):
            return None
        if _RANK[state] < _RANK[self.told.state] and not self.told.state.is_final:
            return None
        details = _place(pod) if state is State.RUNNING or not around.is_batch else {}
        return self._change(state, number, time, reason, details={**details, **({"hint": hint} if hint else {})})

    def _standing(self, attempt: Attempt, around: Surroundings) -> tuple[State, float, str, str]:
        """Return (state, since when, reason, hint) of an attempt that has not ended."""
        pod = attempt.pod
        if pod.started is not None and around.is_batch:
            return State.RUNNING, pod.started, "", ""
        if pod.started is not None and pod.ready is not None:
            return State.READY, max(pod.ready, pod.started), "", ""
        reason, hint = around.reason_of(pod.uid)
        if attempt.was_ready:
            return State.RUNNING, around.clock, reason or "it does not answer any more", hint
        if pod.scheduled is not None:
            return State.STARTING, pod.started or pod.scheduled, reason, hint
        return State.WAITING, pod.created, reason, hint

    def _without_pod(self, around: Surroundings) -> StateChange | None:
        """Return the end of a task that has no pod, from what the Job remembers."""
        number, job = self.told.attempt, around.job
        if job is not None and around.is_batch:
            if self.index in job.completed:
                return self._change(State.SUCCEEDED, number, self._job_time(around), exit_code=0)
            if self.index in job.failed:
                reason = self.told.reason or "it failed; its pod is gone"
                return self._change(State.FAILED, number, self._job_time(around), reason)
        if around.is_stopping and around.is_quiet:
            return self._change(State.STOPPED, number, around.clock)
        if job is not None and job.has_ended and around.is_batch:
            return self._change(State.FAILED, number, self._job_time(around), _job_words(job, around))
        return self._change(State.LOST, number, around.clock, around.why_left) if around.why_left else None

    def _end(self, attempt: Attempt, around: Surroundings) -> StateChange | None:
        """Return what follows on the end of the last attempt."""
        pod, number, exit_ = attempt.pod, self.told.attempt, attempt.exit
        time = attempt.finished or around.clock
        code = exit_.code if exit_ else None
        if self._is_stopped(attempt, around):
            return self._change(State.STOPPED, number, time, exit_code=code)
        reason, hint = self._end_words(attempt, around)
        details = {"hint": hint} if hint else {}
        if not around.is_batch:
            return self._again(number + 1, attempt, reason, around) if self._is_settled(attempt, around) else None
        if self._has_succeeded(pod, around):
            if around.starts_together and not _job_is_over(around):
                return None  # where another machine fails, this one starts again with it
            settled = around.monotonic - (attempt.ended_at or 0.0) >= SETTLE_SECONDS
            return self._change(State.SUCCEEDED, number, time, exit_code=0) if settled else None
        if self._has_failed(pod, around):
            cause = around.failed_node(self.number) if pod.deleted is not None or pod.gone else ""
            state, reason = (State.STOPPED, f"ended with {cause}") if cause else (State.FAILED, reason)
            return self._change(state, number, time, reason, code, details)
        return self._again(number + 1, attempt, reason, around) if _is_tried_again(attempt, around) else None

    def _has_succeeded(self, pod: PodFacts, around: Surroundings) -> bool:
        """Whether the pod did, or the Job says so of a pod that was not seen to; an evicted one only looks like it."""
        if pod.phase == "Succeeded":
            return pod.uid not in around.evicted
        return around.job is not None and self.index in around.job.completed

    def _has_failed(self, pod: PodFacts, around: Surroundings) -> bool:
        """Whether this was the last attempt of a task that has not succeeded."""
        job = around.job
        is_past = around.is_scheduled and job is not None and job.uid != pod.job
        return pod.phase == "Succeeded" or is_past or bool(around.why_left) or (
            job is not None and (job.has_ended or self.index in job.failed)
        )  # fmt: skip

    def _is_settled(self, attempt: Attempt, around: Surroundings) -> bool:
        """Whether it is known when a container that ended is started again, or was not said for long."""
        pod = attempt.pod
        if pod.phase == "Succeeded" and around.job is not None:
            return False  # its Job is about to be over
        is_over = pod.is_over or pod.deleted is not None or not attempt.is_last_start
        return is_over or bool(pod.waiting[0]) or around.monotonic - (attempt.ended_at or 0.0) >= _BACK_OFF_SECONDS

    def _is_stopped(self, attempt: Attempt, around: Surroundings) -> bool:
        """Whether it ended because the run was asked to stop."""
        pod = attempt.pod
        return around.is_stopping and (pod.deleted is not None or pod.gone or around.is_quiet) and not (
            around.is_batch and pod.phase == "Succeeded" and pod.deleted is None
        )  # fmt: skip

    def _again(self, number: int, attempt: Attempt, reason: str, around: Surroundings) -> StateChange:
        details: dict[str, Any] = {}
        again = self.attempts.get(number)
        if again is not None:
            details = _named(again.pod, around)
        waits = _BACK_OFF.search(attempt.pod.waiting[1])
        if waits and "next restart in" not in reason:
            reason = f"{reason}; next restart in {waits[1]}"
        was_deleted = attempt.pod.deleted is not None and not was_suspended(attempt.pod, around.job)
        if was_deleted and is_tried_once_more(attempt, around):
            reason = f"{reason}; it is tried once more"
        exit_ = attempt.exit
        time = attempt.finished or 0.0
        return self._change(State.WAITING, number, time, reason, exit_.code if exit_ else None, details)

    def _end_words(self, attempt: Attempt, around: Surroundings) -> tuple[str, str]:
        pod = attempt.pod
        if around.starts_together and (pod.phase == "Succeeded" or pod.deleted is not None or pod.gone):
            cause = around.failed_node(self.number)
            if cause or pod.phase == "Succeeded":
                return f"ended with {cause}" if cause else "all machines start again", ""
        if pod.uid in around.evicted and pod.phase == "Succeeded":
            return around.evicted[pod.uid], ""
        if was_suspended(pod, around.job):
            return "suspended", ""
        reason, hint = around.reason_of(pod.uid)
        if not reason and pod.status[0] == "DeadlineExceeded" and around.max_seconds:
            return f"took longer than max_hours ({format_seconds(around.max_seconds)})", ""
        return reason or end_of(pod, attempt.exit, self._drained.get(self.told.attempt, "")), hint

    def _change(
        self, state: State, number: int, time: float, reason: str = "", exit_code: int | None = None,
        details: Mapping[str, Any] | None = None,
    ) -> StateChange:  # fmt: skip
        return StateChange(time, state, self.number, number, reason, exit_code, details or {})

    def _job_time(self, around: Surroundings) -> float:
        job = around.job
        times = [when for _, _, when in job.conditions.values()] if job is not None else []
        return max(times, default=0.0) or around.clock


def _job_is_over(around: Surroundings) -> bool:
    """Return whether the Job will start nothing more."""
    job = around.job
    return around.is_stopping or bool(around.why_left) or (job is not None and job.has_ended)


def _is_tried_again(attempt: Attempt, around: Surroundings) -> bool:
    """Whether a further attempt follows on a failed one, as far as that is known before it is there."""
    pod, job = attempt.pod, around.job
    is_tried = pod.failures < around.retries or is_tried_once_more(attempt, around)
    return is_tried or bool(pod.disruption[0]) or attempt.exit is None or was_suspended(pod, job)


def is_tried_once_more(attempt: Attempt, around: Surroundings) -> bool:
    """Whether a task without retries is tried once more all the same: its pod was told to end, for the first time."""
    is_alone = around.is_batch and not around.retries and around.nodes == 1
    code = attempt.exit.code if attempt.exit is not None else TOLD_TO_END
    return is_alone and code == TOLD_TO_END and not (attempt.pod.failures or attempt.pod.disruption[0])


def _named(pod: PodFacts, around: Surroundings) -> dict[str, Any]:
    """Return which pod an attempt has, and which round of a schedule it is of."""
    turn = {"round": pod.job_name} if around.is_scheduled and pod.job_name else {}
    return {"pod": pod.name, "pod_uid": pod.uid, **turn}


def _place(pod: PodFacts) -> dict[str, Any]:
    image = {"image": pod.image} if pod.image else {}
    return {"pod": pod.name, "pod_uid": pod.uid, "node": pod.node, **image}


def _job_words(job: JobFacts, around: Surroundings) -> str:
    if job.gone:
        return "the Job was deleted outside"
    reason, message, _ = job.conditions.get("Failed") or job.conditions.get("Complete") or ("", "", 0.0)
    if reason == "DeadlineExceeded" and around.max_seconds:
        return f"took longer than max_hours ({format_seconds(around.max_seconds)})"
    return ": ".join(filter(None, (reason, message))) or "the Job has ended without it"
