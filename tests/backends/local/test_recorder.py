"""The recorder: one process that samples for all living runs, and that no run depends on."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from itertools import pairwise
from pathlib import Path

import pytest
from handmade import until

from jupyter_gpudeploy.backends.local import processes, recorders
from jupyter_gpudeploy.events.samples import SampleReader
from jupyter_gpudeploy.events.types import GpuSample, MetricPoint, ProcessSample, State
from jupyter_gpudeploy.plan.types import Health, Resources, Service

WAITS = "import time; time.sleep(600)"
HOLDS = "x = bytearray(64_000_000); " + WAITS
BUSY = "while True: pass"
SMI = """#!/bin/sh
here=$(dirname "$0")
echo "$$ $*" >> "$here/calls"
case "$*" in
  *"-l 1"*) while :; do printf '0, 97, 7234, 15360, 81.25, 73\\n1, [N/A], 5, 15360, [N/A], 40\\n'; sleep 0.2; done ;;
  *query-gpu*) printf '0, GPU-a, T4, 4, 15360, Disabled\\n1, GPU-b, T4, 4, 15360, Disabled\\n' ;;
esac
"""
SERVER = """
import http.server, os
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b'# TYPE vllm:num_requests_running gauge\\nvllm:num_requests_running{engine="0"} 3.0\\n')
    def log_message(self, *words):
        pass
http.server.HTTPServer(("127.0.0.1", int(os.environ["PORT"])), Handler).serve_forever()
"""


@pytest.fixture(autouse=True)
def sampling(home, monkeypatch):
    monkeypatch.setenv(recorders.SWITCH, "on")
    yield
    for pid in there(home):
        os.kill(pid, signal.SIGKILL)


@pytest.fixture
def two_gpus(tmp_path, monkeypatch):
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "nvidia-smi").write_text(SMI)
    (tmp_path / "bin" / "nvidia-smi").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}{os.pathsep}/usr/bin{os.pathsep}/bin")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    return tmp_path / "bin"


def there(home):
    """Return the pids of the recorders of a state root."""
    found = []
    for place in Path("/proc").glob("[0-9]*"):
        try:
            words = (place / "cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if str(home).encode() in words and any(b"recorder" in word for word in words):
            found.append(int(place.name))
    return found


def samples(local, ref, kind=None):
    found = SampleReader(local.backend.folder(ref).samples_file).poll()
    return [sample for sample in found if kind is None or isinstance(sample, kind)]


def test_cpu_and_memory_of_each_tasks_processes_come_into_the_runs_folder(local):
    child = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {BUSY!r}])"
    ref = local.launch(HOLDS, child, parallelism=2)

    def seen():
        found = {sample.task: sample for sample in samples(local, ref, ProcessSample) if sample.cpu is not None}
        return found if {0, 1} <= found.keys() and found[1].processes == 2 and found[1].cpu > 20 else None

    found = until(seen, "a look at both tasks")
    assert found[0].memory > 64_000_000
    assert found[0].processes == 1
    assert found[0].cpu < 20
    assert samples(local, ref, GpuSample) == []


def test_looks_are_a_second_apart_and_have_one_time_each(local):
    ref = local.launch(WAITS, WAITS, parallelism=2)
    until(lambda: len({sample.time for sample in samples(local, ref)}) >= 4, "four looks")
    times = sorted({sample.time for sample in samples(local, ref)})
    steps = [after - before for before, after in pairwise(times)]
    assert all(step > 0.2 for step in steps)
    assert len(samples(local, ref)) <= 2 * len(times)


def test_each_gpu_is_told_of_with_who_holds_it_and_what_is_unknown_stays_so(two_gpus, local):
    ref = local.launch(WAITS, WAITS, parallelism=2, resources=Resources(gpus=1))
    found = until(
        lambda: (
            (seen := {sample.gpu: sample for sample in samples(local, ref, GpuSample)}).keys() == {"0", "1"} and seen
        ),
        "both GPUs",
    )
    held = {task: status.details["gpus"] for task, status in local.status(ref).tasks.items()}
    assert {sample.task: [sample.gpu] for sample in found.values()} == held
    assert found["0"][3:] == (97.0, 7234 << 20, 15360 << 20, 81.25, 73.0)
    assert found["1"][3:] == (None, 5 << 20, 15360 << 20, None, 40.0)
    local.backend.stop(ref, 0)
    local.wait(ref)


def test_one_stream_of_the_tool_serves_all_runs_and_ends_when_nobody_holds_a_gpu(two_gpus, local):
    refs = [local.launch(WAITS, name=name, resources=Resources(gpus=1)) for name in ("first", "second")]
    for ref in refs:
        until(lambda ref=ref: samples(local, ref, GpuSample), "a look at a GPU")
    streams = [call for call in (two_gpus / "calls").read_text().splitlines() if "-l 1" in call]
    assert len(streams) == 1


def test_a_run_without_gpus_asks_no_gpu(two_gpus, local):
    ref = local.launch(WAITS)
    until(lambda: len(samples(local, ref)) >= 3, "three looks")
    assert "-l 1" not in (two_gpus / "calls").read_text() if (two_gpus / "calls").exists() else True


def test_a_manual_run_holds_its_gpus_for_itself_until_a_command_has_them(two_gpus, local):
    ref = local.launch(kind="manual", tasks=(), resources=Resources(gpus=1))
    assert until(lambda: samples(local, ref, GpuSample), "a look")[0].task is None
    number = local.backend.execute(ref, ["sleep", "600"])
    until(lambda: any(sample.task == number for sample in samples(local, ref, GpuSample)), "the command's")
    local.backend.stop(ref, 0)


def test_what_a_server_says_of_itself_comes_beside(local):
    service = Service(port=0, health=Health("/"), preset="vllm")
    ref = local.launch(SERVER, kind="server", service=service)
    found = until(lambda: samples(local, ref, MetricPoint), f"a number of the server's, {local.status(ref)}")
    assert {(point.task, point.name, point.value, point.source) for point in found} == {(0, "running", 3.0, "server")}
    local.backend.stop(ref, 0)


def test_several_kernels_that_launch_at_once_start_one(home):
    (home / "runs").mkdir(parents=True)
    code = f"from pathlib import Path; from jupyter_gpudeploy.backends.local import recorders as r; r.ensure(Path({str(home)!r}))"
    many = [subprocess.Popen([sys.executable, "-c", f"{code}; import time; time.sleep(0.5)"]) for _ in range(4)]
    for one in many:
        assert one.wait() == 0
    until(lambda: len(there(home)) == 1, "all but one leave")
    assert recorders.is_there(home)


def test_when_it_is_killed_the_run_goes_on_and_whoever_looks_starts_another(local, home, monkeypatch):
    ref = local.launch(WAITS)
    until(lambda: samples(local, ref), "a look")
    (pid,) = there(home)
    os.kill(pid, signal.SIGKILL)
    until(lambda: not there(home), "its end")
    before = len(samples(local, ref))
    assert local.status(ref).tasks[0].state is State.RUNNING
    monkeypatch.setattr(recorders, "_looked", {})
    local.backend.sources(ref, 0)
    until(lambda: len(samples(local, ref)) > before, "further looks")


def test_processes_of_a_run_without_a_supervisor_are_seen_as_well(local):
    ref = local.launch(WAITS)
    local.wait_for(ref, lambda status: 0 in status.tasks and status.tasks[0].state is State.RUNNING)
    processes.send(local.supervisor(ref), signal.SIGKILL)
    until(lambda: not processes.is_alive(local.supervisor(ref)), "its end")
    before = time.time()
    until(lambda: any(sample.time > before for sample in samples(local, ref, ProcessSample)), "a look")


def test_it_is_nobodys_child_holds_no_terminal_and_is_no_part_of_a_run(local, home):
    ref = local.launch(WAITS)
    until(lambda: samples(local, ref), "a look")
    (pid,) = there(home)
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    parent, _, session, terminal = fields[1:5]
    assert int(parent) != os.getpid()
    assert int(session) == int(fields[2])
    assert int(terminal) == 0
    assert processes.marks(pid) is None
    assert Path(f"/proc/{pid}/cwd").readlink() == Path("/")
    links = {str(Path(f"/proc/{pid}/fd/{number}").readlink()) for number in ("0", "1", "2")}
    assert links == {"/dev/null"}


def test_a_run_that_is_replaced_gets_its_own_samples(local, backend):
    first = local.launch(WAITS)
    until(lambda: samples(local, first), "a look")
    backend.stop(first, 0)
    local.wait(first)
    backend.archive(first)
    kept = len(samples(local, first))
    second = local.launch(BUSY, fingerprint="f1")
    until(lambda: any((one.cpu or 0) > 20 for one in samples(local, second, ProcessSample)), "the second one's")
    assert len(samples(local, first)) == kept


def record(home, *, idle):
    """Run a recorder in this process's child; return it."""
    code = (
        "import fcntl, os, sys\n"
        "from jupyter_gpudeploy.backends.local import recorder\n"
        f"recorder.IDLE_SECONDS = {idle}; recorder.EVERY_SECONDS = 0.05\n"
        "lock = os.open(sys.argv[1] + '/recorder.lock', os.O_RDWR | os.O_CREAT)\n"
        "fcntl.flock(lock, fcntl.LOCK_EX)\n"
        "recorder.main(sys.argv[1], lock)\n"
    )
    return subprocess.Popen([sys.executable, "-c", code, str(home)])


def test_it_ends_by_itself_when_the_last_run_has(local, home, monkeypatch):
    monkeypatch.setenv(recorders.SWITCH, "off")
    ref = local.launch(WAITS)
    process = record(home, idle=0.5)
    until(lambda: samples(local, ref), "a look")
    assert process.poll() is None
    local.backend.stop(ref, 0)
    local.wait(ref)
    assert process.wait(20) == 0
    assert not (home / "recorder.log").exists()
    assert not recorders.is_there(home)


def test_it_ends_when_its_root_is_gone(home):
    (home / "runs").mkdir(parents=True)
    process = record(home, idle=600)
    until((home / "recorder.lock").exists, "its lock")
    shutil.rmtree(home)
    assert process.wait(20) == 0


def test_switched_off_there_is_none(local, home, monkeypatch):
    monkeypatch.setenv(recorders.SWITCH, "off")
    ref = local.launch("import time; time.sleep(1)")
    local.wait(ref)
    assert not (home / recorders.LOCK).exists()
    assert "nothing was measured" in local.backend.sources(ref, 0)[0].trouble


def test_what_it_cannot_read_and_where_it_cannot_write_does_not_end_it(local, home, monkeypatch):
    monkeypatch.setenv(recorders.SWITCH, "off")
    broken = home / "runs" / "broken"
    broken.mkdir(parents=True)
    (broken / "ref.json").write_text("{")
    strange = home / "runs" / "strange"
    strange.mkdir()
    (strange / "ref.json").write_text('{"name": "strange", "uid": "u", "fingerprint": "f", "created": 1e11}')
    (strange / "events.jsonl").write_text(
        '{"event":"state","time":1,"state":"running","task":0,"details":{"pid":"x"}}\n'
    )
    full = local.launch(WAITS, name="full")
    (local.backend.folder(full).path / "samples.jsonl").mkdir()
    ref = local.launch(WAITS, name="well")
    process = record(home, idle=600)
    until(lambda: len(samples(local, ref)) > 3, "looks")
    assert process.poll() is None
    process.kill()
    process.wait()


def test_the_sources_of_a_task_are_what_was_recorded_of_it(local):
    ref = local.launch(WAITS, WAITS, parallelism=2)
    (source,) = local.backend.sources(ref, 1)
    found = until(source.look, "a look")
    assert {sample.task for sample in found} == {1}


def test_looking_after_the_recorder_is_done_now_and_then_only(home, monkeypatch):
    (home / "runs").mkdir(parents=True)
    started = []
    monkeypatch.setattr(recorders, "_looked", {})
    monkeypatch.setattr(recorders, "_start", started.append)
    recorders.ensure(home, now_and_then=True)
    recorders.ensure(home, now_and_then=True)
    assert started == [home]
    recorders.ensure(home)
    assert started == [home, home]
