"""Runs whose files come from a repository, on real pods."""

import pytest
from repositories import commit, git, repository

from jupyter_gpudeploy import launch
from jupyter_gpudeploy.events.types import State

from .people import PATIENCE

TRAIN = """
import os
print(os.environ["GPUDEPLOY_COMMIT"], os.getcwd(), sorted(os.listdir(".")))
import helper
print(f"loss={helper.SCALE}")
"""


@pytest.mark.timeout(300)
def test_a_pod_has_exactly_the_files_of_the_commit_without_git_and_without_a_network(mine, client, tmp_path):
    repo = repository(tmp_path / "repo", train__py=TRAIN, helper__py="SCALE = 10\n")
    git(repo, "tag", "v1")
    commit(repo, helper__py="SCALE = 20\n")
    run = launch(f"name: g\ngit: file://{repo}@v1\nrun: train.py\n", backend="kubernetes").wait(PATIENCE)
    head = git(repo, "rev-parse", "v1")
    assert run.logs().splitlines() == [f"{head} /gpudeploy/work ['helper.py', 'train.py']", "loss=10"]
    assert (run.state, run.record["git"]["commit"]) == (State.SUCCEEDED, head)
    assert launch(f"name: g\ngit: file://{repo}@{head}\nrun: train.py\n", backend="kubernetes").uid == run.uid
    again = launch(f"name: g\ngit: file://{repo}@main\nrun: train.py\n", backend="kubernetes", replace=True)
    assert again.wait(PATIENCE).logs().endswith("loss=20")


@pytest.mark.timeout(300)
def test_a_large_repository_is_uploaded(mine, tmp_path):
    repo = repository(tmp_path / "repo", train__py="import os; print(os.path.getsize('data/big.bin'))")
    import random

    (repo / "data").mkdir()
    (repo / "data" / "big.bin").write_bytes(random.Random(1).randbytes(5 * 2**20))
    commit(repo)
    run = launch(f"name: big\ngit: file://{repo}\nrun: train.py\n", backend="kubernetes").wait(PATIENCE)
    assert (run.state, run.logs()) == (State.SUCCEEDED, str(5 * 2**20))
