"""The card when its kernel goes: what is said, what stays in the notebook, and how the run is seen again."""

import json
import os
import signal

import cards
import pytest
from cards import SWEEP, end, opened
from lab import TOKEN, run_cell, save
from playwright.sync_api import expect

pytestmark = cards.MARKS


def kernel_process(page):
    """Return the id of the process of the notebook's kernel."""
    return page.evaluate(
        """() => new Promise(done => {
            const kernel = jupyterapp.shell.currentWidget.sessionContext.session.kernel;
            const future = kernel.requestExecute({ code: 'import os; print(os.getpid())' });
            future.onIOPub = ({ header, content }) => header.msg_type === 'stream' && done(Number(content.text)); })"""
    )


def data_of_outputs(file):
    cells = json.loads(file.read_text())["cells"]
    return [output["data"] for cell in cells for output in cell["outputs"] if "data" in output]


@pytest.mark.fault(4)
def test_a_killed_kernel_is_said_at_once_and_the_next_one_brings_the_history_back(lab, root, context, pictures):
    page = opened(context, lab, root, "killed", SWEEP.format(name="killed", epochs=150), "print('hello')")
    page.locator(".gd-line").get_by_text("val_acc").first.wait_for()
    os.kill(kernel_process(page), signal.SIGKILL)
    page.get_by_role("alert").get_by_text("The kernel that showed this has ended").wait_for()
    page.get_by_role("alert").get_by_text("%deploy watch killed").wait_for()
    page.get_by_role("button", name="Ok", exact=True).click()
    stood = page.locator(".gd-time").text_content()
    page.wait_for_timeout(2500)
    assert page.locator(".gd-time").text_content() == stood
    page.get_by_role("button", name="Stop…").click()
    page.get_by_role("button", name="Stop the run").click()
    page.get_by_role("alert").get_by_text("%deploy stop killed").wait_for()
    page.locator(".gd-card").screenshot(path=pictures / "card-killed.png")
    page.evaluate("text => jupyterapp.shell.currentWidget.model.sharedModel.cells[2].setSource(text)", WATCH)
    done, said = run_cell(page, 2)
    assert done, said
    again = page.locator(".jp-Cell").nth(2)
    again.locator(".gd-line").get_by_text("val_acc").first.wait_for()
    again.locator(".gd-list").evaluate("list => { list.scrollTop = 0; }")
    again.locator(".gd-line").get_by_text("epoch=1 ").first.wait_for()
    again.get_by_role("tab", name="Metrics").click()
    again.locator(".gd-panel:visible .u-over").first.wait_for()
    end(page, "killed")


WATCH = "%load_ext jupyter_gpudeploy\n%deploy watch killed"


def test_a_kernel_that_is_shut_down_leaves_a_picture_that_needs_none(lab, root, context, pictures):
    page = opened(context, lab, root, "shut", SWEEP.format(name="shut", epochs=150))
    page.locator(".gd-line").get_by_text("epoch=5").first.wait_for()
    page.evaluate("() => { jupyterapp.commands.execute('kernelmenu:shutdown'); }")
    page.locator(".gd-card").wait_for(state="detached")
    page.get_by_text("%deploy attach shut").first.wait_for()
    save(page)
    page.close()
    (kept,) = data_of_outputs(root / "shut.ipynb")
    assert sorted(kept) == ["text/html", "text/plain"]
    page = without_kernel(context, lab, "shut.ipynb")
    picture = page.locator(".jp-OutputArea figure img").first
    picture.wait_for()
    assert picture.evaluate("image => image.complete && image.naturalWidth > 300 && image.clientWidth > 300")
    expect(page.locator(".jp-OutputArea")).to_contain_text(["", "%deploy attach shut"])
    expect(page.locator(".jp-OutputArea table").first).to_contain_text("val_acc")
    page.screenshot(path=pictures / "reopened.png")
    end_by_another_kernel(context, lab, root)


def without_kernel(context, lab, notebook):
    """Open a notebook in JupyterLab so that no kernel is started for it."""
    page = context.new_page()
    page.goto(f"{lab}/lab/workspaces/none?token={TOKEN}&reset")
    page.wait_for_function("() => window.jupyterapp?.shell")
    page.evaluate(
        """path => jupyterapp.restored.then(() => jupyterapp.commands.execute('docmanager:open', {
            path, factory: 'Notebook', kernelPreference: { shouldStart: false, canStart: false } })).then(() => null)""",
        notebook,
    )
    page.locator(".jp-CodeCell").first.wait_for()
    assert page.evaluate("() => jupyterapp.shell.currentWidget.sessionContext.session?.kernel ?? null") is None
    return page


def end_by_another_kernel(context, lab, root):
    page = opened(context, lab, root, "other", "%deploy watch shut")
    page.locator(".gd-line").get_by_text("val_acc").first.wait_for()
    end(page, "shut")
