from __future__ import annotations

import pytest

from jupyter_gpudeploy.events.status import Status, TaskStatus
from jupyter_gpudeploy.events.types import Notice, State, StateChange


def test_a_task_that_never_began_has_no_seconds():
    status = Status.of([0])
    assert status.tasks[0].state is State.WAITING
    assert status.tasks[0].seconds(now=100.0) is None


def test_seconds_count_until_now_and_then_until_the_end():
    status = Status.of([0], [StateChange(10.0, State.STARTING, 0), StateChange(11.0, State.RUNNING, 0)])
    assert status.tasks[0].seconds(now=15.0) == 5.0
    status.feed([StateChange(12.0, State.SUCCEEDED, 0, exit_code=0)])
    assert status.tasks[0].seconds(now=99.0) == 2.0
    assert status.tasks[0].exit_code == 0


def test_a_clock_that_went_back_gives_no_negative_seconds():
    assert TaskStatus(0, started=10.0, ended=9.0).seconds(now=0.0) == 0.0


def test_a_retry_is_a_new_start_with_fresh_details():
    status = Status.of(
        [0],
        [
            StateChange(1.0, State.STARTING, 0, details={"pid": 7}),
            StateChange(2.0, State.RUNNING, 0, details={"gpus": "0"}),
            StateChange(3.0, State.FAILED, 0, reason="exit code 1", exit_code=1),
            StateChange(3.0, State.WAITING, 0, attempt=2, details={"retry_in": 5}),
        ],
    )
    waiting = status.tasks[0]
    assert (waiting.state, waiting.attempt, waiting.exit_code, waiting.started, waiting.ended) == (
        State.WAITING,
        2,
        None,
        None,
        None,
    )
    assert waiting.details == {"retry_in": 5}
    status.feed([StateChange(8.0, State.STARTING, 0, attempt=2), StateChange(9.0, State.RUNNING, 0, attempt=2)])
    assert status.tasks[0].seconds(now=10.0) == 2.0


def test_details_of_one_attempt_add_up():
    status = Status.of(
        [0],
        [
            StateChange(1.0, State.STARTING, 0, details={"pid": 7}),
            StateChange(2.0, State.READY, 0, details={"url": "u"}),
        ],
    )
    assert status.tasks[0].details == {"pid": 7, "url": "u"}


def test_a_lost_run_loses_what_was_alive_and_keeps_what_had_ended_or_never_began():
    status = Status.of(
        range(3),
        [
            StateChange(1.0, State.RUNNING),
            StateChange(1.0, State.RUNNING, 0),
            StateChange(2.0, State.SUCCEEDED, 0, exit_code=0),
            StateChange(2.0, State.RUNNING, 1, attempt=2, details={"pid": 3}),
        ],
    )
    lost = status.lost(StateChange(9.0, State.LOST, reason="the machine was restarted"))
    assert [task.state for task in lost.tasks.values()] == [State.SUCCEEDED, State.LOST, State.WAITING]
    assert lost.tasks[1].attempt == 2
    assert lost.tasks[1].exit_code is None, "no exit status is invented"
    assert lost.tasks[1].details == {"pid": 3}
    assert (lost.state, lost.reason, lost.started, lost.ended) == (State.LOST, "the machine was restarted", 1.0, 9.0)
    assert status.tasks[1].state is State.RUNNING, "the status itself is unchanged"


def test_a_run_that_is_resumed_lives_again():
    status = Status.of(
        [0], [StateChange(1.0, State.RUNNING), StateChange(2.0, State.LOST), StateChange(5.0, State.RUNNING)]
    )
    assert (status.state, status.started, status.ended) == (State.RUNNING, 1.0, None)


def test_waiting_is_no_start():
    status = Status.of([], [StateChange(1.0, State.WAITING), StateChange(4.0, State.STARTING)])
    assert status.started == 4.0


def test_tasks_that_nobody_announced_appear_with_their_first_event():
    status = Status.of([0], [StateChange(1.0, State.RUNNING, 7)])
    assert sorted(status.tasks) == [0, 7]


def test_counts_leave_out_empty_states_and_notices_are_kept():
    status = Status.of(range(3), [StateChange(1.0, State.RUNNING, 1), Notice(2.0, "disk full")])
    assert status.counts() == {State.WAITING: 2, State.RUNNING: 1}
    assert [notice.message for notice in status.notices] == ["disk full"]


@pytest.mark.parametrize("state", list(State))
def test_exactly_four_states_are_final(state):
    assert state.is_final == (state in {"succeeded", "failed", "stopped", "lost"})
