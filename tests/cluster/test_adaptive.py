"""Sweeps whose points are chosen while they run, on real pods: one Job a trial, made by whoever looks."""

from __future__ import annotations

import contextlib
import json
import os
import random
import re
import signal
import time

import pytest

from jupyter_gpudeploy import attach, launch
from jupyter_gpudeploy.backends.kubernetes import marks
from jupyter_gpudeploy.events import points
from jupyter_gpudeploy.events.store import RunFolder
from jupyter_gpudeploy.events.types import State

from .people import Notebook, kill, plan, until

TRIALS = 8
CELL = f"""name: search
parameters:
  x: {{min: -10.0, max: 10.0}}
  kind: [a, b]
method: bayes
metric: {{name: loss, goal: minimize}}
max_runs: {TRIALS}
parallelism: 2
---
import os, time
x, kind = 0.0, "a"
print("begun", os.environ["GPUDEPLOY_TASK"], os.environ["GPUDEPLOY_ATTEMPT"], flush=True)
for step in range(3):
    print(f"step={{step}} loss={{(x - 2) ** 2 * (3 - step) + (kind == 'b')!r}}", flush=True)
    time.sleep(PAUSE)
"""
LAUNCH = """
import sys, time
from jupyter_gpudeploy import launch
run = launch(sys.argv[1], backend="kubernetes")
print("launched", run.uid, flush=True)
time.sleep(600)
"""
CUT_OFF = """
import os, signal, sys
from jupyter_gpudeploy.backends.kubernetes.api import client
create = client.Cluster.create
made = []
def cut(self, body, *, dry_run=False):
    is_last = not dry_run and body["kind"] == "Job" and len(made) == int(sys.argv[2])
    if is_last and sys.argv[3] == "before":
        os.kill(os.getpid(), signal.SIGKILL)
    done = create(self, body, dry_run=dry_run)
    if is_last:
        os.kill(os.getpid(), signal.SIGKILL)
    made.extend([body] if not dry_run and body["kind"] == "Job" else [])
    return done
client.Cluster.create = cut
from jupyter_gpudeploy import launch
launch(sys.argv[1], backend="kubernetes").wait(300)
"""
ATTACH = """
from jupyter_gpudeploy import attach
run = attach("search")
print("attached", flush=True)
run.wait(300)
print(run.state, (run.folder / "points.jsonl").read_text().count("\\n"), flush=True)
"""


def points_of(run):
    return len(points.read(RunFolder(run.folder).points_file))


def cell(pause=0.2, **changes):
    text = CELL.replace("PAUSE", str(pause))
    for old, new in changes.items():
        text = re.sub(f"^{old}: .*$", f"{old}: {new}", text, flags=re.MULTILINE)
    return text


def jobs(client):
    return sorted(client.list("Job").items, key=lambda one: int(one["metadata"]["labels"][marks.TASK]))


def alive(client):
    return [one for one in client.list("Pod").items if one["status"].get("phase") in ("Pending", "Running")]


def check_whole(run, client, count=TRIALS):
    """Each trial ran once, as its point was written down on the cluster and here, and its metrics are here."""
    trials = run.trials()
    found = points.read(RunFolder(run.folder).points_file)
    data = client.get("ConfigMap", "search.points")["data"]
    assert [json.loads(data[key])["task"] for key in sorted(data)] == [dict(one.task) for one in found]
    assert [one.number for one in found] == list(range(count))
    assert list(trials["x"]) == [one.task["parameters"]["x"] for one in found]
    assert set(trials["state"]) == {"succeeded"}
    assert list(trials["loss"]) == [
        (x - 2) ** 2 + (kind == "b") for x, kind in zip(trials["x"], trials["kind"], strict=True)
    ]
    assert [one["metadata"]["name"] for one in jobs(client)] == [f"search--{number}" for number in range(count)]
    assert len(client.list("Pod").items) == count
    for number in range(count):
        assert run.logs(number).splitlines().count(f"begun {number} 1") == 1


def test_a_search_runs_two_trials_at_a_time_each_a_job_of_its_own(mine, client):
    run = launch(cell())
    most = 0
    while not run.is_over:
        most = max(most, len(alive(client)))
        time.sleep(0.2)
    assert run.state is State.SUCCEEDED
    assert most == 2
    check_whole(run, client)
    root = client.get("ConfigMap", "search.run")
    for job in jobs(client):
        assert [one["uid"] for one in job["metadata"]["ownerReferences"]] == [root["metadata"]["uid"]]
        assert job["spec"]["ttlSecondsAfterFinished"] == 7 * 86400
        assert job["spec"]["activeDeadlineSeconds"] > 0
    assert run.best()["value"] == min(run.trials()["loss"])
    assert run.summary().best_so_far == run.best()["value"]


@pytest.mark.fault(1)
@pytest.mark.parametrize("seed", [0, 1])
def test_a_kernel_is_killed_in_the_middle_and_another_goes_on(mine, client, seed):
    chance = random.Random(seed)
    first = mine.start(LAUNCH, cell(0.3))
    assert first.stdout.readline().startswith("launched")
    wanted = 1 + chance.randrange(4)
    until(lambda: len(jobs(client)) >= wanted, every=0.05)
    time.sleep(chance.random())
    kill(first)
    until(lambda: not alive(client))
    left = len(jobs(client))
    assert left <= TRIALS
    run = attach("search")
    if left < TRIALS:
        assert run.state is State.RUNNING
    run.wait(120)
    assert run.state is State.SUCCEEDED
    check_whole(run, client)


def test_two_kernels_on_two_machines_make_no_trial_twice(mine, client, kubeconfig, namespace, python_image, tmp_path):
    other = Notebook(tmp_path / "other", kubeconfig, namespace, python_image)
    run = launch(cell(0.3))
    second = other.start(ATTACH)
    try:
        assert second.stdout.readline() == "attached\n"
        run.wait(120)
        assert second.stdout.readline() == f"succeeded {points_of(run)}\n"
    finally:
        kill(second)
    check_whole(run, client)
    assert max(map(len, overlapping(run))) <= 2


def overlapping(run):
    """The trials that ran at the same time as each one began."""
    tasks = run.status().tasks.values()
    for task in tasks:
        yield [
            one for one in tasks if one.started <= task.started < (one.ended or 0) - 2
        ]  # whole seconds, and ends are late


@pytest.mark.fault(1)
@pytest.mark.parametrize("when", ["before", "after"])
def test_a_kernel_killed_between_a_point_and_its_job_doubles_and_loses_nothing(mine, client, when):
    process = mine.start(CUT_OFF, cell(0, max_runs=4), "2", when)
    assert process.wait(120) == -9
    process.stdout.close()
    assert len(client.get("ConfigMap", "search.points")["data"]) == 3
    assert len(jobs(client)) == (2 if when == "before" else 3)
    run = attach("search").wait(120)
    assert run.state is State.SUCCEEDED
    check_whole(run, client, 4)


def test_what_chooses_may_be_killed_at_any_time(mine, client):
    run = launch(cell(0, max_runs=5))
    killed = 0
    while not run.is_over and killed < 3:
        asker = mine.backend._runs[run.uid].mirror._trials._asker
        if asker is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(asker.pid, signal.SIGKILL)
                killed += 1
        time.sleep(1.5)
    run.wait(120)
    assert killed == 3
    check_whole(run, client, 5)


def test_it_is_stopped_resumed_paused_and_changed_as_other_sweeps_are(mine, client):
    run = launch(cell(1.0))
    until(lambda: run.summary().counts.get(State.RUNNING) == 2)
    run.stop(grace_seconds=2)
    assert run.state is State.STOPPED
    assert run.summary().counts.get(State.STOPPED, 0) >= TRIALS - 2
    stopped = len(jobs(client))
    time.sleep(3)
    assert len(jobs(client)) == stopped
    run.resume()
    until(lambda: run.summary().counts.get(State.RUNNING, 0) == 2)
    run.pause()
    until(lambda: not alive(client))
    made = len(jobs(client))
    time.sleep(3)
    assert (len(jobs(client)), alive(client), run.is_over) == (made, [], False)
    run.parallelism = 4
    assert run.parallelism == 4
    run.unpause()
    until(lambda: len(alive(client)) == 4, every=0.1)
    run.wait(180)
    assert run.state is State.SUCCEEDED
    assert len(jobs(client)) == TRIALS
    assert [one.number for one in points.read(RunFolder(run.folder).points_file)] == list(range(TRIALS))


def test_what_fails_is_retried_with_its_point_and_told_as_failed(mine, client):
    text = cell(0, max_runs=4).replace("parallelism: 2\n", "parallelism: 2\nretries: 1\n")
    run = launch(text + "assert x > 0\n").wait(180)
    trials = run.trials()
    for number in range(4):
        is_well = trials["x"][number] > 0
        assert trials["state"][number] == ("succeeded" if is_well else "failed")
        assert trials["attempt"][number] == (1 if is_well else 2)
    assert run.state is (State.SUCCEEDED if (trials["x"] > 0).all() else State.FAILED)


def test_a_job_that_somebody_deletes_is_not_made_again(mine, client):
    run = launch(cell(20, max_runs=2))
    until(lambda: run.summary().counts.get(State.RUNNING) == 2)
    job = jobs(client)[1]
    client.delete("Job", job["metadata"]["name"], uid=job["metadata"]["uid"], propagation="Background")
    until(lambda: run.trials()["state"][1] == "failed")
    time.sleep(2)
    assert len(jobs(client)) == 1
    run.stop(grace_seconds=1)


def test_the_plan_shows_the_template_and_says_who_chooses(mine, client):
    made = plan(cell())
    assert any("a kernel chooses the points: without one, running trials end" in str(note) for note in made.notes)
    shown = str(mine.backend.render(made))
    assert "name: search--0" in shown
    assert "jupyter-gpudeploy/template" in shown
    assert client.list("Job").items == []


def test_the_name_is_free_for_another_search_after_it_is_replaced(mine, client):
    run = launch(cell(0, max_runs=2)).wait(120)
    again = launch(cell(0.1, max_runs=2), replace=True).wait(120)
    assert again.uid != run.uid
    check_whole(again, client, 2)
