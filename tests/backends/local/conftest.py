"""A state root of one's own for each test, and nothing left alive after it."""

from __future__ import annotations

import json
import signal
from contextlib import suppress

import pytest
from handmade import Driver

from jupyter_gpudeploy.backends.local import processes
from jupyter_gpudeploy.backends.local.backend import LocalBackend


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    root = tmp_path / "home"
    monkeypatch.setenv("JUPYTER_GPUDEPLOY_HOME", str(root))
    yield root
    for record in root.glob("*/*/ref.json"):
        with suppress(OSError):  # for a supervisor that was started a moment ago
            record.with_name("control").joinpath("stop.json").write_text('{"grace": 0}')
        who = processes.kept_by(record.with_name("supervisor.json"))
        if who is not None:
            processes.send(who, signal.SIGKILL)
        for source in (record, record.with_name("run.json")):
            with suppress(OSError, ValueError, KeyError):
                processes.end_tree(json.loads(source.read_text())["uid"], grace=0)
                break


@pytest.fixture
def backend():
    return LocalBackend()


@pytest.fixture
def local(backend):
    return Driver(backend)
