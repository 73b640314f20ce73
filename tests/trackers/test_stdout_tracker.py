from __future__ import annotations

import json
import math
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jupyter_gpudeploy.events.store import RunFolder
from jupyter_gpudeploy.trackers.stdout import EXPORT, is_candidate, parse_line

SAMPLES = [
    json.loads(line)
    for line in (Path(__file__).parents[1] / "data" / "metric_lines.jsonl").read_text("utf-8").splitlines()
]


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "logs").mkdir()
    return RunFolder(tmp_path)


@pytest.mark.parametrize("sample", [sample for sample in SAMPLES if sample["expect"]], ids=lambda sample: sample["id"])
def test_a_line_with_metrics_is_read(sample):
    found = parse_line(sample["line"])
    assert found is not None
    assert found.metrics == pytest.approx(
        {name: float(value) for name, value in sample["expect"].items()}, nan_ok=True, rel=1e-12
    )
    assert (found.step, found.epoch) == (sample.get("step"), sample.get("epoch"))
    assert is_candidate(sample["line"].encode()), "the cheap look must not miss it"


@pytest.mark.parametrize(
    "sample", [sample for sample in SAMPLES if not sample["expect"]], ids=lambda sample: sample["id"]
)
def test_a_line_without_metrics_gives_none(sample):
    assert parse_line(sample["line"]) is None


def test_a_dash_behind_epoch_and_step_is_no_part_of_a_name():
    found = parse_line("Epoch 3/100 step 37 - loss: 0.5 - acc: 0.25")
    assert found == ({"loss": 0.5, "acc": 0.25}, 37.0, 3.0, None)


@pytest.mark.parametrize(
    "front", ["", "2025-01-02 03:04:05,678 - root - INFO - ", "INFO:root:", "[rank0]: ", "[03:04:05] ", "E: "]
)
@pytest.mark.parametrize(
    "line", ["URL http://h/x?lr=0.5", "listening on 10.0.0.1:8000", "took 3 steps", "version: 1.2", "eta: 10.5 s"]
)
def test_no_prefix_turns_prose_into_a_metric(front, line):
    assert parse_line(front + line) is None


@pytest.mark.fault(54)
@given(
    st.dictionaries(st.sampled_from(["loss", "val_acc", "lr", "m/x"]), st.floats(), min_size=1), st.integers(0, 10**6)
)
def test_every_float_survives_each_form(metrics, step):
    forms = [
        f"step={step} " + " ".join(f"{name}={value}" for name, value in metrics.items()),
        f"step: {step}, " + ", ".join(f"{name}: {value}" for name, value in metrics.items()),
        str({"step": step, **metrics}),
        str({"step": step, **{name: str(value) for name, value in metrics.items()}}),
        json.dumps({"step": step, **metrics}),
    ]
    for form in forms:
        found = parse_line(form)
        assert found is not None, form
        assert found.step == step
        assert found.metrics == pytest.approx(metrics, nan_ok=True, rel=0, abs=0), form


@given(st.text(max_size=200))
def test_any_text_is_parsed_without_an_error(line):
    found = parse_line(line)
    assert found is None or found.metrics


@given(st.text(alphabet="ab 01.:=,{}()[]'\"-/%|\t\\né\x1b\r\b", max_size=300))
def test_any_mixture_of_separators_is_parsed_without_an_error(line):
    found = parse_line(line)
    assert found is None or all(isinstance(value, float) for value in found.metrics.values())


HOSTILE = [
    "=", ":", "{", "(", "'", '"', "\\'", '{"a":', "a:1 ", "=1", "1,111", "np.float64(", "a(=", "(=", "a://", "epoch ", "epoch 1 /",
    "step ", "INFO ", "[a] ", "\x1b[", "\x1b]8;;", "\b", "a\b", "\r", " ", "a", "a-", ".", "a=(1) ", "a: 1 b ", "loss=1 ", "loss: ",
    "tensor(1,", "- ", "|", "[[", "a.b:", "2025-01-01 ", "=nan", "a\t",
]  # fmt: skip


@pytest.mark.fault(82)
@pytest.mark.parametrize("piece", HOSTILE)
def test_no_line_of_64_kib_holds_up_the_reader(piece):
    for size in (1 << 14, 1 << 16):
        for front, back in (("", ""), ("{", "}"), ("x=", "!"), ("loss: ", ":")):
            line = front + piece * ((size - 8) // len(piece)) + back
            start = time.thread_time()
            is_candidate(line.encode("utf-8", "replace"))
            parse_line(line)
            assert time.thread_time() - start < 2.0


def test_points_say_where_they_come_from(folder):
    folder.log_file(3).write_text("hello\nstep=1 loss=0.5\n\nstep=2 loss=0.25\n")
    points = EXPORT.reader(folder, {"number": 3}).poll(ended=False)
    assert [
        (point.task, point.name, point.value, point.step, point.line, point.attempt, point.source) for point in points
    ] == [
        (3, "loss", 0.5, 1.0, 2, 1, "stdout"),
        (3, "loss", 0.25, 2.0, 4, 1, "stdout"),
    ]


@pytest.mark.fault(19)
def test_only_what_is_new_is_read_and_the_last_line_counts_at_the_end(folder):
    file = folder.log_file(0)
    reader = EXPORT.reader(folder, {"number": 0})
    assert list(reader.poll(ended=False)) == []
    file.write_text("loss=1\nloss=0.")
    assert [point.value for point in reader.poll(ended=False)] == [1.0]
    assert list(reader.poll(ended=False)) == []
    with file.open("a") as stream:
        stream.write("5\rloss=0.25")
    assert list(reader.poll(ended=False)) == []
    assert [(point.value, point.line) for point in reader.poll(ended=True)] == [(0.25, 2)]
    assert list(reader.poll(ended=True)) == []


def test_each_attempt_has_its_own_log_and_lines(folder):
    folder.log_file(0, 1).write_text("loss=3\nloss=2")
    reader = EXPORT.reader(folder, {"number": 0})
    assert [(point.value, point.attempt) for point in reader.poll(ended=False)] == [(3.0, 1)]
    folder.log_file(0, 2).write_text("")
    assert [(point.value, point.attempt, point.line) for point in reader.poll(ended=False)] == [(2.0, 1, 2)]
    folder.log_file(0, 2).write_text("loss=9\n")
    assert [(point.value, point.attempt, point.line) for point in reader.poll(ended=False)] == [(9.0, 2, 1)]


def test_nan_is_a_value(folder):
    folder.log_file(0).write_text("loss=nan\nloss=-inf\n")
    values = [point.value for point in EXPORT.reader(folder, {"number": 0}).poll(ended=True)]
    assert math.isnan(values[0])
    assert values[1] == -math.inf
