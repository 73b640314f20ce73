"""Runs whose files come from a repository, on real processes."""

import pytest
from repositories import commit, git, repository

from jupyter_gpudeploy import launch, runs
from jupyter_gpudeploy.errors import PlanError, RunExistsError
from jupyter_gpudeploy.events.types import State
from jupyter_gpudeploy.launching import changes, plan

TRAIN = """
import argparse, helper, os, pathlib
parser = argparse.ArgumentParser()
parser.add_argument("--lr", type=float)
print(f"loss={parser.parse_args().lr * helper.SCALE}")
print(os.environ["GPUDEPLOY_COMMIT"], os.listdir("."))
pathlib.Path("helper.py").write_text("SCALE = 0")
pathlib.Path("left.txt").write_text("by the run")
"""


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("JUPYTER_GPUDEPLOY_HOME", str(tmp_path / "state"))
    (tmp_path / "notebook").mkdir()
    monkeypatch.chdir(tmp_path / "notebook")
    yield tmp_path / "state"
    for run in runs():
        run.stop(1)


@pytest.fixture
def repo(tmp_path):
    made = repository(tmp_path / "repo", train__py=TRAIN, helper__py="SCALE = 10\n")
    git(made, "tag", "v1")
    return made


def cell(repo, ref="v1", **more):
    return {"name": "g", "git": f"file://{repo}@{ref}", "run": "train.py", "parameters": {"lr": [0.5]}, **more}


def test_a_run_has_the_files_of_the_commit_and_changes_nobody_elses(repo, home):
    run = launch(cell(repo)).wait()
    assert (run.state, run.logs().splitlines()[0]) == (State.SUCCEEDED, "loss=5.0")
    head = git(repo, "rev-parse", "HEAD")
    assert run.logs().splitlines()[1].startswith(head)
    assert run.record["git"] == {"url": f"file://{repo}", "commit": head, "ref": "v1", "path": ""}
    assert (run.folder / "checkout" / "left.txt").read_text() == "by the run"
    assert git(repo, "status", "--porcelain") == ""
    again = launch(cell(repo), replace=True).wait()
    assert again.logs().splitlines()[0] == "loss=5.0", "what a run wrote is its own"


def test_an_unchanged_cell_finds_its_run_and_a_branch_that_moved_is_another(repo):
    run = launch(cell(repo, "main")).wait()
    head = git(repo, "rev-parse", "HEAD")
    assert launch(cell(repo, "main")).uid == run.uid
    assert launch(cell(repo, head)).uid == run.uid, "the same commit by another name is the same run"
    new = commit(repo, helper__py="SCALE = 20\n")
    with pytest.raises(RunExistsError, match=f"git: main was commit {head[:12]}, and is {new[:12]}"):
        launch(cell(repo, "main"))
    assert launch(cell(repo, "main"), replace=True).wait().logs().startswith("loss=10.0")


def test_the_plan_names_the_commit_and_the_folder_in_it(repo):
    commit(repo, sub___train__py="print(1)")
    (made,) = plan({"name": "g", "git": {"url": f"file://{repo}", "path": "sub"}, "run": "train.py"})
    head = git(repo, "rev-parse", "HEAD")
    assert str(made.git) == f"file://{repo} at main, commit {head[:12]}, its folder sub"
    assert f"main is commit {head[:12]} of file://{repo}" in [note.message for note in made.notes]
    from jupyter_gpudeploy.notebook.planview import plan_card

    decisions = dict(plan_card(made).decisions)
    assert (decisions["in folder"], decisions["files of"]) == ("sub", str(made.git))
    assert "run.json" in changes(made) or changes(made) == ""


def test_sources_requirements_and_the_working_folder_are_those_of_the_repository(repo, tmp_path):
    commit(repo, requirements__txt="pytest\n", tools___where__py="import os; print(os.getcwd())")
    (made,) = plan(cell(repo, "main", requirements="requirements.txt", working_dir="tools"))
    assert made.requirements == ("pytest",)
    run = launch({"name": "w", "git": f"file://{repo}@main", "run": "tools/where.py", "working_dir": "tools"}).wait()
    assert run.logs() == str(run.folder / "checkout" / "tools")
    with pytest.raises(PlanError, match="not there"):
        plan(cell(repo, run="other.py"))
    with pytest.raises(PlanError, match="leads out of the repository"):
        plan(cell(repo, working_dir=".."))


def test_a_file_with_a_secret_is_looked_for_beside_the_notebook(repo, tmp_path):
    (tmp_path / "notebook" / "key.txt").write_text("hunter2")
    (made,) = plan(cell(repo, secrets={"KEY": "file:key.txt"}))
    assert made.secrets["KEY"].key == str(tmp_path / "notebook" / "key.txt")


def test_the_code_of_a_cell_runs_among_the_files_of_the_repository(repo):
    run = launch({"name": "c", "git": f"file://{repo}@v1", "code": "print(open('helper.py').read())"}).wait()
    assert run.logs().strip() == "SCALE = 10"


def test_a_run_goes_on_when_the_cache_is_gone_and_is_stopped_and_resumed(repo, home):
    import shutil

    slow = "import time, helper\nprint('begun', flush=True)\ntime.sleep(60)\n"
    commit(repo, slow__py=slow)
    run = launch({"name": "s", "git": f"file://{repo}@main", "run": "slow.py"})
    shutil.rmtree(home / "git")
    run.stop(1)
    run.resume()
    run.stop(1)
    assert (run.folder / "checkout" / "slow.py").read_text() == slow
