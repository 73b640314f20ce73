"""What a pod measures of itself, through its log into the run's folder. Real processes; nvidia-smi is a script."""

from __future__ import annotations

import os
import time
from pathlib import Path

from pods import Pod, record, until

from jupyter_gpudeploy.events.receive import Receiver
from jupyter_gpudeploy.events.samples import SampleReader
from jupyter_gpudeploy.events.store import RunFolder
from jupyter_gpudeploy.events.types import GpuSample, ProcessSample
from jupyter_gpudeploy.events.wire import encode

WAITS = "import os, time\nwhile not os.path.exists('enough'): time.sleep(0.05)\n"
BUSY = "import os\nwhile not os.path.exists('enough'): pass\n"
SMI = """#!/bin/sh
echo $$ >> "$0.pids"
case "$*" in *"-l 1"*) while :; do printf '0, 97, 7234, 15360, 81.25, 73\\n1, [N/A], 5, 15360, [N/A], 40\\n'; sleep 0.2; done ;; esac
"""


def job(tmp_path, code, **fields):
    return Pod(tmp_path / "gpudeploy", record(code, **fields))


def enough(pod):
    (pod.root / "work" / "enough").touch()
    return pod.wait()


def with_smi(tmp_path):
    folder = tmp_path / "bin"
    folder.mkdir()
    (folder / "nvidia-smi").write_text(SMI)
    (folder / "nvidia-smi").chmod(0o755)
    return folder, f"{folder}{os.pathsep}{os.environ['PATH']}"


def received(pod, tmp_path):
    (tmp_path / "mirror").mkdir(exist_ok=True)
    folder = RunFolder(tmp_path / "mirror")
    receiver = Receiver(folder, 0)
    assert [event for item in pod.found()[1] for event in receiver.receive(item)] == []
    return SampleReader(folder.samples_file).poll()


def test_cpu_and_memory_of_what_runs_in_the_pod_come_home(tmp_path):
    pod = job(tmp_path, "x = bytearray(64_000_000)\n" + BUSY).start()
    until(lambda: [one for one in pod.records("samples") if (one["p"][0] or 0) > 20], "a busy look")
    assert enough(pod) == 0
    samples = received(pod, tmp_path)
    assert {type(sample) for sample in samples} == {ProcessSample}
    assert samples[-1].memory > 64_000_000
    assert {sample.processes for sample in samples} == {1}
    times = [sample.time for sample in samples]
    assert times == sorted(set(times))
    assert abs(times[-1] - time.time()) < 60


def test_gpus_are_told_by_one_stream_that_ends_with_the_pod(tmp_path):
    folder, path = with_smi(tmp_path)
    pod = job(tmp_path, WAITS, resources={"gpus": 2}).start(PATH=path)
    until(lambda: sum("g" in one for one in pod.records("samples")) >= 1, "a look at the GPUs")
    assert enough(pod) == 0
    found = [sample for sample in received(pod, tmp_path) if isinstance(sample, GpuSample)]
    assert found[0][2:] == (0, 97, 7234 << 20, 15360 << 20, 81, 73)
    assert found[1][2:] == (0, None, 5 << 20, 15360 << 20, None, 40)
    (pid,) = (folder / "nvidia-smi.pids").read_text().split()
    until(lambda: not Path(f"/proc/{pid}").exists(), "its end")
    assert not any(one["p"][2] > 1 for one in pod.records("samples"))


def test_a_pod_that_asked_for_no_gpu_looks_at_none(tmp_path):
    folder, path = with_smi(tmp_path)
    pod = job(tmp_path, WAITS, resources={"gpus": 0}).start(PATH=path)
    until(lambda: pod.records("samples"), "a look")
    assert enough(pod) == 0
    assert not (folder / "nvidia-smi.pids").exists()


def test_what_hardly_changes_is_told_seldom(tmp_path):
    pod = job(tmp_path, "import time\ntime.sleep(7)\n").run()
    assert 1 <= len(pod.records("samples")) <= 4


def test_an_nvidia_smi_that_fails_takes_nothing_with_it(tmp_path):
    folder, path = with_smi(tmp_path)
    (folder / "nvidia-smi").write_text("#!/bin/sh\necho 'no driver'\nexit 9\n")
    pod = job(tmp_path, WAITS, resources={"gpus": 1}).start(PATH=path)
    until(lambda: pod.records("samples"), "a look")
    assert enough(pod) == 0
    assert pod.text == ""
    assert not any("g" in one for one in pod.records("samples"))


def test_a_look_takes_less_than_two_hundred_bytes_and_text_of_the_program_stays_whole(tmp_path):
    code = "import sys, time\nfor n in range(30):\n    sys.stdout.write('half ')\n    sys.stdout.flush()\n    time.sleep(0.1)\n"
    pod = job(tmp_path, code).run()
    assert pod.text == "half " * 30
    gpu = ["0", 97, 7585398784, 16106127360, 81, 73]
    look = {"t": 1795466696.723, "p": [184, 3221225472, 5], "g": [gpu]}
    assert len(b"".join(encode("0d9a2f6e-1f7b-4a54-9b0e-6f4c4b1d9f00", "samples", look))) < 200
