"""Importing the package and loading the extension pull in nothing heavy."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

HEAVY = [
    "pandas",
    "numpy",
    "plotly",
    "kubernetes",
    "ipywidgets",
    "anywidget",
    "jinja2",
    "pydantic",
    "yaml",
    "scipy",
    "optuna",
]
REPOSITORY = Path(__file__).parents[1]
LOADING = """
from IPython.core.interactiveshell import InteractiveShell
from traitlets.config import Config
shell = InteractiveShell.instance(config=Config(HistoryManager={"enabled": False}))
shell.run_line_magic("load_ext", "jupyter_gpudeploy")
"""


def loaded(code: str) -> set[str]:
    """Return the top-level modules that a fresh interpreter has after this code."""
    code += "\nimport sys; print(*sorted({name.partition('.')[0] for name in sys.modules}))"
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=REPOSITORY, check=True, capture_output=True, text=True)
    return set(done.stdout.split())


def test_importing_the_package_pulls_in_nothing_heavy():
    assert loaded("import jupyter_gpudeploy").isdisjoint([*HEAVY, "IPython"])


def test_loading_the_extension_pulls_in_nothing_heavy(tmp_path, monkeypatch):
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path))
    modules = loaded(LOADING)
    assert "jupyter_gpudeploy" in modules
    assert modules.isdisjoint(HEAVY)


@pytest.mark.parametrize("name", ["launch", "attach", "runs", "compare", "Run"])
def test_the_handles_pull_in_no_table_and_no_figure(name):
    assert loaded(f"from jupyter_gpudeploy import {name}").isdisjoint(["pandas", "plotly", "IPython"])
