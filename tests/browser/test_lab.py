"""What a person sees in JupyterLab."""

import json
import shutil
import time
from pathlib import Path

import pytest
from lab import browser, lab_server, open_notebook, run_all, save

pytestmark = [pytest.mark.browser, pytest.mark.slow]
EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    root = tmp_path_factory.mktemp("root")
    shutil.copytree(EXAMPLES, root, dirs_exist_ok=True, ignore=shutil.ignore_patterns("out"))
    return root


@pytest.fixture(scope="module")
def lab(tmp_path_factory, place):
    with lab_server(place, tmp_path_factory.mktemp("state")) as url:
        yield url


@pytest.fixture
def context(tmp_path):
    with browser(tmp_path / "profile") as made:
        yield made


def outputs(notebook):
    return [
        (output.get("data", {}), output.get("output_type"))
        for cell in json.loads(notebook.read_text())["cells"]
        for output in cell.get("outputs", [])
    ]


def write_notebook(file, *cells):
    made = [
        {"cell_type": "code", "id": f"c{n}", "metadata": {}, "source": text, "outputs": [], "execution_count": None}
        for n, text in enumerate(cells)
    ]
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    file.write_text(json.dumps({"cells": made, "metadata": kernel, "nbformat": 4, "nbformat_minor": 5}))


def test_the_quickstart_runs_and_its_pictures_stay_in_the_notebook(lab, place, context, pictures):
    page = open_notebook(context, lab, "01_quickstart.ipynb", "quickstart")
    done, _ = run_all(page, timeout=300)
    assert done
    page.locator(".jp-RenderedMarkdown h1").first.evaluate("heading => heading.scrollIntoView()")
    page.wait_for_timeout(1000)
    page.screenshot(path=pictures / "quickstart.png")
    page.locator(".jp-RenderedMarkdown h2:has-text('Compare')").first.evaluate("heading => heading.scrollIntoView()")
    page.locator(".js-plotly-plot").first.wait_for(state="attached", timeout=30_000)
    save(page)
    assert not [kind for _, kind in outputs(place / "01_quickstart.ipynb") if kind == "error"]
    cards = [
        data["text/html"]
        for data, _ in outputs(place / "01_quickstart.ipynb")
        if "digits" in "".join(data.get("text/html", ""))
    ]
    assert any("succeeded" in "".join(card) for card in cards)


@pytest.mark.fault(4)
def test_a_tab_closed_during_the_work_loses_nothing(lab, place, context):
    lines = 300
    code = f"import time\nfor n in range({lines}):\n    print(f'step={{n}} value={{n}}')\n    time.sleep(0.01)\n"
    load, read = (
        "%load_ext jupyter_gpudeploy",
        "run.wait(60)\nprint('ROWS', len(run.metrics()), len(run.logs().splitlines()))",
    )
    write_notebook(place / "closed.ipynb", load, f"%%deploy closed -o run\n---\n{code}", "print('started')")
    write_notebook(place / "again.ipynb", load, "run = %deploy attach closed", read)
    page = open_notebook(context, lab, "closed.ipynb", "closed")
    run_all(page)
    page.close()
    time.sleep(1)
    page = open_notebook(context, lab, "again.ipynb", "again")
    run_all(page)
    page.get_by_text(f"ROWS {lines} {lines}").first.wait_for(timeout=30_000)
