"""What of a repository goes along to the pods."""

import pytest
from rendered import plan_of
from repositories import repository

from jupyter_gpudeploy.backends.kubernetes.manifests import payload
from jupyter_gpudeploy.backends.kubernetes.manifests.advice import advice
from jupyter_gpudeploy.backends.kubernetes.manifests.render import render


@pytest.fixture
def planned(tmp_path, monkeypatch):
    def of(header="", **files):
        repo = repository(tmp_path / "repo", **files)
        return plan_of(f"name: g\ngit: file://{repo}\nrun: train.py\n{header}", tmp_path)

    monkeypatch.setenv("JUPYTER_GPUDEPLOY_HOME", str(tmp_path / "state"))
    return of


def test_all_that_a_commit_has_goes_along_but_what_holds_secrets(planned):
    big = "x" * (payload.UNASKED_BYTES + 1)
    made = planned(train__py="1", out___a__txt="a", notes__ipynb="{}", data__csv=big, __env="K=1")
    chosen = payload.choose(made, made.cluster)
    assert [entry.path for entry in chosen.tree.entries] == ["data.csv", "notes.ipynb", "out/a.txt", "train.py"]
    assert [note.message for note in chosen.notes] == [
        "4 files, 1 MiB of the repository",
        "do not go along: .env (holds secrets by its name: use secrets:)",
    ]


def test_the_record_names_the_commit(planned):
    made = planned(train__py="1")
    assert f'"commit": "{made.git.commit}"' in render(made).files["run.json"]
    assert not [note for note in advice(made) if note.level == "error"]


def test_upload_names_a_part_of_it(planned):
    made = planned("upload: [lib]", train__py="1", lib___a__py="2", more__py="3")
    assert [entry.path for entry in payload.choose(made, made.cluster).tree.entries] == ["lib/a.py", "train.py"]


def test_more_files_than_can_be_looked_at_are_refused(planned, monkeypatch):
    from jupyter_gpudeploy.backends.kubernetes.manifests import tree
    from jupyter_gpudeploy.errors import PlanError

    made = planned(train__py="1", a__py="2", b__py="3")
    monkeypatch.setattr(tree, "MOST_FILES", 2)
    with pytest.raises(PlanError, match="more than 2 files"):
        payload.choose(made, made.cluster)


def test_a_server_of_its_own_image_says_that_it_gets_none(planned, tmp_path):
    repo = repository(tmp_path / "other", x__py="")
    made = plan_of(f"name: v\nserve: vllm\nmodel: a/b\ngpus: 1\ngit: file://{repo}\n", tmp_path)
    assert "git" in [note.field for note in advice(made)]
