"""What is left in a notebook file that a real kernel ran, and what nbconvert makes of it: pictures, and nothing alive."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import re
import subprocess
import sys

import nbformat
import pytest
from nbclient import NotebookClient
from patience import REPOSITORY, eventually
from test_displays import PAYLOADS
from test_svg import parsed, texts

pytestmark = [pytest.mark.kernel, pytest.mark.slow]

LOAD = "%load_ext jupyter_gpudeploy"
SWEEP = """%%deploy sweep -o run
metric: acc
parameters: {rate: [3, 1, 2]}
---
rate = 1
for epoch in range(1, 16):
    print(f"epoch={epoch} loss={rate / epoch} acc={1 - rate / epoch / 100}")
"""
HOSTILE = f"""%%deploy hostile --wait
---
from jupyter_gpudeploy import log
for payload in {PAYLOADS!r}:
    print(payload)
    for step in range(3):
        log(**{{payload: step}}, step=step)
"""
SOURCE = re.compile(r'<img [^>]*src="data:image/svg\+xml;base64,([A-Za-z0-9+/=]+)"')


@pytest.fixture
def jupyter(home, tmp_path, monkeypatch):
    """Run a notebook of these cells with a real kernel; return what is saved of it, and the same as a page."""
    monkeypatch.setenv("PYTHONPATH", str(REPOSITORY))
    monkeypatch.chdir(tmp_path)

    def run(*cells):
        file = tmp_path / "notebook.ipynb"
        kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
        codes = [
            {
                "cell_type": "code",
                "id": f"c{place}",
                "metadata": {},
                "source": code,
                "outputs": [],
                "execution_count": None,
            }
            for place, code in enumerate((LOAD, *cells))
        ]
        file.write_text(json.dumps({"cells": codes, "metadata": kernel, "nbformat": 4, "nbformat_minor": 5}))
        _nbconvert("--to", "notebook", "--execute", "--inplace", file)
        _nbconvert("--to", "html", file)
        return json.loads(file.read_text()), file.with_suffix(".html").read_text()

    return run


def _nbconvert(*words):
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("PYTEST_", "COV_"))}
    command = [sys.executable, "-m", "nbconvert", *map(str, words)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def bundles(saved):
    return [
        {mime: "".join(part) if isinstance(part, list) else part for mime, part in output["data"].items()}
        for cell in saved["cells"]
        for output in cell["outputs"]
        if "data" in output
    ]


def pictures(html):
    return [base64.b64decode(found).decode() for found in SOURCE.findall(html)]


@pytest.mark.fault(71)
@pytest.mark.parametrize("first_line", ["", " --plain", " --wait"])
def test_what_is_saved_is_the_static_twin_and_nothing_alive(jupyter, first_line):
    saved, page = jupyter(SWEEP.replace("\n", f"{first_line}\n", 1), "%deploy wait sweep --plain")
    twin = bundles(saved)[0]
    assert set(twin) == {"text/plain", "text/html"}
    assert "succeeded" in twin["text/plain"]
    assert "1, the best" in twin["text/plain"]
    picture = pictures(twin["text/html"])[0]
    assert {"acc", "loss", "epoch", "1 ★"} <= set(texts(picture))
    assert "<script" not in twin["text/html"]
    assert "<svg" not in twin["text/html"]
    kept = saved["metadata"].get("widgets", {})  # nbclient keeps the models that there were
    models = [model["state"] for state in kept.values() for model in state["state"].values()]
    cards = [{key for key in model if key[0] != "_"} for model in models if "run_name" in model]
    assert all(card <= {"uid", "run_name", "layout", "tabbable", "tooltip"} for card in cards)  # no log, no value
    assert picture in pictures(page)
    assert "3 of 3 done" in page


def test_a_run_that_goes_on_leaves_its_picture_when_the_extension_is_unloaded(jupyter):
    endless = (
        "%%deploy endless -o run\n---\nimport time\nfor step in range(100_000):\n"
        "    print(f'step={step} loss={1 / (step + 1)}')\n    time.sleep(0.01)\n"
    )
    until = "import time\nwhile len(run.metrics()) < 20:\n    time.sleep(0.05)\n"
    saved, page = jupyter(endless, until, "%unload_ext jupyter_gpudeploy")
    twin = bundles(saved)[0]
    assert "the run goes on: %deploy attach endless" in twin["text/plain"]
    assert "loss" in texts(pictures(twin["text/html"])[0])
    assert pictures(page)


@pytest.mark.fault(62, 64)
def test_hostile_names_and_lines_stay_text_in_the_file_and_on_the_page(jupyter):
    saved, page = jupyter(HOSTILE)
    twin = bundles(saved)[0]
    found = pictures(twin["text/html"])
    assert found
    for picture in found:
        parsed(picture)
    ours = twin["text/html"]
    assert pictures(page) == found
    assert not re.search(r"<script>window\.__pwned|<img src=.?x|<iframe|<base|<meta http|<svg on", page)
    assert not re.search(r"<(?!/?(?:div|span|table|thead|tbody|tr|th|td|pre|a|figure|figcaption|img)\b)", ours)
    assert not re.search(r"<[^>]*\son\w+=", re.sub(r'"[^"]*"', '""', ours))


@pytest.mark.parametrize("first_line", ["", " --plain"])
def test_a_run_that_ends_between_two_cells_is_saved_as_its_twin(home, tmp_path, monkeypatch, first_line):
    monkeypatch.setenv("PYTHONPATH", str(REPOSITORY))
    code = SWEEP.replace("\n", f"{first_line}\n", 1)
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(one) for one in (LOAD, code, "1 + 1")])

    async def until_it_has_ended(cell, cell_index, execute_reply):
        from jupyter_gpudeploy import attach

        await asyncio.to_thread(eventually, lambda: cell_index != 1 or attach("sweep").is_over)
        await asyncio.sleep(5 * (cell_index == 1))  # its display has seen the end, too, and nbclient did not listen

    resources = {"metadata": {"path": str(tmp_path)}}
    NotebookClient(notebook, resources=resources, on_cell_executed=until_it_has_ended).execute()
    twin = bundles(json.loads(nbformat.writes(notebook)))[0]
    assert set(twin) == {"text/plain", "text/html"}
    assert "succeeded" in twin["text/plain"]
