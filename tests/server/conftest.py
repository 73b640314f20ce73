"""One Jupyter server for all tests of this folder; runs are real ones of this machine."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from jserver import Jupyter, Stream


@pytest.fixture(scope="package")
def place(tmp_path_factory):
    return tmp_path_factory.mktemp("jupyter")


@pytest.fixture(scope="package")
def server(place):
    made = Jupyter(place, place / "home", JUPYTER_GPUDEPLOY_CONFIG=str(place / "settings.yaml"), KUBECONFIG="/none")
    yield made
    made.close()
    said = made.log.read_text("utf-8")
    assert "Traceback" not in said, said


@pytest.fixture
def home(place, monkeypatch, tmp_path):
    """The state root of the server; every run in it is stopped and deleted at the end."""
    monkeypatch.setenv("JUPYTER_GPUDEPLOY_HOME", str(place / "home"))
    monkeypatch.chdir(tmp_path)
    yield place / "home"
    from jupyter_gpudeploy import runs

    for run in runs():
        run.stop(0.5)
        run.remove(yes=True)
    shutil.rmtree(place / "home" / "runs", ignore_errors=True)  # what is broken


@pytest.fixture
def panel(server):
    """What the panel is: a page with cookies."""
    return server.browser()


@pytest.fixture
def listen():
    """Return streams of changes, closed at the end."""
    opened = []

    def listen(client, *options):
        opened.append(Stream(client, *options))
        return opened[-1]

    yield listen
    for stream in opened:
        stream.close()
