from __future__ import annotations

import json
import math
import multiprocessing
import os
import subprocess
import sys

import numpy as np
import pytest

from jupyter_gpudeploy import log, output_dir
from jupyter_gpudeploy.events.store import RunFolder
from jupyter_gpudeploy.trackers.log import EXPORT


@pytest.fixture
def folder(tmp_path, monkeypatch):
    (tmp_path / "metrics").mkdir()
    folder = RunFolder(tmp_path)
    monkeypatch.setenv("GPUDEPLOY_METRICS", str(folder.metrics_file(0)))
    monkeypatch.setenv("GPUDEPLOY_ATTEMPT", "1")
    return folder


def read(folder, *, ended=False):
    return list(EXPORT.reader(folder, {"number": 0}).poll(ended=ended))


def test_what_is_logged_comes_back(folder, monkeypatch):
    log(step=3, loss=0.5, epoch=1)
    log({"val/acc": 0.25}, step=4)
    log({"step": 5, "epoch": 2, "loss": 1})
    monkeypatch.setenv("GPUDEPLOY_ATTEMPT", "2")
    log(loss=True)
    points = read(folder)
    assert [(point.name, point.value, point.step, point.epoch, point.attempt, point.line) for point in points] == [
        ("loss", 0.5, 3.0, 1.0, 1, 1),
        ("val/acc", 0.25, 4.0, None, 1, 2),
        ("loss", 1.0, 5.0, 2.0, 1, 3),
        ("loss", 1.0, None, None, 2, 4),
    ]
    assert all(point.source == "log" and point.time > 1e9 for point in points)


def test_scalars_of_numpy_are_numbers(folder):
    log(a=np.float32(0.5), b=np.int64(3), c=np.array(2.5), step=np.int32(7), none=None)
    assert {point.name: (point.value, point.step) for point in read(folder)} == {
        "a": (0.5, 7),
        "b": (3, 7),
        "c": (2.5, 7),
    }


@pytest.mark.fault(54)
def test_nan_and_infinity_survive(folder):
    log(a=math.nan, b=math.inf, c=-math.inf)
    a, b, c = (point.value for point in read(folder))
    assert math.isnan(a)
    assert (b, c) == (math.inf, -math.inf)


@pytest.mark.parametrize("value", ["high", [1, 2], {"a": 1}, object()])
def test_a_value_that_is_no_number_is_refused_by_name(folder, value):
    with pytest.raises((TypeError, ValueError), match=r"log\(\): loss is no number"):
        log(loss=value)
    assert read(folder) == []


def test_outside_a_run_the_report_is_printed(monkeypatch, capsys):
    monkeypatch.delenv("GPUDEPLOY_METRICS", raising=False)
    log(step=3, loss=0.12, acc=np.float64(1) / 3)
    log(epoch=2, lr=1e-5)
    assert capsys.readouterr().out == "step=3 loss=0.12 acc=0.333333333333\nepoch=2 lr=1e-05\n"


def test_inside_a_run_nothing_is_printed(folder, capsys):
    log(loss=1)
    assert capsys.readouterr() == ("", "")


@pytest.mark.fault(2)
def test_half_a_line_of_a_killed_program_is_passed_over_and_nothing_is_glued_to_it(folder):
    log(loss=1)
    log(loss=2)
    file = folder.metrics_file(0)
    whole = file.read_bytes()
    for cut in range(len(whole)):
        file.write_bytes(whole[:cut])
        log(loss=3)
        whole_before = whole[:cut].count(b"\n") + (whole[cut : cut + 1] == b"\n")
        assert [point.value for point in read(folder)] == [*[1.0, 2.0][:whole_before], 3.0]


@pytest.mark.parametrize(
    "line", [b"\0\0\0", b"[]", b"{}", b'{"metrics": 3}', b'{"metrics": {"a": "x"}}', b"\xff", b"[" * 100_000]
)
def test_lines_that_are_no_record_are_passed_over(folder, line):
    log(loss=1)
    with folder.metrics_file(0).open("ab") as stream:
        stream.write(line + b"\n")
    log(loss=2)
    assert [(point.value, point.line) for point in read(folder)] == [(1.0, 1), (2.0, 3)]


def test_a_last_line_without_its_newline_counts_at_the_end_if_it_is_whole(folder):
    log(loss=1)
    folder.metrics_file(0).write_bytes(folder.metrics_file(0).read_bytes().rstrip())
    reader = EXPORT.reader(folder, {"number": 0})
    assert list(reader.poll(ended=False)) == []
    assert [point.value for point in reader.poll(ended=True)] == [1.0]


def _many(rank):
    for step in range(500):
        log(step=step, rank=rank)


def test_processes_that_log_at_the_same_time_lose_nothing(folder):
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=_many, args=(rank,)) for rank in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    points = read(folder)
    assert sorted((point.value, point.step) for point in points) == [
        (rank, step) for rank in range(3) for step in range(500)
    ]


@pytest.mark.fault(34)
def test_a_place_that_cannot_be_written_costs_the_values_and_not_the_program(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("GPUDEPLOY_METRICS", str(tmp_path / "gone" / "0.jsonl"))
    log(loss=1)
    log(loss=2)
    assert capsys.readouterr().err == "jupyter_gpudeploy.log: not kept: No such file or directory\n"


def test_the_folder_for_files_is_the_tasks_own_inside_a_run(tmp_path, monkeypatch):
    monkeypatch.setenv("GPUDEPLOY_OUTPUT", str(tmp_path / "out" / "3"))
    assert output_dir() == tmp_path / "out" / "3"
    assert output_dir().is_dir()
    monkeypatch.delenv("GPUDEPLOY_OUTPUT")
    monkeypatch.chdir(tmp_path)
    assert str(output_dir()) == os.fspath(tmp_path)


def test_importing_log_brings_nothing_heavy():
    program = "import sys; from jupyter_gpudeploy import log; print(sorted(sys.modules))"
    modules = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert json.loads(modules.replace("'", '"'))
    for heavy in (
        "pandas",
        "numpy",
        "plotly",
        "pydantic",
        "yaml",
        "IPython",
        "dataclasses",
        "asyncio",
        "jupyter_gpudeploy.events",
    ):
        assert f"'{heavy}'" not in modules
