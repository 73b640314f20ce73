from __future__ import annotations

import json
import math
import threading

import pytest

from jupyter_gpudeploy.collect import Collector
from jupyter_gpudeploy.events.status import Status
from jupyter_gpudeploy.events.store import RunFolder
from jupyter_gpudeploy.events.types import State, StateChange
from jupyter_gpudeploy.trackers import log


@pytest.fixture
def folder(tmp_path):
    folder = RunFolder(tmp_path)
    for name in ("logs", "metrics", "out/0"):
        (tmp_path / name).mkdir(parents=True)
    tasks = [{"number": number, "metric_files": [[{"slot": "output"}, "/m.csv"]]} for number in range(3)]
    folder.record_file.write_text(json.dumps({"tasks": tasks}))
    return folder


def status_of(states, attempt=1):
    return Status.of(range(3), [StateChange(1.0, state, task, attempt=attempt) for task, state in states.items()])


RUNNING = status_of({0: State.RUNNING, 1: State.RUNNING})
DONE = status_of({0: State.SUCCEEDED, 1: State.FAILED})


def told(points):
    return [(point.task, point.name, point.value, point.source) for point in points]


def logged(folder, task, monkeypatch, attempt=1, **metrics):
    monkeypatch.setenv("GPUDEPLOY_METRICS", str(folder.metrics_file(task)))
    monkeypatch.setenv("GPUDEPLOY_ATTEMPT", str(attempt))
    log.log(**metrics)


def test_a_value_that_is_printed_logged_and_written_counts_once(folder, monkeypatch):
    logged(folder, 0, monkeypatch, step=1, loss=0.5)
    (folder.output(0) / "m.csv").write_text("loss,acc\n0.51,0.9\n")
    folder.log_file(0).write_text("loss=0.52 acc=0.91 lr=0.1\n")
    folder.log_file(1).write_text("loss=0.7\n")
    collector = Collector(folder)
    collector.poll(RUNNING)
    assert told(collector.points()) == [
        (0, "loss", 0.5, "log"),
        (0, "acc", 0.9, "file"),
        (0, "lr", 0.1, "stdout"),
        (1, "loss", 0.7, "stdout"),
    ]
    assert told(collector.points(1)) == [(1, "loss", 0.7, "stdout")]
    assert collector.points(2) == []
    latest = collector.latest()
    assert {task: {name: point.value for name, point in found.items()} for task, found in latest.items()} == {
        0: {"loss": 0.5, "acc": 0.9, "lr": 0.1},
        1: {"loss": 0.7},
    }
    assert latest[0]["loss"].step == 1.0
    assert collector.names() == ["loss", "acc", "lr"]


def test_a_source_that_comes_late_takes_its_place(folder, monkeypatch):
    folder.log_file(0).write_text("loss=1\n")
    collector = Collector(folder)
    collector.poll(RUNNING)
    assert told(collector.points()) == [(0, "loss", 1.0, "stdout")]
    logged(folder, 0, monkeypatch, loss=2)
    collector.poll(RUNNING)
    assert told(collector.points()) == [(0, "loss", 2.0, "log")]
    assert collector.best("loss", "minimize") == {0: 2.0}


def test_which_source_counts_is_decided_in_each_attempt(folder, monkeypatch):
    folder.log_file(0, 1).write_text("loss=5\n")
    folder.log_file(0, 2).write_text("loss=4\nacc=1\n")
    logged(folder, 0, monkeypatch, attempt=2, loss=3)
    collector = Collector(folder)
    collector.poll(status_of({0: State.RUNNING}, attempt=2))
    assert sorted((point.attempt, point.name, point.value, point.source) for point in collector.points()) == [
        (1, "loss", 5.0, "stdout"),
        (2, "acc", 1.0, "stdout"),
        (2, "loss", 3.0, "log"),
    ]
    assert {name: point.value for name, point in collector.latest()[0].items()} == {"loss": 3.0, "acc": 1.0}


def test_the_last_attempt_wins(folder):
    folder.log_file(0, 1).write_text("loss=0.1 val=1\n")
    collector = Collector(folder)
    collector.poll(RUNNING)
    folder.log_file(0, 2).write_text("")
    collector.poll(RUNNING)
    assert collector.latest()[0]["loss"].attempt == 1, "until the second one reports"
    folder.log_file(0, 2).write_text("loss=0.9\n")
    collector.poll(RUNNING)
    assert {name: point.value for name, point in collector.latest()[0].items()} == {"loss": 0.9}
    assert collector.best("loss", "minimize") == {0: 0.9}
    assert len(collector.points()) == 3


@pytest.mark.fault(54)
def test_nan_and_infinity_are_kept_and_never_best(folder):
    folder.log_file(0).write_text("loss=nan\nloss=-inf\nloss=0.5\nloss=0.4\nloss=0.45\nloss=inf\nloss=nan\n")
    folder.log_file(1).write_text("loss=nan\n")
    collector = Collector(folder)
    collector.poll(RUNNING)
    assert len(collector.points(0)) == 7
    assert math.isnan(collector.latest()[0]["loss"].value)
    assert collector.best("loss", "minimize") == {0: 0.4}
    assert collector.best("loss", "maximize") == {0: 0.5}
    assert collector.best_task("loss", "minimize") == 0
    assert collector.best_task("acc", "minimize") is None


@pytest.mark.parametrize("goal", ["minimize", "maximize"])
def test_of_equals_the_lower_number_is_best(folder, goal):
    for task in (0, 1):
        folder.log_file(task).write_text("loss=0.5\n")
    collector = Collector(folder)
    collector.poll(RUNNING)
    assert collector.best_task("loss", goal) == 0


@pytest.mark.fault(19)
def test_what_has_ended_is_read_to_its_last_half_line_and_then_left_alone(folder):
    folder.log_file(0).write_text("loss=1\nloss=0.5")
    collector = Collector(folder)
    collector.poll(RUNNING)
    assert len(collector.points()) == 1
    collector.poll(DONE)
    assert [point.value for point in collector.points()] == [1.0, 0.5]
    with folder.log_file(0).open("a") as stream:
        stream.write("\nloss=0.25\n")
    collector.poll(DONE)
    assert len(collector.points()) == 2, "nobody looked"


def test_a_further_attempt_opens_what_had_ended(folder):
    folder.log_file(0).write_text("loss=1\n")
    collector = Collector(folder)
    collector.poll(DONE)
    folder.log_file(0, 2).write_text("loss=2\n")
    collector.poll(status_of({0: State.RUNNING}, attempt=2))
    assert [(point.value, point.attempt) for point in collector.points()] == [(1.0, 1), (2.0, 2)]


def test_a_task_that_waits_is_not_looked_at_and_one_that_nobody_planned_is(folder):
    folder.log_file(2).write_text("loss=1\n")
    folder.log_file(7).write_text("loss=7\n")
    collector = Collector(folder)
    collector.poll(Status.of(range(3), [StateChange(1.0, State.RUNNING, 7)]))
    assert told(collector.points()) == [(7, "loss", 7.0, "stdout")]


def test_without_a_record_what_was_printed_is_still_found(tmp_path):
    (tmp_path / "logs").mkdir()
    folder = RunFolder(tmp_path)
    folder.log_file(0).write_text("loss=1\n")
    collector = Collector(folder)
    collector.poll(RUNNING)
    assert len(collector.points()) == 1


def test_a_file_that_is_rewritten_replaces_its_points(folder):
    file = folder.output(0) / "m.csv"
    file.write_text("loss\n9\n8\n")
    collector = Collector(folder)
    collector.poll(RUNNING)
    assert collector.best("loss", "minimize") == {0: 8.0}
    file.write_text("loss\n3\n")
    collector.poll(RUNNING)
    assert [point.value for point in collector.points()] == [3.0]
    assert collector.best("loss", "maximize") == {0: 3.0}


def test_a_new_collector_reads_the_same(folder, monkeypatch):
    collector = Collector(folder)
    for step in range(20):
        logged(folder, 0, monkeypatch, step=step, loss=1 / (step + 1))
        with folder.log_file(1).open("a") as stream:
            stream.write(f"step={step} acc=0.{step}\n")
        if step % 3 == 0:
            collector.poll(RUNNING)
    collector.poll(DONE)
    fresh = Collector(folder)
    fresh.poll(DONE)
    assert fresh.points() == collector.points()
    assert len(fresh.points()) == 40
    assert fresh.latest() == collector.latest()


def test_columns_hold_what_the_points_say(folder):
    folder.log_file(0).write_text("step=1 epoch=2 loss=0.5\nloss=nan\n")
    collector = Collector(folder)
    collector.poll(RUNNING)
    columns = collector.columns()
    assert len(columns) == 2
    assert (columns.names, list(columns.metric), list(columns.line), list(columns.attempt)) == (
        ["loss"],
        [0, 0],
        [1, 2],
        [1, 1],
    )
    assert columns.step[0] == 1.0
    assert math.isnan(columns.step[1])
    assert collector.points()[1].step is None


def test_threads_that_poll_at_the_same_time_count_nothing_twice(folder):
    folder.log_file(0).write_text("".join(f"step={step} loss={step}\n" for step in range(3000)))
    collector = Collector(folder)
    threads = [
        threading.Thread(target=lambda: [collector.poll(RUNNING), collector.latest(), collector.points()])
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [point.value for point in collector.points()] == list(map(float, range(3000)))


def ended(state, task=0):
    return [StateChange(1.0, State.RUNNING, task), StateChange(2.0, state, task)]


def test_a_metric_file_that_never_came_is_told_once_when_the_task_has_succeeded(folder):
    collector = Collector(folder)
    collector.poll(RUNNING)
    assert collector.problems() == []
    collector.poll(Status.of(range(3), ended(State.FAILED)))
    assert collector.problems() == [], "that it has failed is said already"
    collector = Collector(folder)
    for _ in range(2):
        collector.poll(Status.of(range(3), [*ended(State.SUCCEEDED, 0), *ended(State.SUCCEEDED, 1)]))
    file = folder.output(0) / "m.csv"
    assert collector.problems() == [f"metric_files: {file}: it was never written (and 1 more like it)"]


def test_a_metric_file_that_is_damaged_is_told_with_its_line_also_where_it_was_read_before(folder):
    (folder.output(0) / "m.csv").write_text("epoch,phase\nx,train\n")
    folder.log_file(0).write_text("loss=1\n" * 20_000)
    said = [f"metric_files: {folder.output(0) / 'm.csv'}: line 2 has no number below the names of the columns"]
    for _ in range(2):
        collector = Collector(folder)
        collector.poll(Status.of(range(3), ended(State.FAILED)))
        assert collector.problems() == said
    assert folder.cache_file(0).exists()


def test_a_task_that_never_started_has_no_missing_file(folder):
    collector = Collector(folder)
    collector.poll(Status.of(range(3), [StateChange(1.0, State.STOPPED, 0)]))
    assert collector.problems() == []


def test_a_task_that_was_stopped_before_it_began_and_resumed_is_read(folder):
    collector = Collector(folder)
    stopped = [StateChange(1.0, State.STOPPED, 0)]
    collector.poll(Status.of(range(3), stopped))
    folder.log_file(0).write_text("loss=1.5\n")
    collector.poll(Status.of(range(3), [*stopped, *ended(State.SUCCEEDED)]))
    assert told(collector.points()) == [(0, "loss", 1.5, "stdout")]
