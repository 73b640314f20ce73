"""Notebooks with a card, in a real JupyterLab or Notebook: how they are made, opened and worked with."""

import json

import pytest
from lab import open_notebook, run_all
from page import STATIC

MARKS = [
    pytest.mark.browser,
    pytest.mark.slow,
    pytest.mark.skipif(not (STATIC / "card.js").exists(), reason="the card is not built: make widget"),
]
LOAD = "%load_ext jupyter_gpudeploy"
SWEEP = """%%deploy {name} -o run
metric: {{name: val_acc, goal: maximize}}
parameters:
  lr: [0.003, 0.01, 0.03, 0.1]
  hidden: [16, 64]
parallelism: 3
---
import math, random, time
lr = 0.01
hidden = 16
random.seed(int(lr * 1e4) + hidden)
held = []
for epoch in range(1, {epochs} + 1):
    held.append(bytearray(range(256)) * 8000)
    until = time.process_time() + 0.05 + 0.1 * random.random()
    while time.process_time() < until:
        math.sqrt(epoch)
    time.sleep(0.2)
    reach = 0.97 - 0.5 / hidden - 0.02 * abs(math.log10(lr) + 1.4)
    acc = reach * (1 - math.exp(-epoch * (0.05 + lr * 2 + hidden / 2000))) + 0.012 * random.random()
    print(f"epoch={{epoch}} loss={{-math.log(max(acc, 0.02)):.4f}} val_acc={{acc:.4f}}")
    if epoch % 10 == 0:
        print(f"\\x1b[36mINFO\\x1b[0m checkpoint {{epoch}} written")
"""
FLOOD = """%%deploy flood --replace
env: {PYTHONUNBUFFERED: ""}
---
import pathlib, sys, time
print("waiting", flush=True)
go = pathlib.Path("go")
while not go.exists():
    time.sleep(0.01)
begun, printed = time.time(), 0
while go.exists():
    due = int((time.time() - begun) * 100_000)
    sys.stdout.write("".join(f"line {n} of a program that prints a very great many lines\\n" for n in range(printed, due)))
    sys.stdout.flush()
    printed = due
    time.sleep(0.005)
print(printed, "lines in", round(time.time() - begun, 1), "s: done with it", flush=True)
time.sleep(300)
"""
SERVER = """%%deploy api -o server
serve: fastapi
---
from fastapi import FastAPI

app = FastAPI()


@app.get("/")
def root():
    return {"said": "hello"}
"""

PAYLOADS = [
    "<img src=x onerror=\"window.__pwned='img'\">",
    "<script>window.__pwned='script'</script>",
    "<svg/onload=\"window.__pwned='svg'\">",
    "<svg><script>window.__pwned=1</script></svg>",
    "<iframe srcdoc=\"<script>parent.__pwned='iframe'</script>\"></iframe>",
    "<a href=\"javascript:window.__pwned='a'\">click</a>",
    "javascript:window.__pwned='url'",
    "data:text/html,<script>opener.__pwned=1</script>",
    '"><img src=x onerror=window.__pwned=1>',
    "' onmouseover='window.__pwned=1' x='",
    "<details open ontoggle=\"window.__pwned='details'\">",
    "<body onload=window.__pwned=1>",
    "<input autofocus onfocus=\"window.__pwned='focus'\">",
    "<style>@import 'javascript:window.__pwned=1';</style>",
    "<math><mtext><style><img src=x onerror=window.__pwned=1></style></mtext></math>",
    '<!--<img src="--><img src=x onerror=window.__pwned=1>">',
    "${window.__pwned=1}{{window.__pwned=1}}",
    "[x](javascript:window.__pwned=1)![y](x onerror=window.__pwned=1)",
    "\ue000\ue000b\ue001<img src=x onerror=window.__pwned=1>\ue001\ue000",
    "\u202e\u0000\x1b[31m<object data=javascript:window.__pwned=1></object>",
]


def write_notebook(file, *cells):
    made = [
        {"cell_type": "code", "id": f"c{n}", "metadata": {}, "source": text, "outputs": [], "execution_count": None}
        for n, text in enumerate(cells)
    ]
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    file.write_text(json.dumps({"cells": made, "metadata": kernel, "nbformat": 4, "nbformat_minor": 5}))


def written(root, name, *cells):
    """Write a notebook that loads the extension and has these cells; return its file's name."""
    write_notebook(root / f"{name}.ipynb", LOAD, *cells)
    return f"{name}.ipynb"


def ran(page):
    """Run every cell and wait until there is a card."""
    page.set_default_timeout(40_000)
    done, _ = run_all(page)
    assert done
    page.locator(".gd-card .gd-title").wait_for()
    return page


def opened(context, lab, root, name, *cells):
    """Open such a notebook in JupyterLab and run it."""
    return ran(open_notebook(context, lab, written(root, name, *cells), name))


def click_a_chart(page):
    """Click the first chart of the Metrics tab, once it has a curve."""
    page.get_by_role("tab", name="Metrics").click()
    page.locator(".gd-panel:visible .u-over").first.wait_for()
    page.wait_for_timeout(300)
    box = page.locator(".gd-panel:visible .u-over").first.bounding_box()
    page.mouse.click(box["x"] + box["width"] * 0.4, box["y"] + box["height"] * 0.5)


def end(page, name):
    """Stop the run, so that it does not work beside the next test."""
    page.evaluate(
        """code => { const kernel = jupyterapp.shell.currentWidget.sessionContext.session.kernel;
            return kernel.requestExecute({ code }).done.then(() => null); }""",
        f"get_ipython().run_line_magic('deploy', 'stop {name}')",
    )


def frames(page, seconds):
    """Return how many milliseconds lay between one frame of the page and the next, for so long."""
    return page.evaluate(
        """milliseconds => new Promise(done => {
            const times = []; const end = performance.now() + milliseconds;
            const frame = at => { times.push(at);
                if (at < end) requestAnimationFrame(frame);
                else done(times.slice(1).map((time, place) => time - times[place])); };
            requestAnimationFrame(frame); })""",
        1000 * seconds,
    )
