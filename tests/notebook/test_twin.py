"""The static form of real runs: pictures and last values, small, right, made again only when something is new."""

from __future__ import annotations

import base64
import re
import time

import pytest
from test_displays import HARMLESS, PAYLOADS, Page
from test_svg import parsed, texts

from jupyter_gpudeploy import launch
from jupyter_gpudeploy.events.samples import SampleWriter
from jupyter_gpudeploy.events.types import GpuSample, MetricPoint, ProcessSample
from jupyter_gpudeploy.notebook import history, twin
from jupyter_gpudeploy.notebook.reprs import bundle
from jupyter_gpudeploy.notebook.text import CROSS, sparkline

JOB = """
name: job
---
for step in range(30):
    print(f"step={step} loss={1 / (step + 1)} acc={1 - 1 / (step + 1)}")
"""
SWEEP = """
name: sweep
metric: acc
parameters: {{rate: {rates}}}
---
rate = 1
for epoch in range(1, 16):
    print(f"epoch={{epoch}} loss={{rate / epoch}} acc={{1 - rate / epoch / 100}}")
"""
WAITS = """
name: waits
---
import time
from pathlib import Path
from jupyter_gpudeploy import log
stage = 0
while stage < 3:
    if Path("go-%d" % stage).exists():
        stage += 1
        for step in range(stage * 10, stage * 10 + 10):
            log(loss=1 / (step + 1), step=step)
    time.sleep(0.01)
"""
IMAGE = re.compile(r'src="data:image/svg\+xml;base64,([A-Za-z0-9+/=]+)"')


@pytest.fixture(autouse=True)
def place(home, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def ended(cell):
    run = launch(cell)
    run.wait(60, check=True)
    return run


def images(made):
    return [base64.b64decode(found).decode() for found in IMAGE.findall(made["text/html"])]


def shown(run, *, final=True):
    return twin.static_bundle(run, run.summary(), final=final, notes=run.notes)


def measure(run, *looks):
    """Let this be all that was measured of the run."""
    (run.folder / "samples.jsonl").unlink(missing_ok=True)
    writer = SampleWriter(run.folder / "samples.jsonl")
    for look in looks:
        writer.write(look)
    writer.close()


def gpu_looks(start, task=0, gpu="0", count=60, **changes):
    values = {"utilization": 80.0, "memory_used": 30 << 30, "memory_total": 80 << 30}
    return [[GpuSample(start + at, gpu, task, **(values | changes))] for at in range(count)]


def test_a_job_has_its_curves_and_a_table_of_last_values():
    made = shown(ended(JOB))
    (image,) = images(made)
    assert {"loss", "acc", "step"} <= set(texts(image))
    page = Page(made["text/html"])
    assert "lastlowesthighest" in page.text
    (alt,) = (attributes["alt"] for tag, attributes in page.elements if tag == "img")
    assert "loss over step: 0.03333 to 1, last 0.03333." in alt
    assert "acc over step: 0 to 0.9667, last 0.9667." in alt
    row = next(line for line in made["text/plain"].splitlines() if line.startswith("loss"))
    assert row.split() == ["loss", sparkline([1 / (step + 1) for step in range(30)]), "0.03333", "0.03333", "1"]


def test_a_sweep_has_a_curve_of_each_trial_and_the_best_stands_out():
    run = ended(SWEEP.format(rates=[3, 1, 2]))
    made = shown(run)
    (image,) = images(made)
    assert texts(image)[-8:-4] == ["trial", "0", "1 ★", "2"]
    bold = [element.get("stroke") for element in parsed(image) if element.get("stroke-width") == "5"]
    assert bold == ["#f97316"] * 3  # in two charts and below them
    page = Page(made["text/html"])
    alt = next(attributes["alt"] for tag, attributes in page.elements if tag == "img")
    assert "acc over epoch of 3 trials: 0.97 to 0.9993; best trial 1, last 0.9993." in alt
    assert re.search(r"^acc +[▁▂▃▄▅▆▇█]{15} +0\.9993 +trial 1, the best$", made["text/plain"], re.MULTILINE)


def test_of_many_trials_the_best_and_the_newest_are_drawn_and_the_rest_is_counted():
    run = ended(SWEEP.format(rates=list(range(30, 0, -1))))
    summary = run.summary()._replace(best=29)
    kept, _ = history.of(run)
    latest = kept.collector.latest()
    assert twin._chosen(summary, kept.collector, latest, 12) == tuple(range(18, 30))
    turned = summary._replace(goal="minimize")
    assert twin._chosen(turned, kept.collector, latest, 12) == (*range(8), 26, 27, 28, 29)
    assert "12 of 30 trials: the best 8 and the newest 4" in Page(shown(run)["text/html"]).text


def test_a_run_that_said_one_value_has_no_curve():
    run = ended("name: one\n---\nprint('loss=0.5')\n")
    made = shown(run)
    assert images(made) == []
    assert "loss" in made["text/plain"]
    assert made == bundle(run.summary(), notes=run.notes)


@pytest.mark.fault(54)
def test_nan_is_told_by_name_and_never_the_lowest():
    cell = "name: bad\n---\nfor s in range(9):\n    print(f'step={s} loss={\"nan\" if s in (3, 8) else s + 1}')\n"
    made = shown(ended(cell))
    row = next(line for line in made["text/plain"].splitlines() if line.startswith("loss"))
    assert row.split()[2:] == ["NaN", "1", "8"]
    assert row.split()[1][3] == row.split()[1][8] == CROSS
    assert sum("l10 10m0-10l-10 10" in (element.get("d") or "") for element in parsed(images(made)[0])) == 1


def test_what_was_measured_of_a_gpu_is_shown_with_its_limits():
    run = ended(JOB)
    measure(run, *gpu_looks(run.status().started))
    made = shown(run)
    picture = images(made)[1]
    assert {"GPU utilization, %", "GPU memory, GiB", "100", "80"} <= set(texts(picture))
    assert "GPU 0: 80 % busy on average, at most 30 GiB of 80 GiB" in Page(made["text/html"]).text
    assert re.search(r"^GPU 0 utilization +▄+ +80 % +80 % +80 %$", made["text/plain"], re.MULTILINE)


@pytest.mark.fault(39)
def test_a_utilization_that_is_not_known_is_not_zero():
    run = ended(JOB)
    measure(run, *gpu_looks(run.status().started, utilization=None))
    made = shown(run)
    assert "GPU 0: utilization N/A, at most 30 GiB of 80 GiB" in Page(made["text/html"]).text
    assert "GPU utilization" not in made["text/plain"]
    assert "GPU utilization, %" not in texts(images(made)[1])


def test_without_a_gpu_processors_and_memory_are_shown():
    run = ended(SWEEP.format(rates=[1, 2]))
    start = run.status().started
    looks = [[ProcessSample(start + at, task, 98.0, 200 << 20, 2) for task in (0, 1)] for at in range(20)]
    measure(run, *looks)
    made = shown(run)
    assert {"processor, % of a core", "memory, MiB"} <= set(texts(images(made)[1]))
    assert "its processes: at most 98 % of a core and 200 MiB of memory a trial" in Page(made["text/html"]).text


def test_what_a_server_tells_of_itself_is_drawn_too():
    run = ended("name: quiet\n---\npass\n")
    start = run.status().started
    looks = [[MetricPoint(0, "requests_running", float(at), time=start + at, source="server")] for at in range(20)]
    measure(run, *looks)
    made = shown(run)
    assert "requests_running" in texts(images(made)[0])
    assert re.search(r"^requests_running +\S+ +19 +0 +19$", made["text/plain"], re.MULTILINE)


def test_a_silence_of_the_one_who_measures_is_a_gap():
    run = ended("name: quiet\n---\npass\n")
    start = run.status().started
    measure(run, *gpu_looks(start, count=5), *gpu_looks(start + 100, count=5))
    picture = parsed(images(shown(run))[0])
    paths = [element.get("d") for element in picture if (element.get("d") or "").startswith("M0 ")]
    assert [path.count("M") for path in paths] == [2, 2]


def test_long_measurements_are_kept_thin_and_keep_their_peaks():
    kept = history.History(None, None)
    for at in range(30_000):
        kept._add(ProcessSample(float(at), 0, 1.0), history.PROCESSOR, 900.0 if at == 1234 else 100.0)
    (use,) = kept.uses.values()
    assert len(use.time) <= 8001
    assert max(use.value) == 900.0
    assert list(use.time) == sorted(use.time)


def test_a_run_that_has_not_moved_is_neither_read_nor_drawn_again(monkeypatch):
    run = ended(SWEEP.format(rates=[1, 2]))
    first = shown(run)
    monkeypatch.setattr(twin, "_draw", lambda *_, **__: pytest.fail("drawn again"))
    monkeypatch.setattr(history, "_curves", lambda *_: pytest.fail("read again"))
    assert shown(run) == first


def test_what_is_new_is_drawn(tmp_path):
    run = launch(WAITS)
    try:
        seen = []
        for stage in range(2):
            (tmp_path / f"go-{stage}").touch()
            deadline = time.monotonic() + 60
            while not (found := images(shown(run, final=False))) or found[0] in seen:
                assert time.monotonic() < deadline
                time.sleep(0.02)
            seen.append(found[0])
    finally:
        run.stop(0.5)
    assert len(set(seen)) == 2


def test_pictures_stay_when_the_run_is_gone():
    run = ended(JOB)
    before, summary = shown(run), run.summary()
    run.remove(yes=True)
    after = bundle(summary, notes=[], problem="gone", run=run, final=True)
    assert images(after) == images(before)
    assert "gone" in after["text/plain"]


def test_what_cannot_be_drawn_is_said_and_the_rest_is_shown(monkeypatch):
    run = ended(JOB)
    monkeypatch.setattr(twin, "_draw", lambda *_, **__: 1 / 0)
    made = shown(run)
    assert "the curves cannot be drawn: ZeroDivisionError" in made["text/plain"]
    assert "succeeded" in made["text/plain"]


@pytest.mark.fault(62, 64)
@pytest.mark.parametrize("payload", [*PAYLOADS, "[x](javascript:window.__pwned=1)", "![x](http://evil.example/x.png)"])
def test_nothing_foreign_is_markup_with_pictures(payload):
    name = payload.encode("utf-8").hex()
    cell = (
        "name: foreign\n---\nfrom jupyter_gpudeploy import log\n"
        f"name = bytes.fromhex('{name}').decode()\nprint(name)\nfor s in range(5):\n    log(**{{name: s}}, step=s)\n"
    )
    run = ended(cell)
    measure(run, *gpu_looks(run.status().started, gpu=payload))
    summary = run.summary()._replace(title=payload, name=payload)
    made = twin.static_bundle(run, summary, final=True, problem=payload)
    pictures = images(made)
    assert len(pictures) == 2
    for picture in pictures:
        parsed(picture)
        assert "<script" not in picture.casefold()
    for tag, attributes in Page(made["text/html"]).elements:
        assert tag in HARMLESS | {"figure", "figcaption", "img"}
        assert set(attributes) <= {"style", "href", "target", "rel", "alt", "src"}
        assert (attributes.get("src") or "data:image/svg+xml;base64,").startswith("data:image/svg+xml;base64,")
        assert (attributes.get("href") or "http://").startswith(("http://", "https://"))
    assert "\x1b" not in made["text/plain"]
    assert "\u202e" not in made["text/plain"] + "".join(pictures)


def test_an_update_is_small_and_the_last_one_is_not_large():
    run = ended(SWEEP.format(rates=list(range(1, 13))))
    start = run.status().started
    measure(run, *([ProcessSample(start + at, at // 50, 95.0 + at % 9, 200 << 20, 2)] for at in range(600)))
    sizes = {final: sum(len(part.encode()) for part in shown(run, final=final).values()) for final in (True, False)}
    assert sizes[False] < 17_000
    assert sizes[True] < 60_000


@pytest.mark.parametrize(
    ("values", "blocks"),
    [
        ([], ""),
        ([1.0], "▄"),
        ([1.0, 2.0], "▁█"),
        ([0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0], "▁▂▃▄▅▆▇█"),
        ([1.0, float("nan"), 2.0, float("inf")], f"▁{CROSS}█{CROSS}"),
        ([-1.7e308, 1.7e308], "▁█"),
        ([2.0] * 3, "▄▄▄"),
    ],
)
def test_a_sparkline_rises_and_falls_with_its_values(values, blocks):
    assert sparkline(values) == blocks


def test_a_long_sparkline_is_of_means():
    assert sparkline([0.0] * 50 + [1.0] * 50, 4) == "▁▁██"
