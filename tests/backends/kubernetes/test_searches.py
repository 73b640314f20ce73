"""Searches without a cluster: what is rendered of them, and the states of trials that have Jobs of their own."""

import json

import pytest
from nodes import UID, job, pod, record, root
from rendered import plan_of
from strict import check
from test_states import FAILED, OK, STOPPED, R, S, W, Watched

from jupyter_gpudeploy.backends.kubernetes import marks
from jupyter_gpudeploy.backends.kubernetes.manifests import trials
from jupyter_gpudeploy.backends.kubernetes.manifests.advice import advice
from jupyter_gpudeploy.backends.kubernetes.manifests.render import objects_in, objects_of, render, stamp
from jupyter_gpudeploy.backends.kubernetes.manifests.render import root as root_of
from jupyter_gpudeploy.backends.kubernetes.mirror.searched import SearchStates
from jupyter_gpudeploy.events.points import Chosen
from jupyter_gpudeploy.plan import adaptive
from jupyter_gpudeploy.plan.record import task_record

CELL = (
    "name: search\nparameters: {lr: {min: 0.1, max: 0.9}}\nmethod: bayes\nmetric: loss\nmax_runs: 8\nparallelism: 2\n"
    "retries: 1\nmax_hours: 1\nupload: false\n---\nprint(lr)"
)


@pytest.fixture(scope="module")
def plan(tmp_path_factory):
    return plan_of(CELL, tmp_path_factory.mktemp("base"))


@pytest.fixture(scope="module")
def rendering(plan):
    return render(plan)


def chosen(plan, number, text="", **parameters):
    task = task_record(adaptive.task(plan.search, number, {"lr": 0.5, **parameters}))
    return Chosen({**task, "name": text or task["name"]}, ((0, 0.25), (1, None)) if number else ())


def made(plan, rendering, number, text=""):
    return trials.trial(trials.template_in(objects_of(rendering)), "search", chosen(plan, number, text))


def variable(one):
    env = one["spec"]["template"]["spec"]["containers"][0]["env"]
    return next(variable["value"] for variable in env if variable["name"] == trials.POINT)


def test_the_template_is_shown_and_kept_and_is_no_job_yet(rendering):
    template = trials.template_in(objects_of(rendering))
    assert trials.is_template(template)
    assert trials.template_in(objects_in(root_of(rendering))) == template
    assert template["metadata"]["name"] == "search--0"
    assert [one["kind"] for one in objects_of(rendering)][-2:] == ["ConfigMap", "Job"]


def test_a_trial_is_a_valid_job_of_one_index_that_knows_its_point(plan, rendering):
    (one,) = stamp([made(plan, rendering, 3)], UID, "search.run")
    check(one)
    assert not trials.is_template(one)
    assert one["metadata"]["name"] == "search--3"
    assert one["metadata"]["labels"][marks.UID] == one["spec"]["template"]["metadata"]["labels"][marks.UID] == UID
    assert one["metadata"]["labels"][marks.TASK] == one["spec"]["template"]["metadata"]["labels"][marks.TASK] == "3"
    assert one["metadata"]["ownerReferences"][0]["uid"] == UID
    spec = one["spec"]
    assert (spec["completions"], spec["parallelism"], spec["backoffLimitPerIndex"]) == (1, 1, 1)
    assert spec["ttlSecondsAfterFinished"] == 7 * 86400
    assert spec["activeDeadlineSeconds"] == 2 * 3600 + 7 * 86400
    assert spec["template"]["spec"]["activeDeadlineSeconds"] == 3600
    assert json.loads(variable(one))["parameters"] == {"lr": 0.5}
    assert json.loads(variable(one))["number"] == 3


def test_kubernetes_replaces_nothing_in_a_point(plan, rendering):
    said = variable(made(plan, rendering, 0, text="$(HOME) $$ $x"))
    assert "$$(HOME) $$$$ $$x" in said


def test_points_come_back_from_their_map_as_they_were_and_stop_at_a_gap(plan):
    points = [chosen(plan, number) for number in range(4)]
    data = {key: value for one in points for key, value in trials.entry(one).items()}
    assert [one for one, _ in trials.points_in({"data": data})] == points
    del data["000002"]
    assert [one.number for one, _ in trials.points_in({"data": data})] == [0, 1]
    assert trials.points_in({}) == []


def test_the_plan_says_that_a_kernel_chooses(plan):
    (note,) = [note for note in advice(plan) if note.field == "method"]
    assert note.level == "warning"
    assert note.message == "a kernel chooses the points: without one, running trials end and no new ones begin"


def test_a_search_is_not_run_by_the_clock(tmp_path):
    found = plan_of(CELL.replace("retries: 1", "schedule: 0 6 * * *"), tmp_path)
    assert any(note.level == "error" and note.field == "schedule" for note in advice(found))


class Searched(Watched):
    """Watched, whose trials have Jobs of their own."""

    def __init__(self, count=4, history=(), **fields):
        self.record = record(count, "sweep", search={"method": "bayes"}, parallelism=2, **fields)
        self.states = SearchStates(self.record, UID, history)
        self.events = list(history)
        self.logs = True
        self.orders = {}
        self.now = 0.0
        self.see(root())


def own(number, item, **changes):
    item["metadata"]["labels"] = {**item["metadata"].get("labels", {}), marks.TASK: str(number)}
    return {**item, **changes}


def job_of(number, *args, **options):
    return own(number, job(*args, uid=f"job-{number}", **options))


def pod_of(number, **options):
    return own(number, pod(uid=f"pod-of-{number}-{options.get('failures', 0)}", **options))


class TestStates:
    def test_a_pod_is_the_task_that_its_label_names(self):
        watched = Searched()
        watched.see(job_of(2, active=1), pod_of(2, state="running"))
        assert watched.told(2)[-1] == (R, 1, "")
        assert watched.told(0) == []
        assert watched.states.has_begun(2)
        assert not watched.states.has_begun(0)

    def test_a_trial_ends_by_its_own_job(self):
        watched = Searched()
        watched.see(job_of(0, active=1), pod_of(0, state="running"), job_of(1, active=1), pod_of(1, state="running"))
        watched.see(pod_of(0, state="ended"), job_of(0, "0", Complete="CompletionsReached"))
        watched.see(pod_of(1, state="ended", code=3), job_of(1, failed="0", Failed="FailedIndexes"))
        assert watched.told(0)[-1] == (OK, 1, "")
        assert watched.told(1)[-1] == (FAILED, 1, "exit code 3")
        assert watched.status.state is R
        assert [watched.states.has_ended(number) for number in range(4)] == [True, True, False, False]

    def test_the_run_ends_when_each_of_its_trials_has(self):
        watched = Searched(2)
        for number in range(2):
            watched.see(job_of(number, active=1), pod_of(number, state="running"))
            assert not watched.states.is_over
            watched.see(pod_of(number, state="ended"), job_of(number, "0", Complete="CompletionsReached"))
        assert watched.status.state is OK
        assert watched.states.is_over

    def test_a_retry_is_a_further_attempt_of_the_same_trial(self):
        watched = Searched(retries=1)
        watched.see(job_of(0, active=1), pod_of(0, state="running"))
        watched.see(pod_of(0, state="ended", code=1))
        watched.see(pod_of(0, failures=1, state="running", created=20))
        assert [(state, attempt) for state, attempt, _ in watched.told(0)][-1] == (R, 2)

    def test_a_stop_ends_what_has_no_job_too_and_goes_on_afterwards(self):
        watched = Searched()
        watched.see(job_of(0, active=1), pod_of(0, state="running"))
        watched.see(root(stopped=True), job_of(0, suspended=True), pod_of(0, state="ended", code=143, deleted=30))
        assert watched.status.state is STOPPED
        assert [watched.status.tasks[number].state for number in range(4)] == [STOPPED] * 4

    def test_a_deleted_job_fails_its_trial_alone(self):
        watched = Searched()
        watched.see(job_of(0, active=1), pod_of(0, state="running"), job_of(1, active=1), pod_of(1, state="running"))
        watched.see(pod_of(0, state="running", deleted=30), job_of(0), gone=True)
        assert watched.told(0)[-1][0] is FAILED
        assert watched.told(1)[-1][0] is R

    def test_a_lost_job_is_told_once_and_not_waited_for(self):
        watched = Searched()
        watched.states.lose(1)
        watched.tick()
        assert watched.told(1)[-1][:2] == (FAILED, 1)

    def test_the_root_says_how_many_may_run_and_whether_any(self):
        watched = Searched()
        assert (watched.states.parallelism, watched.states.is_paused) == (2, False)
        body = root()
        body["metadata"]["annotations"] = {marks.PARALLELISM: "5", marks.PAUSED: "1.0"}
        watched.see(body)
        assert (watched.states.parallelism, watched.states.is_paused) == (5, True)

    def test_a_second_reader_tells_nothing_twice(self):
        first = Searched(2)
        first.see(job_of(0, active=1), pod_of(0, state="running"))
        first.see(pod_of(0, state="ended"), job_of(0, "0", Complete="CompletionsReached"))
        second = Searched(2, history=first.events)
        before = len(second.events)
        second.see(job_of(0, "0", Complete="CompletionsReached"), pod_of(0, state="ended"))
        assert second.events[before:] == []
        assert second.states.has_ended(0)

    def test_before_a_job_runs_its_trial_waits(self):
        watched = Searched()
        watched.see(job_of(0, active=1), pod_of(0))
        assert watched.told(0)[-1][0] is W
        watched.see(pod_of(0, state="scheduled"))
        assert watched.told(0)[-1][0] is S
