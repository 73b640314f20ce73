"""A supervisor that waits for its run: it takes it, or is gone without a trace."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from handmade import plan, until

from jupyter_gpudeploy import launch
from jupyter_gpudeploy.backends.local import claim, keepers, processes
from jupyter_gpudeploy.backends.local.keepers import Keeper
from jupyter_gpudeploy.errors import PlanError
from jupyter_gpudeploy.events.types import State

HOLD = """
import sys, time
from jupyter_gpudeploy.backends.local import keepers
with keepers.ahead():
    print(keepers.take_waiting().uid, flush=True)
    time.sleep(600)
"""


def supervisors(uid: str) -> list[int]:
    """Returns the processes that carry the mark of the keeper of this run."""
    pids = (int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit())
    return [pid for pid in pids if processes.marks(pid) == (uid, processes.SUPERVISOR)]


def test_one_that_waits_takes_the_run_and_no_other_is_started(backend, local):
    with keepers.ahead():
        waiting = keepers._waiting.keeper
        until(lambda: waiting._process.poll() is not None)
        before = supervisors(waiting.uid)
        ref = backend.launch(backend.render(plan("import time; time.sleep(600)")))
        assert ref.uid == waiting.uid
        until(lambda: local.events(ref))
        assert [local.supervisor(ref).pid] == before
    until(lambda: supervisors(ref.uid) == before)


def test_one_that_is_told_nothing_ends(backend):
    with keepers.ahead():
        uid = keepers._waiting.keeper.uid
        until(lambda: supervisors(uid))
    until(lambda: not supervisors(uid))
    assert not backend.find()


@pytest.mark.fault(1)
def test_one_whose_kernel_is_killed_ends():
    with subprocess.Popen([sys.executable, "-c", HOLD], stdout=subprocess.PIPE, text=True) as kernel:
        uid = kernel.stdout.readline().strip()
        until(lambda: supervisors(uid))
        kernel.kill()
    until(lambda: not supervisors(uid))


def test_a_launch_that_fails_leaves_none(monkeypatch):
    uids = []
    make = keepers.new_uid
    monkeypatch.setattr(keepers, "new_uid", lambda: uids.append(make()) or uids[-1])
    with pytest.raises(PlanError):
        launch({"name": "bad", "run": "echo hi", "warm": True})
    assert len(uids) == 1
    until(lambda: not supervisors(uids[0]))


def test_when_the_one_that_waits_was_killed_another_keeps_the_run(backend, local):
    with keepers.ahead():
        waiting = keepers._waiting.keeper
        until(lambda: waiting._process.poll() is not None and supervisors(waiting.uid))
        for pid in supervisors(waiting.uid):
            os.kill(pid, signal.SIGKILL)
        until(lambda: not supervisors(waiting.uid))
        ref = backend.launch(backend.render(plan("print(1)")))
        assert local.wait(ref).state is State.SUCCEEDED


def test_the_log_of_the_supervisor_has_what_it_says(backend):
    ref = claim.claim(backend.render(plan("print(1)")), backend.runs)
    folder = backend.folder(ref)
    with Keeper(ref.uid) as keeper:
        folder.record_file.write_text("{}")
        assert keeper.keep(folder)
        until(lambda: folder.supervisor_log.exists() and "KeyError" in folder.supervisor_log.read_text())
