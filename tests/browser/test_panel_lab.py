"""The panel of JupyterLab: what a newcomer does from the launcher to a server that answers, and what everyone needs."""

import json

import pytest
from lab import open_notebook, run_all
from panels import BUILT, asked, open_lab, open_panel, panel_server, row

pytestmark = [
    pytest.mark.browser,
    pytest.mark.slow,
    pytest.mark.skipif(not (BUILT / "package.json").exists(), reason="the panel is not built: make labextension"),
]
APP = """\
from fastapi import FastAPI

app = FastAPI()


@app.get("/")
def root():
    return {"said": "hello"}
"""


@pytest.fixture(scope="module")
def lab(tmp_path_factory, root):
    (root / "app.py").write_text(APP)
    with panel_server(root, tmp_path_factory.mktemp("state")) as url:
        yield url


@pytest.fixture(autouse=True)
def patience(context):
    context.set_default_timeout(40_000)


def with_notebook(context, lab, root, name, *cells):
    made = [
        {"cell_type": "code", "id": f"c{n}", "metadata": {}, "source": text, "outputs": [], "execution_count": None}
        for n, text in enumerate(("%load_ext jupyter_gpudeploy", *cells))
    ]
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    notebook = {"cells": made, "metadata": kernel, "nbformat": 4, "nbformat_minor": 5}
    (root / f"{name}.ipynb").write_text(json.dumps(notebook))
    page = open_notebook(context, lab, f"{name}.ipynb", name)
    done, answer = run_all(page)
    assert done, answer
    return page


def sources(page):
    return page.evaluate("() => jupyterapp.shell.currentWidget.content.model.sharedModel.cells.map(c => c.getSource())")


def test_a_newcomer_serves_an_app_from_the_launcher_and_stops_it_in_the_panel(lab, root, context, pictures):
    page = open_lab(context, lab, "newcomer")
    page.screenshot(path=pictures / "panel_launcher.png")
    page.locator(".jp-LauncherCard").filter(has_text="New Deployment").click()
    wizard = page.locator(".gd-wizard")
    wizard.wait_for(timeout=90_000)
    wizard.get_by_role("button", name="Serve a model or app").click()
    wizard.get_by_label("name", exact=True).fill("greeter")
    wizard.get_by_label("serve", exact=True).fill("fastapi")
    wizard.get_by_label("run", exact=True).fill("app.py")
    wizard.locator("pre.gd-text").filter(has_text="run: app.py").first.wait_for()
    wizard.get_by_role("button", name="Insert and run").click()
    panel = open_panel(page)
    run = row(panel, "greeter")
    run.locator(".gdp-state").filter(has_text="ready").wait_for(timeout=90_000)
    page.screenshot(path=pictures / "panel_ready.png")
    href = run.get_by_role("link", name="Open greeter").get_attribute("href")
    answer = context.request.get(href)
    assert answer.json() == {"said": "hello"}
    run.get_by_role("button", name="Stop… greeter").click()
    dialog = page.locator(".jp-Dialog")
    dialog.get_by_text("Requests to it fail from then on.").wait_for()
    page.screenshot(path=pictures / "panel_stop.png")
    dialog.get_by_role("button", name="Stop the run").click()
    panel.locator(".gdp-run[data-state=stopped]").filter(has_text="greeter").wait_for()
    assert [one["state"] for one in asked(lab, "runs")["runs"] if one["name"] == "greeter"] == ["stopped"]
