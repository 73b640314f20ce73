"""GPUs of tasks: leased while they run, waited for once, and held by a manual run as a whole."""

from __future__ import annotations

import os
import signal

import pytest
from handmade import until

from jupyter_gpudeploy.backends.local import processes
from jupyter_gpudeploy.backends.local.gpus import Leases
from jupyter_gpudeploy.events.types import State
from jupyter_gpudeploy.plan.types import Resources

SHOW = "import os; print(os.environ.get('CUDA_VISIBLE_DEVICES', 'unset'))"
SMI = """#!/bin/sh
case "$*" in *query-gpu*) printf '0, GPU-a, T4, 4, 15360, Disabled\\n1, GPU-b, T4, 4, 15360, Disabled\\n' ;; esac
"""


@pytest.fixture
def two_gpus(tmp_path, monkeypatch):
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "nvidia-smi").write_text(SMI)
    (tmp_path / "bin" / "nvidia-smi").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}{os.pathsep}/usr/bin{os.pathsep}/bin")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)


@pytest.mark.fault(39)
def test_tasks_at_the_same_time_never_share_a_gpu(two_gpus, local):
    waits = "; import time; time.sleep(0.3)"
    ref = local.launch(*[SHOW + waits] * 5, parallelism=4, resources=Resources(gpus=1))
    status = local.wait(ref)
    assert status.counts() == {State.SUCCEEDED: 5}
    held = {}
    for event in local.events(ref):
        if getattr(event, "task", None) is None:
            continue
        if event.state is State.RUNNING:
            assert event.details["gpus"][0] not in held.values()
            held[event.task] = event.details["gpus"][0]
        elif event.state.is_final:
            assert local.lines(ref, event.task) == [held.pop(event.task)]
    waiting = [event for event in local.events(ref) if getattr(event, "state", None) is State.WAITING]
    assert {event.reason for event in waiting} == {"waiting for 1 free GPU of 2"}
    assert len(waiting) == len({event.task for event in waiting})
    assert not Leases(local.backend.root).held()


@pytest.mark.fault(39)
def test_runs_wait_for_each_others_gpus(two_gpus, local, backend):
    first = local.launch("import time; time.sleep(600)", name="first", resources=Resources(gpus=2))
    local.wait_for(first, lambda status: 0 in status.tasks and status.tasks[0].state is State.RUNNING)
    second = local.launch(SHOW, name="second", resources=Resources(gpus=2))
    local.wait_for(second, lambda status: 0 in status.tasks and status.tasks[0].state is State.WAITING)
    backend.stop(first, 1)
    assert local.wait(second).state is State.SUCCEEDED
    assert local.lines(second) == ["0,1"]


@pytest.mark.fault(39)
def test_the_gpus_of_a_task_stay_its_own_when_its_supervisor_is_killed(two_gpus, local, backend):
    ref = local.launch("import time; time.sleep(600)", resources=Resources(gpus=1))
    local.wait_for(ref, lambda status: 0 in status.tasks)
    processes.send(local.supervisor(ref), signal.SIGKILL)
    until(lambda: backend.lost(ref))
    assert len(Leases(backend.root).held()) == 1
    backend.stop(ref, 0)
    local.wait(ref)
    until(lambda: not Leases(backend.root).held(), "giving the GPU back")


def test_a_manual_run_holds_its_gpus_and_its_commands_see_them(two_gpus, local, backend):
    ref = local.launch(kind="manual", resources=Resources(gpus=1))
    status = local.wait_for(ref, lambda status: status.state is State.READY)
    assert status.details["gpus"] == ["0"]
    numbers = [backend.execute(ref, ["python", "-c", SHOW]) for _ in range(2)]
    assert [local.lines(ref, number, follow=True) for number in numbers] == [["0"], ["0"]]
    assert len(Leases(backend.root).held()) == 1
    backend.stop(ref, 1)
    local.wait(ref)
    assert not Leases(backend.root).held()


def test_more_gpus_than_there_are_is_a_failure_with_a_reason(two_gpus, local):
    status = local.wait(local.launch(SHOW, resources=Resources(gpus=3)))
    assert (status.state, status.reason) == (State.FAILED, "asks for 3 GPUs, this machine has 2")
    status = local.wait(local.launch(kind="manual", name="manual", resources=Resources(gpus=3)))
    assert (status.state, status.reason) == (State.FAILED, "asks for 3 GPUs, this machine has 2")


def test_a_task_without_gpus_sees_none_where_there_are_some(two_gpus, local):
    ref = local.launch(SHOW)
    local.wait(ref)
    assert local.lines(ref) == [""]


def test_a_machine_without_gpus_changes_nothing(local, monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    ref = local.launch(SHOW)
    local.wait(ref)
    assert local.lines(ref) == ["unset"]
    assert local.backend.capabilities().gpus == 0


def test_the_machine_is_described(two_gpus, backend):
    found = backend.capabilities()
    assert (found.backend, found.gpus, found.gpu_names) == ("local", 2, ("T4", "T4"))
    assert found.cpus >= 1
    assert found.memory > 2**26
    assert found.warm
    assert found.has_module("json")
    assert not found.has_module("no_such_module.at_all")
    assert found.has_program("sh")
    assert not found.has_program("no-such-program")
