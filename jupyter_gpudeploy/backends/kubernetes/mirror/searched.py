"""The states of a search: each trial has a Job of its own, which is made when its point is chosen."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from jupyter_gpudeploy.backends.kubernetes import marks
from jupyter_gpudeploy.backends.kubernetes.facts import JobFacts, job_facts
from jupyter_gpudeploy.backends.kubernetes.mirror.states import States

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from jupyter_gpudeploy.backends.kubernetes.mirror.reasons import Explain
    from jupyter_gpudeploy.backends.kubernetes.mirror.tasks import TaskTrack
    from jupyter_gpudeploy.events.types import Event, StateChange


class SearchStates(States):
    """As `States`. What a trial asks about the Job is asked about its own; what the run asks, about one not ended."""

    def __init__(
        self, record: Mapping[str, Any], uid: str, history: Iterable[Event] = (), explain: Explain | None = None
    ) -> None:
        self.jobs: dict[int, JobFacts] = {}
        self.parallelism = int(record["parallelism"])
        self.is_paused = False
        super().__init__(record, uid, history, explain)

    def has_begun(self, number: int) -> bool:
        """Whether a pod of a trial was seen, now or earlier."""
        track = self._tracks.get(number)
        return track is not None and (track.had_pod or bool(track.attempts))

    def has_ended(self, number: int) -> bool:
        """Whether the end of a trial was told."""
        track = self._tracks.get(number)
        return track is not None and track.told.state.is_final

    def is_launched(self) -> None:
        """Take in that there is a place for points: Jobs may be made."""
        self._see_work(marks.POINTS, False, gone=False)  # it makes no pods itself

    def lose(self, number: int) -> None:
        """Take in that the Job of a trial was there, and is no more, although its end was not seen."""
        if number not in self.jobs:
            self.jobs[number] = JobFacts("", 0.0, False, 0, frozenset(), frozenset(), {}, gone=True)
            self._touch(number)

    def _feed_job(self, item: Mapping[str, Any], *, gone: bool) -> None:
        task = (item["metadata"].get("labels") or {}).get(marks.TASK, "")
        if not task.isdigit() or int(task) not in self.numbers:
            return
        number, job = int(task), job_facts(item, gone=gone)
        known = self.jobs.get(number)
        if known is not None and known.uid != job.uid and (gone or job.created < known.created):
            return
        if gone and known is not None and "status" not in item:
            job = known._replace(gone=True)
        self._see_work(job.uid, not job.suspended and not job.has_ended, gone=gone)
        self.jobs[number] = job
        self._reasons.keep(item)
        self._know(job.uid, number)
        self._touch(number)
        if self._around.is_stopping:
            self._touch_all()

    def _feed_root(self, item: Mapping[str, Any], *, gone: bool) -> None:
        notes = item["metadata"].get("annotations") or {}
        said = notes.get(marks.PARALLELISM, "")
        self.parallelism = int(said) if said.isdigit() and int(said) else self.parallelism
        self.is_paused = marks.PAUSED in notes
        super()._feed_root(item, gone=gone)

    def _task_changes(self, track: TaskTrack) -> list[StateChange]:
        self._around.job = self.jobs.get(track.number)
        found = super()._task_changes(track)
        self._around.job = next((job for job in self.jobs.values() if not job.has_ended), None)
        return found

    def _work_is_quiet(self) -> bool:
        return all(job.has_ended or (job.suspended and not job.active) for job in self.jobs.values())

    def _touch(self, number: int) -> None:
        self._track(number)
        self._dirty.add(number)
