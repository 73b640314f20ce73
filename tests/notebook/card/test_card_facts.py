"""What the head of a card says beside what every display says."""

from __future__ import annotations

import time

import pytest

from jupyter_gpudeploy import launch
from jupyter_gpudeploy.notebook.card import facts
from jupyter_gpudeploy.summary import summarize

SILENT = "not up to date since 12:00:00: the API server does not answer"
COMMIT = "0123456789abcdef0123456789abcdef01234567"


def head(run, **more):
    record, status, collector = run.parts()
    summary = summarize(record, status, collector.latest(), now=time.time())
    return facts.card(summary._replace(**more), status, record)


def test_that_it_is_not_up_to_date_is_said_once(run):
    run.begin(0)
    assert head(run)["stale"] == ""
    said = head(run, stale=SILENT, notices=["its image is large", SILENT])
    assert said["stale"] == SILENT
    assert said["notices"] == ["its image is large"]


@pytest.mark.parametrize(
    ("git", "said"),
    [
        (None, []),
        ({"url": "https://host/a", "commit": COMMIT, "ref": "main", "path": ""}, ["git main 0123456789ab"]),
        ({"url": "https://host/a", "commit": COMMIT, "ref": "", "path": ""}, ["git 0123456789ab"]),
        ({"url": "https://host/a", "commit": COMMIT, "ref": COMMIT, "path": ""}, ["git 0123456789ab"]),
        (
            {"url": "https://host/a", "commit": COMMIT, "ref": "\u202e<b>", "path": ""},
            ["git \u27e8U+202E\u27e9<b> 0123456789ab"],
        ),
    ],
)
def test_the_commit_of_its_files_is_among_the_facts(run, git, said):
    run.begin(0)
    record, status, collector = run.parts()
    summary = summarize(record, status, collector.latest(), now=time.time())
    found = facts.card(summary, status, record | {"git": git})["facts"]
    assert [fact for fact in found if fact.startswith("git")] == said


def test_a_run_of_this_machine_is_always_up_to_date_and_one_elsewhere_says_when_it_is_not(tmp_path, monkeypatch):
    monkeypatch.setenv("JUPYTER_GPUDEPLOY_HOME", str(tmp_path))
    run = launch("name: up\n---\nimport time\ntime.sleep(60)\n")
    try:
        assert run.stale == run.summary().stale == ""
        monkeypatch.setattr(type(run._backend), "stale", lambda _self, _ref: SILENT)
        assert run.stale == run.summary().stale == SILENT
        assert SILENT in run.summary().notices
    finally:
        run.stop(0)
    assert run.stale == ""
