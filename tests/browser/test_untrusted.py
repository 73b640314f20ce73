"""A notebook that somebody else made, opened without running it: pictures and tables show, and nothing acts."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from lab import browser, lab_server, open_notebook
from playwright.sync_api import expect

from jupyter_gpudeploy import launch
from jupyter_gpudeploy.events.samples import SampleWriter
from jupyter_gpudeploy.events.types import ProcessSample
from jupyter_gpudeploy.notebook import twin

pytestmark = [pytest.mark.browser, pytest.mark.slow]
EXAMPLE = Path(__file__).parents[2] / "examples" / "01_quickstart.ipynb"
HOSTILE = "<img src=x onerror=window.__pwned=1><script>window.__pwned=1</script>"
FORGED = {
    "application/vnd.jupyter.widget-view+json": {"version_major": 2, "version_minor": 0, "model_id": "0" * 32},
    "text/html": f"<script>window.__pwned=1</script><b>forged</b>{HOSTILE}",
    "application/javascript": "window.__pwned=1",
    "image/svg+xml": "<svg xmlns='http://www.w3.org/2000/svg' onload='window.__pwned=1'/>",
    "text/plain": "forged",
}


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return tmp_path_factory.mktemp("root")


@pytest.fixture(scope="module")
def lab(tmp_path_factory, place):
    with lab_server(place, tmp_path_factory.mktemp("state")) as url:
        yield url


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """The static form of a real sweep, of which processes were measured too, and of a job with hostile names."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("JUPYTER_GPUDEPLOY_HOME", str(tmp_path_factory.mktemp("gpudeploy")))
        patch.chdir(tmp_path_factory.mktemp("work"))
        yield {"sweep": _sweep(), "hostile": _hostile()}


def _sweep():
    cells = json.loads(EXAMPLE.read_text("utf-8"))["cells"]
    text = next("".join(cell["source"]) for cell in cells if "%%deploy digits -o" in "".join(cell["source"]))
    run = launch("name: digits\n" + text.partition("\n")[2])
    run.wait(300, check=True)
    tasks = run.status().tasks.values()
    (run.folder / "samples.jsonl").unlink(missing_ok=True)
    writer = SampleWriter(run.folder / "samples.jsonl")
    for second in range(int(run.status().started), int(run.status().ended)):
        living = [one for one in tasks if one.started <= second <= one.ended]
        writer.write([ProcessSample(second, one.task, 90 + 7.0 * (second % 3), 200 << 20) for one in living])
    writer.close()
    return twin.static_bundle(run, run.summary(), final=True)


def _hostile():
    code = f"from jupyter_gpudeploy import log\nprint({HOSTILE!r})\nfor s in range(5):\n    log(**{{{HOSTILE!r}: s}}, step=s)\n"
    run = launch(f"name: hostile\n---\n{code}")
    run.wait(60, check=True)
    return twin.static_bundle(run, run.summary()._replace(title=HOSTILE), final=True)


def write(file, *bundles):
    cells = [
        {
            "cell_type": "code", "id": f"c{place}", "metadata": {}, "source": "%%deploy", "execution_count": 1,
            "outputs": [{"output_type": "display_data", "data": data, "metadata": {}}],
        }
        for place, data in enumerate(bundles)
    ]  # fmt: skip
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    file.write_text(json.dumps({"cells": cells, "metadata": kernel, "nbformat": 4, "nbformat_minor": 5}))


def is_drawn(picture):
    return picture.evaluate("image => image.complete && image.naturalWidth > 300 && image.clientWidth > 300")


@pytest.mark.fault(72)
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_an_untrusted_notebook_shows_its_pictures_and_runs_nothing(lab, place, made, tmp_path, pictures, theme):
    write(place / f"{theme}.ipynb", made["sweep"], made["hostile"], FORGED)
    with browser(tmp_path / "profile") as context:
        page = open_notebook(context, lab, f"{theme}.ipynb", f"untrusted-{theme}")
        if theme == "dark":
            page.evaluate("window.jupyterapp.commands.execute('apputils:change-theme', {theme: 'JupyterLab Dark'})")
            page.wait_for_selector("body[data-jp-theme-light='false']", state="attached")
        assert page.evaluate("window.jupyterapp.shell.currentWidget.content.model.cells.get(0).trusted") is False
        figures = page.locator(".jp-OutputArea figure img")
        expect(figures).to_have_count(3)
        page.screenshot(path=pictures / f"untrusted-{theme}.png")
        assert all(is_drawn(figures.nth(place)) for place in range(3))
        assert "val_acc over epoch of 12 trials" in figures.first.get_attribute("alt")
        assert page.locator(".jp-RenderedHTMLCommon svg").count() == 0
        assert page.get_by_text(HOSTILE).count() > 0
        assert page.evaluate("window.__pwned") is None


def test_a_page_made_by_nbconvert_shows_the_pictures(place, made, tmp_path, pictures):
    write(place / "page.ipynb", made["sweep"], made["hostile"])
    command = [sys.executable, "-m", "nbconvert", "--to", "html", place / "page.ipynb", "--output-dir", tmp_path]
    subprocess.run(command, check=True, capture_output=True)
    with browser(tmp_path / "profile") as context:
        page = context.new_page()
        page.set_content((tmp_path / "page.html").read_text("utf-8"), wait_until="domcontentloaded")
        figures = page.locator("figure img")
        expect(figures).to_have_count(3)
        page.screenshot(path=pictures / "nbconvert.png")
        assert all(is_drawn(figures.nth(place)) for place in range(3))
        assert page.evaluate("window.__pwned") is None
