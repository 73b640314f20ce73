"""The promises of `backends.base.Backend`, as tests.

A new backend subclasses them::

    class TestMyBackend(BackendContract):
        @pytest.fixture
        def backend(self):
            return MyBackend()

Everything is asked through the seam alone, so what passes here behaves like every other backend.
"""

from __future__ import annotations

import json
import threading
import time
import urllib.request
from typing import TYPE_CHECKING, Any, Protocol

import pytest

from jupyter_gpudeploy.errors import BackendError, RunExistsError
from jupyter_gpudeploy.events.status import Status
from jupyter_gpudeploy.events.types import State, StateChange
from jupyter_gpudeploy.plan.types import Health, Plan, SecretRef, Service, Slot, Task, word

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from jupyter_gpudeploy.backends.base import Backend, RunRef

HOSTILE = (
    "0.1; touch /tmp/pwned", "$(id)", "`id`", "two\nlines", "it's", '"quoted"', "", " ", "*", "~", "-rf", "--",
    "{port}", "\\", "%s", "ünï", "\t",
)  # fmt: skip
_SERVER = """
import http.server, sys
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"it is me")
    def log_message(self, *words):
        pass
http.server.HTTPServer((sys.argv[1], int(sys.argv[2])), Handler).serve_forever()
"""


class MakePlan(Protocol):
    """Makes a plan whose tasks run these Python programs."""

    def __call__(self, *programs: str, **fields: Any) -> Plan:  # noqa: ANN401 - any field of a Plan
        """Return the plan; `fields` are those of Plan."""


class BackendContract:
    """Fifteen and a few promises. `patience`: how many seconds a run may take to get anywhere."""

    patience = 60.0

    @pytest.fixture
    def backend(self) -> Backend:
        raise NotImplementedError("return the backend to be tested")

    @pytest.fixture
    def own_fields(self) -> dict[str, Any]:
        """Return the fields that a Plan for this backend has beyond the common ones."""
        return {}

    @pytest.fixture
    def make_plan(self, tmp_path: Path, backend: Backend, own_fields: dict[str, Any]) -> MakePlan:
        def make(*programs: str, **fields: Any) -> Plan:  # noqa: ANN401 - any field of a Plan
            tasks = tuple(
                Task(number, f"task {number}", (word(Slot.PYTHON), word("-c"), word(program)))
                for number, program in enumerate(programs)
            )
            plan = Plan(
                name="contract",
                title="Contract",
                kind="job" if len(tasks) == 1 else "sweep",
                backend=backend.capabilities().backend,
                tasks=tasks,
                fingerprint="f0",
                working_dir=str(tmp_path),
                base=str(tmp_path),
            )
            return plan._replace(**{**own_fields, **fields})

        return make

    @pytest.fixture
    def launched(self, backend: Backend) -> Iterator[Callable[[Plan], RunRef]]:
        """Launch a plan; whatever is alive at the end of the test is stopped."""
        refs: list[RunRef] = []

        def launch(plan: Plan) -> RunRef:
            refs.append(backend.launch(backend.render(plan)))
            return refs[-1]

        yield launch
        for ref in refs:
            if ref in backend.find():
                backend.stop(ref, grace_seconds=0)
                self.ended(backend, ref)

    def history(
        self, backend: Backend, ref: RunRef, until: Callable[[Status], bool]
    ) -> tuple[Status, list[StateChange]]:
        """Follow a run until its status is as wanted; fail when it ends before, or takes too long."""
        stop = threading.Event()
        timer = threading.Timer(self.patience, stop.set)
        timer.start()
        status, changes = Status(), list[StateChange]()
        try:
            for change in backend.states(ref, stop):
                changes.append(change)
                status.feed([change])
                if until(status):
                    return status, changes
        finally:
            timer.cancel()
        raise AssertionError(f"the run never came so far: {status}")

    def ended(self, backend: Backend, ref: RunRef) -> tuple[Status, list[StateChange]]:
        """Follow a run to its end."""
        return self.history(backend, ref, lambda status: status.state.is_final)

    def log(self, backend: Backend, ref: RunRef, task: int = 0, since: int | None = None) -> list[str]:
        """Return what a task printed, to its end."""
        stop = threading.Event()
        timer = threading.Timer(self.patience, stop.set)
        timer.start()
        try:
            return [line.text for line in backend.logs(ref, task, stop, since)]
        finally:
            timer.cancel()

    def test_no_log_shows_a_secret(
        self, backend: Backend, make_plan: MakePlan, launched: Callable[[Plan], RunRef], tmp_path: Path
    ) -> None:
        file = tmp_path / "secret"
        file.write_text("canary-of-the-contract")
        program = "import os; print('have', os.environ['TOKEN'])"
        ref = launched(make_plan(program, secrets={"TOKEN": SecretRef("file", str(file))}))
        (line,) = self.log(backend, ref)
        assert line.startswith("have ")
        assert "canary" not in line

    def test_rendering_is_repeatable_and_starts_nothing(self, backend: Backend, make_plan: MakePlan) -> None:
        plan = make_plan("print(1)")
        first, second = backend.render(plan), backend.render(plan)
        assert (first.files, first.name, first.fingerprint) == (second.files, plan.name, plan.fingerprint)
        assert not backend.find()

    def test_a_launched_run_is_found_by_any_other_backend_object(
        self, backend: Backend, make_plan: MakePlan, launched: Callable[[Plan], RunRef]
    ) -> None:
        ref = launched(make_plan("print(1)"))
        assert ref in backend.find()
        assert (ref.name, ref.fingerprint) == ("contract", "f0")
        assert abs(ref.created - time.time()) < self.patience

    def test_launching_the_same_again_returns_the_run_that_is_there(
        self, backend: Backend, make_plan: MakePlan, launched: Callable[[Plan], RunRef]
    ) -> None:
        plan = make_plan("print(1)")
        first = launched(plan)
        assert backend.launch(backend.render(plan)) == first
        self.ended(backend, first)
        assert backend.launch(backend.render(plan)) == first
        assert self.log(backend, first) == ["1"]

    def test_another_run_of_the_same_name_is_refused(
        self, backend: Backend, make_plan: MakePlan, launched: Callable[[Plan], RunRef]
    ) -> None:
        launched(make_plan("print(1)"))
        with pytest.raises(RunExistsError):
            backend.launch(backend.render(make_plan("print(2)", fingerprint="f1")))

    def test_the_history_of_a_run_ends_with_its_final_state(
        self, backend: Backend, make_plan: MakePlan, launched: Callable[[Plan], RunRef]
    ) -> None:
        status, changes = self.ended(backend, launched(make_plan("print(1)", "print(2)", "print(3)")))
        assert (changes[-1].task, changes[-1].state) == (None, State.SUCCEEDED)
        assert {number: task.state for number, task in status.tasks.items()} == dict.fromkeys(range(3), State.SUCCEEDED)
        assert all(task.started and task.ended and task.ended >= task.started for task in status.tasks.values())

    def test_every_follower_gets_the_same_history(
        self, backend: Backend, make_plan: MakePlan, launched: Callable[[Plan], RunRef]
    ) -> None:
        ref = launched(make_plan("print(1)", "print(2)"))
        _, live = self.ended(backend, ref)
        stop = threading.Event()
        stop.set()
        assert list(backend.states(ref, stop)) == live

    def test_looking_at_the_states_does_not_wait(
        self, backend: Backend, make_plan: MakePlan, launched: Callable[[Plan], RunRef]
    ) -> None:
        ref = launched(make_plan("import time; time.sleep(600)"))
        stop = threading.Event()
        stop.set()
        assert all(not change.state.is_final for change in backend.states(ref, stop))

    def test_a_failure_carries_its_exit_code_and_fails_the_run(
        self, backend: Backend, make_plan: MakePlan, launched: Callable[[Plan], RunRef]
    ) -> None:
        status, _ = self.ended(backend, launched(make_plan("raise SystemExit(3)", "print(1)")))
        assert (status.tasks[0].state, status.tasks[0].exit_code) == (State.FAILED, 3)
        assert (status.tasks[1].state, status.tasks[1].exit_code) == (State.SUCCEEDED, 0)
        assert status.state is State.FAILED
        assert "1 of 2" in status.reason

    def test_a_log_is_complete_to_its_last_line_without_a_newline(
        self, backend: Backend, make_plan: MakePlan, launched: Callable[[Plan], RunRef]
    ) -> None:
        program = (
            "import sys\nfor n in range(1000): print(n)\nprint('to stderr', file=sys.stderr); print('last', end='')"
        )
        ref = launched(make_plan(program))
        assert self.log(backend, ref) == [*map(str, range(1000)), "to stderr", "last"]
        assert self.log(backend, ref, since=2) == ["to stderr", "last"]
        assert self.log(backend, ref, since=0) == []

    def test_a_log_is_followed_while_it_grows(
        self, backend: Backend, make_plan: MakePlan, launched: Callable[[Plan], RunRef]
    ) -> None:
        ref = launched(make_plan("import time; print('first'); time.sleep(600)"))
        stop = threading.Event()
        timer = threading.Timer(self.patience, stop.set)
        timer.start()
        lines = backend.logs(ref, 0, stop)
        assert next(iter(lines)).text == "first"
        timer.cancel()

    def test_no_more_tasks_run_at_once_than_was_said(
        self, backend: Backend, make_plan: MakePlan, launched: Callable[[Plan], RunRef]
    ) -> None:
        program = "import time; print(time.time()); time.sleep(0.3); print(time.time())"
        ref = launched(make_plan(*[program] * 5, parallelism=2))
        self.ended(backend, ref)
        spans = [[float(line) for line in self.log(backend, ref, task)] for task in range(5)]
        for began, _ in spans:
            assert sum(start <= began < end for start, end in spans) <= 2

    def test_a_task_that_fails_is_tried_again_as_a_further_attempt(
        self, backend: Backend, make_plan: MakePlan, launched: Callable[[Plan], RunRef]
    ) -> None:
        program = "import os; n = int(os.environ['GPUDEPLOY_ATTEMPT']); print('attempt', n); raise SystemExit(n == 1)"
        ref = launched(make_plan(program, retries=2))
        status, _ = self.ended(backend, ref)
        assert (status.state, status.tasks[0].attempt) == (State.SUCCEEDED, 2)
        assert self.log(backend, ref) == ["attempt 1", "attempt 2"]

    def test_stop_ends_what_runs_and_what_waits(
        self, backend: Backend, make_plan: MakePlan, launched: Callable[[Plan], RunRef]
    ) -> None:
        ref = launched(make_plan(*["import time; time.sleep(600)"] * 2))
        self.history(backend, ref, lambda status: 0 in status.tasks and status.tasks[0].state is State.RUNNING)
        backend.stop(ref, grace_seconds=1)
        status, _ = self.ended(backend, ref)
        assert status.state is State.STOPPED
        assert {task.state for task in status.tasks.values()} == {State.STOPPED}
        backend.stop(ref)

    def test_a_run_that_is_kept_or_has_ended_is_not_lost(
        self, backend: Backend, make_plan: MakePlan, launched: Callable[[Plan], RunRef]
    ) -> None:
        ref = launched(make_plan("print(1)"))
        assert backend.lost(ref) is None
        self.ended(backend, ref)
        assert backend.lost(ref) is None
        with pytest.raises(BackendError):
            backend.resume(ref)

    def test_a_living_run_can_be_neither_removed_nor_archived(
        self, backend: Backend, make_plan: MakePlan, launched: Callable[[Plan], RunRef]
    ) -> None:
        ref = launched(make_plan("import time; time.sleep(600)"))
        for away in (backend.remove, backend.archive):
            with pytest.raises(BackendError):
                away(ref)
        assert ref in backend.find()

    def test_a_run_that_has_ended_can_be_archived_and_then_removed(
        self, backend: Backend, make_plan: MakePlan, launched: Callable[[Plan], RunRef]
    ) -> None:
        first = launched(make_plan("print('first')"))
        self.ended(backend, first)
        backend.archive(first)
        assert first not in backend.find()
        second = launched(make_plan("print('second')", fingerprint="f1"))
        self.ended(backend, second)
        assert self.log(backend, first) == ["first"]
        assert self.log(backend, second) == ["second"]
        for ref in (first, second):
            folder = backend.folder(ref).path
            backend.remove(ref)
            assert not folder.exists()
        assert not backend.find()

    def test_a_server_is_ready_when_it_answers_at_its_endpoint(
        self, backend: Backend, make_plan: MakePlan, launched: Callable[[Plan], RunRef]
    ) -> None:
        argv = (word(Slot.PYTHON), word("-c"), word(_SERVER), word(Slot.HOST), word(Slot.PORT))
        service = Service(18471, Health("/health", strict=True, startup_seconds=self.patience))
        ref = launched(make_plan(kind="server", tasks=(Task(0, "replica 0", argv),), service=service))
        self.history(backend, ref, lambda status: status.state is State.READY)
        endpoint = backend.endpoint(ref)
        request = urllib.request.Request(f"{endpoint.url}/x", headers=dict(endpoint.headers))  # noqa: S310 - ours
        with urllib.request.urlopen(request, timeout=self.patience) as answer:  # noqa: S310 - ours
            assert answer.read() == b"it is me"

    def test_what_is_no_server_has_no_endpoint(
        self, backend: Backend, make_plan: MakePlan, launched: Callable[[Plan], RunRef]
    ) -> None:
        with pytest.raises(BackendError):
            backend.endpoint(launched(make_plan("print(1)")))

    def test_commands_are_executed_in_a_manual_run_until_it_is_stopped(
        self, backend: Backend, make_plan: MakePlan, launched: Callable[[Plan], RunRef]
    ) -> None:
        ref = launched(make_plan(kind="manual", environment={"WHO": "me"}))
        self.history(backend, ref, lambda status: status.state is State.READY)
        first = backend.execute(ref, ["python", "-c", "import os; print('I am', os.environ['WHO'])"])
        second = backend.execute(ref, ["python", "-c", "raise SystemExit(4)"])
        assert first != second
        assert self.log(backend, ref, first) == ["I am me"]
        done = lambda status: second in status.tasks and status.tasks[second].state.is_final  # noqa: E731 - a predicate
        status, _ = self.history(backend, ref, done)
        assert status.tasks[second].exit_code == 4
        assert not status.state.is_final
        backend.stop(ref, grace_seconds=1)
        assert self.ended(backend, ref)[0].state is State.STOPPED
        with pytest.raises(BackendError):
            backend.execute(ref, ["python"])

    @pytest.mark.fault(67)
    def test_arguments_arrive_as_they_are(
        self, backend: Backend, make_plan: MakePlan, launched: Callable[[Plan], RunRef]
    ) -> None:
        program = "import json, sys; print(json.dumps(sys.argv[1:]))"
        argv = (word(Slot.PYTHON), word("-c"), word(program), *(word(text) for text in HOSTILE))
        ref = launched(make_plan(tasks=(Task(0, "hostile", argv, {"x": "$(id)"}),), kind="job"))
        assert json.loads("\n".join(self.log(backend, ref))) == list(HOSTILE)

    def test_a_task_knows_who_it_is(
        self, backend: Backend, make_plan: MakePlan, launched: Callable[[Plan], RunRef]
    ) -> None:
        names = ("RUN", "TASK", "ATTEMPT", "RUN_NAME", "TASK_NAME", "PARAMETERS")
        program = f"import json, os; print(json.dumps([os.environ['GPUDEPLOY_' + name] for name in {names}]))"
        task = Task(7, "lr=0.1", (word(Slot.PYTHON), word("-c"), word(program)), {"lr": 0.1}, {"MINE": "1"})
        ref = launched(make_plan(tasks=(task,), kind="job"))
        told = json.loads(self.log(backend, ref, 7)[0])
        assert told == [ref.uid, "7", "1", "contract", "lr=0.1", '{"lr": 0.1}']
