"""Sweeps whose points are chosen while they run, with real processes: what is chosen, and what survives a kill -9."""

from __future__ import annotations

import json
import os
import random
import signal
import time
from collections import Counter
from pathlib import Path

import pytest
from handmade import until

import jupyter_gpudeploy as deploy
from jupyter_gpudeploy.backends.asking import Asker
from jupyter_gpudeploy.backends.local import processes
from jupyter_gpudeploy.backends.local.procfs import stat
from jupyter_gpudeploy.events import points
from jupyter_gpudeploy.events.store import RunFolder
from jupyter_gpudeploy.samplers.bayes import EXPORT as BAYES
from jupyter_gpudeploy.samplers.bayes import startup
from jupyter_gpudeploy.samplers.random import EXPORT as RANDOM
from jupyter_gpudeploy.sweeps import Chooser, told

CELL = """name: search
parameters:
  x: {{min: -10.0, max: 10.0}}
method: bayes
metric: {{name: loss, goal: {goal}}}
max_runs: {runs}
parallelism: {parallelism}
{more}
---
import os, time
x = 1.0
with open("starts.txt", "a") as file:
    file.write(f"{{x!r}}\\n")
{code}
"""
BOWL = "for step in range(3):\n    print(f'step={step} loss={(x - 2) ** 2 * (3 - step)}')\n    time.sleep({pause})"


@pytest.fixture
def launch(tmp_path):
    def launched(code="", *, runs=12, parallelism=2, goal="minimize", more="", pause=0.0):
        code = code or BOWL.replace("{pause}", str(pause))
        cell = CELL.format(runs=runs, parallelism=parallelism, goal=goal, code=code, more=more)
        return deploy.launch(cell, base_dir=tmp_path)

    return launched


def starts(tmp_path):
    file = tmp_path / "starts.txt"
    return Counter(file.read_text().split()) if file.exists() else Counter()


def chosen(run):
    return points.read(RunFolder(run.folder).points_file)


def drivers(run):
    """Return the pids of what chooses points for this run: known by its command."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            words = (process / "cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if any(b"jupyter_gpudeploy.sweeps" in word for word in words) and os.fsencode(run.folder) in words:
            found.append(int(process.name))
    return found


def supervisor(run):
    return until(lambda: processes.kept_by(run.folder / "supervisor.json"), "the supervisor")


def replayed(run):
    """Ask for every point again, with what was known when it was chosen."""
    record, found = RunFolder(run.folder).record(), chosen(run)
    chooser = Chooser(RunFolder(run.folder), record)
    for number in range(len(found)):
        chooser._chosen = found[:number]
        history = chooser._history(told(found[: number + 1]))
        yield BAYES.ask(chooser._search.space, history, chooser._search.seed)


def check_whole(run, tmp_path, runs):
    """Every point was chosen once, written down, run once to its end, and is what its history asks for."""
    found = chosen(run)
    assert [one.number for one in found] == list(range(runs))
    assert list(replayed(run)) == [one.task["parameters"] for one in found]
    trials = run.trials()
    assert list(trials["x"]) == [one.task["parameters"]["x"] for one in found]
    assert set(trials["state"]) == {"succeeded"}
    assert list(trials["loss"]) == [(x - 2) ** 2 for x in trials["x"]]


def test_all_points_run_two_at_a_time_and_each_follows_from_those_before(launch, tmp_path):
    run = launch(pause=0.05).wait(60)
    assert run.state == "succeeded"
    check_whole(run, tmp_path, 12)
    assert starts(tmp_path) == Counter(repr(x) for x in run.trials()["x"])
    assert run.best()["value"] == min(run.trials()["loss"])
    axis = {"x": chooser_space(run)}
    values = [Ellipsis] * 12
    drawn = [RANDOM.ask(axis, values[:number], 0)["x"] for number in range(12)]
    assert list(run.trials()["x"][: startup(axis)]) == drawn[: startup(axis)]
    assert list(run.trials()["x"][startup(axis) + 2 :]) != drawn[startup(axis) + 2 :]
    assert (run.folder / "supervisor.log").read_text() == ""
    until(lambda: not drivers(run), "the end of the driver")


def chooser_space(run):
    return Chooser(RunFolder(run.folder), RunFolder(run.folder).record())._search.space["x"]


def test_never_more_run_than_parallelism_allows(launch, tmp_path):
    code = "open(f'{os.getpid()}.live', 'w').close()\nprint('live', len([n for n in os.listdir('.') if n.endswith('.live')]))\ntime.sleep(0.1)\nos.unlink(f'{os.getpid()}.live')\nprint(f'loss={x}')"
    run = launch(code, runs=9, parallelism=3).wait(60)
    live = [int(line.rsplit(" ", 1)[1]) for line in run.logs().splitlines() if " live " in line]
    assert len(live) == 9
    assert max(live) <= 3


def test_a_maximum_is_searched_where_the_goal_says_so(launch, tmp_path):
    run = launch("print(f'loss={-(x - 2) ** 2}')", runs=8, parallelism=1, goal="maximize").wait(60)
    assert run.best()["value"] == max(run.trials()["loss"])
    assert list(replayed(run)) == [one.task["parameters"] for one in chosen(run)]


def test_before_a_point_is_chosen_its_trial_waits_without_parameters(launch, tmp_path):
    run = launch("time.sleep(30)", runs=5)
    until(lambda: len(chosen(run)) == 2, "two points")
    until(lambda: run.summary().counts.get("running") == 2, "two trials")
    trials = run.trials()
    assert list(trials["state"]) == ["running"] * 2 + ["waiting"] * 3
    assert trials["x"].notna().tolist() == [True, True, False, False, False]
    run.stop(grace_seconds=1)
    assert run.summary().counts == {"stopped": 5}


def test_a_stopped_search_is_resumed_with_the_points_it_has(launch, tmp_path):
    run = launch(pause=0.15)
    until(lambda: run.summary().done >= 3, "three trials")
    run.stop(grace_seconds=1)
    before = chosen(run)
    assert len(before) < 12
    assert run.state == "stopped"
    run.resume().wait(60)
    assert chosen(run)[: len(before)] == before
    check_whole(run, tmp_path, 12)


def test_what_failed_is_told_as_such_and_the_search_goes_on(launch, tmp_path):
    code = "print(f'loss={x}')\nassert x > 0, 'below zero'"
    run = launch(code, runs=10, more="retries: 0").wait(60)
    trials = run.trials()
    assert set(trials["state"]) == {"succeeded", "failed"}
    known = told(chosen(run))
    assert {number for number, value in known.items() if value is None} == {
        number for number in known if trials["x"][number] <= 0
    }
    assert run.status().reason == f"{(trials['state'] == 'failed').sum()} of 10 trials failed"


def test_a_retry_keeps_its_point(launch, tmp_path):
    code = "print(f'loss={x}')\nassert os.environ['GPUDEPLOY_ATTEMPT'] == '2'"
    run = launch(code, runs=4, parallelism=4, more="retries: 1").wait(60)
    assert list(run.trials()["attempt"]) == [2] * 4
    assert set(starts(tmp_path).values()) == {2}
    assert len(chosen(run)) == 4


def test_forked_trials_get_their_points_too(launch, tmp_path):
    run = launch(runs=8, more="warm: true").wait(60)
    check_whole(run, tmp_path, 8)


def test_metrics_from_files_named_for_a_point_are_told(launch, tmp_path):
    code = "with open(os.path.join(os.environ['GPUDEPLOY_OUTPUT'], 'log.csv'), 'w') as file:\n    file.write(f'step,loss\\n0,{x * x}\\n')"
    run = launch(code, runs=6, more="metric_files: ['{output}/log.csv']").wait(60)
    assert list(run.trials()["loss"]) == pytest.approx([x * x for x in run.trials()["x"]])
    assert all(value is not None for value in told(chosen(run)).values())


def test_another_process_sees_points_as_they_come(launch, tmp_path):
    run = launch(pause=0.1)
    other = deploy.attach("search")
    seen = set()
    while not other.is_over:
        seen.add(other.trials()["x"].notna().sum() if "x" in other.trials() else 0)
        time.sleep(0.02)
    assert len(seen) > 4
    assert other.trials()["x"].notna().all()
    assert other.summary().best_so_far == run.best()["value"]


@pytest.mark.parametrize("seed", range(int(os.environ.get("SEEDS", "6"))))
def test_killing_what_chooses_and_what_keeps_doubles_and_loses_nothing(launch, tmp_path, seed):
    chance = random.Random(seed)
    run = launch(pause=0.12)
    interrupted = 0
    for _ in range(6):
        time.sleep(chance.random() * 0.5)
        if chance.random() < 0.6:
            for pid in drivers(run):
                os.kill(pid, signal.SIGKILL)
        elif not run.is_over:
            who = supervisor(run)
            processes.send(who, signal.SIGKILL)
            until(lambda who=who: not processes.is_alive(who), "the end of the supervisor")
            if not run.is_over or run.state == "lost":
                interrupted += 1
                run.resume()
    run.wait(60)
    check_whole(run, tmp_path, 12)
    assert set(starts(tmp_path)) == {repr(x) for x in run.trials()["x"]}
    assert sum(starts(tmp_path).values()) <= 12 + 2 * interrupted
    if not interrupted:
        assert set(starts(tmp_path).values()) == {1}


@pytest.mark.fault(20)
def test_a_torn_last_point_is_dropped_and_chosen_again(launch, tmp_path):
    run = launch(pause=0.2)
    until(lambda: len(chosen(run)) >= 3, "three points")
    processes.send(supervisor(run), signal.SIGKILL)
    until(lambda: run.state == "lost", "the loss")
    before = chosen(run)
    with (run.folder / "points.jsonl").open("ab") as file:
        file.write(b'{"task":{"number":99,"na')
    assert chosen(run) == before
    run.resume().wait(60)
    assert chosen(run)[: len(before)] == before
    check_whole(run, tmp_path, 12)


def test_a_search_that_cannot_choose_fails_and_says_why(launch, tmp_path):
    run = launch("time.sleep(0.4)\nprint(f'loss={x}')", runs=6, parallelism=1)
    until(lambda: len(chosen(run)) == 1, "a point")
    with (run.folder / "points.jsonl").open("ab") as file:
        file.write(json.dumps({"task": {"number": 7}, "told": []}).encode() + b"\n")
    run.wait(60)
    assert run.state == "failed"
    assert run.status().reason == "5 of 6 trials failed"
    reason = run.status().tasks[5].reason
    assert reason == "no further point could be chosen: point 1 was asked for, and 2 are written down"


def test_what_chooses_ends_with_whoever_asks_it(launch, tmp_path):
    run = launch(runs=2).wait(60)
    asker = Asker(run.folder, os.sys.executable, os.environ)
    assert stat(asker.pid) is not None
    asker.close()
    assert os.waitpid(asker.pid, 0)[1] == 0
