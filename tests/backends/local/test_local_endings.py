"""How things end: in time, whole, and nobody else with them."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from handmade import until

import jupyter_gpudeploy
from jupyter_gpudeploy.backends.local import processes
from jupyter_gpudeploy.backends.local.procfs import Identity, boot_id
from jupyter_gpudeploy.events.types import State

SLEEP = "import time; time.sleep(600)"
STUBBORN = (
    "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('deaf', flush=True); time.sleep(600)"
)


def alive(pid):
    return processes.identity(pid) is not None


def pids_in(file, count):
    """Return the pids that a program has written into a file, when there are so many."""
    return until(
        lambda: file.exists() and len(file.read_text().split()) >= count and [int(p) for p in file.read_text().split()]
    )


def family(file):
    """Return a program that starts children in every way in which children get lost, and sleeps."""
    return f"""
import os, subprocess, sys, time
from pathlib import Path
def note(pid):
    with open({str(file)!r}, "a") as stream:
        stream.write(f"{{pid}} ")
note(os.getpid())
for words in (["sleep", "600"], ["setsid", "sleep", "600"], ["env", "-i", "/usr/bin/setsid", "/bin/sleep", "600"]):
    note(subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL).pid)
daemon = "import os, time\\nif os.fork(): os._exit(0)\\nos.setsid()\\nif os.fork(): os._exit(0)\\n"
daemon += "open({str(file)!r}, 'a').write(f'{{os.getpid()}} ')\\ntime.sleep(600)"
subprocess.run([sys.executable, "-c", daemon])
subprocess.run(["env", "-i", sys.executable, "-c", daemon])
time.sleep(600)
"""


@pytest.mark.fault(36)
def test_stop_ends_children_that_left_the_session_or_dropped_their_environment(local, backend, tmp_path):
    ref = local.launch(family(tmp_path / "pids"))
    pids = pids_in(tmp_path / "pids", 6)
    assert all(alive(pid) for pid in pids)
    started = time.monotonic()
    backend.stop(ref, grace_seconds=3)
    assert local.wait(ref).state is State.STOPPED
    assert time.monotonic() - started < 5
    assert not [pid for pid in pids if alive(pid)]


@pytest.mark.fault(36)
def test_who_does_not_listen_is_killed_after_the_grace(local, backend):
    ref = local.launch(STUBBORN)
    until(lambda: local.lines(ref) == ["deaf"])
    started = time.monotonic()
    backend.stop(ref, grace_seconds=1)
    status = local.wait(ref)
    assert 1 <= time.monotonic() - started < 3
    assert (status.tasks[0].state, status.tasks[0].reason, status.tasks[0].exit_code) == (State.STOPPED, "stopped", 137)


def test_a_second_more_impatient_stop_is_heard(local, backend):
    ref = local.launch(STUBBORN)
    until(lambda: local.lines(ref) == ["deaf"])
    backend.stop(ref, grace_seconds=500)
    time.sleep(0.3)  # the first request is seen, and starts the long grace
    backend.stop(ref, grace_seconds=0)
    assert local.wait(ref, seconds=5).state is State.STOPPED


def test_what_a_task_prints_and_does_in_its_grace_is_kept(local, backend):
    program = """
import signal, sys, time
def leave(*_):
    print("saving", flush=True)
    time.sleep(0.5)
    print("saved", end="", flush=True)
    sys.exit(0)
signal.signal(signal.SIGTERM, leave)
print("up", flush=True)
time.sleep(600)
"""
    ref = local.launch(program)
    until(lambda: local.lines(ref) == ["up"])
    backend.stop(ref, grace_seconds=10)
    status = local.wait(ref)
    assert local.lines(ref) == ["up", "saving", "saved"]
    assert (status.state, status.tasks[0].state, status.tasks[0].exit_code) == (State.STOPPED, State.STOPPED, 0)


def test_a_child_that_outlives_its_parent_has_the_same_grace(local, backend, tmp_path):
    child = f"import signal, sys, time\nsignal.signal(15, lambda *_: (time.sleep(2.5), open({str(tmp_path / 'saved')!r}, 'w').close(), sys.exit()))\nprint('up', flush=True)\ntime.sleep(600)"
    ref = local.launch(f"import subprocess, sys; subprocess.run([sys.executable, '-c', {child!r}])")
    until(lambda: local.lines(ref) == ["up"])
    backend.stop(ref, grace_seconds=20)
    local.wait(ref)
    assert (tmp_path / "saved").exists()


def test_a_terminated_supervisor_stops_its_run(local):
    ref = local.launch(SLEEP)
    local.wait_for(ref, lambda status: 0 in status.tasks)
    processes.send(local.supervisor(ref), signal.SIGTERM)
    assert local.wait(ref).state is State.STOPPED
    assert not processes.tree(ref.uid)


def test_a_run_whose_folder_is_deleted_ends_since_nobody_could_end_it_any_more(local, backend):
    ref = local.launch(SLEEP)
    local.wait_for(ref, lambda status: 0 in status.tasks)
    who = local.supervisor(ref)
    shutil.rmtree(backend.folder(ref).path)
    until(lambda: not processes.tree(ref.uid) and not processes.is_alive(who), "the end")


def test_a_supervisor_ignores_interrupts_and_hangups(local):
    ref = local.launch("import time; time.sleep(0.5)")
    local.wait_for(ref, lambda status: 0 in status.tasks)
    for number in (signal.SIGINT, signal.SIGHUP):
        processes.send(local.supervisor(ref), number)
    assert local.wait(ref).state is State.SUCCEEDED


@pytest.mark.fault(36)
def test_children_left_behind_by_a_task_that_ended_are_ended(local, tmp_path):
    program = f"""
import subprocess
child = subprocess.Popen(["setsid", "sleep", "600"])
open({str(tmp_path / "pids")!r}, "w").write(str(child.pid))
print("done", end="")
"""
    ref = local.launch(program, SLEEP)
    local.wait_for(ref, lambda status: 1 in status.tasks)
    assert not alive(int((tmp_path / "pids").read_text()))
    assert local.lines(ref) == ["done"]


def test_a_daemon_of_a_running_task_is_left_alone_when_another_task_ends(local, tmp_path):
    daemon = f"import os, time\nif os.fork(): os._exit(0)\nos.setsid()\nopen({str(tmp_path / 'pid')!r}, 'w').write(str(os.getpid()))\ntime.sleep(600)"
    keeper = f"import subprocess, sys, time; subprocess.run([sys.executable, '-c', {daemon!r}]); time.sleep(600)"
    short = f"import os, time\nwhile not os.path.exists({str(tmp_path / 'pid')!r}): time.sleep(0.01)"
    ref = local.launch(keeper, short, parallelism=2)
    local.wait_for(ref, lambda status: 1 in status.tasks and status.tasks[1].state is State.SUCCEEDED)
    (pid,) = pids_in(tmp_path / "pid", 1)
    assert alive(pid)


def test_what_takes_longer_than_its_limit_is_ended_and_not_tried_again(local):
    ref = local.launch(SLEEP, "print(1)", max_seconds=0.5, retries=3)
    status = local.wait(ref)
    assert (status.tasks[0].state, status.tasks[0].attempt) == (State.FAILED, 1)
    assert status.tasks[0].reason == "took longer than max_hours (0.5 s)"
    assert status.tasks[1].state is State.SUCCEEDED


def test_failures_are_tried_again_with_a_growing_pause_each_with_its_own_log(local, backend):
    ref = local.launch("print('no'); raise SystemExit(5)", retries=2)
    status = local.wait(ref)
    assert (status.tasks[0].state, status.tasks[0].attempt, status.tasks[0].exit_code) == (State.FAILED, 3, 5)
    pauses = [event.details["retry_in"] for event in local.events(ref) if "retry_in" in getattr(event, "details", {})]
    assert pauses == [1.0, 2.0]
    assert [attempt for attempt, _ in backend.folder(ref).log_files(0)] == [1, 2, 3]
    assert status.reason == "exit code 5"


def test_a_run_can_be_stopped_between_two_attempts(local, backend):
    ref = local.launch("raise SystemExit(5)", retries=9)
    local.wait_for(ref, lambda status: 0 in status.tasks and status.tasks[0].attempt == 3)
    backend.stop(ref, 1)
    status = local.wait(ref)
    assert (status.state, status.tasks[0].state) == (State.STOPPED, State.STOPPED)


@pytest.mark.fault(37)
def test_a_process_that_got_a_used_pid_is_not_touched():
    with subprocess.Popen(["sleep", "600"]) as innocent:
        who = processes.identity(innocent.pid)
        for forged in (
            who._replace(start_time=who.start_time - 1),
            who._replace(boot_id="another boot"),
            Identity(innocent.pid, 0, boot_id()),
        ):
            assert not processes.is_alive(forged)
            processes.send(forged, signal.SIGKILL)
        time.sleep(0.05)
        assert innocent.poll() is None
        processes.send(who, signal.SIGKILL)
        assert innocent.wait() == -signal.SIGKILL
        assert not processes.is_alive(who)


@pytest.mark.fault(37)
def test_a_zombie_is_dead():
    child = subprocess.Popen(["true"])
    until(lambda: Path(f"/proc/{child.pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z")
    assert processes.identity(child.pid) is None
    child.wait()


@pytest.mark.fault(37)
def test_a_program_whose_name_looks_like_a_stat_line_is_read_right(tmp_path):
    strange = tmp_path / "a) R 1 (b"
    strange.symlink_to("/bin/sleep")
    with subprocess.Popen([strange, "600"]) as child:
        assert processes.identity(child.pid).start_time > 0
        assert processes.session(child.pid) == os.getsid(0)
        child.kill()


def test_only_the_processes_of_the_run_and_task_asked_for_are_found():
    def start(run, task):
        environment = {**os.environ, "GPUDEPLOY_RUN": run, "GPUDEPLOY_TASK": task}
        return subprocess.Popen(
            [sys.executable, "-c", "import os; print(); os.read(0, 1)"],
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )

    started = [start("aa", "1"), start("aa", "11"), start("aab", "1")]
    for process in started:
        process.stdout.readline()
    try:
        assert [who.pid for who in processes.tree("aa", 1)] == [started[0].pid]
        assert {who.pid for who in processes.tree("aa")} == {started[0].pid, started[1].pid}
        left = processes.end_tree("aa", grace=5)
        assert not left
        assert started[2].poll() is None
    finally:
        for process in started:
            process.kill()
            process.communicate()


def test_a_run_launched_from_inside_a_run_outlives_it(local, backend, tmp_path):
    go = tmp_path / "go"
    inner = f"import os, time\nwhile not os.path.exists({str(go)!r}): time.sleep(0.01)\nprint('inner', sorted(name for name in os.environ if 'SUPERVISOR' in name))"
    (tmp_path / "inner.py").write_text(inner)
    outer = (
        f"import sys; sys.path.insert(0, {str(Path(jupyter_gpudeploy.__file__).parent.parent)!r})\n"
        f"import jupyter_gpudeploy, time\n"
        f"jupyter_gpudeploy.launch({{'run': 'python inner.py', 'name': 'inner'}}, base_dir={str(tmp_path)!r})\n"
        "while jupyter_gpudeploy.attach('inner').state.value != 'running': time.sleep(0.01)"
    )
    status = local.wait(local.launch(outer))
    assert status.state is State.SUCCEEDED, status.tasks[0].reason
    ref = next(ref for ref in backend.find() if ref.name == "inner")
    who = local.supervisor(ref)
    assert processes.is_alive(who)
    assert processes.marks(who.pid) == (ref.uid, processes.SUPERVISOR)
    assert len(processes.tree(ref.uid)) == 1
    go.touch()
    assert local.wait(ref).state is State.SUCCEEDED
    assert local.lines(ref) == ["inner []"]


def test_stopping_a_run_leaves_the_runs_alone_that_were_launched_from_inside_it(local, backend, tmp_path):
    outer = (
        f"import sys; sys.path.insert(0, {str(Path(jupyter_gpudeploy.__file__).parent.parent)!r})\n"
        f"import jupyter_gpudeploy, time\n"
        f"jupyter_gpudeploy.launch({{'run': 'sleep 600', 'name': 'inner'}}, base_dir={str(tmp_path)!r})\n"
        "time.sleep(600)"
    )
    ref = local.launch(outer)
    inner = until(lambda: [found for found in backend.find() if found.name == "inner"], "the inner run")[0]
    local.wait_for(inner, lambda status: status.tasks.get(0) and status.tasks[0].state is State.RUNNING)
    backend.stop(ref, 0)
    assert local.wait(ref).state is State.STOPPED
    assert not processes.tree(ref.uid)
    assert backend.lost(inner) is None
    assert len(processes.tree(inner.uid)) == 1
    backend.stop(inner, 0)
    assert local.wait(inner).state is State.STOPPED
