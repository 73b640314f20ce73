"""Curves in memory: bounded, with their extremes."""

from __future__ import annotations

import math
from array import array

import pytest

from jupyter_gpudeploy.collect import Collector
from jupyter_gpudeploy.events.status import Status
from jupyter_gpudeploy.events.types import GpuSample, MetricPoint, ProcessSample, State, StateChange
from jupyter_gpudeploy.notebook.card.curves import Curves
from jupyter_gpudeploy.notebook.card.protocol import Points, encode
from jupyter_gpudeploy.notebook.card.series import RING, Series, shares, thinned
from jupyter_gpudeploy.trackers import log


def points(values, start=0.0):
    count = len(values)
    return Points(array("d", [start + n for n in range(count)]), array("d", [math.nan] * count), array("f", values))


def test_a_series_never_holds_more_than_its_ring_and_keeps_the_newest_as_they_came():
    series = Series(1, "cpu", "x", task=0)
    for n in range(20_000):
        series.add(float(n), n % 100)
    assert len(series) <= RING
    assert series.total == 20_000
    assert list(series.since(19_000, 5000).time) == [float(n) for n in range(19_000, 20_000)]
    kept = series.since(0, RING)
    assert list(kept.time) == sorted(kept.time)
    assert (min(kept.value), max(kept.value)) == (0, 99)


def test_one_spike_of_long_ago_stays_visible():
    series = Series(1, "cpu", "x", task=0)
    for n in range(50_000):
        series.add(float(n), 1000.0 if n == 777 else 1.0)
    assert max(series.since(0, RING).value) == 1000.0
    assert max(series.since(0, 50).value) == 1000.0


@pytest.mark.fault(54)
def test_thinning_keeps_gaps_that_are_long_and_no_nan_wins():
    found = thinned(points([1.0] * 100 + [math.nan] * 100 + [5.0] * 100), 30)
    assert len(found.value) <= 30
    assert any(map(math.isnan, found.value))
    assert max(value for value in found.value if not math.isnan(value)) == 5.0


def test_a_million_points_at_once_are_bounded():
    series = Series(1, "metric:loss", "x", task=0)
    series.extend(points([float(n % 7) for n in range(1_000_000)]))
    assert len(series) <= RING
    assert series.total == 1_000_000


def test_short_series_leave_their_share_to_the_long_ones():
    assert shares([10, 1000, 1000], 1010) == [10, 500, 500]
    assert shares([5, 5], 100) == [5, 5]
    assert sum(shares([700] * 300, 9000)) <= 9000


def test_the_buffers_are_little_endian_and_one_series_after_the_other():
    time, step, value = encode([points([1.0, 2.0]), points([3.0], start=9.0)])
    assert array("d", time).tolist() == [0.0, 1.0, 9.0]
    assert array("f", value).tolist() == [1.0, 2.0, 3.0]
    assert len(step) == 24


def test_what_was_measured_becomes_curves_with_gaps_and_what_was_never_known_says_so():
    curves = Curves({0: "lr=0.1"})
    for n in range(6):
        curves.measure([
            GpuSample(float(n), "0", 0, None, 1 << 30, 2 << 30, 200.0, 60.0),
            ProcessSample(float(n), 0, None if n == 2 else 150.0, 1 << 20, 3),
            MetricPoint(0, "ttft_seconds", 0.03, time=float(n), source="server"),
        ])  # fmt: skip
    charts = {series.chart: series for series in curves.series.values()}
    assert set(charts) == {
        "gpu.utilization",
        "gpu.memory",
        "gpu.power",
        "gpu.temperature",
        "cpu",
        "memory",
        "metric:ttft_seconds",
    }
    assert charts["gpu.utilization"].na == "N/A"
    assert charts["cpu"].na == ""
    assert charts["cpu"].message()["label"] == "lr=0.1"
    cpu = charts["cpu"].since(0, 100).value
    assert math.isnan(cpu[2])
    assert cpu[3] == 150.0
    assert curves.has_gpu


def test_a_source_that_was_silent_for_a_while_leaves_a_gap():
    curves = Curves()
    curves.measure([ProcessSample(1.0, 0, 5.0), ProcessSample(2.0, 0, 5.0), ProcessSample(100.0, 0, 5.0)])
    cpu = next(series for series in curves.series.values() if series.chart == "cpu")
    assert [math.isnan(value) for value in cpu.since(0, 9).value] == [False, False, True, False]


class Task:
    """One task whose metrics are printed, collected into curves."""

    def __init__(self, run):
        self.run, self.curves, self.collector = run, Curves(), Collector(run.files)
        self.status = Status.of([0], [StateChange(1.0, State.RUNNING, 0)])

    def look(self):
        self.collector.poll(self.status)
        self.curves.collect(self.collector, lambda _task, _attempt, line: 100.0 + line, 500.0)
        return {series.chart: series for series in self.curves.series.values()}


def test_printed_metrics_come_with_the_time_of_their_line_and_only_once(run):
    task = Task(run)
    run.print("step=1 loss=0.5\nnothing\nstep=2 loss=0.25\n")
    found = task.look()["metric:loss"]
    assert [list(part) for part in found.since(0, 9)] == [[101.0, 103.0], [1.0, 2.0], [0.5, 0.25]]
    run.print("step=3 loss=0.125\n")
    assert task.look()["metric:loss"].total == 3
    assert task.curves.generation == 0


@pytest.mark.fault(54)
def test_nan_and_infinity_are_gaps_and_the_first_is_told(run):
    task = Task(run)
    run.print("step=1 loss=0.5\nstep=2 loss=nan\nstep=3 loss=inf\n")
    values = task.look()["metric:loss"].since(0, 9).value
    assert [math.isnan(value) for value in values] == [False, True, True]
    assert [text for _, _, text in task.curves.odd] == ["loss is NaN at step 2"]


def test_a_further_attempt_takes_the_place_of_the_curve_before(run):
    task = Task(run)
    run.print("step=1 loss=0.5\nstep=2 loss=0.25\n")
    task.look()
    run.print("step=1 loss=0.7\n", attempt=2)
    task.status.feed([StateChange(2.0, State.RUNNING, 0, attempt=2)])
    found = task.look()["metric:loss"]
    assert list(found.since(0, 9).value) == pytest.approx([0.7])
    assert "attempt 2" in found.label
    assert task.curves.generation == 1


def test_a_metric_that_a_better_source_tells_is_drawn_anew(run, monkeypatch):
    task = Task(run)
    run.print("step=1 loss=0.5\nstep=2 loss=0.25\n")
    task.look()
    monkeypatch.setenv("GPUDEPLOY_METRICS", str(run.files.metrics_file(0)))
    log.log(step=1, loss=0.51)
    assert list(task.look()["metric:loss"].since(0, 9).value) == pytest.approx([0.51])
    assert task.curves.generation == 1


def test_steps_that_begin_again_are_drawn_over_time(run):
    task = Task(run)
    run.print("".join(f"step={step} loss=0.5\n" for step in (1, 2, 3, 1, 2, 3)))
    assert task.look()["metric:loss"].x == "time"
