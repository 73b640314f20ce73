"""Notebooks run by machines: a failing cell must be seen as one."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from patience import REPOSITORY

pytestmark = pytest.mark.kernel

GOOD = "%%deploy --wait\nname: good\n---\nprint('loss=0.5')"
MISTAKE = "%%deploy\nname: x\npaarmeters: {}"
FAILING = "%%deploy --wait\nname: bad\n---\nraise SystemExit(3)"
BARE = "%%deploy --wiat\n"


@pytest.fixture
def notebook(tmp_path, home, monkeypatch):
    """Write a notebook of these cells."""
    import nbformat
    from nbformat import v4

    monkeypatch.setenv("PYTHONPATH", str(REPOSITORY))

    def write(*cells):
        kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
        file = tmp_path / "notebook.ipynb"
        codes = ["%load_ext jupyter_gpudeploy", *cells]
        nbformat.write(v4.new_notebook(cells=[v4.new_code_cell(code) for code in codes], metadata=kernel), file)
        return file

    return write


def execute(*command, cwd):
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("PYTEST_", "COV_"))}
    return subprocess.run(
        [sys.executable, "-m", *map(str, command)],
        cwd=cwd,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize("bad", [MISTAKE, FAILING, BARE])
def test_nbval_sees_a_failing_cell(notebook, tmp_path, bad):
    done = execute("pytest", "--nbval-lax", "-q", "-p", "no:cacheprovider", notebook(GOOD, bad), cwd=tmp_path)
    assert done.returncode == 1, done.stdout + done.stderr
    assert "1 failed, 2 passed" in done.stdout


@pytest.mark.parametrize(("bad", "ename"), [(MISTAKE, "SpecError"), (FAILING, "RunFailedError")])
def test_papermill_stops_at_a_failing_cell_and_names_our_error(notebook, tmp_path, bad, ename):
    done = execute("papermill", notebook(bad, "print('after')"), tmp_path / "out.ipynb", cwd=tmp_path)
    assert done.returncode != 0
    assert ename in done.stderr


def test_what_was_waited_for_is_saved_in_the_notebook(notebook, tmp_path):
    import nbformat

    done = execute("papermill", notebook(GOOD, "print('after')"), tmp_path / "out.ipynb", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    saved = nbformat.read(tmp_path / "out.ipynb", 4)
    (output,) = saved.cells[1].outputs
    assert "good: succeeded" in output.data["text/plain"]
    assert "succeeded" in output.data["text/html"]
    assert saved.cells[2].outputs[0].text == "after\n"
