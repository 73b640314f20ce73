"""The trials of a search, begun one after the other by whoever holds the run's mirror.

A point is chosen by a process of its own (`backends/asking.py`), claimed by writing it into the run's ConfigMap of
points at the version that was read, and only then its Job is made, under a name that says its number. So of two
kernels that do the same at the same time one is told that it is late, and a kernel that is killed in between leaves a
point whose Job the next one makes. A Job that is gone without an end is not made again: its trial may have run.
"""

from __future__ import annotations

import os
import sys
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from jupyter_gpudeploy.backends.asking import Asker
from jupyter_gpudeploy.backends.kubernetes import marks, places
from jupyter_gpudeploy.backends.kubernetes.api.errors import ConflictError, NotFoundError, UnreachableError
from jupyter_gpudeploy.backends.kubernetes.life import objects
from jupyter_gpudeploy.backends.kubernetes.manifests import render, trials
from jupyter_gpudeploy.errors import BackendError
from jupyter_gpudeploy.events import points
from jupyter_gpudeploy.events.types import Event, Notice

if TYPE_CHECKING:
    from collections.abc import Mapping

    from jupyter_gpudeploy.backends.base import RunRef
    from jupyter_gpudeploy.backends.kubernetes.api.client import Cluster
    from jupyter_gpudeploy.backends.kubernetes.mirror.searched import SearchStates
    from jupyter_gpudeploy.events.points import Chosen
    from jupyter_gpudeploy.events.store import RunFolder

_LISTEN_SECONDS = 0.05
_AGAIN_SECONDS = 3.0
_HOPELESS_SECONDS = 60.0
_MOST_FAILURES = 4


class _LaterError(BackendError):
    """What passes by itself."""


class Trials:
    """Of one run, while its mirror is held. One thread."""

    def __init__(self, cluster: Cluster, folder: RunFolder, ref: RunRef, record: Mapping[str, Any]) -> None:
        self._cluster = cluster
        self._folder = folder
        self._ref = ref
        self._total = len(record["tasks"])
        self._keep_seconds = float((record.get("cluster") or {}).get("keep_seconds") or 0.0)
        self._template: dict[str, Any] | None = None
        self._file: points.Points | None = None
        self._written = 0
        self._chosen: list[tuple[Chosen, float]] = []
        self._version = ""
        self._made: set[int] = set()
        self._asker: Asker | None = None
        self._asked: int | None = None
        self._failures = 0
        self._at = 0.0

    @property
    def patience(self) -> float | None:
        """After how many seconds it looks again by itself; None for not before something changes."""
        if self._asked is not None:
            return _LISTEN_SECONDS
        return max(0.0, self._at - time.monotonic()) if self._at else None

    def look(self, states: SearchStates) -> list[Event]:
        """Do what is due; return what is to be told of it. What the cluster refuses is tried again later."""
        is_mine = not self._ref.owner or self._ref.owner == self._cluster.user
        if not states.has_root or states.root_gone or states.is_over or not is_mine:
            self._let_go()
            self._at = 0.0
            return []
        if time.monotonic() < self._at:
            return []
        self._at = 0.0
        try:
            return self._advance(states)
        except (UnreachableError, NotFoundError, _LaterError):
            self._version, self._at = "", time.monotonic() + _AGAIN_SECONDS
            return []
        except BackendError as error:
            self._version, self._at = "", time.monotonic() + _AGAIN_SECONDS
            return [*states.notes.once(Notice(time.time(), f"no further trial can begin: {error.message}"))]

    def close(self) -> None:
        """Begin no more trials; those that run go on."""
        self._let_go()
        if self._file is not None:
            self._file.close()
            self._file = None
        self._version = ""

    def _advance(self, states: SearchStates) -> list[Event]:
        if not self._version or any(number >= len(self._chosen) for number in states.jobs):
            self._read()
            states.is_launched()
        self._write()
        if states.is_asked_to_stop:
            self._let_go()
            return []
        for number in range(len(self._chosen)):
            if not (number in states.jobs or number in self._made or states.has_ended(number)):
                self._begin(states, number)
        found = self._listen() if self._asked is not None else []
        running = sum(not states.has_ended(number) for number in range(len(self._chosen)))
        if self._asked is None and not self._at and not states.is_paused and running < states.parallelism:
            self._ask()
        return found

    def _read(self) -> None:
        """Take in the points that are written down. Raises NotFoundError before the launch is complete."""
        body = self._cluster.get("ConfigMap", places.points_name(self._ref.name))
        if not marks.is_ours(body, uid=self._ref.uid):
            raise NotFoundError(f"{self._ref.name} is another run now")
        self._version = body["metadata"]["resourceVersion"]
        self._chosen = trials.points_in(body)

    def _write(self) -> None:
        """Copy the points into the folder; on a full disk a moment later."""
        if self._file is None:
            self._file = points.Points(self._folder.points_file)
            self._written = len(points.read(self._folder.points_file))
        for chosen, _ in self._chosen[self._written :]:
            self._file.add(chosen)
            self._written += 1
        if not self._file.retry():
            self._at = time.monotonic() + _AGAIN_SECONDS

    def _ask(self) -> None:
        number = len(self._chosen)
        if number >= self._total:
            self._let_go()
            return
        if self._asker is None:
            self._asker = Asker(self._folder.path, sys.executable, os.environ)
        if self._asker.ask(number):
            self._asked = number
        else:
            self._let_go()
            self._at = time.monotonic() + _AGAIN_SECONDS

    def _listen(self) -> list[Event]:
        """Take in the point that was asked for, once it is there."""
        answer = self._asker.answer() if self._asker is not None else None
        if answer is None:
            return []
        number, self._asked = self._asked, None
        if number != len(self._chosen):  # another kernel was faster
            return []
        if answer.chosen is not None and answer.chosen.number == number:
            self._failures = 0
            self._claim(answer.chosen)
            return []
        self._let_go()
        self._failures += 1
        if self._failures <= _MOST_FAILURES:
            self._at = time.monotonic() + _AGAIN_SECONDS / 4
            return []
        self._at = time.monotonic() + _HOPELESS_SECONDS
        why = answer.error or "what chooses the points was killed, or cannot run"
        return [Notice(time.time(), f"no further point could be chosen: {why}; it is tried again each minute")]

    def _claim(self, chosen: Chosen) -> None:
        """Write a point down, unless somebody has written since we read; then make its Job."""
        entry = trials.entry(chosen)
        version, self._version = self._version, ""
        with suppress(ConflictError):
            body = {"metadata": {"resourceVersion": version}, "data": entry}
            done = self._cluster.patch("ConfigMap", places.points_name(self._ref.name), body)
            self._version = done["metadata"]["resourceVersion"]
            self._chosen = trials.points_in(done)
            self._write()
            self._make(chosen)
        self._at = time.monotonic()

    def _begin(self, states: SearchStates, number: int) -> None:
        """Make the Job of a point that has none; where it had one, or may have had, the trial is lost."""
        chosen, since = self._chosen[number]
        if states.has_begun(number) or time.time() - since > self._keep_seconds:
            states.lose(number)
        else:
            self._make(chosen)

    def _make(self, chosen: Chosen) -> None:
        name = self._ref.name
        job = trials.trial(self._template_of(), name, chosen)
        (stamped,) = render.stamp([job], self._ref.uid, places.root_name(name))
        try:
            self._cluster.create(stamped)
        except ConflictError:
            called = stamped["metadata"]["name"]
            there = self._cluster.get("Job", called)
            if not marks.is_ours(there, name):
                raise objects.foreign("Job", called, self._cluster.namespace) from None
            if not marks.is_ours(there, uid=self._ref.uid):
                raise _LaterError(f"Job {called} of an earlier run is still being deleted") from None
        self._made.add(chosen.number)

    def _template_of(self) -> dict[str, Any]:
        if self._template is None:
            root = self._cluster.get("ConfigMap", places.root_name(self._ref.name))
            self._template = trials.template_in(render.objects_in(root))
        if self._template is None:
            raise BackendError(f"{self._ref.name} holds no template of its trials", hint="launch it anew")
        return self._template

    def _let_go(self) -> None:
        self._asked = None
        if self._asker is not None:
            self._asker.end()
            self._asker = None
