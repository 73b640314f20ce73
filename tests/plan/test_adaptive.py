"""Sweeps whose points are chosen while they run: what a plan says of them."""

from __future__ import annotations

import json

import pytest

from jupyter_gpudeploy.errors import PlanError
from jupyter_gpudeploy.launching import plan, render
from jupyter_gpudeploy.notebook.planview import plan_card
from jupyter_gpudeploy.notebook.text import plan_text
from jupyter_gpudeploy.plan import adaptive
from jupyter_gpudeploy.plan.types import Slot

HEADER = """name: search
parameters:
  lr: {{min: 1.0e-4, max: 1.0, distribution: log_uniform}}
  layers: {{min: 1, max: 8}}
  opt: [sgd, adam]
method: bayes
metric: {{name: loss, goal: minimize}}
max_runs: {runs}
parallelism: {parallelism}
"""


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("JUPYTER_GPUDEPLOY_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "train.py").write_text("import sys\nprint(sys.argv)\n")


def planned(runs=12, parallelism=3, more="run: train.py\nargs: --lr={lr} --n {layers}\n", **options):
    (made,) = plan(HEADER.format(runs=runs, parallelism=parallelism) + more, **options)
    return made


def test_the_plan_lists_how_many_trials_there_will_be_and_chooses_none_of_them():
    made = planned()
    assert (made.kind, len(made.tasks), made.parallelism) == ("sweep", 12, 3)
    assert {(task.name, task.argv, tuple(task.parameters)) for task in made.tasks} == {("not chosen yet", (), ())}
    assert not made.errors


def test_the_first_points_are_those_that_depend_on_nothing():
    made = planned()
    assert len(made.search.first) == 3
    assert made.search.first == planned().search.first
    assert made.search.first != planned(more="run: train.py\nseed: 1\n").search.first


def test_the_display_of_the_plan_says_that_points_are_chosen_while_it_runs():
    text = plan_text(plan_card(planned()))
    assert "12 trials, 3 at a time" in text
    assert "lr 0.0001 to 1 log_uniform; layers 1 to 8 whole; opt sgd, adam" in text
    assert "each point by bayes while it runs" in text
    assert "… and 9 more trials, chosen while it runs" in text
    assert "train.py --lr=0." in text


def test_a_point_becomes_the_same_trial_from_the_plan_and_from_its_record():
    made = planned()
    search = adaptive.search_in(json.loads(render(made).files["run.json"]))
    assert search == made.search
    point = {"lr": 0.5, "layers": 2, "opt": "adam"}
    task = adaptive.task(search, 7, point)
    assert (task.number, task.name, task.parameters) == (7, "lr=0.5, layers=2, opt=adam", point)
    assert task.argv == (
        (Slot.PYTHON,),
        (Slot.SOURCES, "/train.py"),
        ("--lr=", "0.5"),
        ("--n",),
        ("2",),
        ("--opt",),
        ("adam",),
    )


def test_metric_files_are_named_for_each_point():
    search = planned(more="run: train.py\nmetric_files: ['{output}/{layers}.csv']\n").search
    task = adaptive.task(search, 0, {"lr": 0.5, "layers": 2, "opt": "adam"})
    assert task.metric_files == ((Slot.OUTPUT, "/", "2", ".csv"),)


def test_a_value_that_no_command_can_be_given_is_refused_before_anything_runs():
    with pytest.raises(PlanError, match="would be read as an option"):
        planned(more="run: train.py\nargs: --mode {mode}\n".replace("{mode}", "{opt}"), parameters={
            "lr": [0.1], "layers": [1], "opt": ["a", "-b"]})  # fmt: skip


def test_a_cell_of_single_values_is_one_job_whatever_the_method():
    (made,) = plan("run: train.py\nparameters: {lr: 0.1}\nmethod: bayes\nmetric: loss\n")
    assert (made.kind, len(made.tasks), made.search) == ("job", 1, None)


def test_without_optuna_the_plan_says_what_to_install(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "optuna", None)
    with pytest.raises(PlanError, match="which is not installed") as caught:
        planned()
    assert "pip install" in caught.value.hint


def test_too_many_trials_are_refused():
    with pytest.raises(PlanError, match="each point waits for others"):
        planned(runs=5000)
