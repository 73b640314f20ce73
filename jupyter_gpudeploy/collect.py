"""All metrics of a run, gathered from every way in which its programs report them.

A program may both print a value and `log` it, and write it to a file. Within one attempt of a task, the points of a
metric come from one source only: what was given to `log()` counts before a file, and a file before what was printed.

What a task reported until its end is kept beside its logs (`trackers/_cache.py`), so that a fresh kernel need not
parse a long log again.
"""

from __future__ import annotations

import math
from array import array
from threading import RLock
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from jupyter_gpudeploy.events.types import State
from jupyter_gpudeploy.trackers import _cache, files, log, stdout
from jupyter_gpudeploy.trackers._columns import SOURCES, Columns, Names

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from jupyter_gpudeploy.events.status import Status, TaskStatus
    from jupyter_gpudeploy.events.store import RunFolder
    from jupyter_gpudeploy.events.types import MetricPoint
    from jupyter_gpudeploy.trackers.base import Problem, Reader, Tracker

Goal = Literal["minimize", "maximize"]
_TRACKERS: tuple[Tracker, ...] = (log.EXPORT, files.EXPORT, stdout.EXPORT)
_Key = tuple[int, int]
__all__ = ["SOURCES", "Collector", "Columns", "Goal", "Place"]


class Place(NamedTuple):
    """How far the points of one task were read, by somebody who takes them as they come."""

    generations: tuple[int, ...]
    counts: tuple[int, ...]
    hidden: frozenset[_Key]


class _Series:
    """What one source said about one task. `last` and `extremes` are by (attempt, metric)."""

    def __init__(self, names: Names, reader: Reader) -> None:
        self.reader = reader
        self._names = names
        self._clear()

    def _clear(self) -> None:
        self.generation = self.reader.generation
        self.columns = Columns(self._names)
        self.last: dict[_Key, int] = {}
        self.extremes: dict[_Key, list[float]] = {}

    def poll(self, *, ended: bool) -> None:
        points = self.reader.poll(ended=ended)
        if self.reader.generation != self.generation:
            self._clear()
        self.extend(points)

    def extend(self, points: Columns) -> None:
        """Append points: a million of them in less than a second, where they are of few metrics."""
        if not points:
            return
        columns, start = self.columns, len(self.columns)
        columns.extend(points)
        attempts, metrics, values = columns.attempt[start:], columns.metric[start:], columns.value[start:]
        first = list(dict.fromkeys(metrics))
        width = len(first)
        if metrics == array("i", first) * (len(metrics) // width) and len(set(attempts)) == 1:
            for place, metric in enumerate(first):  # every line said the same metrics
                self.last[attempts[0], metric] = len(columns) - width + place
                self._stretch((attempts[0], metric), values[place::width])
            return
        by_key: dict[_Key, list[float]] = {}
        for index, (attempt, metric, value) in enumerate(zip(attempts, metrics, values, strict=True), start):
            by_key.setdefault((attempt, metric), []).append(value)
            self.last[attempt, metric] = index
        for key, found in by_key.items():
            self._stretch(key, found)

    def _stretch(self, key: _Key, values: Sequence[float]) -> None:
        """Let the extremes of a metric take in further values."""
        if not math.isfinite(sum(values)):
            values = [value for value in values if math.isfinite(value)]
        if values:
            low, high = min(values), max(values)
            known = self.extremes.setdefault(key, [low, high])
            known[:] = min(known[0], low), max(known[1], high)


class Collector:
    """The metrics of one run, as they come. Safe from several threads.

    It can be thrown away at any time: a new one reads the same from the run's folder. What has ended is read once
    more and then left alone.
    """

    def __init__(self, folder: RunFolder) -> None:
        self._folder = folder
        self._names = Names()
        self._tasks: dict[int, list[_Series]] = {}
        self._finished: dict[int, tuple[int, float | None]] = {}
        self._problems: dict[int, list[Problem]] = {}
        self._records: dict[int, Mapping[str, Any]] | None = None
        self._lock = RLock()

    def poll(self, status: Status) -> None:
        """Read what is new of all tasks. `status` says which have begun, and which write no more."""
        with self._lock:
            for number, task in status.tasks.items():
                if self._is_due(task):
                    if not task.state.is_final or task.state is State.LOST:  # what lost its keeper may write on
                        for series in self._series(number):
                            series.poll(ended=task.state.is_final)
                    else:
                        self._finish(task)

    def _finish(self, task: TaskStatus) -> None:
        """Read a task that has ended to its end, or what was kept of it when somebody did so before."""
        every = self._series(task.task)
        kept = _cache.Kept(self._folder, task.task, task.attempt, [series.reader for series in every])
        is_fresh = not any(len(series.columns) for series in every)
        found = kept.load() if is_fresh else None
        if found is None:
            for series in every:
                series.poll(ended=True)
            problems = [problem for series in every for problem in series.reader.problems()]
            kept.save([series.columns for series in every], problems)
        else:
            points, problems = found
            for series, columns in zip(every, points, strict=True):
                series.extend(columns)
        is_told = task.started is not None
        may_miss = task.state is not State.SUCCEEDED  # it has ended too early: that is said already
        self._problems[task.task] = [each for each in problems if is_told and not (each.is_missing and may_miss)]
        self._finished[task.task] = task.attempt, task.ended

    def points(self, task: int | None = None) -> list[MetricPoint]:
        """Return every point, of all attempts, task by task in the order in which each source reported them."""
        return list(self.columns(task))

    def columns(self, task: int | None = None) -> Columns:
        """Return the same as columns; a copy."""
        with self._lock:
            found = Columns(Names(self._names.all))
            for number in sorted(self._tasks) if task is None else [task]:
                hidden: set[_Key] = set()
                for series in self._tasks.get(number, ()):
                    found.extend(series.columns, _chosen(series, hidden))
                    hidden |= series.last.keys()
            return found

    def fresh(self, places: dict[int, Place]) -> list[tuple[int, Columns, bool]]:
        """Return what came after `places`, which are brought forward: task, points, whether they replace all before.

        They do where a source was written anew, and where a metric turns out to be told by a better source.
        """
        with self._lock:
            found = []
            for task in sorted(self._tasks):
                place, before = self._place(task), places.get(task)
                if place == before:
                    continue
                places[task] = place
                anew = before is None or (before.generations, before.hidden) != (place.generations, place.hidden)
                starts = (0,) * len(place.counts) if before is None or anew else before.counts
                found.append((task, self._from(task, starts), before is not None and anew))
            return found

    def _place(self, task: int) -> Place:
        hidden: set[_Key] = set()
        seen: set[_Key] = set()
        for series in self._tasks[task]:
            hidden |= seen & series.last.keys()
            seen |= series.last.keys()
        every = self._tasks[task]
        return Place(
            tuple(each.generation for each in every), tuple(len(each.columns) for each in every), frozenset(hidden)
        )

    def _from(self, task: int, starts: Sequence[int]) -> Columns:
        found = Columns(Names(self._names.all))
        hidden: set[_Key] = set()
        for series, start in zip(self._tasks[task], starts, strict=True):
            new = series.columns.after(start)
            is_hidden = not hidden.isdisjoint(series.last)
            found.extend(
                new, [key not in hidden for key in zip(new.attempt, new.metric, strict=True)] if is_hidden else None
            )
            hidden |= series.last.keys()
        return found

    def latest(self) -> dict[int, dict[str, MetricPoint]]:
        """Return the last point of each metric of each task, of the last attempt that reported anything."""
        with self._lock:
            return {
                task: {self._names.all[metric]: series.columns[series.last[attempt, metric]]
                       for series, (attempt, metric) in self._current(task)}
                for task in sorted(self._tasks)
                if any(series.last for series in self._tasks[task])
            }  # fmt: skip

    def best(self, metric: str, goal: Goal) -> dict[int, float]:
        """Return the best value of a metric that each task has reached, in the attempt that `latest` shows.

        NaN and infinity are never best: a task with no finite value is left out.
        """
        with self._lock:
            found: dict[int, float] = {}
            for task in sorted(self._tasks):
                for series, key in self._current(task):
                    if self._names.all[key[1]] == metric and key in series.extremes:
                        found[task] = series.extremes[key][goal == "maximize"]
            return found

    def best_task(self, metric: str, goal: Goal) -> int | None:
        """Return the task that reached the best value, the lower number of equals; None while there is no value."""
        found = self.best(metric, goal)
        sign = -1 if goal == "maximize" else 1
        return min(found, key=lambda task: (sign * found[task], task), default=None)

    def names(self) -> list[str]:
        """Return the names of all metrics that were seen, in the order in which they came."""
        with self._lock:
            return list(self._names.all)

    def problems(self) -> list[str]:
        """Return what was wrong with the reports of the tasks that have ended, a sentence for each thing and not more.

        What several tasks have in common is told by the first of them.
        """
        with self._lock:
            common: dict[tuple[str, str], list[str]] = {}
            for task in sorted(self._problems):
                for problem in self._problems[task]:
                    name = problem.file.rpartition("/")[2]
                    common.setdefault((name, problem.what), []).append(problem.file)
            return [
                f"metric_files: {files[0]}: {what}" + (f" (and {len(files) - 1} more like it)" if files[1:] else "")
                for (_, what), files in common.items()
            ]

    def _is_due(self, task: TaskStatus) -> bool:
        if task.state is State.WAITING and task.attempt == 1:
            return False
        return not task.state.is_final or self._finished.get(task.task) != (task.attempt, task.ended)

    def _series(self, number: int) -> list[_Series]:
        if number not in self._tasks:
            if self._records is None or not self._records.get(number, {}).get("argv", True):
                self._records = _records(self._folder)  # anew for a task that had no point yet
            task = self._records.get(number, {"number": number})
            self._tasks[number] = [_Series(self._names, tracker.reader(self._folder, task)) for tracker in _TRACKERS]
        return self._tasks[number]

    def _current(self, task: int) -> Iterator[tuple[_Series, _Key]]:
        """Yield each metric of the last attempt that reported anything, with the source that counts for it."""
        last = max((attempt for series in self._tasks[task] for attempt, _ in series.last), default=0)
        seen: set[_Key] = set()
        for series in self._tasks[task]:
            new = [key for key in series.last if key[0] == last and key not in seen]
            seen.update(new)
            yield from ((series, key) for key in new)


def _chosen(series: _Series, hidden: set[_Key]) -> list[bool] | None:
    """Return which rows count beside the sources before; None for all."""
    if hidden.isdisjoint(series.last):
        return None
    columns = series.columns
    return [key not in hidden for key in zip(columns.attempt, columns.metric, strict=True)]


def _records(folder: RunFolder) -> dict[int, Mapping[str, Any]]:
    try:
        return {task["number"]: task for task in folder.record()["tasks"]}
    except (OSError, ValueError, KeyError):
        return {}
