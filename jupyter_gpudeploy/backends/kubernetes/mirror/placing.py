"""Which pod is which task, and with which attempt its container's first start begins."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from jupyter_gpudeploy.backends.kubernetes.facts import PodFacts


class Places:
    """The tasks of the pods of a run. The place of a pod never changes, and no two pods have the same attempt.

    A pod of an Indexed Job is the task of its index, and says itself how often that failed before; where each task has
    a Job of its own, a label of the pod says which. The replicas of a
    server are numbered in the order in which they appear; one that takes another's place takes its number.
    """

    def __init__(self, numbers: Sequence[int], kind: str, *, has_own_jobs: bool = False) -> None:
        self._numbers = list(numbers)
        self._indexes = {number: index for index, number in enumerate(numbers)}
        self._has_own_jobs = has_own_jobs
        self._is_batch = kind in ("job", "sweep")
        self._first: dict[str, tuple[int, int]] = {}
        self._taken: dict[int, dict[int, str]] = {}
        self._living: dict[str, int] = {}

    def __contains__(self, uid: str) -> bool:
        return uid in self._first

    def task_of(self, uid: str) -> int:
        """Return the task of a pod that has a place."""
        return self._first[uid][0]

    def number(self, index: int) -> int | None:
        """Return the task of an index of the Job."""
        return self._numbers[index] if index < len(self._numbers) else None

    def index(self, number: int) -> int:
        """Return the index of a task in the Job; in one of its own it is the first."""
        return 0 if self._has_own_jobs else self._indexes.get(number, number)

    def place(self, pod: PodFacts) -> tuple[int, int] | None:
        """Return (task, attempt of the first start) of a pod; None for one that belongs to no task."""
        if pod.uid not in self._first:
            number = self._task(pod)
            if number is None:
                return None
            taken = self._taken.setdefault(number, {})
            first = pod.failures + 1 if self._is_batch else 1
            if first in taken or not self._is_batch:
                first = max([first - 1, *taken]) + 1
            self._first[pod.uid] = number, first
        number, first = self._first[pod.uid]
        taken = self._taken.setdefault(number, {})
        for restart in range(pod.restarts + 1):
            taken.setdefault(first + restart, pod.uid)
        if pod.is_over or pod.deleted is not None:
            self._living.pop(pod.uid, None)
        else:
            self._living[pod.uid] = number
        return number, first

    def remember(self, uid: str, number: int, attempt: int) -> None:
        """Take up what an earlier reader told: this attempt of the task was of that pod."""
        known = self._first.get(uid)
        self._first[uid] = number, min(attempt, known[1]) if known else attempt
        self._taken.setdefault(number, {})[attempt] = uid

    def _task(self, pod: PodFacts) -> int | None:
        if pod.task is not None:
            return pod.task
        if self._is_batch:
            if pod.completion is None:
                return self._numbers[0] if len(self._numbers) == 1 else None
            return self.number(pod.completion)
        taken = set(self._living.values())
        free = (number for number in self._numbers or [0] if number not in taken)
        return next(free, max([-1, *taken, *self._numbers]) + 1)
