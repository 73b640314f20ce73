"""Run: the handle on what is alive, or was.

A Run holds no process and no thread. Everything it says is read from the run's folder and its backend when it is
asked, so any number of kernels can hold one, and losing one loses nothing.
"""

from __future__ import annotations

import math
import time
from pathlib import Path
from threading import Event, RLock
from typing import TYPE_CHECKING, Any

from jupyter_gpudeploy.collect import Collector
from jupyter_gpudeploy.errors import BackendError, NotConfirmedError, RunFailedError, WaitTimeoutError
from jupyter_gpudeploy.events.closing import Closing
from jupyter_gpudeploy.events.points import PointsReader, overlaid
from jupyter_gpudeploy.events.status import Status
from jupyter_gpudeploy.events.store import JournalReader
from jupyter_gpudeploy.events.types import State, StateChange
from jupyter_gpudeploy.plan.arguments import check_shell
from jupyter_gpudeploy.plan.program import split_words
from jupyter_gpudeploy.quantities import format_seconds
from jupyter_gpudeploy.summary import Summary, summarize, unseen

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    import pandas as pd
    import plotly.graph_objects as go

    from jupyter_gpudeploy.backends.base import Answer, Backend, RunRef
    from jupyter_gpudeploy.events.store import RunFolder
    from jupyter_gpudeploy.events.types import LogLine
    from jupyter_gpudeploy.reach import Response

_LOOK_SECONDS = 0.05
_END_SECONDS = 0.2  # the end itself is told at once


_STOP_SECONDS = 30.0  # beyond the grace: a cluster takes its time


class _Opened:
    """The folder of a run, and what was read of it."""

    def __init__(self, folder: RunFolder) -> None:
        self.folder = folder
        self._record: dict[str, Any] = folder.record()
        self._points = PointsReader(folder.points_file) if self._record.get("search") else None
        self.reader = JournalReader(folder.events_file)
        self.status = Status.of(task["number"] for task in self._record["tasks"])
        self.collector = Collector(folder)

    @property
    def record(self) -> dict[str, Any]:
        """What was launched, with the points that were chosen since."""
        if self._points is not None and (new := self._points.poll()):
            self._record = {**self._record, "tasks": overlaid(self._record["tasks"], new)}
        return self._record

    def move(self, folder: RunFolder) -> None:
        """Go on in another place, into which the folder was moved."""
        self.folder = folder
        self.reader.file = folder.events_file
        if self._points is not None:
            self._points.file = folder.points_file
        self.collector = Collector(folder)


class Run:
    """One run. Made by `launch`, `attach` and `runs`, not by hand. Safe to use from several threads.

    One that was `listed` is looked at when it is asked for more than `glance`.
    """

    def __init__(self, backend: Backend, ref: RunRef, *, origin: str = "attached", listed: bool = False) -> None:
        self._backend = backend
        self.ref = ref
        self.origin = origin
        self._lock = RLock()
        self._opened: _Opened | None = None
        seen = backend.glance(ref) if listed else None
        if seen is None:
            self._opened = _Opened(backend.folder(ref))
        elif seen.folder is not None:
            self._opened = _Opened(seen.folder)

    def __repr__(self) -> str:
        summary = self.glance()
        whose = f", of {summary.owner}" if summary.owner else ""
        return f"Run({self.name!r}, {summary.state}: {summary.progress}, {format_seconds(summary.seconds)}{whose})"

    @property
    def name(self) -> str:
        """The name by which `attach` finds it."""
        return self.ref.name

    @property
    def record(self) -> dict[str, Any]:
        """What was decided when it was launched."""
        with self._lock:
            return self._seen.record

    @property
    def title(self) -> str:
        """The name as it was written."""
        return str(self.record["title"])

    @property
    def uid(self) -> str:
        """Never given to another run, not even one of the same name."""
        return self.ref.uid

    @property
    def kind(self) -> str:
        """`job`, `sweep`, `server` or `manual`."""
        return str(self.record["kind"])

    @property
    def backend_name(self) -> str:
        """The backend it lives on."""
        return self.ref.backend

    @property
    def folder(self) -> Path:
        """Where its journal, logs and outputs are kept on this machine; elsewhere once another run took its name."""
        return self._located().path

    @property
    def cell(self) -> str:
        """The text of the cell it was launched from."""
        file = self.folder / "cell.txt"
        return file.read_text("utf-8") if file.exists() else ""

    @property
    def notes(self) -> list[dict[str, str]]:
        """What the plan had to say: `level`, `field`, `message`, `hint`."""
        return list(self.record.get("notes", []))

    def status(self) -> Status:
        """Return where the run and its tasks stand now."""
        with self._lock:
            self._located()
            if self._has_ended():
                return self._seen.status
            reason = self._backend.lost(self.ref)
            if reason is None or self._has_ended():  # it may have ended between the two looks
                return self._seen.status
            return self._seen.status.lost(StateChange(time.time(), State.LOST, reason=reason))

    @property
    def state(self) -> State:
        """The state of the run as a whole."""
        return self.status().state

    @property
    def is_over(self) -> bool:
        """Whether nothing more will happen."""
        return self.state.is_final

    @property
    def stale(self) -> str:
        """Since when what is known of it is not up to date, and why, as a sentence; empty while it is."""
        return self._stale(self.status())

    @property
    def is_followed(self) -> bool:
        """Whether all that is known of it is here: looking at it copies nothing and waits for nobody."""
        return self._backend.glance(self.ref) is None

    def catch_up(self) -> None:
        """Begin to follow it and wait some seconds for what is known of it; a glance meanwhile does not wait."""
        self._backend.folder(self.ref)

    def summary(self, *, log_lines: int = 3, metrics: bool = True) -> Summary:
        """Return the run at a glance; cheap enough for twice a second. Without `metrics` no log is read for them."""
        with self._lock:
            status = self.status()
            if metrics:
                self._seen.collector.poll(status)
            summary = summarize(
                self.record,
                status,
                self._seen.collector.latest() if metrics else {},
                now=time.time(),
                url=self._url(status),
                best=(best := self._best_task() if metrics else None),
                best_value=self._best_value(best),
                log=self._last_lines(status, log_lines) if log_lines else (),
            )
        problems = self._seen.collector.problems() if metrics else []
        owner = self.owner or ""
        stale = self._stale(status)
        notices = [*summary.notices, *problems, *self._own_notices(status, owner), *([stale] if stale else [])]
        return summary._replace(notices=notices, owner=owner, stale=stale)

    def glance(self) -> Summary:
        """Return what a list shows, of a run that is not followed: nothing is copied for it, and little is asked."""
        seen = self._backend.glance(self.ref)
        if seen is None:
            return self.summary(log_lines=0, metrics=False)
        owner = self.owner or ""
        with self._lock:
            if self._opened is None and seen.folder is not None:
                self._opened = _Opened(seen.folder)
            if self._opened is None:
                return unseen(self.ref, seen.state, seen.reason, owner)
            self._has_ended()
            known = summarize(self._opened.record, self._opened.status, {}, now=time.time())
        if seen.state is not None and seen.state is not known.state:
            known = known._replace(state=seen.state, reason=seen.reason)
        return known._replace(owner=owner)

    def forget(self) -> None:
        """Let go of what was read of it, its metrics above all; it is read again when it is asked for."""
        with self._lock:
            self._opened = None

    def wait(self, timeout: float | None = None, *, check: bool = False) -> Run:
        """Wait until the run has ended; a server or a schedule, until it is ready. Return the run itself.

        Interrupting ends the waiting, never the run. Raises WaitTimeoutError after `timeout` seconds; with `check`,
        RunFailedError when it did not succeed.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        longest = _LOOK_SECONDS if self.kind in ("server", "manual") else _END_SECONDS
        pause = 0.02
        with Closing(self.folder) as journal:
            while not self._is_waited_for(status := self.status()):
                left = math.inf if deadline is None else deadline - time.monotonic()
                if left <= 0:
                    raise WaitTimeoutError(
                        f"{self.name} is {status.state} after {format_seconds(timeout)}", hint="it goes on; wait again"
                    )
                journal.wait(min(pause, left))
                pause = min(pause * 1.5, longest)
        if check and status.state in (State.FAILED, State.LOST):
            raise RunFailedError(f"{self.name} {status.state}: {status.reason}", hint=self._failure_hint(status))
        return self

    def stop(self, grace_seconds: float = 10, *, take_over: bool = False) -> Run:
        """End the run, all its processes and their children; return when it has ended.

        Raises NotConfirmedError for another person's run, without `take_over`.
        """
        self.must_be_mine(take_over=take_over)
        if not self.is_over or self.state is State.LOST:
            self._backend.stop(self.ref, grace_seconds)
            deadline = time.monotonic() + grace_seconds + _STOP_SECONDS
            while not self.is_over:
                if time.monotonic() > deadline:
                    raise BackendError(f"{self.name} has not ended in time", hint=f"it was asked to; see {self.folder}")
                time.sleep(0.05)
        return self

    def logs(self, task: int | None = None, tail: int | None = None) -> str:
        """Return what a task printed, or all tasks with their numbers in front. `tail`: the last lines only."""
        stop = Event()
        stop.set()
        numbers = [task] if task is not None else sorted(self.status().tasks)
        texts = []
        for number in numbers:
            front = f"{number} | " if len(numbers) > 1 else ""
            lines = self._backend.logs(self.ref, number, stop, since=tail)
            texts += [front + line.text for line in lines]
        return "\n".join(texts)

    def follow(self, task: int = 0, tail: int | None = None) -> Iterator[LogLine]:
        """Yield what a task printed and prints, until it has ended."""
        yield from self._backend.logs(self.ref, task, Event(), since=tail)

    def metrics(self) -> pd.DataFrame:
        """Return every metric point, one row each (`frames.metrics` says the columns)."""
        from jupyter_gpudeploy import frames

        return frames.metrics(self.record, self._collected())

    def gpu(self) -> pd.DataFrame:
        """Return what was measured of its GPUs and processes (`frames.gpu` says the columns and their units)."""
        from jupyter_gpudeploy import frames

        return frames.gpu(self.record, self._located())

    def logs_frame(self, task: int | None = None, last: int | None = None) -> pd.DataFrame:
        """Return what was printed, one row a line (`frames.logs` says the columns). `last`: the end of each attempt."""
        from jupyter_gpudeploy import frames

        return frames.logs(self.record, self._located(), task, last)

    def trials(self) -> pd.DataFrame:
        """Return one row a task: parameters, last and best metrics, state, seconds, exit code."""
        from jupyter_gpudeploy import frames

        return frames.trials(self.record, self.status(), self._collected())

    def best(self) -> dict[str, Any]:
        """Return the best trial (`trial`, `parameters`, `value`, `output`), never one with NaN or infinity."""
        from jupyter_gpudeploy import frames

        found = frames.best(self.record, self.status(), self._collected())
        return {**found, "output": self.output_dir(found["trial"])}

    def figure(self, kind: str = "compare", metric: str | None = None) -> go.Figure:
        """Return a plotly figure: `compare` shows the trials, `metrics` their curves, `gpu` what was measured of it.

        The curves are of the metric that the run is about; where it is about none, of each that was reported.
        """
        from jupyter_gpudeploy import figures, frames

        if kind == "gpu":
            return figures.gpu(self.gpu())
        wanted = metric or (self.record.get("metric") or {}).get("name") or frames.only(self._collected().names())
        if kind in ("metrics", "curves"):
            return figures.curves(self.metrics(), wanted, self.trials())
        if kind == "compare":
            return figures.compare(self.trials(), wanted, self._parameter_names())
        raise BackendError(f"there is no figure {kind!r}", hint="compare, metrics or gpu")

    @property
    def url(self) -> str:
        """Where the server is reached. Raises BackendError while it has no address."""
        return self._backend.endpoint(self.ref).url

    def request(self, path: str = "/", *, json: object = None, **options: Any) -> Response:  # noqa: ANN401 - those of reach.send
        """Send one request to the server: `run.request("/predict", json={...}).json()`."""
        from jupyter_gpudeploy import reach

        return reach.send(self._backend.endpoint(self.ref), path, json_body=json, **options)

    def exec(self, command: str | Sequence[str], *, stream: Callable[[str], object] | None = print) -> int:
        """Run one more command in a manual run's environment, hand its lines to `stream`, return its exit code.

        Interrupting ends the watching, never the command: `run.stop()` ends it. Raises NotConfirmedError for another
        person's run.
        """
        self.must_be_mine(take_over=False)
        words = split_words(command, "the command")
        check_shell(words)
        number = self._backend.execute(self.ref, words)
        for line in self.follow(number):
            if stream is not None:
                stream(line.text)
        status = self.status()
        ended = status.tasks.get(number)
        if ended is None or ended.exit_code is None:
            state, reason = (status.state, status.reason) if ended is None else (ended.state, ended.reason)
            raise BackendError(f"{words[0]} has no exit code: {state}: {reason}", hint="run.status() says more")
        return ended.exit_code

    def output_dir(self, task: int = 0) -> Path:
        """Return the folder in which a task left its files (`GPUDEPLOY_OUTPUT` in its environment)."""
        return self._located().output(task)

    def download(
        self,
        target: Path | str,
        task: int | None = None,
        path: str = "",
        *,
        progress: Callable[[int, int], None] | None = None,
    ) -> list[Path]:
        """Copy what the tasks left in their output folders into `target`, a folder a task; return the files.

        With `task` that one alone, straight into `target`. `path` names a file or folder below the output folder. What
        is there already and the same is not copied again. `progress(done, total)`: bytes of the task at hand.
        """
        place = Path(target)
        if task is not None:
            return self._backend.download(self.ref, task, place, path, progress)
        found: list[Path] = []
        for number in sorted(self.status().tasks):
            found += self._backend.download(self.ref, number, place / str(number), path, progress)
        return found

    def forward(self, port: int | None = None, task: int = 0, *, app: str | None = None) -> str:
        """Return a URL of this machine that leads to a port of a task, for as long as this kernel lives.

        `app`: of an application for a person, started in a manual run where it does not run there: `jupyter` (the URL
        holds its token) or `code-server` (what is returned has a `password`). Raises NotConfirmedError for another
        person's run, BackendError for an application that is not installed there.
        """
        if app is not None:
            from jupyter_gpudeploy.apps import open_app

            if port is not None or task:
                raise BackendError("an application has a port of its own", hint=f"forward(app={app!r})")
            self.must_be_mine(take_over=False)
            return open_app(self, self._backend, self.ref, app)
        port = port or (self.record["service"] or {}).get("port")
        if port is None:
            raise BackendError(f"{self.name} is no server: which port?", hint="forward(8888), or app='jupyter'")
        return self._backend.forward(self.ref, port, task)

    def remove(self, *, yes: bool = False, take_over: bool = False) -> None:
        """Delete what is kept of a run that has ended. Raises NotConfirmedError without `yes`."""
        if not yes:
            raise NotConfirmedError(f"{self.name}: its logs, metrics and outputs would be deleted", hint="yes=True")
        self.must_be_ours(take_over=take_over)
        self._backend.remove(self.ref)

    @property
    def driver(self) -> str | None:
        """Which other living kernel launched this run or took it over, or None."""
        return self._backend.driver(self.ref)

    @property
    def owner(self) -> str | None:
        """Which other person's run this is; None for our own, and where nobody can tell."""
        return self._backend.owner(self.ref)

    def resume(self, *, take_over: bool = False) -> Run:
        """Go on with a lost or stopped run: what has not ended by itself runs anew; what is done stays.

        Raises NotConfirmedError for another person's run, without `take_over`.
        """
        self.must_be_mine(take_over=take_over)
        self._backend.resume(self.ref)
        return self

    @property
    def parallelism(self) -> int:
        """How many tasks may run at once; can be set while it runs, where the backend can. Raises BackendError.

        With fewer than run now, the last ones are ended, and begin anew later.
        """
        return self._backend.parallelism(self.ref)

    @parallelism.setter
    def parallelism(self, count: int) -> None:
        self.must_be_mine(take_over=False)
        self._backend.set_parallelism(self.ref, count)

    def pause(self) -> Run:
        """Let nothing run until `unpause`: what runs is ended, and begins anew then. Raises BackendError."""
        self.must_be_mine(take_over=False)
        self._backend.pause(self.ref)
        return self

    def unpause(self) -> Run:
        """Take a pause back. Raises BackendError for a run that is not paused."""
        self.must_be_mine(take_over=False)
        self._backend.unpause(self.ref)
        return self

    def must_be_mine(self, *, take_over: bool) -> None:
        """Raise NotConfirmedError for another person's run, unless somebody said to take it over.

        Raises BackendError where it cannot be told whose it is.
        """
        owner = None if take_over else self._backend.owner(self.ref, must_know=True)
        if owner is not None:
            raise NotConfirmedError(f"{self.name} belongs to {owner}", hint="take_over=True, or --take-over")

    def must_be_ours(self, *, take_over: bool) -> None:
        """Raise NotConfirmedError when another person or living kernel drives it and nobody said to take it over.

        Raises BackendError where that cannot be told.
        """
        self.must_be_mine(take_over=take_over)
        driver = None if take_over or self.is_over else self._backend.driver(self.ref, must_know=True)
        if driver is not None:
            raise NotConfirmedError(f"{self.name} is also driven by {driver}", hint="take_over=True, or --take-over")

    def parts(self) -> tuple[dict[str, Any], Status, Collector]:
        """Return what tables are made of: the record, the status, the collected metrics."""
        return self.record, self.status(), self._collected()

    def _located(self) -> RunFolder:
        """Return the folder, which moves aside when another run takes the name. Raises RunNotFoundError."""
        found = self._backend.folder(self.ref)
        with self._lock:
            if self._opened is None:
                self._opened = _Opened(found)
            elif found.path != self._opened.folder.path:
                self._opened.move(found)
        return found

    @property
    def _seen(self) -> _Opened:
        if self._opened is None:
            self._located()
        assert self._opened is not None  # noqa: S101 - located
        return self._opened

    def _url(self, status: Status) -> str | None:
        replica = status.tasks.get(0)
        is_up = self.kind == "server" and replica is not None and not status.state.is_final
        return replica.details.get("url") if is_up and replica is not None else None

    def _has_ended(self) -> bool:
        seen = self._seen
        seen.status.feed(seen.reader.poll())
        return seen.status.state.is_final

    def _collected(self) -> Collector:
        with self._lock:
            self._seen.collector.poll(self.status())
            return self._seen.collector

    def _parameter_names(self) -> list[str]:
        return list(dict.fromkeys(name for task in self.record["tasks"] for name in task.get("parameters", {})))

    def _best_task(self) -> int | None:
        metric = self.record.get("metric")
        return self._seen.collector.best_task(metric["name"], metric["goal"]) if metric else None

    def _best_value(self, task: int | None) -> float | None:
        metric = self.record.get("metric")
        if task is None or not metric:
            return None
        return self._seen.collector.best(metric["name"], metric["goal"]).get(task)

    def _is_waited_for(self, status: Status) -> bool:
        return status.state.is_final or status.state is State.READY

    def _failure_hint(self, status: Status) -> str:
        bad = next((task for task in status.tasks.values() if task.state in (State.FAILED, State.LOST)), None)
        if status.hint:
            return status.hint
        if bad is None:
            return "run.logs() has what it printed"
        lines = [line for line in self.logs(bad.task, tail=3).splitlines() if line.strip()]
        if not lines:
            return f"task {bad.task} printed nothing"
        return f"the last line of task {bad.task}: {lines[-1].strip()}; run.logs({bad.task}) has the rest"

    def _last_lines(self, status: Status, count: int) -> list[str]:
        """Return the end of the log of what most wants to be seen: a failed task, else a living one, else the last."""
        order = {State.FAILED: 0, State.READY: 1, State.RUNNING: 1, State.STARTING: 1}
        started = [task for task in status.tasks.values() if task.started is not None or task.attempt > 1]
        if not started:
            return []
        shown = min(started, key=lambda task: (order.get(task.state, 2), -(task.started or 0)))
        return self.logs(shown.task, tail=count).splitlines()[-count:]

    def _stale(self, status: Status) -> str:
        return "" if status.state.is_final else self._backend.stale(self.ref) or ""

    def _own_notices(self, status: Status, owner: str) -> list[str]:
        notices = [f"belongs to {owner}: it can be seen, not changed"] if owner else []
        if self.origin == "found":
            when = time.strftime("%Y-%m-%d %H:%M", time.localtime(self.ref.created))
            notices.append(f"unchanged cell: this is the run of {when}; --replace runs it anew")
        driver = None if status.state.is_final else self.driver
        return [*notices, f"also driven by {driver}"] if driver else notices


class RunList(list[Run]):
    """Runs, newest first. Shown as a table.

    `notices`: what could not be asked for it, and why; `answers`: each place that was asked.
    """

    def __init__(self, runs: Iterable[Run] = (), notices: Sequence[str] = ()) -> None:
        super().__init__(runs)
        self.notices = tuple(notices)
        self.answers: tuple[Answer, ...] = ()

    def __repr__(self) -> str:
        width = max((len(run.name) for run in self), default=0)
        lines = [f"{run.name:<{width}}  {run!r}" for run in self] or ["no runs"]
        return "\n".join([*lines, *self.notices])
