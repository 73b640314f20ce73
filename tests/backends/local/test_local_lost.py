"""A supervisor that is gone: what is said, and how the run goes on."""

from __future__ import annotations

import json
import signal
import threading
import time

import pytest
from handmade import plan, until

from jupyter_gpudeploy.backends.local import claim, processes
from jupyter_gpudeploy.errors import BackendError
from jupyter_gpudeploy.events.types import State

GATED = """
import os, time
print("begin", os.environ["GPUDEPLOY_ATTEMPT"], flush=True)
while os.environ["GPUDEPLOY_TASK"] != "0" and not os.path.exists({gate!r}):
    time.sleep(0.01)
print("end", flush=True)
"""


@pytest.fixture
def killed(local, backend, tmp_path):
    """A sweep of three of which one is done, one runs and one waits, whose supervisor was killed."""
    ref = local.launch(*[GATED.format(gate=str(tmp_path / "gate"))] * 3)
    local.wait_for(ref, lambda status: 1 in status.tasks and status.tasks[1].state is State.RUNNING)
    until(lambda: local.lines(ref, 1))
    processes.send(local.supervisor(ref), signal.SIGKILL)
    until(lambda: backend.lost(ref))
    return ref


@pytest.mark.fault(38)
def test_a_killed_supervisor_is_told_with_what_still_runs(killed, backend, local):
    pid = local.supervisor(killed).pid
    assert backend.lost(killed) == f"its supervisor (pid {pid}) was killed; 1 of its processes still run"
    states = [change.state for change in backend.states(killed, threading.Event())]
    assert states[-1] is State.LOST
    assert local.lines(killed, 1, follow=True) == ["begin 1"]


@pytest.mark.fault(38)
def test_a_run_of_before_the_last_boot_is_lost_with_the_restart(killed, backend):
    file = backend.folder(killed).supervisor_file
    file.write_text(json.dumps({**json.loads(file.read_text()), "boot_id": "another"}))
    assert backend.lost(killed).startswith("lost with the restart of this machine at 20")


def test_a_run_that_another_machine_kept_is_not_taken_for_restarted(killed, backend):
    file = backend.folder(killed).supervisor_file
    file.write_text(json.dumps({**json.loads(file.read_text()), "boot_id": "another", "host": "elsewhere"}))
    assert "another machine (elsewhere)" in backend.lost(killed)


@pytest.mark.fault(38)
def test_a_lost_run_resumes_with_what_has_no_end_and_keeps_what_has(killed, backend, local, tmp_path):
    before = processes.tree(killed.uid)
    assert len(before) == 1
    backend.resume(killed)
    local.wait_for(killed, lambda status: status.tasks[1].attempt == 2)
    assert backend.lost(killed) is None
    assert not [who for who in before if processes.is_alive(who)]
    (tmp_path / "gate").touch()
    status = local.wait(killed)
    assert status.state is State.SUCCEEDED
    assert [status.tasks[number].attempt for number in range(3)] == [1, 2, 1]
    assert [local.lines(killed, number) for number in range(3)] == [
        ["begin 1", "end"],
        ["begin 1", "begin 2", "end"],
        ["begin 1", "end"],
    ]
    assert any("1 processes of it were still there and were ended" in notice for notice in local.notices(killed))
    with pytest.raises(BackendError, match="has ended"):
        backend.resume(killed)


def test_resuming_what_is_kept_changes_nothing(local, backend):
    ref = local.launch("import time; time.sleep(600)")
    local.wait_for(ref, lambda status: 0 in status.tasks)
    before = local.supervisor(ref), local.events(ref)
    backend.resume(ref)
    assert (local.supervisor(ref), local.events(ref)) == before


def test_stopping_a_lost_run_ends_what_is_left_of_it(killed, backend, local):
    before = processes.tree(killed.uid)
    backend.stop(killed, grace_seconds=1)
    status = local.wait(killed)
    assert status.state is State.STOPPED
    assert [status.tasks[number].state for number in range(3)] == [State.SUCCEEDED, State.STOPPED, State.STOPPED]
    assert not [who for who in before if processes.is_alive(who)]


def test_a_resume_forgets_a_stop_that_was_never_carried_out(local, backend):
    ref = local.launch("import time; time.sleep(1); print('done')")
    local.wait_for(ref, lambda status: 0 in status.tasks)
    processes.send(local.supervisor(ref), signal.SIGKILL)
    until(lambda: backend.lost(ref))
    (backend.folder(ref).control / "stop.json").write_text('{"grace": 1}')
    backend.resume(ref)
    assert local.wait(ref).state is State.SUCCEEDED


def test_a_lost_run_whose_processes_live_is_not_removed(killed, backend):
    with pytest.raises(BackendError, match="still there"):
        backend.remove(killed)
    processes.end_tree(killed.uid, grace=0)
    backend.remove(killed)


@pytest.mark.fault(2)
def test_a_torn_last_record_is_cut_off_and_never_glued_to_the_next(killed, backend, local, tmp_path):
    journal = backend.folder(killed).events_file
    whole = journal.read_bytes()
    journal.write_bytes(whole + whole[: len(whole) // 3 * 2].splitlines()[0][:-9])
    (tmp_path / "gate").touch()
    backend.resume(killed)
    assert local.wait(killed).state is State.SUCCEEDED
    assert "the journal's last record was incomplete" in local.notices(killed)[0]
    assert journal.read_bytes().startswith(whole)
    for line in journal.read_bytes().splitlines():
        json.loads(line)


@pytest.mark.slow
@pytest.mark.fault(2)
def test_a_journal_cut_anywhere_resumes_to_the_same_end(local, backend, tmp_path):
    ref = local.launch("print(1)", "print(2)")
    local.wait(ref)
    until(lambda: not processes.is_alive(local.supervisor(ref)))
    journal = backend.folder(ref).events_file
    whole = journal.read_bytes()
    for offset in range(0, len(whole) - 1, len(whole) // 12):
        journal.write_bytes(whole[:offset])
        backend.resume(ref)
        status = local.wait(ref)
        assert status.state is State.SUCCEEDED, offset
        assert status.counts() == {State.SUCCEEDED: 2}
        until(lambda: not processes.is_alive(local.supervisor(ref)))


def test_a_supervisor_that_fails_says_so_in_the_journal(backend, local):
    ref = claim.claim(backend.render(plan("print(1)")), backend.runs)
    folder = backend.folder(ref)
    record = folder.record()
    record["tasks"][0]["argv"] = [[{"slot": "nonsense"}]]
    folder.record_file.write_text(json.dumps(record))
    claim.start_supervisor(folder)
    status = local.wait(ref)
    assert status.state is State.FAILED
    assert "the supervisor failed (KeyError: 'nonsense')" in status.reason
    assert "KeyError" in local.log(ref)


def test_a_supervisor_that_never_gets_to_its_record_is_noticed(backend, monkeypatch):
    ref = claim.claim(backend.render(plan("print(1)")), backend.runs)
    backend.folder(ref).record_file.write_text("{")
    claim.start_supervisor(backend.folder(ref))
    assert "was killed" in until(lambda: backend.lost(ref))


def test_a_young_claim_without_a_supervisor_is_not_yet_lost(backend, monkeypatch):
    ref = claim.claim(backend.render(plan("print(1)")), backend.runs)
    assert backend.lost(ref) is None
    monkeypatch.setattr(time, "time", lambda real=time.time: real() + 11)
    assert "never started" in backend.lost(ref)


@pytest.fixture
def stopped(local, backend, tmp_path):
    """Return a stopped sweep: task 0 is done, 1 was running, 2 and 3 waited."""
    program = f"import os, time, pathlib; print('begin', os.environ['GPUDEPLOY_ATTEMPT'])\nwhile not pathlib.Path({str(tmp_path / 'gate')!r}).exists(): time.sleep(0.02)\nprint('end')"
    ref = local.launch("print('done')", program, program, program, parallelism=1)
    local.wait_for(ref, lambda status: 1 in status.tasks and local.lines(ref, 1) == ["begin 1"])
    backend.stop(ref, 1)
    assert local.wait(ref).state is State.STOPPED
    return ref


def test_a_stopped_run_resumes_with_what_is_not_done(stopped, backend, local, tmp_path):
    backend.resume(stopped)
    status = local.status(stopped)
    assert not status.state.is_final, "from the moment on which resume returns"
    assert (status.tasks[0].state, status.counts()[State.SUCCEEDED]) == (State.SUCCEEDED, 1)
    local.wait_for(stopped, lambda status: status.tasks[1].state is State.RUNNING)
    (tmp_path / "gate").touch()
    status = local.wait(stopped)
    assert status.state is State.SUCCEEDED
    assert [status.tasks[number].attempt for number in range(4)] == [1, 2, 1, 1]
    assert [local.lines(stopped, number, follow=True) for number in range(4)] == [
        ["done"], ["begin 1", "begin 2", "end"], ["begin 1", "end"], ["begin 1", "end"],
    ]  # fmt: skip
    states = [change.state for change in backend.states(stopped, threading.Event()) if change.task is None]
    assert (states[-1], states.count(State.STOPPED)) == (State.SUCCEEDED, 1)
    with pytest.raises(BackendError, match="nothing to resume"):
        backend.resume(stopped)


def test_a_resumed_run_can_be_stopped_and_resumed_again_and_be_lost(stopped, backend, local, tmp_path):
    backend.resume(stopped)
    local.wait_for(stopped, lambda status: status.tasks[1].state is State.RUNNING)
    backend.stop(stopped, 1)
    assert local.wait(stopped).state is State.STOPPED
    backend.resume(stopped)
    local.wait_for(stopped, lambda status: status.tasks[1].state is State.RUNNING and status.tasks[1].attempt == 3)
    processes.send(local.supervisor(stopped), signal.SIGKILL)
    until(lambda: backend.lost(stopped))
    backend.resume(stopped)
    (tmp_path / "gate").touch()
    status = local.wait(stopped)
    assert (status.state, status.tasks[1].attempt) == (State.SUCCEEDED, 4)


def test_two_who_resume_at_once_start_nothing_twice(stopped, backend, local, tmp_path):
    (tmp_path / "gate").touch()
    told = []

    def resume():
        try:
            backend.resume(stopped)
        except BackendError as error:
            told.append(error)

    threads = [threading.Thread(target=resume) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert local.wait(stopped).state is State.SUCCEEDED
    assert local.lines(stopped, 1) == ["begin 1", "begin 2", "end"]


def test_a_run_that_was_stopped_with_nothing_left_undone_is_not_resumed(local, backend):
    ref = local.launch(kind="manual")
    local.wait_for(ref, lambda status: status.state is State.READY)
    backend.stop(ref, 1)
    local.wait(ref)
    with pytest.raises(BackendError, match="nothing to resume"):
        backend.resume(ref)
