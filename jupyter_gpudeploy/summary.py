"""A run at a glance, as plain values: what every display is drawn from, in a notebook, a terminal or a panel.

Made without pandas or any front end, so that it is cheap enough to be made twice a second.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from jupyter_gpudeploy.events.types import State
from jupyter_gpudeploy.names import point_name

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from jupyter_gpudeploy.backends.base import RunRef
    from jupyter_gpudeploy.events.status import Status, TaskStatus
    from jupyter_gpudeploy.events.types import MetricPoint

_DONE = (State.SUCCEEDED, State.FAILED)
_RUNNING = (State.STARTING, State.RUNNING, State.READY)


class Row(NamedTuple):
    """One task. `seconds` is None before it started; `metrics` holds the last value of each."""

    task: int
    name: str
    parameters: Mapping[str, Any]
    state: State
    seconds: float | None
    exit_code: int | None
    attempt: int
    reason: str
    metrics: Mapping[str, float]


class Summary(NamedTuple):
    """One run. `seconds` is its age, or how long it took; `gpu_hours` what its tasks held of GPUs.

    `tries` is how often a task that fails is started at most; `hint` an edit of the cell that would help; `images`
    what its containers were made of, with digests. `owner`: whose it is, where it is another person's.
    `is_seen`: False while nobody has looked where it stands. `best_value`: of its metric, reached in trial `best`;
    `best_so_far`: the same, of a search. `stale`: since when and why this is not up to date, also among the notices.
    """

    name: str
    title: str
    uid: str
    kind: str
    backend: str
    state: State
    reason: str
    seconds: float | None
    gpu_hours: float
    url: str | None
    counts: Mapping[State, int]
    rows: Sequence[Row]
    notices: Sequence[str]
    log: Sequence[str]
    metric: str | None
    goal: str | None
    best: int | None
    tries: int = 1
    hint: str = ""
    images: Sequence[str] = ()
    owner: str = ""
    is_seen: bool = True
    best_so_far: float | None = None
    best_value: float | None = None
    stale: str = ""

    @property
    def done(self) -> int:
        """How many tasks have ended by themselves, well or badly."""
        return sum(self.counts.get(state, 0) for state in _DONE)

    @property
    def running(self) -> int:
        """How many tasks have a process."""
        return sum(self.counts.get(state, 0) for state in _RUNNING)

    @property
    def progress(self) -> str:
        """`5 done, 2 running, 5 waiting` for many tasks; the state for one."""
        if not self.is_seen:
            return "not looked at"
        if len(self.rows) <= 1 and self.kind != "sweep":
            return str(self.state)
        parts = [
            (self.done, "done"),
            (self.running, "running"),
            (self.counts.get(State.WAITING, 0), "waiting"),
            (self.counts.get(State.STOPPED, 0), "stopped"),
            (self.counts.get(State.LOST, 0), "lost"),
        ]
        failed = self.counts.get(State.FAILED, 0)
        text = ", ".join(f"{count} {word}" for count, word in parts if count)
        return f"{text} ({failed} failed)" if failed else text or "no tasks"


def summarize(
    record: Mapping[str, Any],
    status: Status,
    latest: Mapping[int, Mapping[str, MetricPoint]],
    *,
    now: float,
    url: str | None = None,
    best: int | None = None,
    best_value: float | None = None,
    log: Sequence[str] = (),
) -> Summary:
    """Return the run at a glance. `latest` holds the last point of each metric of each task."""
    names = {task["number"]: task for task in record["tasks"]}
    rows = [_row(names.get(number, {}), task, latest.get(number, {}), now) for number, task in status.tasks.items()]
    gpus = record.get("resources", {}).get("gpus", 0)
    metric = record.get("metric") or {}
    return Summary(
        name=record["name"],
        title=record["title"],
        uid=record["uid"],
        kind=record["kind"],
        backend=record["backend"],
        state=status.state,
        reason=status.reason,
        seconds=None if status.started is None else (status.ended or now) - status.started,
        gpu_hours=gpus * sum(row.seconds or 0.0 for row in rows) / 3600,
        url=url,
        counts=status.counts(),
        rows=rows,
        notices=list(dict.fromkeys(notice.message for notice in status.notices)),
        log=log,
        metric=metric.get("name"),
        goal=metric.get("goal"),
        best=best,
        tries=1 + (record.get("retries") or 0),
        hint=status.hint,
        images=_images(status),
        best_so_far=best_value if record.get("search") else None,
        best_value=best_value,
    )


def remaining(summary: Summary, parallelism: int) -> float | None:
    """Return how many seconds are left at the pace so far; None while that cannot be told."""
    done = [row.seconds for row in summary.rows if row.state is State.SUCCEEDED and row.seconds is not None]
    if summary.kind != "sweep" or summary.state.is_final or not done:
        return None
    pace = sum(done) / len(done)
    waiting = sum(row.state is State.WAITING for row in summary.rows)
    running = [max(0.0, pace - (row.seconds or 0.0)) for row in summary.rows if row.state in _RUNNING]
    return (waiting * pace + sum(running)) / max(1, min(parallelism, waiting + len(running)))


def unseen(ref: RunRef, state: State | None, reason: str, owner: str) -> Summary:
    """Return what is known of a run that has no folder here: who it is, and its state where somebody told it."""
    return Summary(
        name=ref.name, title=ref.name, uid=ref.uid, kind="", backend=ref.backend, state=state or State.WAITING,
        reason=reason, seconds=None, gpu_hours=0.0, url=None, counts={}, rows=(), notices=(), log=(), metric=None,
        goal=None, best=None, owner=owner, is_seen=state is not None,
    )  # fmt: skip


def _images(status: Status) -> list[str]:
    details = [*(task.details for task in status.tasks.values()), status.details]
    found = (str(one.get("image") or "") for one in details)
    return [*dict.fromkeys(image for image in found if image)]


def _row(task: Mapping[str, Any], status: TaskStatus, metrics: Mapping[str, MetricPoint], now: float) -> Row:
    parameters = task.get("parameters", {})
    return Row(
        task=status.task,
        name=task.get("name") or point_name(parameters) or str(status.task),
        parameters=parameters,
        state=status.state,
        seconds=status.seconds(now),
        exit_code=status.exit_code,
        attempt=status.attempt,
        reason=status.reason,
        metrics={name: point.value for name, point in metrics.items()},
    )
