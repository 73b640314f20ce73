"""From objects to states: no cluster, no thread, no clock."""

from types import SimpleNamespace

import pytest
from nodes import UID, deployment, event, job, moment, pod, record, root

from jupyter_gpudeploy.backends.kubernetes.mirror.states import States
from jupyter_gpudeploy.backends.kubernetes.mirror.tasks import SETTLE_SECONDS
from jupyter_gpudeploy.events.status import Status
from jupyter_gpudeploy.events.types import Notice, State, StateChange

W, S, R, READY = State.WAITING, State.STARTING, State.RUNNING, State.READY
OK, FAILED, STOPPED = State.SUCCEEDED, State.FAILED, State.STOPPED


class Watched:
    """States, fed and asked in turns; `logs`: whether every log is drained at once."""

    def __init__(self, count=1, kind=None, history=(), explain=None, logs=True, **fields):
        self.record = record(count, kind, **fields)
        self.states = States(self.record, UID, history, explain)
        self.events = list(history)
        self.logs = logs
        self.orders = {}
        self.now = 0.0
        self.see(root())

    def see(self, *items, gone=False, wait=0.0):
        for item in items:
            self.states.feed(item["kind"], item, gone=gone)
        return self.tick(wait)

    def tick(self, wait=0.0):
        self.now += wait
        new = []
        for _ in range(4):
            new += self.states.changes(self.now)
            for order in self.states.orders():
                self.orders[order.task, order.attempt] = order
                if self.logs and order.ended:
                    self.states.drained(order.task, order.attempt)
            self.now += SETTLE_SECONDS / 2
        self.events += new
        return new

    @property
    def status(self):
        return Status.of([task["number"] for task in self.record["tasks"]], self.events)

    def told(self, task=None):
        return [(e.state, e.attempt, e.reason) for e in self.events if isinstance(e, StateChange) and e.task == task]

    def notices(self):
        return [e for e in self.events if isinstance(e, Notice)]


def found(sentence, hint=""):
    return SimpleNamespace(sentence=sentence, hint=hint, permanent=False)


class TestAJob:
    def test_a_job_goes_through_its_states_with_the_times_of_the_cluster(self):
        watched = Watched()
        watched.see(job(active=1), pod())
        watched.see(pod(state="scheduled"))
        watched.see(pod(state="running"))
        watched.see(pod(state="ended"), job("0", Complete="CompletionsReached"))
        assert watched.told(0) == [(W, 1, ""), (S, 1, ""), (R, 1, ""), (OK, 1, "")]
        assert watched.told() == [(W, 1, ""), (S, 1, ""), (R, 1, ""), (OK, 1, "")]
        task = watched.status.tasks[0]
        assert (task.started, task.ended, task.exit_code) == (moment(2), moment(10), 0)
        assert task.details["pod"].startswith("digits-0-")
        assert task.details["node"] == "node-1"

    def test_what_is_seen_late_is_told_in_order_all_the_same(self):
        watched = Watched()
        watched.see(job("0", Complete="CompletionsReached"), pod(state="ended"))
        assert [state for state, *_ in watched.told(0)] == [R, OK]
        assert watched.status.tasks[0].started == moment(3)

    def test_the_end_waits_for_the_end_of_the_log(self):
        watched = Watched(logs=False)
        watched.see(job("0", Complete="CompletionsReached"), pod(state="ended"), wait=60)
        assert [state for state, *_ in watched.told(0)] == [R]
        assert watched.orders[0, 1].ended
        assert not watched.states.is_over
        watched.states.drained(0, 1)
        watched.tick(1)
        assert watched.told()[-1][0] is OK
        assert watched.states.is_over

    def test_a_failure_has_its_exit_code_in_words(self):
        watched = Watched(2)
        watched.see(job("1", "0", Failed="FailedIndexes"), pod(0, state="ended", code=3), pod(1, state="ended"))
        assert watched.told(0)[-1] == (FAILED, 1, "exit code 3")
        assert watched.status.tasks[0].exit_code == 3
        assert watched.told()[-1] == (FAILED, 1, "1 of 2 trials failed")

    def test_what_the_pod_says_of_its_end_is_believed(self):
        watched = Watched(logs=False)
        watched.see(job("", "0", Failed="x"), pod(state="ended", code=139))
        watched.states.drained(0, 1, "killed by SIGSEGV (a mistake in compiled code)")
        watched.tick(1)
        assert watched.told(0)[-1][2].startswith("killed by SIGSEGV (a mistake")

    @pytest.mark.fault(21)
    def test_out_of_memory_is_said_with_the_limit(self):
        watched = Watched()
        watched.see(job("", "0"), pod(state="ended", code=137, reason="OOMKilled", memory="32Mi"))
        assert watched.told(0)[-1] == (FAILED, 1, "out of memory (limit 32Mi), exit code 137")

    def test_a_failure_that_is_tried_again_waits_as_the_next_attempt(self):
        watched = Watched(retries=2)
        watched.see(job(active=1), pod(state="ended", code=1))
        assert watched.told(0)[-1] == (W, 2, "exit code 1")
        watched.see(pod(failures=1, state="running", created=20))
        watched.see(pod(failures=1, state="ended", created=20), job("0", Complete="x"))
        assert watched.told(0)[-2:] == [(R, 2, ""), (OK, 2, "")]
        assert watched.status.tasks[0].attempt == 2

    def test_the_next_attempt_waits_for_the_log_of_the_one_before(self):
        watched = Watched(retries=2, logs=False)
        watched.see(job(active=1), pod(state="ended", code=1), pod(failures=1, state="running", created=20), wait=9)
        assert watched.told(0) == [(R, 1, "")]
        assert set(watched.orders) == {(0, 1), (0, 2)}
        watched.states.drained(0, 1)
        watched.tick()
        assert watched.told(0)[-1] == (R, 2, "")

    def test_without_a_retry_left_the_jobs_word_is_waited_for(self):
        watched = Watched(retries=0)
        watched.see(job(active=1), pod(state="ended", code=1), wait=30)
        assert watched.told(0)[-1][0] is R
        watched.see(job("", "0"))
        assert watched.told(0)[-1] == (FAILED, 1, "exit code 1")

    def test_pods_that_are_gone_are_known_by_the_jobs_numbers(self):
        watched = Watched(9)
        watched.see(job("0,2-4,8", "1,5-7", Failed="FailedIndexes"))
        assert watched.status.counts() == {OK: 5, FAILED: 4}
        assert watched.status.state is FAILED

    def test_a_deadline_of_the_whole_ends_what_has_not_ended(self):
        watched = Watched(2, max_seconds=3600)
        watched.see(job("0", active=1), pod(0, state="ended"), pod(1, state="running"))
        dead = pod(1, state="ended", code=137, deleted=50)
        watched.see(dead, job("0", Failed="DeadlineExceeded"))
        assert watched.told(1)[-1][0] is FAILED
        assert watched.told()[-1] == (FAILED, 1, "1 of 2 trials failed")

    def test_numbers_of_tasks_are_those_of_the_record(self):
        watched = Watched()
        watched.record["tasks"][0]["number"] = 7
        watched.states = States(watched.record, UID)
        watched.see(root(), job("0", Complete="x"), pod(state="ended"))
        assert watched.told(7)[-1][0] is OK

    def test_a_pod_that_failed_while_it_was_set_up_says_where(self):
        watched = Watched()
        failed = pod(state="scheduled", phase="Failed")
        failed["status"]["initContainerStatuses"] = [{"name": "install", "containerID": "c", "state": {
            "terminated": {"exitCode": 1, "startedAt": "2026-05-28T20:26:50Z", "finishedAt": "2026-05-28T20:26:51Z"}}}]  # fmt: skip
        watched.see(job("", "0"), failed)
        assert watched.told(0)[-1] == (FAILED, 1, "install: exit code 1")
        assert watched.orders[0, 1].container == "install"


class TestReasons:
    @pytest.mark.fault(26)
    def test_a_pod_that_is_pending_for_long_gets_a_reason_and_not_before(self):
        asked = []

        def explain(item, events, _):
            asked.append([e["reason"] for e in events])
            return found("no node has 8 free nvidia.com/gpu", "gpus: 4")

        watched = Watched(explain=explain)
        watched.see(job(active=1), pod())
        watched.see(event("pod-0-0", "FailedScheduling", "0/1 nodes are available"), wait=1)
        assert watched.told(0) == [(W, 1, "")]
        watched.tick(6)
        assert watched.told(0)[-1] == (W, 1, "no node has 8 free nvidia.com/gpu")
        assert watched.status.tasks[0].details["hint"] == "gpus: 4"
        assert watched.told()[-1] == (W, 1, "no node has 8 free nvidia.com/gpu")
        assert asked[-1] == ["FailedScheduling"]
        before = len(asked)
        watched.tick(60)
        assert len(asked) == before
        watched.see(pod(state="running"))
        assert watched.told(0)[-1] == (R, 1, "")

    @pytest.mark.fault(27)
    def test_a_job_that_makes_no_pods_gives_the_run_its_reason(self):
        watched = Watched(20, explain=lambda _, events, __: found(events[0]["message"]) if events else None)
        watched.see(job())
        watched.see(event("job", "FailedCreate", "exceeded quota: q"), wait=6)
        watched.tick(6)
        assert watched.told()[-1] == (W, 1, "exceeded quota: q")
        assert watched.notices()[0].message == "FailedCreate: exceeded quota: q"

    def test_a_failure_that_is_explained_keeps_the_explanation_and_the_way_out(self):
        watched = Watched(
            explain=lambda item, *_: found("out of GPU memory", "batch_size: 8") if item["kind"] == "Pod" else None
        )
        watched.see(job("", "0"), pod(state="ended", code=1))
        assert watched.told(0)[-1][2] == "out of GPU memory"
        assert watched.status.tasks[0].details["hint"] == "batch_size: 8"


class TestEvents:
    def test_a_warning_is_kept_once_however_often_it_is_listed_or_counted(self):
        watched = Watched()
        watched.see(job(active=1), pod())
        for count in (1, 1, 5, 37):
            watched.see(event("pod-0-0", "FailedScheduling", "no", count=count))
        watched.see(event("pod-0-0", "Scheduled", "yes", kind="Normal"))
        watched.see(event("pod-0-0", "FailedScheduling", "still no", uid="other"))
        assert [(n.message, n.task, n.time) for n in watched.notices()] == [
            ("FailedScheduling: no", 0, moment(3)), ("FailedScheduling: still no", 0, moment(3))
        ]  # fmt: skip

    def test_an_event_that_comes_before_its_object_is_kept_and_one_of_others_is_not(self):
        watched = Watched()
        watched.see(event("pod-0-0", "FailedMount", "x"), event("somebody", "Failed", "else's"))
        assert not watched.notices()
        watched.see(job(active=1), pod())
        assert [n.message for n in watched.notices()] == ["FailedMount: x"]

    def test_another_reader_does_not_repeat_what_the_journal_has(self):
        first = Watched()
        first.see(job(active=1), pod(), event("pod-0-0", "FailedMount", "x"))
        second = Watched(history=first.events)
        assert second.see(job(active=1), pod(), event("pod-0-0", "FailedMount", "x")) == []


class TestDisruptions:
    @pytest.mark.fault(22)
    def test_an_eviction_is_said_in_the_nodes_words(self):
        watched = Watched()
        message = "The node was low on resource: ephemeral-storage."
        watched.see(job("", "0"), pod(state="ended", code=137, status_reason="Evicted", message=message))
        assert watched.told(0)[-1] == (FAILED, 1, f"evicted: {message}")

    @pytest.mark.fault(23)
    @pytest.mark.parametrize("late", [False, True])
    def test_a_pod_that_was_evicted_and_looks_successful_has_failed(self, late):
        watched = Watched(2)
        evicted = event("pod-0-0", "Evicted", "usage exceeds the total limit 1Mi")
        watched.see(job("0", active=1), pod(0, state="running"), pod(1, state="running"))
        watched.see(pod(0, state="ended"), *([] if late else [evicted]))
        watched.see(evicted, wait=1)
        assert watched.told(0)[-1] == (FAILED, 1, "evicted: usage exceeds the total limit 1Mi")
        watched.see(pod(1, state="ended"), job("0,1", Complete="x"))
        assert watched.told()[-1] == (FAILED, 1, "1 of 2 trials failed")

    @pytest.mark.fault(24)
    def test_a_preempted_pod_is_tried_again_without_counting(self):
        watched = Watched(retries=0)
        watched.see(job(active=1), pod(state="running"))
        watched.see(pod(state="ended", code=143, deleted=9, disruption="PreemptionByScheduler"))
        assert watched.told(0)[-1] == (W, 2, "preempted by a pod of higher priority: why")
        again = pod(uid="pod-again", state="running", created=30)
        again["metadata"]["annotations"]["batch.kubernetes.io/job-index-ignored-failure-count"] = "1"
        watched.see(again)
        assert watched.told(0)[-1] == (R, 2, "")
        assert watched.orders[0, 2].pod_uid == "pod-again"

    @pytest.mark.fault(24)
    def test_a_pod_that_somebody_deleted_is_said_to_be(self):
        watched = Watched(retries=1)
        watched.see(job(active=1), pod(state="running"))
        watched.see(pod(state="ended", code=143, deleted=9))
        assert watched.told(0)[-1] == (W, 2, "the pod was deleted outside (killed by SIGTERM)")

    def test_a_pod_that_vanishes_without_a_word_is_tried_again(self):
        watched = Watched(retries=0)
        watched.see(job(active=1), pod(state="running"))
        watched.see(pod(state="running"), gone=True)
        assert watched.told(0)[-1] == (W, 2, "the pod was deleted outside")
        assert watched.orders[0, 1].gone

    def test_a_job_that_is_paused_goes_on_as_a_further_attempt(self):
        watched = Watched()
        watched.see(job(active=1), pod(state="running"))
        watched.see(job(suspended=True), pod(state="ended", code=143, deleted=9))
        assert watched.told(0)[-1] == (W, 2, "suspended")
        watched.see(job(active=1), pod(uid="pod-later", state="running", created=40))
        assert watched.told(0)[-1] == (R, 2, "")

    def test_a_job_that_was_deleted_outside_has_failed(self):
        watched = Watched(2)
        watched.see(job(active=1), pod(0, state="running"))
        watched.see(pod(0, state="running"), gone=True)
        watched.see(job(active=1), gone=True)
        assert watched.status.state is FAILED
        assert "the Job was deleted outside" in {task.reason for task in watched.status.tasks.values()}


class TestStop:
    def test_a_stopped_sweep_ends_stopped_when_nothing_runs_any_more(self):
        watched = Watched(3)
        watched.see(job("0", active=1), pod(0, state="ended"), pod(1, state="running"))
        watched.see(root(stopped=True), job("0", suspended=True, active=1))
        assert watched.told()[-1][0] is R
        watched.see(pod(1, state="ended", code=143, deleted=9), job("0", suspended=True))
        assert {n: t.state for n, t in watched.status.tasks.items()} == {0: OK, 1: STOPPED, 2: STOPPED}
        assert watched.told()[-1] == (STOPPED, 1, "2 of 3 trials stopped")

    def test_a_stopped_sweep_that_is_resumed_goes_on_as_further_attempts(self):
        watched = Watched(2)
        watched.see(job(active=1), pod(0, state="running"))
        watched.see(root(stopped=True), pod(0, state="ended", code=143, deleted=9), job(suspended=True))
        assert watched.states.is_over
        resumed = Watched(2, history=watched.events)
        resumed.see(job(active=2), pod(0, state="ended", code=143, deleted=9))
        resumed.see(pod(0, uid="pod-0-b", state="running", created=90), pod(1, state="running", created=90))
        assert resumed.told(0)[-1] == (R, 2, "")
        assert resumed.told()[-1][0] is R
        assert resumed.orders[0, 2].pod_uid == "pod-0-b"

    def test_a_server_is_stopped_when_its_pods_are_gone(self):
        watched = Watched(kind="server")
        watched.see(deployment(), pod(state="running", ready=True, policy="Always"))
        watched.see(root(stopped=True), deployment(0))
        assert watched.told()[-1][0] is READY
        watched.see(pod(state="ended", code=143, policy="Always", deleted=9), gone=True)
        assert watched.told(0)[-1][0] is STOPPED
        assert watched.told()[-1][0] is STOPPED


class TestAServer:
    @pytest.mark.fault(31)
    def test_a_server_starts_until_it_answers(self):
        watched = Watched(
            kind="server", explain=lambda item, *_: found("loading the model") if item["kind"] == "Pod" else None
        )
        watched.see(deployment(), pod(state="running", policy="Always"))
        watched.tick(6)
        assert watched.told(0)[-1] == (S, 1, "loading the model")
        assert watched.told()[-1] == (S, 1, "loading the model")
        watched.see(pod(state="running", policy="Always", ready=True))
        assert (watched.told(0)[-1], watched.told()[-1]) == ((READY, 1, ""), (READY, 1, ""))
        watched.see(pod(state="running", policy="Always"))
        assert watched.told(0)[-1][0] is R
        assert watched.told()[-1][0] is R
        watched.see(pod(state="running", policy="Always", ready=True))
        assert watched.told()[-1] == (READY, 1, "")

    def test_several_replicas_are_counted_and_numbered_in_their_order(self):
        watched = Watched(2, kind="server")
        watched.see(deployment(2), pod(uid="a", state="running", ready=True, policy="Always"))
        watched.see(pod(uid="b", state="running", policy="Always"))
        assert watched.told()[-1] == (R, 1, "1 of 2 replicas are ready")
        watched.see(pod(uid="b", state="running", ready=True, policy="Always"))
        assert watched.told()[-1] == (READY, 1, "")
        watched.see(pod(uid="a", state="running", policy="Always", deleted=9))
        watched.see(pod(uid="c", state="running", policy="Always", created=20))
        watched.see(pod(uid="a", state="running", policy="Always", deleted=9), gone=True)
        assert watched.orders[0, 2].pod_uid == "c"
        assert watched.told(1)[-1][0] is READY
        later = Watched(2, kind="server", history=watched.events)
        later.see(deployment(2), pod(uid="c", state="running", ready=True, policy="Always", created=20))
        assert later.told(0)[-1] == (READY, 2, "")

    @pytest.mark.fault(29)
    def test_a_crash_loop_says_when_the_next_start_is(self):
        watched = Watched(kind="server")
        back_off = ("CrashLoopBackOff", "back-off 40s restarting failed container=main pod=x")
        crashed = pod(state="scheduled", policy="Always", restarts=1, last=1, waiting=back_off, phase="Running")
        watched.see(deployment(), pod(state="running", policy="Always"), crashed)
        assert watched.told(0)[-1] == (W, 3, "exit code 1; next restart in 40s")
        assert set(watched.orders) == {(0, 1), (0, 2)}

    @pytest.mark.fault(30)
    def test_a_restart_within_the_pod_is_a_further_attempt_and_the_log_before_it_is_asked_for(self):
        watched = Watched(kind="server", logs=False)
        watched.see(deployment(), pod(state="running", policy="Always", ready=True))
        watched.see(pod(state="running", policy="Always", restarts=1, last=137))
        assert watched.orders[0, 1].previous
        assert watched.orders[0, 1].restart == 0
        assert watched.orders[0, 2].restart == 1
        assert watched.told(0)[-1] == (READY, 1, "")
        watched.states.drained(0, 1)
        watched.tick()
        assert (W, 2, "killed by SIGKILL") in watched.told(0)


class TestAManualRun:
    def test_the_run_is_ready_with_its_pod_and_its_commands_are_the_tasks(self):
        watched = Watched(kind="manual")
        watched.see(deployment(), pod(state="running", policy="Always"))
        watched.see(pod(state="running", policy="Always", ready=True))
        assert watched.told()[-1][0] is READY
        assert watched.told(0) == []
        assert watched.orders[0, 1].pod.startswith("digits")
        begun = StateChange(moment(9), R, 1000)
        assert watched.states.executed(begun) == begun
        assert watched.states.executed(begun) is None
        watched.see(root(stopped=True), deployment(0), pod(state="running", policy="Always", ready=True))
        watched.see(pod(state="running", policy="Always", deleted=9), gone=True)
        assert watched.told(1000)[-1][0] is STOPPED
        assert watched.told()[-1][0] is STOPPED


@pytest.mark.fault(15)
def test_no_duration_is_negative_whatever_the_clocks_say():
    watched = Watched()
    late = pod(state="ended")
    terminated = late["status"]["containerStatuses"][0]["state"]["terminated"]
    terminated["startedAt"], terminated["finishedAt"] = terminated["finishedAt"], terminated["startedAt"]
    watched.see(job("0", Complete="x"), late)
    task = watched.status.tasks[0]
    assert task.ended >= task.started


def test_a_fresh_reader_on_another_machine_finds_the_same_ends():
    items = [job("0,2", "1", Failed="FailedIndexes"), *(pod(n, state="ended", code=int(n == 1)) for n in range(3))]
    live = Watched(3)
    for n in range(3):
        live.see(pod(n, state="running"))
    live.see(*items)
    fresh = Watched(3)
    fresh.see(*items)
    ends = [{n: (t.state, t.exit_code, t.ended) for n, t in w.status.tasks.items()} for w in (live, fresh)]
    assert ends[0] == ends[1]
    assert live.told()[-1] == fresh.told()[-1]


def test_the_deletion_of_the_root_is_noticed():
    watched = Watched()
    watched.see(root(), gone=True)
    assert watched.states.root_gone


def test_ten_thousand_trials_are_counted_without_looking_at_all_of_them_each_time():
    watched = Watched(10_000)
    watched.see(job(active=100))
    for index in range(300):
        watched.see(pod(index, state="running"), pod(index, state="ended"))
    assert watched.status.counts()[OK] == 300


def test_what_was_fed_before_the_first_look_does_not_make_the_clock_jump():
    states = States(record(1, None), UID, [], None)
    for item in (root(), job(), pod(0)):
        states.feed(item["kind"], item)
    before = states._clock[0]
    states.changes(50_000.0)
    assert states._around.clock == before


class TestSeveralMachines:
    def test_every_node_is_a_task_of_its_own_with_its_log(self):
        watched = Watched(cluster={"nodes": 3})
        watched.see(job(active=3), *(pod(rank, state="running") for rank in range(3)))
        assert [watched.told(rank) for rank in range(3)] == [[(S, 1, ""), (R, 1, "")]] * 3
        assert set(watched.orders) == {(0, 1), (1, 1), (2, 1)}
        watched.see(*(pod(rank, state="ended") for rank in range(2)), job("0-1", active=1))
        assert watched.told()[-1] == (R, 1, "")
        watched.see(pod(2, state="ended"), job("0-2", Complete="x"))
        assert watched.told()[-1] == (OK, 1, "")

    def test_a_node_that_fails_is_named_and_ends_the_others(self):
        watched = Watched(cluster={"nodes": 3})
        watched.see(job(active=3), *(pod(rank, state="running") for rank in range(3)))
        watched.see(pod(2, state="ended", code=7), job("", "2", active=2))
        ended = [pod(rank, state="ended", code=143, deleted=9) for rank in range(2)]
        watched.see(*ended, job("", "2", Failed="MaxFailedIndexesExceeded"))
        assert watched.told(2)[-1] == (FAILED, 1, "exit code 7")
        assert [watched.told(rank)[-1] for rank in range(2)] == [(STOPPED, 1, "ended with node 2: exit code 7")] * 2
        assert watched.told()[-1] == (FAILED, 1, "node 2: exit code 7")

    def test_a_node_that_fails_and_is_tried_again_is_not_to_blame_for_what_comes_later(self):
        watched = Watched(cluster={"nodes": 2}, retries=1)
        watched.see(job(active=2), pod(0, state="running"), pod(1, state="ended", code=3))
        watched.see(pod(1, failures=1, state="running", created=20))
        watched.see(pod(0, state="ended", code=4), pod(0, failures=1, state="ended", code=5, created=30))
        watched.see(pod(1, failures=1, state="ended", code=143, deleted=50, created=20), job("", "0", Failed="x"))
        assert watched.told(1)[-1][2] == "ended with node 0: exit code 5"
        assert watched.told()[-1] == (FAILED, 1, "node 0: exit code 5")

    def test_a_jobset_that_starts_all_machines_again_has_not_failed(self):
        watched = Watched(cluster={"nodes": 2}, retries=1)
        label = "jobset.sigs.k8s.io/restart-attempt"
        first, second = job("", Failed="x", uid="first"), job(active=2, uid="second")
        second["metadata"]["creationTimestamp"] = "2026-05-28T20:27:00Z"
        first["metadata"]["labels"][label] = "0"
        second["metadata"]["labels"][label] = "1"
        watched.see(job(active=2, uid="first"), pod(0, state="running"), pod(1, state="running"))
        watched.see(first, pod(0, state="ended", code=1))
        assert watched.told(0)[-1] == (W, 2, "exit code 1")
        watched.see(first, gone=True)
        watched.see(second, pod(0, uid="pod-0-b", state="running", created=30))
        assert watched.told(0)[-1] == (R, 2, "")

    def test_a_machine_of_a_jobset_has_not_succeeded_before_all_have(self):
        watched = Watched(cluster={"nodes": 2}, retries=1)
        label = "jobset.sigs.k8s.io/restart-attempt"
        first, second = job(active=2, uid="first"), job(active=2, uid="second")
        second["metadata"]["creationTimestamp"] = "2026-05-28T20:27:00Z"
        first["metadata"]["labels"][label], second["metadata"]["labels"][label] = "0", "1"
        watched.see(first, pod(0, state="ended"), pod(1, state="running"))
        watched.tick(5)
        assert watched.told(0)[-1] == (R, 1, "")
        watched.see(pod(1, state="ended", code=3))
        watched.see(first, gone=True)
        again = [pod(rank, uid=f"pod-{rank}-b", state="running", created=30) for rank in (0, 1)]
        for one in again:
            one["metadata"]["labels"][label] = "1"
        watched.see(second, *again)
        assert [watched.told(rank)[-1] for rank in (0, 1)] == [(R, 2, ""), (R, 2, "")]
        assert (W, 2, "all machines start again") in watched.told(0)


def test_a_schedule_runs_its_tasks_again_and_again_as_further_attempts():
    watched = Watched(cluster={"schedule": "0 6 * * *", "time_zone": "Etc/UTC"})
    watched.see(cronjob())
    assert watched.told()[-1] == (READY, 1, "next at 2026-05-29 06:00 UTC")
    watched.see(job("0", uid="monday", Complete="x"), fired(pod(state="ended"), "monday"))
    watched.see(cronjob("2026-05-29T06:00:00Z"))
    assert watched.told(0)[-1] == (OK, 1, "")
    assert watched.told()[-1] == (READY, 1, "next at 2026-05-30 06:00 UTC; last at 2026-05-29 06:00 succeeded")
    tuesday = job(active=1, uid="tuesday")
    tuesday["metadata"]["creationTimestamp"] = "2026-05-29T06:00:00Z"
    watched.see(tuesday, fired(pod(uid="pod-0-t", state="running", created=36000), "tuesday"))
    assert watched.told(0)[-1] == (R, 2, "")
    assert watched.told()[-1][0] is R
    watched.see(job("0", uid="monday", Complete="x"), gone=True)
    assert not watched.states.is_over


def test_a_job_in_a_queue_says_what_its_workload_says_until_it_is_let_go():
    watched = Watched(cluster={"queue": "team-a"}, explain=lambda item, _, __: found(f"the {item['kind']} waits"))
    watched.see(job(suspended=True))
    assert watched.told()[-1] == (W, 1, "the Job waits")
    assert (watched.states.queued, watched.states.patience is not None) == (("job",), True)
    labels = {"kueue.x-k8s.io/job-uid": "job"}
    watched.see({"kind": "Workload", "metadata": {"uid": "w", "name": "w", "labels": labels}})
    assert watched.told()[-1] == (W, 1, "the Workload waits")
    watched.see(job(active=1), pod(state="running"))
    assert watched.states.queued == ()
    assert watched.told()[-1][0] is R


def cronjob(last=None):
    body = job(uid="cron")
    return {**body, "kind": "CronJob", "status": {"lastScheduleTime": last} if last else {}}


def fired(body, job):
    body["metadata"]["labels"]["batch.kubernetes.io/controller-uid"] = job
    return body


def test_rounds_of_a_schedule_that_nobody_watched_are_told_one_by_one():
    watched = Watched(cluster={"schedule": "@hourly", "time_zone": "Etc/UTC"})
    later = [job("", "0", uid="b", Failed="x"), job(active=1, uid="c")]
    for number, one in enumerate(later, 1):
        one["metadata"]["creationTimestamp"] = f"2026-05-28T2{number}:00:00Z"
    pods = [fired(pod(uid=f"p-{name}", state="ended" if name < "c" else "running", code=3 * (name == "b"),
                      created=3600 * number), name) for number, name in enumerate("abc")]  # fmt: skip
    watched.see(cronjob("2026-05-28T22:00:00Z"), job("0", uid="a", Complete="x"), *later, *pods)
    finals = [told for told in watched.told(0) if told[0].is_final]
    assert finals == [(OK, 1, ""), (FAILED, 2, "exit code 3")]
    assert watched.told(0)[-1] == (R, 3, "")


def test_replicas_of_a_server_are_tasks_of_their_own():
    watched = Watched(kind="server", cluster={"replicas": 2})
    watched.see(deployment(2), *(pod(uid=name, state="running", ready=True, policy="Always") for name in "ab"))
    assert (watched.told(0)[-1][0], watched.told(1)[-1][0]) == (READY, READY)
    assert watched.told()[-1] == (READY, 1, "")


def test_a_resumed_sweep_is_not_over_before_its_last_trial_had_its_turn():
    watched = Watched(3)
    watched.see(job(active=1), pod(0, state="running"))
    watched.see(root(stopped=True), pod(0, state="ended", code=143, deleted=9), job(suspended=True))
    assert watched.status.counts() == {STOPPED: 3}
    resumed = Watched(3, history=watched.events)
    resumed.see(job())
    assert [resumed.told(n)[-1][:2] for n in range(3)] == [(W, 2), (W, 1), (W, 1)]
    resumed.see(pod(0, uid="pod-0-b", state="running", created=90))
    resumed.see(pod(0, uid="pod-0-b", state="ended", created=90), job("0"))
    assert not resumed.states.is_over
    resumed.see(pod(1, state="ended", created=100), pod(2, state="ended", created=100), job("0-2", Complete="x"))
    assert resumed.told()[-1] == (OK, 1, "")
    assert {number: task.attempt for number, task in resumed.status.tasks.items()} == {0: 2, 1: 1, 2: 1}
