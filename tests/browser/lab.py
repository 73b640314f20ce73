"""A real JupyterLab and a real browser: Debian's chromium, headless, on this machine only."""

import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from contextlib import contextmanager
from pathlib import Path

from playwright.sync_api import sync_playwright

TOKEN = "browsertest"
CHROMIUM = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
]  # fmt: skip
QUIET = {"@jupyterlab/apputils-extension:notification": {"fetchNews": "false", "checkForUpdates": False}}


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@contextmanager
def lab_server(root, state):
    """Yield the base url of a JupyterLab on `root`, whose kernels keep their runs in `state`."""
    port, home = free_port(), state / "jupyter"
    settings = home / "app" / "settings"
    settings.mkdir(parents=True)
    (settings / "overrides.json").write_text(json.dumps(QUIET))
    environment = {
        **os.environ,
        "JUPYTER_GPUDEPLOY_SAMPLING": "on",
        "JUPYTER_GPUDEPLOY_HOME": str(state / "gpudeploy"),
        "JUPYTER_CONFIG_DIR": str(home / "config"),
        "JUPYTER_DATA_DIR": str(home / "data"),
        "JUPYTER_RUNTIME_DIR": str(home / "run"),
        "IPYTHONDIR": str(home / "ipython"),
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
    }
    command = [
        sys.executable, "-m", "jupyterlab", "--no-browser", "--ip=127.0.0.1", f"--port={port}", "--allow-root",
        "--ServerApp.port_retries=0", f"--IdentityProvider.token={TOKEN}", f"--ServerApp.root_dir={root}",
        "--LabApp.expose_app_in_browser=True", f"--LabApp.app_settings_dir={settings}",
        "--JupyterNotebookApp.expose_app_in_browser=True",
    ]  # fmt: skip
    with (state / "lab.log").open("wb") as log:
        server = subprocess.Popen(command, env=environment, stdout=log, stderr=subprocess.STDOUT, cwd=root)
    url = f"http://127.0.0.1:{port}"
    try:
        _until_it_answers(server, f"{url}/api/status?token={TOKEN}", state / "lab.log")
        yield url
    finally:
        server.terminate()
        server.wait(20)


def _until_it_answers(server, url, log):
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and server.poll() is None:
        try:
            with urllib.request.urlopen(url, timeout=2):
                return
        except OSError:
            time.sleep(0.2)
    raise AssertionError(f"JupyterLab does not answer:\n{log.read_text()[-3000:]}")


@contextmanager
def browser(profile, *, dark=False):
    """Yield a browser context; nothing but this machine can be reached from it."""
    with sync_playwright() as playwright:
        context = playwright.chromium.launch_persistent_context(
            str(profile), executable_path=shutil.which("chromium"), headless=True, args=CHROMIUM,
            viewport={"width": 1280, "height": 1500}, color_scheme="dark" if dark else "light",
        )  # fmt: skip
        context.route("**/*", lambda route: route.continue_() if "127.0.0.1" in route.request.url else route.abort())
        try:
            yield context
        finally:
            context.close()


def open_notebook(context, url, notebook, workspace):
    """Open a notebook in a workspace of its own and wait for its kernel."""
    page = context.new_page()
    page.goto(f"{url}/lab/workspaces/{workspace}/tree/{notebook}?token={TOKEN}&reset")
    return until_connected(page)


def open_in_notebook(context, url, notebook):
    """Open a notebook in Notebook 7 and wait for its kernel."""
    page = context.new_page()
    page.goto(f"{url}/notebooks/{notebook}?token={TOKEN}")
    return until_connected(page)


def until_connected(page):
    """Wait until the notebook's kernel can be asked: a cell that is run before is never run, and nothing says so."""
    page.wait_for_function(
        """() => {
            const kernel = window.jupyterapp?.shell?.currentWidget?.sessionContext?.session?.kernel;
            return kernel?.connectionStatus === 'connected' && kernel?.status === 'idle';
        }""",
        timeout=90_000,
    )
    return page


def run_all(page, timeout=180):
    """Run every cell and wait until all have run."""
    return _run(page, "notebook:run-all-cells", timeout)


def run_cell(page, number, timeout=60):
    """Run one cell, counted from 0, and wait until it has run."""
    page.evaluate("number => { jupyterapp.shell.currentWidget.content.activeCellIndex = number; }", number)
    return _run(page, "notebook:run-cell", timeout)


def _run(page, command, timeout):
    page.evaluate(
        """command => { window.__done = null;
            window.jupyterapp.commands.execute(command).then(
                value => { window.__done = [true, value]; }, error => { window.__done = [false, String(error)]; }); }""",
        command,
    )
    page.wait_for_function("() => window.__done !== null", timeout=timeout * 1000)
    return page.evaluate("() => window.__done")


def save(page):
    """Save the notebook and wait until it is saved."""
    page.evaluate("() => window.jupyterapp.shell.currentWidget.context.save()")
    page.wait_for_function("() => !jupyterapp.shell.currentWidget.context.model.dirty")
