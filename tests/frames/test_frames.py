from __future__ import annotations

import json
import math

import pandas as pd
import pytest

from jupyter_gpudeploy import frames
from jupyter_gpudeploy.collect import Collector
from jupyter_gpudeploy.errors import GpuDeployError
from jupyter_gpudeploy.events.status import Status
from jupyter_gpudeploy.events.store import RunFolder
from jupyter_gpudeploy.events.types import State, StateChange


class Sweep:
    """A run as it lies on the disk: `printed` is what each task printed."""

    def __init__(self, path, parameters, printed, metric=None, events=None):
        (path / "logs").mkdir(parents=True)
        self.folder = RunFolder(path)
        self.record = {
            "name": path.name,
            "metric": metric,
            "tasks": [
                {"number": number, "name": f"trial-{number}", "parameters": given}
                for number, given in enumerate(parameters)
            ],
        }
        self.folder.record_file.write_text(json.dumps(self.record))
        for number, text in enumerate(printed):
            self.folder.log_file(number).write_text(text)
        if events is None:
            events = []
            for number in range(len(parameters)):
                events.append(StateChange(10.0, State.RUNNING, number))
                events.append(StateChange(12.5, State.SUCCEEDED, number, exit_code=0))
        self.status = Status.of(range(len(parameters)), events)
        self.collector = Collector(self.folder)
        self.collector.poll(self.status)

    @property
    def part(self):
        return self.record, self.status, self.collector

    def trials(self, **options):
        return frames.trials(*self.part, **options)


LOSS = {"name": "loss", "goal": "minimize"}


def test_metrics_are_long_with_sane_types(tmp_path):
    sweep = Sweep(tmp_path / "a", [{"lr": 0.1}, {"lr": 0.2}], ["step=1 loss=0.5\nloss=nan\n", "epoch=2 acc=inf\n"])
    frame = frames.metrics(sweep.record, sweep.collector)
    assert list(frame) == ["trial", "name", "metric", "step", "epoch", "value", "time", "attempt", "source"]
    assert frame["trial"].tolist() == [0, 0, 1]
    assert frame["name"].tolist() == ["trial-0", "trial-0", "trial-1"]
    assert frame["metric"].tolist() == ["loss", "loss", "acc"]
    assert frame["source"].tolist() == ["stdout"] * 3
    assert math.isnan(frame["value"][1])
    assert frame["value"][2] == math.inf
    assert [frame[name].dtype.kind for name in ("trial", "attempt", "step", "epoch", "value")] == list("iifff")
    assert isinstance(frame["time"].dtype, pd.DatetimeTZDtype)


def test_no_metrics_are_an_empty_frame_of_the_same_types(tmp_path):
    empty = frames.metrics(*Sweep(tmp_path / "a", [{}], [""]).part[::2])
    full = frames.metrics(*Sweep(tmp_path / "b", [{}], ["loss=1\n"]).part[::2])
    assert len(empty) == 0
    assert empty.dtypes.to_dict() == full.dtypes.to_dict()


def test_a_trial_is_a_row(tmp_path):
    sweep = Sweep(
        tmp_path / "a",
        [{"lr": 0.1, "depth": 2, "kind": "a", "fast": True}, {"lr": 0.2, "depth": 3, "kind": "b", "fast": False}],
        ["loss=0.5\nloss=0.25\nloss=0.75\n", ""],
        LOSS,
    )
    frame = sweep.trials()
    assert frame.index.tolist() == [0, 1]
    assert frame.index.name == "trial"
    assert list(frame) == [
        "lr",
        "depth",
        "kind",
        "fast",
        "loss",
        "best_loss",
        "state",
        "seconds",
        "exit_code",
        "attempt",
        "reason",
    ]
    assert frame.loc[0].to_dict() == {
        "lr": 0.1, "depth": 2, "kind": "a", "fast": True, "loss": 0.75, "best_loss": 0.25,
        "state": "succeeded", "seconds": 2.5, "exit_code": 0, "attempt": 1, "reason": "",
    }  # fmt: skip
    assert math.isnan(frame["loss"][1])
    assert math.isnan(frame["best_loss"][1])
    assert [frame[name].dtype.kind for name in ("lr", "depth", "fast", "loss", "seconds", "attempt")] == list("fibffi")
    assert str(frame["exit_code"].dtype) == "Int64"


def test_what_has_not_ended_has_no_exit_code_and_its_seconds_so_far(tmp_path):
    events = [
        StateChange(10.0, State.RUNNING, 0),
        StateChange(11.0, State.FAILED, 1, reason="no memory", exit_code=137),
    ]
    frame = Sweep(tmp_path / "a", [{}, {}, {}], [""], events=events).trials(now=14.0)
    assert frame["state"].tolist() == ["running", "failed", "waiting"]
    assert frame["seconds"][0] == 4.0
    assert frame["seconds"].isna().tolist() == [False, True, True]
    assert frame["exit_code"].tolist() == [pd.NA, 137, pd.NA]
    assert frame["reason"].tolist() == ["", "no memory", ""]


def test_names_that_meet_are_told_apart(tmp_path):
    parameters = [{"lr": 0.1, "state": "x", "trial": 1, "loss": 2, "best_loss": 3}]
    printed = ["lr=0.5 seconds=9 loss=1\n"]
    frame = Sweep(tmp_path / "a", parameters, printed, LOSS).trials()
    assert frame.loc[0].to_dict() == {
        "lr": 0.1, "state (parameter)": "x", "trial (parameter)": 1, "loss": 2, "best_loss": 3,
        "lr (metric)": 0.5, "seconds (metric)": 9.0, "loss (metric)": 1.0, "best_loss (metric)": 1.0,
        "state": "succeeded", "seconds": 2.5, "exit_code": 0, "attempt": 1, "reason": "",
    }  # fmt: skip
    assert frame.columns.is_unique
    frame.reset_index()


@pytest.mark.fault(54)
@pytest.mark.parametrize("goal", ["minimize", "maximize"])
@pytest.mark.parametrize("bad", ["nan", "inf", "-inf"])
def test_nan_and_infinity_never_win(tmp_path, bad, goal):
    sweep = Sweep(
        tmp_path / "a",
        [{"lr": 1}, {"lr": 2}, {"lr": 3}],
        [f"m={bad}\n", "m=0.5\n", f"m=0.5\nm={bad}\n"],
        {"name": "m", "goal": goal},
    )
    found = frames.best(*sweep.part)
    assert found == {
        "trial": 1, "name": "trial-1", "parameters": {"lr": 2}, "metric": "m", "goal": goal, "value": 0.5, "state": "succeeded",
    }  # fmt: skip
    best = sweep.trials()["best_m"]
    assert math.isnan(best[0])
    assert best[1:].tolist() == [0.5, 0.5]
    assert not math.isfinite(sweep.trials()["m"][2]), "the last value is told as it was"


@pytest.mark.fault(53)
def test_a_metric_that_was_never_reported_is_named_with_those_that_were(tmp_path):
    sweep = Sweep(tmp_path / "a", [{}], ["loss=1 acc=2\n"], {"name": "val_acc", "goal": "maximize"})
    with pytest.raises(GpuDeployError) as caught:
        frames.best(*sweep.part)
    assert str(caught.value) == "metric 'val_acc' was never printed; seen: loss, acc"
    assert frames.best(*sweep.part, metric="acc")["value"] == 2.0


@pytest.mark.fault(53)
def test_no_metric_at_all_and_none_asked_for_are_told(tmp_path):
    with pytest.raises(GpuDeployError, match="no metric was seen at all"):
        frames.best(*Sweep(tmp_path / "a", [{}], [""], LOSS).part)
    with pytest.raises(GpuDeployError, match="which metric"):
        frames.best(*Sweep(tmp_path / "b", [{}], ["loss=1 acc=2\n"]).part)


def test_the_only_metric_need_not_be_named_and_its_name_says_which_end_is_better(tmp_path):
    best = frames.best(*Sweep(tmp_path / "a", [{"lr": 1}, {"lr": 2}], ["val_acc=0.5\n", "val_acc=0.9\n"]).part)
    assert (best["trial"], best["metric"], best["goal"], best["value"]) == (1, "val_acc", "maximize", 0.9)
    best = frames.best(*Sweep(tmp_path / "b", [{"lr": 1}, {"lr": 2}], ["loss=0.5\n", "loss=0.9\n"]).part)
    assert (best["trial"], best["goal"]) == (0, "minimize")


@pytest.mark.fault(54)
def test_a_metric_that_was_never_finite_has_no_best(tmp_path):
    with pytest.raises(GpuDeployError, match="never finite"):
        frames.best(*Sweep(tmp_path / "a", [{}], ["loss=nan\n"], LOSS).part)


def test_runs_stand_below_each_other(tmp_path):
    first = Sweep(tmp_path / "first", [{"lr": 0.1}], ["loss=1\n"], LOSS)
    second = Sweep(tmp_path / "second", [{"depth": 2}, {"depth": 3}], ["acc=1\n"])
    frame = frames.compare([first.part, second.part])
    assert list(frame) == [
        "run",
        "lr",
        "loss",
        "best_loss",
        "depth",
        "acc",
        "state",
        "seconds",
        "exit_code",
        "attempt",
        "reason",
    ]
    assert frame["run"].tolist() == ["first", "second", "second"]
    assert frame.index.tolist() == [0, 0, 1]
    assert str(frame["exit_code"].dtype) == "Int64"
    with pytest.raises(GpuDeployError):
        frames.compare([])


def test_the_last_attempt_is_the_row_and_the_history_has_all(tmp_path):
    events = [
        StateChange(1.0, State.RUNNING, 0),
        StateChange(2.0, State.FAILED, 0),
        StateChange(3.0, State.RUNNING, 0, attempt=2),
    ]
    sweep = Sweep(tmp_path / "a", [{}], ["loss=0.1\n"], LOSS, events)
    sweep.folder.log_file(0, 2).write_text("loss=0.9\n")
    sweep.collector.poll(sweep.status)
    assert sweep.trials().loc[0, ["loss", "best_loss", "attempt"]].tolist() == [0.9, 0.9, 2]
    assert frames.metrics(sweep.record, sweep.collector)["attempt"].tolist() == [1, 2]


@pytest.mark.fault(56)
def test_logs_are_rows_in_which_nothing_is_hidden(tmp_path):
    sweep = Sweep(tmp_path / "a", [{}, {}], ["one\n\x1b[31mtwo\x1b[0m\u202e\x00\nlast", "x\n"])
    frame = frames.logs(sweep.record, sweep.folder)
    assert frame.to_dict("list") == {
        "trial": [0, 0, 0, 1],
        "name": ["trial-0"] * 3 + ["trial-1"],
        "attempt": [1] * 4,
        "line": [1, 2, 3, 1],
        "text": ["one", "two⟨U+202E⟩␀", "last", "x"],
    }
    assert frames.logs(sweep.record, sweep.folder, task=0, last=1)["text"].tolist() == ["last"]
    assert frames.logs(sweep.record, sweep.folder, task=9).empty


def test_a_name_that_is_markup_is_text_in_a_table(tmp_path):
    sweep = Sweep(tmp_path / "a", [{"<img src=x>": "<script>1</script>"}], ['{"<b>loss</b>": 1}\n'])
    shown = sweep.trials().to_html()
    assert "<script>" not in shown
    assert "<img" not in shown
    assert "&lt;b&gt;loss" in shown
