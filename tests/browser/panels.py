"""A JupyterLab that has the panel: found where it was built, its server side on or off."""

import json
import urllib.request
from contextlib import contextmanager
from pathlib import Path

from lab import TOKEN, lab_server

import jupyter_gpudeploy

BUILT = Path(jupyter_gpudeploy.__file__).with_name("labextension")
PANEL = "#gpudeploy-panel"
AXE = Path(__file__).parents[2] / "labextension" / "node_modules" / "axe-core" / "axe.min.js"
LONG = """%%deploy {name}
parameters:
  lr: [0.1, 0.2, 0.3]
parallelism: 1
metric: {{name: loss, goal: minimize}}
---
import time
lr = 0.1
for step in range({steps}):
    print(f"step={{step}} loss={{lr / (step + 1)}}", flush=True)
    time.sleep({pause})
"""


@contextmanager
def panel_server(root, state, *, enabled=True):
    """Yield the base url of a JupyterLab with the panel; `enabled` says whether its server side is on."""
    extensions = state / "jupyter" / "data" / "labextensions"
    config = state / "jupyter" / "config"
    for folder in (extensions, config):
        folder.mkdir(parents=True)
    (extensions / "jupyter-gpudeploy").symlink_to(BUILT, target_is_directory=True)
    told = {"ServerApp": {"jpserver_extensions": {"jupyter_gpudeploy.server": enabled}}}
    (config / "jupyter_server_config.json").write_text(json.dumps(told))
    with lab_server(root, state) as url:
        yield url


def asked(url, path):
    """Return what the server side answers, asked with the token."""
    request = urllib.request.Request(f"{url}/gpudeploy/api/{path}", headers={"Authorization": f"token {TOKEN}"})
    with urllib.request.urlopen(request, timeout=20) as answer:
        return json.load(answer)


def open_lab(context, url, workspace):
    """Open JupyterLab with nothing but the launcher."""
    page = context.new_page()
    page.goto(f"{url}/lab/workspaces/{workspace}?token={TOKEN}&reset")
    page.locator(".jp-Launcher").wait_for(timeout=90_000)
    return page


def open_panel(page):
    """Open the panel by its command."""
    page.evaluate("() => { jupyterapp.commands.execute('gpudeploy:show-panel'); }")
    panel = page.locator(PANEL)
    panel.locator(".gdp-panel").wait_for()
    return panel


def row(panel, name):
    """Return the row of a run."""
    return panel.locator(".gdp-run").filter(has=panel.page.get_by_text(name, exact=True))


def dark(page):
    page.evaluate("() => { jupyterapp.commands.execute('apputils:change-theme', { theme: 'JupyterLab Dark' }); }")
    page.locator("body[data-jp-theme-light='false']").wait_for(state="attached")


def serious(page, selector):
    """Return what axe finds there of level serious or critical, with the first element that has it."""
    page.evaluate(AXE.read_text())
    found = page.evaluate(
        "selector => axe.run(selector, { resultTypes: ['violations'] }).then(result => result.violations)", selector
    )
    return [
        f"{one['id']}: {one['nodes'][0]['html'][:200]} {one['nodes'][0]['failureSummary'][:300]}"
        for one in found
        if one["impact"] in ("serious", "critical")
    ]
