"""Changing a run while it lives: what this machine refuses, and says why."""

import pytest

from jupyter_gpudeploy import launch
from jupyter_gpudeploy.errors import BackendError, GpuDeployError
from jupyter_gpudeploy.notebook import arguments, verbs

SWEEP = "name: sweep\nparameters: {x: [1, 2]}\nparallelism: 2\n---\nimport time\nx = 0\ntime.sleep(60)\n"


@pytest.fixture
def run(tmp_path, monkeypatch):
    monkeypatch.setenv("JUPYTER_GPUDEPLOY_HOME", str(tmp_path))
    made = launch(SWEEP, backend="local")
    yield made
    made.stop(0)


def line(text):
    return verbs.line_verb(None, arguments.parse_line(text))


def test_a_local_run_keeps_its_parallelism_and_cannot_be_paused(run):
    assert run.parallelism == line("parallelism sweep") == 2
    with pytest.raises(BackendError, match="a local run keeps its parallelism") as caught:
        run.parallelism = 1
    assert "--replace" in caught.value.hint
    for verb in ("pause", "unpause"):
        with pytest.raises(BackendError, match="a local run cannot be paused"):
            line(f"{verb} sweep")
    with pytest.raises(GpuDeployError, match="'many' is no whole number"):
        line("parallelism sweep many")


def test_a_local_run_is_nobody_elses_and_up_to_date(run):
    assert run.owner is None
    assert run.ref.owner == ""
    assert run.summary().notices == []
