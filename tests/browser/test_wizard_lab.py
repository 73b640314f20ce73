"""The wizard in a real JupyterLab: opened, filled in, its cell inserted and run; with the keyboard alone; in the dark."""

import pytest
from cards import write_notebook
from lab import browser, lab_server, open_notebook, run_all, save

pytestmark = [pytest.mark.browser, pytest.mark.slow]
SCRIPT = """\
import argparse

parser = argparse.ArgumentParser()
parser.add_argument("--lr", type=float, default=0.01, help="step of the optimizer")
parser.add_argument("--batch-size", type=int, default=32, help="rows a step")
parser.add_argument("--optimizer", choices=["sgd", "adam"], default="adam")
parser.add_argument("--amp", action="store_true", help="mixed precision")
settings = parser.parse_args()
print(f"loss={settings.lr * settings.batch_size}")
"""
RUNNING = "() => [...document.querySelectorAll('.jp-InputPrompt')].some(one => one.textContent.includes('[*]'))"


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    root = tmp_path_factory.mktemp("root")
    (root / "train.py").write_text(SCRIPT)
    return root


@pytest.fixture(scope="module")
def lab(tmp_path_factory, place):
    with lab_server(place, tmp_path_factory.mktemp("state")) as url:
        yield url


@pytest.fixture
def context(tmp_path):
    with browser(tmp_path / "profile") as made:
        made.set_default_timeout(30_000)
        yield made


def opened(context, lab, place, name, *cells):
    write_notebook(place / f"{name}.ipynb", "%load_ext jupyter_gpudeploy", *cells)
    page = open_notebook(context, lab, f"{name}.ipynb", name)
    done, answer = run_all(page)
    assert done, answer
    page.locator(".gd-wizard").wait_for(timeout=60_000)
    return page


def sources(page):
    return page.evaluate(
        "() => window.jupyterapp.shell.currentWidget.context.model.sharedModel.cells.map(cell => cell.getSource())"
    )


def shows(page, text, timeout=30_000):
    page.locator(".gd-wizard pre.gd-text").first.filter(has_text=text).wait_for(timeout=timeout)


def test_a_sweep_of_a_script_is_made_inserted_and_run(lab, place, context, pictures):
    page = opened(context, lab, place, "sweep", "%deploy wizard")
    wizard = page.locator(".gd-wizard")
    page.wait_for_timeout(1000)
    page.screenshot(path=pictures / "wizard_new.png")
    wizard.get_by_role("button", name="Sweep or ablation").click()
    wizard.get_by_label("run", exact=True).fill("train.py")
    wizard.get_by_label("name", exact=True).fill("from-the-form")
    wizard.get_by_role("button", name="+ lr").click()
    wizard.get_by_label("lr:").wait_for()
    wizard.get_by_label("values").last.fill("0.1, 0.01, 0.1")
    wizard.get_by_role("alert").filter(has_text="twice").wait_for()
    page.screenshot(path=pictures / "wizard_mistake.png")
    wizard.get_by_label("values").last.fill("0.1, 0.01, 0.001")
    wizard.get_by_role("button", name="+ batch_size").click()
    wizard.get_by_label("batch_size:").wait_for()
    wizard.get_by_label("values").last.fill("16, 32")
    wizard.get_by_label("metric name").fill("loss")
    wizard.get_by_label("parallelism").fill("2")
    shows(page, "parallelism: 2")
    wizard.get_by_text("6 runs").wait_for()
    page.screenshot(path=pictures / "wizard_cell.png", full_page=True)
    wizard.get_by_role("tab", name="Plan").click()
    wizard.get_by_text("6 trials").wait_for()
    wizard.screenshot(path=pictures / "wizard.png")
    wizard.get_by_role("button", name="Insert and run").click()
    wizard.get_by_text("The cell was inserted and runs.").wait_for(timeout=30_000)
    assert sources(page)[2].startswith(
        "%%deploy\nname: from-the-form\nrun: train.py\nparameters:\n  lr: [0.1, 0.01, 0.001]"
    )
    page.get_by_text("succeeded", exact=True).first.wait_for(timeout=90_000)
    page.screenshot(path=pictures / "wizard_run.png", full_page=True)
    save(page)


def test_the_text_of_a_form_on_a_cell_replaces_that_cell(lab, place, context):
    page = opened(context, lab, place, "edit", "%%deploy wizard\n# my job\nrun: train.py  # the script\ngpus: 0\n")
    wizard = page.locator(".gd-wizard")
    wizard.get_by_label("name", exact=True).fill("edited")
    shows(page, "name: edited")
    wizard.get_by_role("button", name="Replace cell").click()
    wizard.get_by_text("The cell was replaced.").wait_for()
    assert sources(page)[1] == "%%deploy\n# my job\nname: edited\nrun: train.py  # the script\ngpus: 0"


def test_the_keyboard_alone_fills_in_and_inserts(lab, place, context):
    page = opened(context, lab, place, "keys", "%deploy wizard")
    page.locator(".gd-wizard").get_by_role("button", name="Train or run a job").focus()
    labels = tabbed(page, until="name")
    assert labels[:4] == [
        "Sweep or ablation",
        "Serve a model or app",
        "Evaluate or benchmark",
        "Interactive environment",
    ]
    page.keyboard.type("typed")
    assert tabbed(page, until="run") == ["run"]
    page.keyboard.type("train.py")
    shows(page, "run: train.py")
    tabbed(page, until="Insert cell")
    page.keyboard.press("Enter")
    page.get_by_text("The cell was inserted.").wait_for()
    assert sources(page)[2] == "%%deploy\nname: typed\nrun: train.py"


def tabbed(page, until):
    """Press Tab until the element of that name has the focus; return the names that had it on the way."""
    names = []
    while not names or names[-1] != until:
        assert len(names) < 60, names
        page.keyboard.press("Tab")
        names.append(page.evaluate(
            "() => { const one = document.activeElement;"
            " return (one.labels?.[0]?.textContent || one.getAttribute('aria-label') || one.textContent).trim(); }"
        ))  # fmt: skip
    return names


def test_every_input_has_a_label_and_the_dark_theme_is_followed(lab, place, tmp_path, pictures):
    with browser(tmp_path / "dark", dark=True) as context:
        page = opened(context, lab, place, "dark", "%%deploy wizard\nserve: fastapi\nrun: app.py\nport: many\n")
        page.evaluate("() => window.jupyterapp.commands.execute('apputils:change-theme', {theme: 'JupyterLab Dark'})")
        page.locator("body[data-jp-theme-light='false']").wait_for(state="attached")
        wizard = page.locator(".gd-wizard")
        wizard.get_by_text("More settings").click()
        wizard.get_by_label("time zone").wait_for()
        nameless = wizard.locator("input, select, textarea").evaluate_all(
            "all => all.filter(one => !one.labels?.[0]?.textContent.trim()).map(one => one.outerHTML)"
        )
        assert nameless == []
        wizard.get_by_role("alert").filter(has_text="port must be a whole number").wait_for()
        wizard.get_by_text("More settings").click()
        page.wait_for_timeout(500)
        wizard.screenshot(path=pictures / "wizard_dark.png")
