"""The panel of JupyterLab: what a newcomer does from the launcher to a server that answers, and what everyone needs."""

import pytest
from cards import written
from lab import open_in_notebook, open_notebook, run_all
from panels import BUILT, LONG, asked, dark, open_lab, open_panel, panel_server, row, serious

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
    return ran(open_notebook(context, lab, written(root, name, *cells), name))


def in_notebook_7(context, lab, root, name, *cells):
    return ran(open_in_notebook(context, lab, written(root, name, *cells)))


def ran(page):
    done, answer = run_all(page)
    assert done, answer
    return page


def sources(page):
    return page.evaluate("() => jupyterapp.shell.currentWidget.content.model.sharedModel.cells.map(c => c.getSource())")


def test_a_newcomer_serves_an_app_from_the_launcher_and_stops_it_in_the_panel(lab, root, context, pictures):
    page = open_lab(context, lab, "newcomer")
    page.screenshot(path=pictures / "panel_launcher.png")
    page.locator(".jp-LauncherCard").filter(has_text="New Deployment").click()
    insert_a_server(page, "greeter")
    page.locator(".gd-pill[data-state=ready]").wait_for(timeout=90_000)
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


def insert_a_server(page, name):
    wizard = page.locator(".gd-wizard")
    wizard.wait_for(timeout=90_000)
    wizard.get_by_role("button", name="Serve a model or app").click()
    wizard.get_by_label("name", exact=True).fill(name)
    wizard.get_by_label("serve", exact=True).fill("fastapi")
    wizard.get_by_label("run", exact=True).fill("app.py")
    wizard.locator("pre.gd-text").filter(has_text="run: app.py").first.wait_for()
    wizard.get_by_role("button", name="Insert and run").click()


def test_a_newcomer_serves_an_app_in_notebook_7_too(lab, root, context, pictures):
    page = in_notebook_7(context, lab, root, "hello", "%deploy wizard")
    insert_a_server(page, "hello")
    page.locator(".gd-pill[data-state=ready]").wait_for(timeout=90_000)
    assert context.request.get(page.locator("a.gd-link").get_attribute("href")).json() == {"said": "hello"}
    page.screenshot(path=pictures / "wizard_notebook.png", full_page=True)
    panel = open_panel(page)
    row(panel, "hello").get_by_role("button", name="Stop… hello").click()
    page.locator(".jp-Dialog").get_by_role("button", name="Stop the run").click()
    panel.locator(".gdp-run[data-state=stopped]").filter(has_text="hello").wait_for()


def test_the_log_streams_in_a_tab_and_rests_where_a_person_reads(lab, root, context, pictures):
    page = with_notebook(context, lab, root, "chatty", LONG.format(name="chatty", steps=400, pause=0.2))
    row(open_panel(page), "chatty").get_by_role("button", name="Logs of chatty").click()
    log = page.get_by_role("log", name="Log of chatty")
    log.get_by_text("step=1 ").first.wait_for()
    first = log.text_content()
    page.wait_for_function("was => document.querySelector('.gdp-log').textContent !== was", arg=first)
    page.wait_for_function("() => document.querySelector('.gdp-log').scrollHeight > 1700", timeout=90_000)
    page.get_by_role("button", name="Pause: stay where I read").click()
    log.evaluate("one => { one.scrollTop = 0; }")
    was = log.text_content()
    page.wait_for_function("was => document.querySelector('.gdp-log').textContent !== was", arg=was)
    assert log.evaluate("one => one.scrollTop") == 0
    page.get_by_role("button", name="Follow: keep the end in sight").click()
    assert log.evaluate("one => one.scrollTop") > 0
    page.screenshot(path=pictures / "panel_logs.png")
    panel = open_panel(page)
    row(panel, "chatty").get_by_role("button", name="Stop… chatty").click()
    page.locator(".jp-Dialog").get_by_role("button", name="Stop the run").click()
    panel.locator(".gdp-run[data-state=stopped]").filter(has_text="chatty").wait_for()


def test_the_results_are_a_table_and_what_is_finished_is_cleaned_when_asked(lab, root, context, pictures):
    page = with_notebook(context, lab, root, "short", LONG.format(name="short", steps=2, pause=0))
    panel = open_panel(page)
    run = panel.locator(".gdp-run[data-state=succeeded]").filter(has_text="short")
    run.get_by_role("button", name="Results of short").click()
    table = page.get_by_role("region", name="Results of short").get_by_role("table")
    table.get_by_role("row").nth(3).wait_for()
    table.get_by_role("button", name="lr", exact=True).click()
    assert table.get_by_role("columnheader", name="lr", exact=True).get_attribute("aria-sort") == "ascending"
    page.screenshot(path=pictures / "panel_results.png")
    panel.get_by_role("button", name="Clean finished…").click()
    page.locator(".jp-Dialog").get_by_text("short").first.wait_for()
    page.locator(".jp-Dialog").get_by_role("button", name="Keep them").click()
    assert "short" in [one["name"] for one in asked(lab, "runs")["runs"]]
    panel.get_by_role("button", name="Clean finished…").click()
    page.locator(".jp-Dialog").get_by_role("button", name="Delete").click()
    run.wait_for(state="detached")
    assert "short" not in [one["name"] for one in asked(lab, "runs")["runs"]]


def test_a_card_is_opened_below_in_the_notebook_after_a_restart_too_and_without_one_the_way_is_said(
    lab, root, context, pictures
):
    page = with_notebook(context, lab, root, "carded", LONG.format(name="carded", steps=400, pause=0.2))
    page.evaluate("() => jupyterapp.shell.currentWidget.sessionContext.session.kernel.restart()")
    page.wait_for_function("() => jupyterapp.shell.currentWidget.sessionContext.session.kernel.status === 'idle'")
    run = row(open_panel(page), "carded")
    run.get_by_role("button", name="Card of carded").click()
    page.wait_for_function(
        """() => jupyterapp.shell.currentWidget.content.model.sharedModel.cells.some(
            c => c.getSource().endsWith('%deploy watch carded'))"""
    )
    assert "%load_ext jupyter_gpudeploy\n%deploy watch carded" in sources(page)
    page.locator(".jp-Cell:has-text('deploy watch carded') .gd-card .gd-line").first.wait_for()
    other = open_lab(context, lab, "without")
    run = row(open_panel(other), "carded")
    run.get_by_role("button", name="Card of carded").click()
    other.locator(".jp-Dialog").get_by_text("%deploy watch carded").wait_for()
    other.keyboard.press("Escape")
    run.get_by_role("button", name="Stop… carded").click()
    other.locator(".jp-Dialog").get_by_role("button", name="Stop the run").click()
    open_panel(other).locator(".gdp-run[data-state=stopped]").filter(has_text="carded").wait_for()


def test_what_is_written_is_coloured_completed_and_explained_in_the_cell(lab, root, context, pictures):
    page = with_notebook(context, lab, root, "typed", "")
    colours_while_typing(page)
    page.screenshot(path=pictures / "panel_cell.png")
    page.keyboard.press("Control+Home")
    page.keyboard.press("End")
    page.keyboard.type("\npara")
    page.keyboard.press("Tab")
    page.locator(".jp-Completer").get_by_text("parameters:").wait_for()
    page.screenshot(path=pictures / "panel_completion.png")
    page.keyboard.press("Escape")
    for _ in range(4):
        page.keyboard.press("Backspace")
    page.keyboard.type("serve: fastapi")
    page.keyboard.press("Shift+Tab")
    page.locator(".jp-Tooltip").get_by_text("one of: command").wait_for()
    page.screenshot(path=pictures / "panel_help.png")


def colours_while_typing(page):
    """Write a cell letter by letter: first Python, then ours, and Python again without its first sign."""
    editor = page.locator(".jp-CodeCell .cm-content").last
    editor.click()
    page.keyboard.type("lr: 0.1")
    before = colour_of(editor, "lr")
    page.keyboard.press("Control+Home")
    page.keyboard.type("%%deploy x\n")
    page.wait_for_function(
        "was => { const all = [...document.querySelectorAll('.cm-content')].at(-1);"
        " const one = [...all.querySelectorAll('.cm-line:nth-child(2) span')].find(s => s.textContent.startsWith('lr'));"
        " return one && getComputedStyle(one).color !== was; }",
        arg=before,
    )
    page.keyboard.press("Control+End")
    page.keyboard.type("\n---\nimport os")
    key = colour_of(editor, "lr")
    assert colour_of(editor, "import") not in (key, colour_of(editor, "0.1"))
    page.keyboard.press("Control+Home")
    page.keyboard.press("Delete")
    page.wait_for_function(
        "was => { const all = [...document.querySelectorAll('.cm-content')].at(-1);"
        " const one = [...all.querySelectorAll('.cm-line:nth-child(2) span')].find(s => s.textContent.startsWith('lr'));"
        " return !one || getComputedStyle(one).color !== was; }",
        arg=key,
    )
    page.keyboard.type("%")


def colour_of(editor, word):
    """Return the colour in which a word is shown: of the innermost element that begins with it."""
    return editor.evaluate(
        """(editor, word) => {
            const all = [...editor.querySelectorAll('span, .cm-line')].filter(s => s.textContent.startsWith(word));
            return getComputedStyle(all.at(-1)).color; }""",
        word,
    )


def test_without_the_server_side_the_panel_says_how_it_is_enabled(root, context, tmp_path, pictures):
    with panel_server(root, tmp_path, enabled=False) as url:
        panel = open_panel(open_lab(context, url, "off"))
        said = panel.get_by_role("alert")
        said.get_by_text("jupyter server extension enable jupyter_gpudeploy.server").wait_for()
        assert panel.get_by_role("button", name="Try now").is_visible()
        panel.screenshot(path=pictures / "panel_off.png")


def test_a_server_that_is_silent_is_said_and_found_again(lab, root, context):
    page = open_lab(context, lab, "silent")
    page.route("**/gpudeploy/api/**", lambda route: route.abort())
    panel = open_panel(page)
    panel.locator(".gdp-status").filter(has_text="Not up to date: the Jupyter server does not answer").wait_for()
    page.unroute("**/gpudeploy/api/**")
    panel.get_by_role("button", name="Try now").click()
    panel.locator(".gdp-line").get_by_role("button", name="Try now").wait_for(state="hidden")
    assert panel.locator(".gdp-panel").get_attribute("data-stale") is None


def test_the_keyboard_alone_opens_the_panel_a_log_and_stops_a_run(lab, root, context):
    page = with_notebook(context, lab, root, "keyed", LONG.format(name="keyed", steps=400, pause=0.2))
    row(open_panel(page), "keyed").wait_for()
    page.evaluate("() => { jupyterapp.commands.execute('filebrowser:activate'); }")
    page.locator("#gpudeploy-panel").wait_for(state="hidden")
    page.keyboard.press("Control+Alt+g")
    page.locator("#gpudeploy-panel").wait_for()
    assert focused(page) == "New deployment"
    passed = tabbed(page, until="Logs of keyed")
    assert passed.index("Card of keyed") < passed.index("Logs of keyed")
    page.keyboard.press("Enter")
    page.get_by_role("log", name="Log of keyed").get_by_text("step=").first.wait_for()
    page.keyboard.press("Control+Alt+g")
    tabbed(page, until="Stop… keyed")
    page.keyboard.press("Enter")
    page.locator(".jp-Dialog").wait_for()
    assert focused(page) == "Keep running"
    tabbed(page, until="Stop the run")
    page.keyboard.press("Enter")
    page.locator("#gpudeploy-panel .gdp-run[data-state=stopped]").filter(has_text="keyed").wait_for()


def focused(page):
    return page.evaluate(
        """() => { const one = document.activeElement;
            return (one.getAttribute('aria-label') || one.textContent).trim(); }"""
    )


def tabbed(page, until):
    """Press Tab until what has that name has the focus; return the names on the way."""
    names = [focused(page)]
    while names[-1] != until:
        assert len(names) < 60, names
        page.keyboard.press("Tab")
        names.append(focused(page))
    return names


@pytest.mark.parametrize("context", [False, True], ids=["light", "dark"], indirect=True)
def test_panel_log_results_and_wizard_have_no_serious_fault_of_access(lab, root, context, pictures, request):
    theme = "dark" if request.node.callspec.params["context"] else "light"
    name = f"shown-{theme}"
    broken = f"%%deploy broken-{theme}\n---\nraise SystemExit('the data is not there')\n"
    sweep = LONG.format(name=name, steps=40, pause=0.2)
    page = with_notebook(context, lab, root, name, broken, sweep, "%deploy wizard")
    if theme == "dark":
        dark(page)
    panel = open_panel(page)
    row(panel, name).locator(".gdp-state").filter(has_text="running").wait_for()
    panel.locator(".gdp-run[data-state=failed]").first.wait_for()
    page.locator(".gd-wizard").get_by_label("name", exact=True).wait_for()
    picture = "panel.png" if theme == "light" else "panel-dark.png"
    page.screenshot(path=pictures / picture, clip={"x": 0, "y": 0, "width": 1280, "height": 800})
    assert serious(page, "#gpudeploy-panel") == []
    assert serious(page, ".gd-wizard") == []
    row(panel, name).get_by_role("button", name=f"Logs of {name}").click()
    page.get_by_role("log").get_by_text("step=").first.wait_for()
    assert serious(page, ".gdp-logs") == []
    row(panel, name).get_by_role("button", name=f"Results of {name}").click()
    page.get_by_role("region", name=f"Results of {name}").get_by_role("table").wait_for()
    assert serious(page, ".gdp-results") == []
    row(panel, name).get_by_role("button", name=f"Stop… {name}").click()
    page.locator(".jp-Dialog").get_by_role("button", name="Stop the run").click()
    panel.locator(".gdp-run[data-state=stopped]").filter(has_text=name).wait_for()


def test_the_examples_are_a_notebook_of_their_own(lab, root, context):
    page = open_lab(context, lab, "tour")
    page.locator(".jp-LauncherCard").filter(has_text="Notebook of Examples").click()
    page.locator(".jp-NotebookPanel").wait_for()
    page.wait_for_function("() => jupyterapp.shell.currentWidget?.content?.model?.sharedModel?.cells.length > 8")
    assert any(text.startswith("%%deploy parabola") for text in sources(page))
    assert (root / "gpudeploy-tour.ipynb").exists()


def test_notebook_7_has_the_panel_and_the_colours_too(lab, root, context, pictures):
    page = in_notebook_7(context, lab, root, "seven", LONG.format(name="seven", steps=40, pause=0.2), "")
    panel = open_panel(page)
    row(panel, "seven").wait_for()
    page.screenshot(path=pictures / "panel_notebook.png")
    colours_while_typing(page)
    row(panel, "seven").get_by_role("button", name="Stop… seven").click()
    page.locator(".jp-Dialog").get_by_role("button", name="Stop the run").click()
    panel.locator(".gdp-run[data-state=stopped]").filter(has_text="seven").wait_for()
