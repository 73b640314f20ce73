"""What pods measured, in the run's folder: each look once, whatever comes again, and nothing that makes no sense."""

from __future__ import annotations

import pytest

from jupyter_gpudeploy.events.receive import Receiver
from jupyter_gpudeploy.events.samples import SampleReader
from jupyter_gpudeploy.events.store import RunFolder
from jupyter_gpudeploy.events.types import GpuSample, Notice, ProcessSample
from jupyter_gpudeploy.events.wire import Record


def record(time, **more):
    return Record("samples", {"t": time, "p": [50, 1 << 20, 2], **more})


@pytest.fixture
def folder(tmp_path):
    folder = RunFolder(tmp_path / "run")
    folder.path.mkdir()
    return folder


def read(folder):
    return SampleReader(folder.samples_file).poll()


def test_a_look_is_kept_with_its_task(folder):
    gpus = [["0", 97, 5 << 30, 80 << 30, 300, 61], ["1", None, None, None, None, None]]
    assert Receiver(folder, 3).receive(record(7.0005, g=gpus)) == []
    assert read(folder) == [
        GpuSample(7.0, "0", 3, 97, 5 << 30, 80 << 30, 300, 61),
        GpuSample(7.0, "1", 3),
        ProcessSample(7.0, 3, 50, 1 << 20, 2),
    ]


def test_looks_that_come_again_are_kept_once(folder):
    looks = [record(float(time)) for time in range(1, 6)]
    receivers = {task: Receiver(folder, task) for task in (0, 1)}
    for look in looks[:3]:
        for receiver in receivers.values():
            receiver.receive(look)
    again = Receiver(folder, 0)
    for look in looks:
        again.receive(look)
    for look in looks[2:]:
        receivers[1].receive(look)
    times = {task: [sample.time for sample in read(folder) if sample.task == task] for task in (0, 1)}
    assert times == {0: [1.0, 2.0, 3.0, 4.0, 5.0], 1: [1.0, 2.0, 3.0, 4.0, 5.0]}


def test_of_a_manual_run_it_is_the_whole_run_that_is_measured(folder):
    Receiver(folder, 0, executes=True).receive(record(1.0))
    assert [sample.task for sample in read(folder)] == [None]


@pytest.mark.parametrize(
    "payload",
    [
        {},
        {"t": "x"},
        {"t": -1},
        {"t": float("nan"), "p": []},
        {"t": 1, "p": 3},
        {"t": 1, "g": 3},
        {"t": 1, "g": [3]},
        [],
        5,
    ],
)
def test_what_makes_no_sense_is_told_and_not_kept(folder, payload):
    told = Receiver(folder, 0).receive(Record("samples", payload))
    assert [type(event) for event in told] == [Notice]
    assert not folder.samples_file.exists()


def test_numbers_that_cannot_be_true_are_unknown(folder):
    gpus = [["0" * 500, float("nan"), -1, 1e30, True, "61"]] * 500
    Receiver(folder, 0).receive(record(1.0, g=gpus, p=[float("inf"), None]))
    *gpus, processes = read(folder)
    assert len(gpus) == 64
    assert set(gpus) == {GpuSample(1.0, "0" * 64, 0)}
    assert processes == ProcessSample(1.0, 0)
