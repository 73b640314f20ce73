"""What was measured of a run, as a table, a picture, and a line of `top`."""

from __future__ import annotations

import time

import pandas as pd
import pytest

from jupyter_gpudeploy import attach, frames, launch, top, using
from jupyter_gpudeploy.backends.local import processes
from jupyter_gpudeploy.errors import SpecError
from jupyter_gpudeploy.events.samples import SampleWriter
from jupyter_gpudeploy.events.store import RunFolder
from jupyter_gpudeploy.events.types import GpuSample, MetricPoint, ProcessSample, State
from jupyter_gpudeploy.figures import gpu as gpu_figure
from jupyter_gpudeploy.notebook.reprs import top_bundle
from jupyter_gpudeploy.spec.settings import read_settings

GIB = 1 << 30
RECORD = {"tasks": [{"number": 0, "name": "lr=0.1"}, {"number": 1, "name": "<b>lr=1</b>"}]}
WAITS = "import time\ntime.sleep(600)\n"


@pytest.fixture
def folder(tmp_path):
    return RunFolder(tmp_path)


def write(folder, *looks):
    writer = SampleWriter(folder.samples_file)
    for look in looks:
        writer.write(look)
    writer.close()


def test_cpu_and_memory_of_a_task_stand_beside_each_of_its_gpus(folder):
    write(
        folder,
        [
            GpuSample(100.25, "0", 0, 97.0, 5 * GIB, 80 * GIB, 300.0, 61.0),
            GpuSample(100.25, "MIG-1", 1, None, 1 * GIB, 10 * GIB),
            GpuSample(100.25, "7"),
            ProcessSample(100.25, 0, 180.0, 2 * GIB, 5),
            ProcessSample(100.25, 3, None, GIB, 1),
        ],
    )
    frame = frames.gpu(RECORD, folder)
    assert frame["task"].tolist() == [0, 1, pd.NA, 3]
    assert frame["gpu"].tolist()[:3] == ["0", "MIG-1", "7"]
    assert frame["name"].tolist() == ["lr=0.1", "<b>lr=1</b>", "", ""]
    assert frame.loc[0, ["utilization", "memory_used", "cpu", "memory"]].tolist() == [97.0, 5 * GIB, 180.0, 2 * GIB]
    assert frame.loc[1, ["utilization", "power", "cpu"]].isna().all()
    assert pd.isna(frame.loc[3, "gpu"])
    assert frame.loc[3, "memory"] == GIB
    assert frame["time"].tolist() == [pd.Timestamp(100.25, unit="s", tz="UTC")] * 4


@pytest.mark.fault(3)
def test_what_is_unknown_is_nan_and_a_measured_nothing_is_zero(folder):
    write(folder, [GpuSample(1.0, "0", 0, 0.0, 0)], [GpuSample(2.0, "0", 0, None, None)])
    frame = frames.gpu(RECORD, folder)
    assert frame["utilization"].tolist()[0] == 0.0
    assert frame["memory_used"].isna().tolist() == [False, True]


def test_where_nothing_was_measured_the_table_is_empty_and_the_picture_says_so(folder):
    frame = frames.gpu(RECORD, folder)
    assert frame.empty
    assert {"time", "task", "gpu", "utilization", "memory_used", "memory_total", "power", "temperature"} < {*frame}
    assert "nothing was measured" in frame.attrs["note"]
    figure = gpu_figure(frame)
    assert not figure.data
    assert "nothing was measured" in figure.layout.annotations[0].text


def test_what_a_server_said_is_a_table_of_its_own(folder):
    write(folder, [MetricPoint(1, "ttft_seconds", 0.5, time=3.0, source="server"), ProcessSample(3.0, 1, 1.0)])
    frame = frames.server(folder)
    assert frame[["replica", "metric", "value"]].to_numpy().tolist() == [[1, "ttft_seconds", 0.5]]
    assert len(frames.gpu(RECORD, folder)) == 1
    assert "metrics page" in frames.server(RunFolder(folder.path / "none")).attrs["note"]


def test_a_figure_has_a_panel_for_each_thing_that_was_known_and_one_colour_a_task(folder):
    for time_ in (1.0, 2.0, 40.0, 41.0):
        write(folder, [
            GpuSample(time_, "0", 0, 50.0, GIB, 2 * GIB), GpuSample(time_, "1", 1, None, GIB, 2 * GIB),
            ProcessSample(time_, 0, 90.0, GIB, 1),
        ])  # fmt: skip
    figure = gpu_figure(frames.gpu(RECORD, folder))
    titles = [figure.layout[name].title.text for name in ("yaxis", "yaxis2", "yaxis3", "yaxis4")]
    assert titles == ["GPU use, % of time", "GPU memory, GiB", "CPU, % of a core", "memory, GiB"]
    use, memory, other, *_ = figure.data
    assert list(use.y) == [50.0, 50.0, None, 50.0, 50.0]  # the half minute without a look is a gap
    assert memory.line.color == use.line.color != other.line.color
    assert list(memory.y)[:2] == [1.0, 1.0]
    assert other.name == "&lt;b&gt;lr=1&lt;/b&gt;"
    assert [trace.showlegend for trace in figure.data] == [True, False, True, False, False]


def test_a_run_without_gpus_shows_cpu_and_memory(folder):
    write(folder, [ProcessSample(1.0, 0, 90.0, GIB, 1)], [ProcessSample(2.0, 0, 95.0, GIB, 1)])
    figure = gpu_figure(frames.gpu(RECORD, folder))
    assert [figure.layout[name].title.text for name in ("yaxis", "yaxis2")] == ["CPU, % of a core", "memory, GiB"]


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("JUPYTER_GPUDEPLOY_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("JUPYTER_GPUDEPLOY_CONFIG", str(tmp_path / "config.yaml"))
    yield tmp_path
    for run in using.launching.runs("local"):
        run.stop(0)
        processes.end_tree(run.uid, grace=0)


def started(home, name):
    (home / "wait.py").write_text(WAITS)
    run = launch({"name": name, "run": "wait.py", "backend": "local"}, base_dir=home)
    deadline = time.monotonic() + 60
    while run.state is not State.RUNNING:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return run


def looks(now, seconds, use, gpu="0"):
    return [[GpuSample(now - at, gpu, 0, use, GIB, 2 * GIB)] for at in range(seconds, -1, -1)]


def test_top_tells_what_each_running_run_uses_and_marks_the_idle_ones(home):
    now = time.time()
    for name, use in (("busy", 80.0), ("idle", 1.0)):
        write(RunFolder(started(home, name).folder), *looks(now, 620, use))
    write(
        RunFolder(started(home, "small").folder),
        [ProcessSample(now, 0, 40.0, GIB, 2), ProcessSample(now, 1, 2.0, GIB, 2)],
    )
    ended = launch({"name": "ended", "run": "python -c 1", "backend": "local"}, base_dir=home).wait()
    assert ended.is_over
    found = {use.name: use for use in top("local")}
    assert found.keys() == {"busy", "idle", "small"}
    assert (found["busy"].utilization, found["busy"].is_idle, found["busy"].memory_used) == (80.0, False, GIB)
    assert (found["idle"].utilization, found["idle"].is_idle) == (1.0, True)
    assert (found["small"].utilization, found["small"].cpu, found["small"].memory) == (None, 42.0, 2 * GIB)
    shown = top_bundle(top("local"))
    assert "running, idle" in shown["text/plain"]
    assert "3 running · 2 GPUs · 1 idle" in shown["text/plain"]
    assert "idle uses less than 5 % of the GPUs held" in shown["text/plain"]
    assert "<table" in shown["text/html"]


def test_without_a_running_run_top_says_so(home):
    assert "no run is running" in top_bundle(top("local"))["text/plain"]


@pytest.mark.parametrize(
    ("samples", "idle"),
    [
        (looks(1000.0, 620, 1.0), True),
        (looks(1000.0, 500, 1.0), False),  # not seen for so long
        (looks(900.0, 800, 1.0), False),  # nothing was seen of late
        (looks(1000.0, 620, None), False),  # nobody knows
        ([*looks(1000.0, 620, 1.0), *looks(1000.0, 0, 30.0, gpu="1")], False),  # another one works
        ([], False),
    ],
)
def test_idle_is_a_gpu_that_was_seen_doing_nothing_for_ten_minutes(samples, idle):
    assert using.is_idle([sample for look in samples for sample in look], now=1000.0) is idle


def test_a_price_of_the_settings_file_becomes_what_a_run_has_cost(home, monkeypatch):
    (home / "config.yaml").write_text("prices: {local: 0.5, H100: 2.40}\n")
    assert read_settings().prices == {"local": 0.5, "H100": 2.4}
    run = started(home, "priced")
    summary = type(run).summary
    monkeypatch.setattr(type(run), "summary", lambda self, **given: summary(self, **given)._replace(gpu_hours=3.0))
    (use,) = top("local")
    assert use.cost == 1.5
    assert "1.50" in top_bundle(using.Top([use]))["text/plain"]
    (home / "config.yaml").write_text("prices: {local: cheap}\n")
    with pytest.raises(SpecError, match="no price"):
        read_settings()


def test_run_gpu_and_its_figure_read_the_runs_folder(home):
    run = started(home, "measured")
    assert run.gpu().empty
    write(RunFolder(run.folder), [GpuSample(1.0, "0", 0, 50.0)])
    assert attach("measured", "local").gpu()["utilization"].tolist() == [50.0]
    assert run.figure("gpu").data[0].y == (50.0,)
