"""Processes of this machine, a server's own metrics page, and what a folder holds already."""

from __future__ import annotations

import http.server
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from jupyter_gpudeploy.events.samples import SampleWriter
from jupyter_gpudeploy.events.store import RunFolder
from jupyter_gpudeploy.events.types import GpuSample, ProcessSample
from jupyter_gpudeploy.registry import Family
from jupyter_gpudeploy.sources import processes
from jupyter_gpudeploy.sources.processes import Processes, ProcessTable
from jupyter_gpudeploy.sources.prometheus import Prometheus, fetcher
from jupyter_gpudeploy.sources.recorded import Recorded
from jupyter_gpudeploy.testing.source_contract import MetricSourceContract

VLLM = Family("jupyter_gpudeploy.servers").load("vllm").metric_names
TRITON = Family("jupyter_gpudeploy.servers").load("triton").metric_names
PAGE = """\
# HELP vllm:num_requests_running Number of requests in model execution batches.
# TYPE vllm:num_requests_running gauge
vllm:num_requests_running{{engine="0",model_name="a{{b}},\\"c\\" d"}} 3.0
vllm:num_requests_running{{engine="1",model_name="m"}} 1.0
# TYPE vllm:kv_cache_usage_perc gauge
vllm:kv_cache_usage_perc{{engine="0"}} 0.5
vllm:kv_cache_usage_perc{{engine="1"}} 0.25
# TYPE vllm:generation_tokens_total counter
vllm:generation_tokens_total{{engine="0"}} {tokens}
# TYPE vllm:time_to_first_token_seconds histogram
vllm:time_to_first_token_seconds_bucket{{le="0.1",engine="0"}} 5
vllm:time_to_first_token_seconds_sum{{engine="0"}} {sum}
vllm:time_to_first_token_seconds_count{{engine="0"}} {count}
vllm:time_to_first_token_seconds_created{{engine="0"}} 1.7e9
vllm:num_requests_waiting{{engine="0"}} NaN
"""
BUSY = "while True: pass"
SLEEPS = "x = bytearray({size})\nprint('there', flush=True)\nimport time\ntime.sleep(600)"


def until(condition, seconds=30):
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return found


@pytest.fixture
def start():
    started = []

    def start(code, **environment):
        process = subprocess.Popen(
            [sys.executable, "-c", code],
            stdout=subprocess.PIPE,
            env={**os.environ, **environment},
            start_new_session=True,
        )
        started.append(process)
        return process

    yield start
    for process in started:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


@pytest.fixture
def page():
    """Return a server whose page is `page.text`, or an error where that is None."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            text = self.server.text
            self.send_response(503 if text is None else 200)
            self.end_headers()
            self.wfile.write((text or "loading").encode())

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.text = PAGE.format(tokens=100, sum=1.0, count=10)
    server.url = f"http://127.0.0.1:{server.server_port}/metrics"
    threading.Thread(target=server.serve_forever, args=(0.02,)).start()
    yield server
    server.shutdown()
    server.server_close()


class TestPrometheus(MetricSourceContract):
    @pytest.fixture
    def source(self, page):
        source = Prometheus(fetcher(page.url), 0, VLLM)
        yield source
        source.close()

    @pytest.fixture
    def lost(self):
        return Prometheus(fetcher("http://127.0.0.1:9/metrics"), 0, VLLM)


class TestProcesses(MetricSourceContract):
    @pytest.fixture
    def source(self, start):
        source = Processes(start(BUSY).pid, 0)
        yield source
        source.close()

    @pytest.fixture
    def lost(self):
        return Processes(2**22 + 1)


class TestRecorded(MetricSourceContract):
    @pytest.fixture
    def source(self, tmp_path):
        writer = SampleWriter(RunFolder(tmp_path).samples_file)
        ended = threading.Event()

        def write():
            while not ended.wait(0.05):
                writer.write([GpuSample(time.time(), "0", 2, 50.0), ProcessSample(time.time(), 3, 1.0)])

        thread = threading.Thread(target=write)
        thread.start()
        yield Recorded(RunFolder(tmp_path), 2)
        ended.set()
        thread.join()

    @pytest.fixture
    def lost(self, tmp_path):
        return Recorded(RunFolder(tmp_path / "none"), 0)

    def test_only_its_task_and_the_run_are_told(self, tmp_path):
        SampleWriter(RunFolder(tmp_path).samples_file).write([ProcessSample(1.0, task) for task in (0, 1, None)])
        assert [sample.task for sample in Recorded(RunFolder(tmp_path), 1).look()] == [1, None]


def test_gauges_stand_counters_grow_by_the_second_and_histograms_have_means(page):
    now = [100.0]
    source = Prometheus(fetcher(page.url), 1, VLLM, clock=lambda: now[0])

    def told():
        return {point.name: point.value for point in source.look()}

    assert told() == {"running": 4.0, "kv_cache": 0.375}
    now[0] += 2
    page.text = PAGE.format(tokens=150, sum=3.0, count=14)
    assert told() == {"running": 4.0, "kv_cache": 0.375, "output_tokens_per_second": 25.0, "ttft_seconds": 0.5}
    now[0] += 2
    assert told() == {"running": 4.0, "kv_cache": 0.375, "output_tokens_per_second": 0.0}


def test_a_server_that_began_anew_gives_no_negative_growth(page):
    source = Prometheus(fetcher(page.url), 0, VLLM)
    source.look()
    page.text = PAGE.format(tokens=1, sum=0.1, count=1)
    assert {point.name for point in source.look()} == {"running", "kv_cache"}
    page.text = None
    assert source.look() == []
    assert "503" in source.trouble
    page.text = PAGE.format(tokens=5000, sum=50, count=100)
    assert {point.name for point in source.look()} == {"running", "kv_cache"}
    assert source.trouble == ""


def test_a_gauge_whose_name_ends_like_a_counters_is_a_gauge_where_the_page_says_so(page):
    page.text = """\
# TYPE nv_inference_request_success counter
nv_inference_request_success{model="a"} 7
# TYPE nv_inference_pending_request_count gauge
nv_inference_pending_request_count{model="a"} 3
"""
    assert [(one.name, one.value) for one in Prometheus(fetcher(page.url), 0, TRITON).look()] == [("queue_depth", 3.0)]


def test_a_page_without_the_names_says_so(page):
    page.text = "# TYPE other gauge\nother 1\n"
    source = Prometheus(fetcher(page.url), 0, VLLM)
    assert source.look() == []
    assert "names" in source.trouble


@pytest.mark.parametrize("url", ["file:///etc/passwd", "ftp://x/y", "127.0.0.1"])
def test_only_web_addresses_are_asked(url):
    with pytest.raises(ValueError, match="no address"):
        fetcher(url)


def test_processes_count_for_what_marks_them_and_so_do_their_children(start):
    keys = {}
    table = ProcessTable(keys.get)
    quiet = start(SLEEPS.format(size=80_000_000))
    quiet.stdout.readline()
    busy = start(f"import subprocess, sys\nsubprocess.run([sys.executable, '-c', {BUSY!r}])")
    keys |= {quiet.pid: "quiet", busy.pid: "busy"}
    first = until(lambda: (found := table.look({})).get("busy") and found["busy"].processes == 2 and found)
    assert first["quiet"].processes == 1
    assert first["quiet"].memory > 80_000_000
    time.sleep(0.5)
    second = table.look({})
    assert 20 < second["busy"].cpu < 150
    assert second["quiet"].cpu < 20


def test_the_first_look_knows_no_share_of_time(start):
    table = ProcessTable(lambda _: None)
    busy = start(BUSY)
    assert table.look({busy.pid: "busy"})["busy"].cpu is None


def test_what_a_process_used_before_its_first_look_counts_only_if_it_began_since_the_last(start):
    old = start(BUSY)
    time.sleep(1.0)
    table = ProcessTable(lambda _: None)
    table.look({})
    time.sleep(0.2)
    new = start(BUSY)
    time.sleep(0.4)
    found = table.look({old.pid: "old", new.pid: "new"})
    assert found["old"].cpu < 5  # its second before is not put into these tenths
    assert found["new"].cpu > 5


def test_processes_that_are_ending_and_have_given_their_memory_back_are_no_look(start, monkeypatch):
    process = start("import time; time.sleep(60)")
    table = ProcessTable({process.pid: "task"}.get)
    assert table.look({})["task"].memory > 0
    stat = processes._stat

    def ending(pid):
        fields = stat(pid)
        if fields is not None and pid == process.pid:
            fields[processes._RESIDENT] = b"0"
        return fields

    monkeypatch.setattr(processes, "_stat", ending)
    assert table.look({}) == {}


def test_a_root_counts_for_what_is_known_of_it_whatever_its_mark_says(start):
    process = start(BUSY)
    table = ProcessTable({process.pid: "marked"}.get)
    assert table.look({}).keys() == {"marked"}
    assert table.look({process.pid: "known"}).keys() == {"known"}


def test_a_run_launched_inside_another_counts_for_itself(start):
    inner = "import os, time; print(os.getpid(), flush=True); time.sleep(600)"
    outer = start(
        f"import os, subprocess, sys\nsubprocess.run([sys.executable, '-c', {inner!r}], env={{**os.environ, 'MARK': 'inner'}})",
        MARK="outer",
    )
    outer.stdout.readline()

    def mark(pid):
        try:
            parts = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
        except OSError:
            return None
        return next((part[5:] for part in parts if part.startswith(b"MARK=")), None)

    found = ProcessTable(mark).look({})
    assert {key: usage.processes for key, usage in found.items()} == {b"outer": 1, b"inner": 1}


def test_on_a_cluster_a_servers_page_is_read_through_a_forwarded_port(page, tmp_path):
    from jupyter_gpudeploy.backends.kubernetes.measured import sources
    from jupyter_gpudeploy.errors import BackendError

    (tmp_path / "run.json").write_text('{"service": {"port": 8000, "preset": "vllm"}}')
    asked = []

    def forward(port):
        asked.append(port)
        if len(asked) == 1:
            raise BackendError("the pod is not ready")
        return page.url.removesuffix("/metrics")

    recorded, own = sources(RunFolder(tmp_path), 0, forward)
    assert (recorded.look(), asked) == ([], [])
    assert own.look() == []
    assert "not ready" in own.trouble
    assert {point.name for point in own.look()} == {"running", "kv_cache"}
    assert asked == [8000, 8000]
    (tmp_path / "run.json").write_text('{"service": null}')
    assert len(sources(RunFolder(tmp_path), 0, forward)) == 1
