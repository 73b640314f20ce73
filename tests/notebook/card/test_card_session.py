"""What a card says, and how fast, whatever happens."""

from __future__ import annotations

import time
from array import array

import pytest
from written import Views, texts

from jupyter_gpudeploy.errors import BackendError
from jupyter_gpudeploy.events.types import Notice, ProcessSample, State
from jupyter_gpudeploy.notebook.card import protocol, session


def within_limits(sent):
    """Assert the limits of every second."""
    for start, _, _ in sent:
        second = [(message, buffers) for when, message, buffers in sent if start <= when < start + 1]
        assert len(second) <= protocol.MESSAGES_A_SECOND
        assert sum(len(str(message)) + sum(map(len, buffers)) for message, buffers in second) <= protocol.BYTES_A_SECOND


def test_nothing_is_said_before_a_view_says_hello(views):
    views.run.print("x\n")
    views.go(2)
    assert views.sent == []


def test_hello_is_answered_by_everything_there_is(run):
    run.begin(0)
    run.print("step=1 loss=0.5\nhalf")
    run.measure(ProcessSample(time.time(), 0, 50.0, 1 << 20, 2))
    views = Views(run)
    views.session.receive({"type": "hello", "view": "v"})
    views.go()
    ((_, message, buffers),) = views.sent
    assert message["seq"] == 1
    assert texts(message["log"]) == ["step=1 loss=0.5", "half"]
    assert message["card"]["state"] == "running"
    assert message["card"]["gpu_note"].startswith("no GPU visible")
    assert [series["chart"] for series in message["series"]] == ["cpu", "memory", "metric:loss"]
    assert [count for _, count in message["points"]] == [1, 1, 1]
    assert array("f", buffers[2]).tolist() == [50.0, 1 << 20, 0.5]
    assert [event[3] for event in message["events"]] == ["running", "running"]


def test_then_only_what_is_new_comes(views):
    views.hello()
    views.run.print("step=1 loss=0.5\n")
    views.go(1.2, look=True)
    assert texts(views.messages("lines")[0]["lines"]) == ["step=1 loss=0.5"]
    (append,) = views.messages("append")
    assert [series["chart"] for series in append["series"]] == ["metric:loss"]
    views.sent.clear()
    views.run.print("step=2 loss=0.4\n")
    views.go(1.2, look=True)
    (append,) = views.messages("append")
    assert append["series"] == []
    assert append["points"] == [[1, 1]]


def test_what_happens_is_told_as_an_event_and_by_the_card(views):
    views.hello()
    views.run._journal.append(Notice(5.0, "the disk is full", 0, "error"))
    views.run.change(State.FAILED, 0, exit_code=3, reason="it broke")
    views.go(1.2, look=True)
    events = views.messages("events")[0]["events"]
    assert events[0] == [5.0, 0, "error", "the disk is full"]
    assert events[1][2:] == ["error", "failed: it broke, exit code 3"]
    assert views.messages("card")[-1]["card"]["progress"]["counts"] == {"failed": 1}


def test_while_nothing_changes_a_card_comes_now_and_then_and_nothing_else(views):
    views.hello()
    views.go(31)
    assert {message["type"] for _, message, _ in views.sent} <= {"card"}
    assert 2 <= len(views.sent) <= 4


@pytest.mark.fault(57)
def test_a_flood_keeps_to_the_limits_and_nothing_is_lost_uncounted(views):
    views.hello()
    total = 0
    for _ in range(80):
        views.run.print(
            b"".join(b"line %d of a flood that goes on and on and on\n" % (total + n) for n in range(12_000))
        )
        total += 12_000
        views.go()
    views.go(1.2)
    within_limits(views.sent)
    lines = [line for message in views.messages("lines") for line in message["lines"]]
    assert lines[-1][0] == total
    assert len(lines) + views.messages("lines")[-1]["hidden"] == total
    assert len({line[0] for line in lines}) == len(lines)
    assert len(views.messages("lines")) >= 5 * 9


@pytest.mark.fault(57)
def test_of_a_flood_only_so_many_lines_are_shown_as_can_be_read_and_the_rest_is_counted(views):
    views.hello()
    views.run.print("".join(f"line {n}\n" for n in range(5000)))
    views.go()
    found = views.take("lines")
    assert texts(found)[-1] == "line 4999"
    assert len(found["lines"]) == 60
    assert found["hidden"] == 4940
    views.run.print("".join(f"line {n}\n" for n in range(300)))
    views.go(0.3)
    assert len(views.take("lines")["lines"]) > 200


def test_three_hundred_trials_at_once_keep_to_the_limits(written):
    run = written(tasks=300)
    run.begin(*range(300))
    views = Views(run)
    first = views.hello()
    assert len(first["card"]["tasks"]) == 300
    for step in range(1, 25):
        for task in range(300):
            run.print(f"step={step} loss={1 / step} acc={step}\n" * 3, task)
        run.measure(*(ProcessSample(1000.0 + step, task, 5.0, 5, 1) for task in range(300)))
        views.go(look=step % 8 == 0)
    views.go(2, look=True)
    within_limits(views.sent)
    ids = {
        series["id"]
        for message in views.messages("append") + views.messages("snapshot")
        for series in message["series"]
    }
    assert 0 < len(ids) <= 2 * protocol.SERIES
    assert any("more curves are not drawn" in notice for notice in views.feed.card["notices"])


def test_many_points_at_once_all_come_in_a_few_messages_and_in_their_order(views):
    views.hello()
    views.run.print("".join(f"step={n} " + " ".join(f"m{m}={n + m}" for m in range(8)) + "\n" for n in range(600)))
    views.go(6, look=True)
    came = {}
    for _, message, buffers in views.sent:
        if message["type"] == "append":
            steps, start = array("d", buffers[1]), 0
            for number, count in message["points"]:
                came.setdefault(number, []).extend(steps[start : start + count])
                start += count
    assert list(came.values()) == [[float(n) for n in range(600)]] * 8
    assert max(sum(count for _, count in message["points"]) for message in views.messages("append")) <= 1500
    within_limits(views.sent)


def test_a_snapshot_of_very_much_has_no_more_than_fits_into_a_second(written):
    run = written(tasks=300)
    run.begin(*range(300))
    for task in range(300):
        run.print("".join(f"step={step} loss={step}\n" for step in range(500)) + "x" * 3000 + "\n", task)
    views = Views(run)
    views.hello()
    views.go(3)
    within_limits(views.sent)


def test_views_that_do_not_answer_are_sent_nothing_until_they_do(views):
    views.hello()
    views.acks = False
    for _ in range(100):
        views.run.print("x\n")
        views.go()
    assert len(views.sent) <= protocol.UNSEEN_MESSAGES + 1
    views.sent.clear()
    views.run.print("y\n")
    views.go(3)
    assert views.sent == []
    views.say("ack", seq=3)
    views.go(1.2)
    assert texts(views.take("snapshot")["log"])[-1] == "y"


def test_a_view_that_has_gone_is_noticed_after_five_seconds(views):
    views.hello()
    views.acks = False
    views.run.print("x\n")
    views.go(6)
    views.sent.clear()
    views.run.print("y\n")
    views.go(30)
    assert views.sent == []


@pytest.mark.fault(5)
def test_while_a_cell_computes_and_nobody_can_be_heard_less_is_sent_but_not_nothing(run):
    run.begin(0)
    views = Views(run, is_deaf=lambda: True)
    views.hello()
    views.acks = False
    for _ in range(500):
        run.print("x\n")
        views.go()
    last = [when for when, _, _ in views.sent if when > views.now - 10]
    assert 10 <= len(last) <= 30
    views.go(protocol.SILENCE_SECONDS + session.BLIND_SECONDS)
    views.sent.clear()
    run.print("x\n")
    views.go(3)
    assert views.sent == []


def test_what_nobody_can_see_is_not_sent_and_comes_at_once_when_it_can_be_seen(views):
    views.hello()
    views.say("visible", visible=False)
    views.run.print("step=1 loss=0.5\n")
    views.run.change(State.SUCCEEDED, 0)
    views.go(3, look=True)
    assert {message["type"] for _, message, _ in views.sent} == {"card"}
    views.say("visible", visible=True)
    views.go()
    assert texts(views.take("snapshot")["log"]) == ["step=1 loss=0.5"]


def test_a_filter_searches_the_file_and_then_holds_for_what_comes(views):
    views.run.print("one ERROR\ntwo\n")
    views.hello()
    assert texts(views.answer("filter", task=None, text="error", regex=False, level=None)) == ["one ERROR"]
    views.run.print("three\nfour error\n")
    views.go(1)
    assert [texts(message["lines"]) for message in views.messages("lines")] == [["four error"]]
    views.say("visible", visible=False)
    views.say("visible", visible=True)
    deadline = time.monotonic() + 30
    while not views.messages("snapshot"):
        assert time.monotonic() < deadline
        views.go()
        time.sleep(0.01)
    assert texts(views.take("snapshot")["log"]) == ["one ERROR", "four error"]
    assert texts(views.hello()["log"]) == ["one ERROR", "two", "three", "four error"]


def test_a_pattern_filters_what_comes_and_a_bad_one_ends_alone(views):
    views.hello()
    assert views.answer("filter", task=None, text="fo+$", regex=True, level=None)["lines"] == []
    views.run.print("foo\nfoot\n")
    views.go(1)
    assert [texts(message["lines"]) for message in views.messages("lines")] == [["foo"]]
    views.run.print("a" * 60 + "!\n")
    answer = views.answer("filter", task=None, text="(a+)+$", regex=True, level=None)
    assert "too long" in answer["note"]
    assert views.answer("filter", task=None, text="", regex=False, level=None)["lines"]


def test_pages_and_moments_are_answered(views):
    views.run.print("".join(f"line {n}\n" for n in range(1000)))
    views.feed.tails()[0].poll(time.time())
    log = views.hello()["log"]
    assert texts(log)[-1] == "line 999"
    older = views.answer("page", before=log["before"])
    assert texts(older)[-1] == f"line {1000 - len(log['lines']) - 1}"
    assert views.answer("jump", time=time.time())["note"].startswith("around")
    assert views.answer("full_log", task=0)["files"] == [[0, str(views.run.files.log_file(0))]]


@pytest.mark.parametrize(
    "content",
    [
        None, [], "x", {}, {"type": "nothing"}, {"type": "ack"}, {"type": "ack", "seq": "1"}, {"type": "ack", "seq": True},
        {"type": "page", "request": 1, "before": None}, {"type": "page", "request": 1, "before": [[1, 2]]},
        {"type": "page", "request": 1, "before": [["a", 1, 2]]}, {"type": "page", "request": 1, "before": {"a": 1}},
        {"type": "jump", "request": 1, "time": float("nan")}, {"type": "jump", "request": 1, "time": 1e300},
        {"type": "filter", "request": 1, "level": "x"}, {"type": "filter", "request": -1, "text": 3},
        {"type": "page", "request": 1, "before": [[999, 1, 2**60]]}, {"type": "hello", "view": {"a": 1}},
    ],
)  # fmt: skip
def test_whatever_a_notebook_sends_the_card_goes_on(views, content):
    views.hello()
    views.session.receive(content)
    views.go(0.5)
    views.run.print("x\n")
    views.go(1)
    assert views.messages("lines")


def test_a_page_that_asks_beyond_the_file_is_answered(views):
    views.run.print("x\n")
    views.hello()
    assert texts(views.answer("page", before=[[0, 1, 10**9]])) in (["x"], [])


def test_stopping_is_said_and_done_elsewhere(views):
    views.hello()
    views.say("stop")
    views.go()
    assert views.messages("stopping")
    deadline = time.monotonic() + 30
    while not views.run.stopped:
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_stop_that_fails_says_why(views):
    views.hello()
    views.run.failure = BackendError("it cannot be reached", hint="look at the cluster")
    views.say("stop")
    deadline = time.monotonic() + 30
    while not views.messages("error"):
        assert time.monotonic() < deadline
        views.go()
        time.sleep(0.01)
    assert views.messages("error")[0]["message"] == str(views.run.failure)


def test_a_problem_is_told_by_the_card_and_is_over_when_it_is_over(views):
    views.hello()
    views.run.failure = OSError(24, "Too many open files")
    views.go(1.2, look=True)
    assert "Too many open files" in views.take("card")["card"]["problem"]
    views.run.failure = None
    views.go(2.4, look=True)
    assert views.take("card")["card"]["problem"] == ""


def test_two_sessions_of_one_run_are_fed_by_one_feed(views):
    other = []
    second = session.Session(views.feed, lambda message, _buffers: other.append(message), lambda: None)
    views.feed.sessions.append(second)
    views.hello()
    second.receive({"type": "hello", "view": "w"})
    second.tick(views.now)
    views.run.print("x\n")
    for _ in range(10):
        views.go()
        second.tick(views.now)
    assert [texts(message["lines"]) for message in views.messages("lines")] == [["x"]]
    assert [texts(message["lines"]) for message in other if message["type"] == "lines"] == [["x"]]


def test_a_run_that_was_replaced_is_gone(views):
    new = views.run.folder / "new.json"
    new.write_text("{}")
    new.replace(views.run.folder / "run.json")
    views.feed.look()
    assert views.feed.is_gone
