"""Launching: the claim, the race for it, and what survives the kernel that launched."""

from __future__ import annotations

import json
import logging
import os
import signal
import subprocess
import sys
import threading
import time

import pytest
from handmade import plan, until

from jupyter_gpudeploy.backends.local import claim, processes
from jupyter_gpudeploy.backends.local.backend import LocalBackend
from jupyter_gpudeploy.errors import BackendError, RunExistsError, RunNotFoundError
from jupyter_gpudeploy.events.types import State
from jupyter_gpudeploy.plan.types import Slot, Task, word

LAUNCHER = """
import json, os, signal, sys, time
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job begins with it ignored
from jupyter_gpudeploy.backends.base import Rendering
from jupyter_gpudeploy.backends.local.backend import LocalBackend
rendering = Rendering(**json.load(open(sys.argv[1])))
while not os.path.exists(sys.argv[2]):
    time.sleep(0.0005)
print(json.dumps(LocalBackend().launch(rendering)._asdict()), flush=True)
if len(sys.argv) > 3:
    time.sleep(600)
"""


def launcher(rendering_file, gate, *more):
    return subprocess.Popen(
        [sys.executable, "-c", LAUNCHER, str(rendering_file), str(gate), *more], stdout=subprocess.PIPE, text=True
    )


def write_rendering(backend, file, *programs, **fields):
    rendering = backend.render(plan(*programs, **fields))
    content = {"backend": "local", "name": rendering.name, "fingerprint": rendering.fingerprint}
    file.write_text(json.dumps({**content, "files": dict(rendering.files)}))


def test_the_record_says_what_was_planned_and_by_whom_it_is_run(local, backend):
    ref = local.launch("print(1)", environment={"SEED": "7"}, cell="run: x", files={"cell.py": "print(1)"})
    folder = backend.folder(ref)
    record = folder.record()
    assert (record["uid"], record["python"], record["name"]) == (ref.uid, sys.executable, "run")
    assert record["tasks"][0]["argv"][0] == [{"slot": "python"}]
    assert record["environment"] == {"SEED": "7"}
    assert (folder.path / "cell.txt").read_text() == "run: x"
    assert (folder.code / "cell.py").read_text() == "print(1)"
    assert folder.path.stat().st_mode & 0o077 == 0


def test_launch_returns_before_the_work_is_done(local):
    ref = local.launch("import time; time.sleep(600)")
    local.wait_for(ref, lambda status: status.tasks.get(0) and status.tasks[0].state is State.RUNNING)


def test_the_notebooks_folder_does_not_move_and_tasks_run_in_theirs(local, tmp_path):
    before = os.getcwd()  # noqa: PTH109
    ref = local.launch("import os; print(os.getcwd())", working_dir=str(tmp_path))
    local.wait(ref)
    assert os.getcwd() == before  # noqa: PTH109
    assert local.lines(ref) == [str(tmp_path)]


def test_a_working_folder_that_is_gone_fails_the_run_in_a_sentence(local, tmp_path):
    status = local.wait(local.launch("print(1)", working_dir=str(tmp_path / "gone")))
    assert (status.state, status.reason) == (State.FAILED, f"the working directory {tmp_path / 'gone'} is not there")


@pytest.mark.slow
@pytest.mark.fault(20)
def test_of_two_processes_that_launch_the_same_at_once_one_wins_and_both_have_its_run(backend, tmp_path, local):
    for turn in range(20):
        name = f"race-{turn}"
        rendering, gate = tmp_path / f"{name}.json", tmp_path / f"{name}.gate"
        program = f"open({str(tmp_path / name)!r}, 'a').write('x')"
        write_rendering(backend, rendering, program, name=name)
        both = [launcher(rendering, gate), launcher(rendering, gate)]
        time.sleep(0.15)  # until both stand at the gate; when not, the race is only less close
        gate.touch()
        answers = [process.communicate(timeout=60)[0] for process in both]
        assert [process.returncode for process in both] == [0, 0]
        assert answers[0] == answers[1]
        (ref,) = [ref for ref in backend.find() if ref.name == name]
        assert local.wait(ref).state is State.SUCCEEDED
        assert (tmp_path / name).read_text() == "x"
    assert not list(backend.runs.glob(".*"))


def test_of_two_processes_that_launch_different_runs_of_one_name_one_is_refused(backend, local):
    local.launch("print(1)")
    with pytest.raises(RunExistsError):
        local.launch("print(2)", fingerprint="f1")
    assert len(backend.find()) == 1


@pytest.mark.fault(1)
def test_the_work_goes_on_when_the_kernel_is_killed(backend, tmp_path, local):
    rendering, gate = tmp_path / "rendering.json", tmp_path / "gate"
    write_rendering(backend, rendering, *["import time; time.sleep(0.3); print('done')"] * 4)
    gate.touch()
    kernel = launcher(rendering, gate, "stay")
    ref = claim.RunRef(**json.loads(kernel.stdout.readline()))
    assert backend.driver(ref).startswith(f"pid {kernel.pid} on ")
    local.wait_for(ref, lambda status: 0 in status.tasks)
    kernel.kill()
    kernel.communicate()
    assert backend.driver(ref) is None
    status = local.wait(ref)
    assert {number: task.state for number, task in status.tasks.items()} == dict.fromkeys(range(4), State.SUCCEEDED)
    assert {task.attempt for task in status.tasks.values()} == {1}
    assert backend.find() == [ref]


@pytest.mark.fault(3)
def test_an_interrupt_of_the_kernels_process_group_does_not_reach_the_work(backend, tmp_path, local):
    rendering, gate = tmp_path / "rendering.json", tmp_path / "gate"
    write_rendering(backend, rendering, "import time; time.sleep(0.5)")
    gate.touch()
    kernel = subprocess.Popen(
        [sys.executable, "-c", LAUNCHER, str(rendering), str(gate), "stay"],
        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, start_new_session=True,
    )  # fmt: skip
    ref = claim.RunRef(**json.loads(kernel.stdout.readline()))
    local.wait_for(ref, lambda status: 0 in status.tasks)
    os.killpg(kernel.pid, signal.SIGINT)
    kernel.communicate()
    assert local.wait(ref).state is State.SUCCEEDED


def test_a_kernel_killed_between_claim_and_supervisor_leaves_a_run_that_the_next_launch_starts(
    backend, local, monkeypatch
):
    rendering = backend.render(plan("print('here')"))
    ref = claim.claim(rendering, backend.runs)
    assert backend.lost(ref) is None
    monkeypatch.setattr(time, "time", lambda real=time.time: real() + 60)
    assert "never started" in backend.lost(ref)
    assert backend.launch(rendering) == ref
    assert local.wait(ref).state is State.SUCCEEDED
    assert backend.lost(ref) is None


def test_following_a_run_without_a_supervisor_starts_it_too(backend, local, monkeypatch):
    ref = claim.claim(backend.render(plan("print('here')")), backend.runs)
    monkeypatch.setattr(time, "time", lambda real=time.time: real() + 5)
    states = [change.state for change in backend.states(ref, threading.Event())]
    assert states[-1] is State.SUCCEEDED


def test_a_process_killed_while_it_prepared_a_run_leaves_nothing_that_counts(backend, local):
    local.launch("print(1)", name="other")
    draft = backend.runs / ".run.0123.tmp"
    draft.mkdir()
    (draft / "run.json").write_text('{"name": "ru')
    assert [ref.name for ref in backend.find()] == ["other"]
    os.utime(draft, (0, 0))
    assert local.wait(local.launch("print(1)")).state is State.SUCCEEDED
    assert not draft.exists()


def test_a_folder_that_is_no_run_is_left_out_and_logged(backend, local, caplog):
    ref = local.launch("print(1)")
    (backend.runs / "strange").mkdir()
    (backend.runs / "broken").mkdir()
    (backend.runs / "broken" / "ref.json").write_text('{"name": ')
    (backend.runs / "a-file").write_text("")
    with caplog.at_level(logging.WARNING):
        assert backend.find() == [ref]
    assert sum("no run that can be read" in record.message for record in caplog.records) == 2
    with pytest.raises(BackendError, match="in the way"):
        local.launch("print(1)", name="broken")


@pytest.mark.fault(35)
def test_two_hundred_runs_are_listed_newest_first(backend):
    for number in range(200):
        claim.claim(backend.render(plan("print(1)", name=f"run-{number}")), backend.runs)
    names = [ref.name for ref in backend.find()]
    assert names == [f"run-{number}" for number in reversed(range(200))]


def test_a_run_that_was_removed_is_not_found_any_more(backend, local):
    ref = local.launch("print(1)")
    local.wait(ref)
    until(lambda: not processes.is_alive(local.supervisor(ref)))
    backend.remove(ref)
    for ask in (backend.folder, backend.stop, lambda ref: list(backend.states(ref, threading.Event()))):
        with pytest.raises(RunNotFoundError):
            ask(ref)
    assert not list(backend.runs.iterdir())


def test_a_follower_of_a_run_that_is_removed_comes_to_an_end(backend, local):
    ref = local.launch("import time; time.sleep(600)")
    changes = backend.states(ref, threading.Event())
    next(changes)
    processes.send(local.supervisor(ref), signal.SIGKILL)
    processes.end_tree(ref.uid, grace=0)
    until(lambda: backend.lost(ref))
    backend.remove(ref)
    assert State.SUCCEEDED not in [change.state for change in changes]


def test_code_may_not_leave_the_runs_folder(backend):
    rendering = backend.render(plan("print(1)", files={"../../evil.py": "x"}))
    with pytest.raises(BackendError, match="outside"):
        backend.launch(rendering)
    assert not list(backend.root.rglob("evil.py"))


def test_tasks_find_the_code_of_the_cell_and_their_own_folder(local, backend):
    argv = (word(Slot.PYTHON), word(Slot.CODE, "/cell.py"), word("--out=", Slot.OUTPUT))
    text = "import os, sys; print(sys.argv[1]); print(os.path.isdir(os.environ['GPUDEPLOY_OUTPUT']))"
    ref = local.launch(tasks=(Task(0, "t", argv),), files={"cell.py": text}, kind="job")
    local.wait(ref)
    folder = backend.folder(ref)
    assert local.lines(ref) == [f"--out={folder.output(0)}", "True"]


def test_another_root_can_be_named(tmp_path):
    elsewhere = LocalBackend(tmp_path / "elsewhere")
    assert not elsewhere.find()
    assert claim.claim(elsewhere.render(plan("print(1)")), elsewhere.runs)
    assert [ref.name for ref in elsewhere.find()] == ["run"]
