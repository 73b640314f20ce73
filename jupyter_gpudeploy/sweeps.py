"""The program that chooses the points of an adaptive sweep, asked by whoever keeps the run.

It reads a run's folder and writes nothing: a question on its stdin (`{"ask": 7}`: the points before number 7 are
written down) is answered by one line on its stdout, the point (`events/points.py`) or `{"error": .., "hint": ..}`.
Killing it loses nothing. It ends when its stdin does.

What came of a trial is the best value that it reached of the run's metric, as `run.trials()` has it. A trial that
failed, or reached no finite value, has none; one that was stopped goes on later, and is not told until it has ended.
"""

from __future__ import annotations

import json
import math
import os
import sys
from typing import TYPE_CHECKING, Any

from jupyter_gpudeploy.collect import Collector
from jupyter_gpudeploy.errors import GpuDeployError
from jupyter_gpudeploy.events.points import Chosen, PointsReader, line_of
from jupyter_gpudeploy.events.status import Status
from jupyter_gpudeploy.events.store import JournalReader, RunFolder
from jupyter_gpudeploy.events.types import State
from jupyter_gpudeploy.plan.adaptive import search_in, task
from jupyter_gpudeploy.plan.record import task_record
from jupyter_gpudeploy.plan.search import SAMPLERS
from jupyter_gpudeploy.samplers.base import Told

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from jupyter_gpudeploy.samplers.base import Sampler


class Chooser:
    """Chooses the points of one run. `record`: as it was launched."""

    def __init__(self, folder: RunFolder, record: Mapping[str, Any]) -> None:
        search = search_in(record)
        if search is None or not record.get("metric"):
            raise GpuDeployError(f"{record['name']} is no sweep whose points are chosen while it runs")
        self._search = search
        self._sampler: Sampler = SAMPLERS.load(search.method)
        self._metric, self._goal = record["metric"]["name"], record["metric"]["goal"]
        self._status = Status.of(task["number"] for task in record["tasks"])
        self._journal = JournalReader(folder.events_file)
        self._reader = PointsReader(folder.points_file)
        self._collector = Collector(folder)
        self._chosen: list[Chosen] = []

    def choose(self, number: int) -> Chosen:
        """Return point `number`. Raises GpuDeployError where the points before it are not written down."""
        self._chosen += self._reader.poll()
        if len(self._chosen) != number:
            raise GpuDeployError(f"point {number} was asked for, and {len(self._chosen)} are written down")
        known = told(self._chosen)
        new = tuple(self._ended(set(known)))
        parameters = self._sampler.ask(self._search.space, self._history({**known, **dict(new)}), self._search.seed)
        if parameters is None:
            raise GpuDeployError(f"method: {self._search.method} has no further point after {number}")
        return Chosen(task_record(task(self._search, number, parameters)), new)

    def _history(self, known: Mapping[int, float | None]) -> list[Told]:
        sign = -1.0 if self._goal == "maximize" else 1.0
        return [Told(dict(one.task["parameters"]), _value(known, one.number, sign)) for one in self._chosen]

    def _ended(self, known: set[int]) -> Iterable[tuple[int, float | None]]:
        """Yield what came of the trials that have ended and were not told of."""
        self._status.feed(self._journal.poll())
        self._collector.poll(self._status)
        best = self._collector.best(self._metric, self._goal)
        for one in self._chosen:
            state = self._status.tasks[one.number].state
            if one.number not in known and state in (State.SUCCEEDED, State.FAILED):
                yield one.number, best.get(one.number) if state is State.SUCCEEDED else None


def told(chosen: Iterable[Chosen]) -> dict[int, float | None]:
    """Return what the search method knew at the last of these points."""
    return dict(pair for one in chosen for pair in one.told)


def _value(known: Mapping[int, float | None], number: int, sign: float) -> float | None:
    if number not in known:
        return None
    value = known[number]
    return math.nan if value is None else sign * value


def main(path: str) -> None:
    """Answer questions about the run in this folder until there are no more."""
    questions, answers = os.fdopen(os.dup(0), "r"), os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what libraries print is no answer
    folder = RunFolder(path)
    chooser: Chooser | None = None
    for line in questions:
        try:
            chooser = chooser or Chooser(folder, folder.record())
            answer = line_of(chooser.choose(int(json.loads(line)["ask"])))
        except GpuDeployError as error:
            answer, chooser = json.dumps({"error": error.message, "hint": error.hint}), None
        except Exception as error:  # noqa: BLE001 - a search method of whoever; whatever it is, it is told
            answer, chooser = json.dumps({"error": f"{type(error).__name__}: {error}", "hint": ""}), None
        try:
            answers.write(answer + "\n")
            answers.flush()
        except BrokenPipeError:
            os._exit(0)


if __name__ == "__main__":
    main(sys.argv[1])
