"""Floods, full disks, and descriptors that run out."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import threading
from contextlib import suppress
from pathlib import Path

import pytest
from handmade import plan, until

from jupyter_gpudeploy.backends.local import claim, processes
from jupyter_gpudeploy.backends.local.attempts import Attempt
from jupyter_gpudeploy.backends.local.backend import LocalBackend
from jupyter_gpudeploy.backends.local.loop import Loop
from jupyter_gpudeploy.backends.local.pump import Pump
from jupyter_gpudeploy.events.types import State
from jupyter_gpudeploy.plan.types import Task, word


@pytest.fixture
def small_disk(tmp_path):
    """A disk of one megabyte."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", folder], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip(f"a small disk needs the right to mount: {mounted.stderr.decode().strip()}")
    yield folder
    until(
        lambda: subprocess.run(["umount", folder], capture_output=True, check=False).returncode == 0, "the unmounting"
    )


@pytest.mark.fault(34)
def test_a_full_disk_costs_log_lines_and_not_the_task(small_disk, local, monkeypatch):
    monkeypatch.setenv("JUPYTER_GPUDEPLOY_HOME", str(small_disk))
    program = "import os, sys\nfor n in range(40_000): print(f'line {n:06} ' + 'x' * 50)\nos.write(1, b'end')\nopen(sys.argv[1], 'w').write('all done')"
    done = small_disk.parent / "done"
    argv = (word(sys.executable), word("-c"), word(program), word(str(done)))
    ref = local.launch(tasks=(Task(0, "t", argv),), kind="job", environment={"PYTHONUNBUFFERED": ""})
    until(lambda: done.exists() and done.read_text() == "all done", "the end of the task")
    log = local.backend.folder(ref).log_file(0)
    who = local.supervisor(ref)
    until(lambda: str(log) not in _open_files(who.pid), "the log's end")
    assert local.backend.lost(ref) is None
    # the journal waits in memory; a little room brings it out
    kept = log.read_bytes()
    os.truncate(log, 100_000)
    status = local.wait(ref)
    assert (status.state, status.tasks[0].state) == (State.SUCCEEDED, State.SUCCEEDED)
    assert local.notices(ref)[0] == "disk full: logging paused, the task goes on"
    dropped = [int(text.split()[4]) for text in local.notices(ref)[1:] if "not kept" in text]
    assert sum(dropped) + len(kept) == 40_000 * 63 + 3
    lines = kept.decode().splitlines()
    assert all(line.startswith("line ") and len(line) == 62 for line in lines if line != "end")


def _open_files(pid):
    found = []
    for descriptor in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(FileNotFoundError):
            found.append(str(descriptor.readlink()))
    return found


@pytest.mark.fault(34)
def test_when_there_is_room_again_the_log_goes_on_with_a_whole_line(small_disk):
    gaps = []
    ballast = small_disk / "ballast"
    ballast.write_bytes(b"x" * 900_000)
    loop = Loop()
    pump = Pump(loop, str(small_disk / "log"), gaps.append)
    program = "import sys\nfor part in sys.stdin:\n  for n in range(int(part)): print(f'{part.strip()} {n:06} ' + 'y' * 40)\n  sys.stdout.flush()"
    child = subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=pump.write_end, text=True)
    pump.started()

    def feed(count):
        child.stdin.write(f"{count}\n")
        child.stdin.flush()

    feed(5000)
    until(lambda: loop.turn(0.02) or gaps == [0], "the pause")
    ballast.unlink()
    feed(7)
    log = small_disk / "log"
    until(lambda: loop.turn(0.02) or b"7 000006" in log.read_bytes(), "the going on")
    child.stdin.close()
    child.wait()
    pump.close()
    loop.close()
    lines = log.read_text().splitlines()
    assert lines[-1] == "7 000006 " + "y" * 40
    assert {len(line) for line in lines} == {len("5000 000000 ") + 40, len("7 000000 ") + 40}
    assert gaps[0] == 0
    assert sum(gaps) + log.stat().st_size == 5000 * 53 + 7 * 50


def test_a_log_that_cannot_even_be_opened_costs_lines_alone(tmp_path):
    gaps = []
    loop = Loop()
    pump = Pump(loop, str(tmp_path / "no" / "folder" / "log"), gaps.append)
    os.write(pump.write_end, b"lost\n")
    pump.started()
    pump.close()
    loop.close()
    assert gaps == [0, 5]


def test_a_file_that_takes_no_splice_is_written_all_the_same(tmp_path, monkeypatch):
    def refuses(*_):
        raise OSError(22, "Invalid argument")

    monkeypatch.setattr(os, "splice", refuses)
    loop = Loop()
    pump = Pump(loop, str(tmp_path / "log"), lambda _: None)
    os.write(pump.write_end, b"one\ntwo")
    pump.started()
    loop.turn(1)
    pump.close()
    loop.close()
    assert (tmp_path / "log").read_bytes() == b"one\ntwo"


@pytest.mark.fault(19)
@pytest.mark.parametrize("end", ["'loss=0.1'", "'a\\rb\\rloss=0.1'", "'loss=0.1\\r'"])
def test_the_last_line_is_kept_without_a_newline_also_when_the_task_is_killed(local, end):
    ref = local.launch(
        f"import os, sys\nprint('first')\nsys.stdout.write({end}); sys.stdout.flush()\nos.kill(os.getpid(), 9)"
    )
    local.wait(ref)
    assert local.lines(ref) == ["first", "loss=0.1"]
    assert local.lines(ref, follow=True) == ["first", "loss=0.1"]


@pytest.mark.fault(57)
def test_a_flood_is_in_the_file_to_the_last_line_and_wakes_the_supervisor_rarely(local, backend):
    program = "import os\nfor n in range(100_000): os.write(1, b'%d\\n' % n)\nprint('end', end='')"
    ref = local.launch(program)
    who = local.supervisor(ref)
    before = int(Path(f"/proc/{who.pid}/status").read_text().partition("\nvoluntary_ctxt_switches:")[2].split()[0])
    local.wait_for(ref, lambda status: 0 in status.tasks)
    tail = until(lambda: local.lines(ref, since=1) == ["99999"] or local.lines(ref, since=1) == ["end"], "the flood")
    assert tail
    switches = until(lambda: _switches(who.pid, before))
    local.wait(ref)
    assert local.lines(ref) == [*map(str, range(100_000)), "end"]
    assert switches < 2_000


def _switches(pid, before):
    try:
        text = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return 1
    return int(text.partition("\nvoluntary_ctxt_switches:")[2].split()[0]) - before + 1


def test_a_long_log_is_followed_from_its_last_lines(local):
    ref = local.launch("for n in range(30_000): print(n, 'x' * 20)")
    local.wait(ref)
    assert [line.split()[0] for line in local.lines(ref, since=4)] == ["29996", "29997", "29998", "29999"]
    assert len(local.lines(ref, since=20_000)) == 20_000
    assert len(local.lines(ref, since=10**6)) == 30_000


def test_the_last_lines_reach_back_into_earlier_attempts(local):
    program = "import os; n = os.environ['GPUDEPLOY_ATTEMPT']; print('a', n); print('b', n); raise SystemExit(1)"
    ref = local.launch(program, retries=1)
    local.wait(ref)
    assert local.lines(ref, since=3) == ["b 1", "a 2", "b 2"]
    assert local.lines(ref, since=2) == ["a 2", "b 2"]
    stop = threading.Event()
    assert next((line.attempt, line.text) for line in local.backend.logs(ref, 0, stop, 3)) == (1, "b 1")


STARTER = """
import sys
from jupyter_gpudeploy.backends.local import claim, keepers
from jupyter_gpudeploy.backends.local.layout import LocalFolder
keepers._PROGRAM = keepers._PROGRAM.replace("main()\\n", sys.argv[2] + "main()\\n")
claim.start_supervisor(LocalFolder(sys.argv[1]))
"""


LAVISH = "import jupyter_gpudeploy.backends.local.starter as at; at._OWN_DESCRIPTORS = at._TASK_DESCRIPTORS = 1\n"


def launch_with_descriptors(backend, local, count, *programs, patch="", **fields):
    """Launch with a supervisor that may have `count` open files."""
    ref = claim.claim(backend.render(plan(*programs, **fields)), backend.runs)
    limit = lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (count, count))  # noqa: E731
    subprocess.run([sys.executable, "-c", STARTER, backend.folder(ref).path, patch], preexec_fn=limit, check=True)
    return ref


@pytest.mark.fault(35)
def test_with_few_descriptors_fewer_tasks_run_at_a_time_and_all_end(local, backend):
    ref = launch_with_descriptors(backend, local, 64, *["import time; time.sleep(1)"] * 40, parallelism=40)
    status = local.wait(ref, seconds=60)
    assert status.counts() == {State.SUCCEEDED: 40}
    assert local.notices(ref) == ["13 tasks at a time and not 40: only 64 files may be open at once"]


@pytest.mark.fault(35)
def test_when_descriptors_run_out_all_the_same_fewer_tasks_run_at_a_time(local, backend, monkeypatch):
    """Somebody else may take what was counted on: here the count is made wrong."""
    ref = launch_with_descriptors(
        backend, local, 64, *["import time; time.sleep(1)"] * 40, parallelism=40, patch=LAVISH
    )
    status = local.wait(ref, seconds=60)
    assert status.counts() == {State.SUCCEEDED: 40}
    assert any("Too many open files" in text for text in local.notices(ref))


@pytest.mark.fault(35)
def test_without_process_descriptors_ends_are_seen_by_looking(tmp_path, monkeypatch):
    def none_left(_pid):
        raise OSError(24, "Too many open files")

    monkeypatch.setattr(os, "pidfd_open", none_left)
    told, ended = [], []
    loop = Loop(told.append)
    children = [subprocess.Popen([sys.executable, "-c", f"raise SystemExit({code})"]) for code in (3, 4)]
    for child in children:
        loop.adopt(child.pid, ended.append)
    until(lambda: loop.turn(1) or len(ended) == 2)
    loop.close()
    assert sorted(ended) == [3, 4]
    assert len(told) == 1
    for child in children:
        child.wait()


def test_a_backend_holds_no_descriptor_between_polls(local):
    ref = local.launch("import time\nfor n in range(3): print(n, flush=True)\ntime.sleep(600)")
    backend = LocalBackend()
    stop = threading.Event()
    followers = [iter(backend.logs(ref, 0, stop)) for _ in range(50)]
    until(lambda: local.lines(ref) == ["0", "1", "2"])
    before = len(list(Path("/proc/self/fd").iterdir()))
    assert [next(follower).text for follower in followers] == ["0"] * 50
    assert len(list(Path("/proc/self/fd").iterdir())) == before


@pytest.mark.fault(35)
def test_an_end_that_comes_while_descriptors_are_out_is_told_when_there_are_some_again(tmp_path):
    ended = []
    loop = Loop()
    attempt = Attempt(loop, ("aa", 0), 1, on_end=lambda *end: ended.append(end), on_gap=lambda *_: None)
    argv = [sys.executable, "-c", "import time; time.sleep(0.2)"]
    attempt.start(str(tmp_path / "log"), sys.executable, argv, dict(os.environ))
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, hard))
    try:
        assert processes.own_children() is None
        until(lambda: loop.turn(0.1) or not loop.children, "the end of the process")
        loop.turn(0.1)
        assert not ended
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    until(lambda: loop.turn(0.1) or ended, "the end of the attempt")
    loop.close()
    assert [outcome.state for _, outcome in ended] == [State.SUCCEEDED]
