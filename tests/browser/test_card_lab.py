"""The live card in a real JupyterLab and Notebook, on runs of this machine."""

import json

import pytest
from lab import TOKEN, browser, lab_server, open_notebook, run_all, save
from page import STATIC

pytestmark = [
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
SERVER = """%%deploy api -o server
serve: fastapi
---
from fastapi import FastAPI

app = FastAPI()


@app.get("/")
def root():
    return {"said": "hello"}
"""


def write_notebook(file, *cells):
    made = [
        {"cell_type": "code", "id": f"c{n}", "metadata": {}, "source": text, "outputs": [], "execution_count": None}
        for n, text in enumerate(cells)
    ]
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    file.write_text(json.dumps({"cells": made, "metadata": kernel, "nbformat": 4, "nbformat_minor": 5}))


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return tmp_path_factory.mktemp("root")


@pytest.fixture(scope="module")
def lab(tmp_path_factory, root):
    with lab_server(root, tmp_path_factory.mktemp("state")) as url:
        yield url


@pytest.fixture(params=[False], ids=["light"])
def context(tmp_path, request):
    with browser(tmp_path / "profile", dark=request.param) as made:
        yield made


def opened(context, lab, root, name, *cells):
    write_notebook(root / f"{name}.ipynb", LOAD, *cells)
    page = open_notebook(context, lab, f"{name}.ipynb", name)
    page.set_default_timeout(40_000)
    done, _ = run_all(page)
    assert done
    page.locator(".gd-card .gd-title").wait_for()
    return page


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


@pytest.mark.fault(4)
def test_the_card_of_a_sweep_moves_jumps_and_comes_back_after_a_reload(lab, root, context):
    page = opened(context, lab, root, "moves", SWEEP.format(name="moves", epochs=150))
    page.locator(".gd-line").get_by_text("val_acc").first.wait_for()
    first = page.locator(".gd-time").text_content()
    page.wait_for_function("said => document.querySelector('.gd-time').textContent !== said", arg=first)
    page.get_by_role("tab", name="GPU").click()
    page.locator(".gd-panel:visible .u-over").nth(1).wait_for()
    click_a_chart(page)
    page.locator(".gd-banner").get_by_text("Around").wait_for()
    page.locator(".gd-line[data-marked]").wait_for()
    page.get_by_role("button", name="Back to live").click()
    save(page)
    page.wait_for_function("() => !jupyterapp.shell.currentWidget.context.model.dirty")
    page.reload()
    page.locator(".gd-card .gd-title").wait_for(timeout=90_000)
    page.locator(".gd-line").get_by_text("val_acc").first.wait_for()
    page.get_by_role("tab", name="Metrics").click()
    page.locator(".gd-panel:visible .u-over").first.wait_for()
    page.get_by_role("button", name="Stop…").click()
    page.get_by_role("button", name="Stop the run").click()
    page.locator(":text('stopped'):visible").first.wait_for()


@pytest.mark.fault(62)
def test_what_a_program_prints_is_text_in_the_card(lab, root, context):
    code = """%%deploy hostile
---
import time
for n in range(60):
    print("<img src=x onerror=window.__pwned=1> \\x1b]8;;javascript:alert(1)\\x07click\\x1b]8;;\\x07 \\u202e", flush=True)
    print(f"step={n} <b>value</b>={n} value={n}")
    time.sleep(0.5)
"""
    page = opened(context, lab, root, "hostile", code)
    page.locator(".gd-line").get_by_text("<img src=x").first.wait_for()
    assert page.locator(".gd-card :is(img, a[href], b)").count() == 0
    assert page.evaluate("() => window.__pwned") is None
    end(page, "hostile")


def test_the_card_of_a_server_has_its_link(lab, root, context):
    page = opened(context, lab, root, "api", SERVER)
    page.locator(".gd-pill[data-state=ready]").wait_for()
    assert page.locator("a.gd-link").get_attribute("href").startswith("http://127.0.0.1:")
    page.get_by_role("button", name="Full log").click()
    page.get_by_text("the whole log, on the kernel's machine").wait_for()
    end(page, "api")
    page.locator(":text('stopped'):visible").first.wait_for()


def test_a_killed_kernel_is_said_and_another_shows_the_run_with_its_history(lab, root, context):
    page = opened(context, lab, root, "killed", SWEEP.format(name="killed", epochs=150))
    page.locator(".gd-line").get_by_text("val_acc").first.wait_for()
    page.evaluate("() => jupyterapp.shell.currentWidget.sessionContext.session.kernel.restart()")
    page.wait_for_function(
        "() => jupyterapp.shell.currentWidget.sessionContext.session.kernel.status === 'idle'", timeout=60_000
    )
    other = opened(context, lab, root, "again", "%deploy watch killed")
    other.locator(".gd-line").get_by_text("val_acc").first.wait_for()
    other.get_by_role("tab", name="Metrics").click()
    other.locator(".gd-chart .u-over").first.wait_for()
    end(other, "killed")


def test_what_is_left_of_an_ended_run_needs_no_kernel(lab, root, context):
    page = opened(context, lab, root, "left", SWEEP.format(name="left", epochs=3))
    page.locator(".gd-card").wait_for(state="detached", timeout=60_000)
    page.get_by_text("succeeded").first.wait_for()
    save(page)
    page.wait_for_function("() => !jupyterapp.shell.currentWidget.context.model.dirty")
    kept = [
        output["data"]
        for cell in json.loads((root / "left.ipynb").read_text())["cells"]
        for output in cell["outputs"]
        if "data" in output
    ]
    assert kept
    assert not any("application/vnd.jupyter.widget-view+json" in data for data in kept)
    assert any("data:image/svg+xml;base64," in "".join(data.get("text/html", "")) for data in kept)


@pytest.mark.parametrize("context", [False, True], ids=["light", "dark"], indirect=True)
def test_the_picture_of_the_documentation(lab, root, context, pictures, request):
    theme = "dark" if request.node.callspec.params["context"] else "light"
    page = opened(context, lab, root, f"digits-{theme}", SWEEP.format(name=f"digits-{theme}", epochs=30))
    if theme == "dark":
        page.evaluate("() => jupyterapp.commands.execute('apputils:change-theme', { theme: 'JupyterLab Dark' })")
        page.locator(".gd-card[data-dark]").wait_for()
    page.get_by_text("succeeded").nth(3).wait_for()
    page.get_by_role("tab", name="Metrics").click()
    page.wait_for_timeout(3000)
    box = page.locator(".gd-panel:visible .u-over").first.bounding_box()
    page.mouse.move(box["x"] + box["width"] * 0.55, box["y"] + box["height"] * 0.6)
    page.wait_for_timeout(800)
    page.locator(".gd-card").screenshot(path=pictures / ("card-dark.png" if theme == "dark" else "card.png"))
    end(page, f"digits-{theme}")


@pytest.mark.skip(reason="not shown yet: no line of the log appears here in Notebook 7, and why is not known")
def test_the_card_moves_in_notebook_7_too(lab, root, context, pictures):
    write_notebook(root / "seven.ipynb", LOAD, SWEEP.format(name="seven", epochs=60))
    page = context.new_page()
    page.set_default_timeout(60_000)
    page.goto(f"{lab}/notebooks/seven.ipynb?token={TOKEN}")
    page.locator(".jp-NotebookPanel .jp-CodeCell").nth(1).wait_for()
    page.get_by_text("Kernel status: Idle").or_(page.locator("[data-status=idle]")).first.wait_for(state="attached")
    page.locator(".jp-CodeCell").first.click()
    page.keyboard.press("Shift+Enter")
    page.keyboard.press("Shift+Enter")
    page.locator(".gd-line").get_by_text("val_acc").first.wait_for()
    click_a_chart(page)
    page.locator(".gd-line[data-marked]").wait_for()
    page.screenshot(path=pictures / "card-notebook.png")
    page.get_by_role("button", name="Stop…").click()
    page.get_by_role("button", name="Stop the run").click()
    page.locator(":text('stopped'):visible").first.wait_for()
