"""The keeper of displays, driven by runs whose every state the test decides."""

from __future__ import annotations

import threading

import pytest
from patience import eventually
from test_displays import row, summary

from jupyter_gpudeploy.errors import RunNotFoundError
from jupyter_gpudeploy.events.types import State
from jupyter_gpudeploy.notebook import live, ticker


class Scripted:
    """A run at the seam: the test says what its summary is, or which error it raises."""

    def __init__(self, folder, name="r"):
        self.name = self.uid = name
        self.notes = []
        self.folder = folder / name
        self.folder.mkdir()
        (self.folder / "run.json").write_text("{}")
        self.now = summary([row(1, State.RUNNING), row(2, State.WAITING)], name=name)
        self.looks = 0

    @property
    def is_over(self):
        return self.now.state.is_final

    def summary(self):
        self.looks += 1
        if isinstance(self.now, Exception):
            raise self.now
        return self.now

    def end(self):
        self.now = summary([row(1), row(2)], name=self.name, state=State.SUCCEEDED)


@pytest.fixture
def run(tmp_path):
    return Scripted(tmp_path)


@pytest.fixture(autouse=True)
def fast(monkeypatch, request):
    monkeypatch.setattr(live, "PAUSE", 0.02)
    yield
    live.close()


def texts(shell):
    return [output["data"]["text/plain"] for output in shell.display_pub.outputs]


def keeper():
    return [thread for thread in threading.enumerate() if thread.name == "jupyter_gpudeploy displays"]


def test_a_display_follows_its_run_to_the_end_and_the_keeper_goes(shell, run):
    live.show(shell, run)
    assert "0 of 2 done, 1 running, 1 waiting" in texts(shell)[0]
    run.end()
    eventually(lambda: "succeeded" in texts(shell)[-1])
    eventually(lambda: not keeper())
    first, *updates = shell.display_pub.outputs
    assert (first["update"], {update["update"] for update in updates}) == (False, {True})
    assert {output["transient"]["display_id"] for output in shell.display_pub.outputs} == {
        first["transient"]["display_id"]
    }
    assert "text/html" in updates[-1]["data"]


def test_nothing_is_sent_while_nothing_changes(shell, run):
    live.show(shell, run)
    looked = run.looks
    eventually(lambda: run.looks >= looked + 5)
    assert len(shell.display_pub.outputs) == 1


def test_a_run_that_has_ended_is_shown_once_and_needs_no_keeper(shell, run):
    run.end()
    live.show(shell, run)
    assert len(shell.display_pub.outputs) == 1
    assert not keeper()


def test_a_problem_is_said_in_the_display_and_is_over_when_it_is_over(shell, run):
    live.show(shell, run)
    good, run.now = run.now, OSError(24, "Too many open files")
    eventually(lambda: "Too many open files" in texts(shell)[-1])
    assert "1 running" in texts(shell)[-1]
    run.now = good
    eventually(lambda: "Too many" not in texts(shell)[-1])
    run.end()
    eventually(lambda: "succeeded" in texts(shell)[-1])


def test_a_run_that_cannot_be_read_at_first_is_shown_with_the_reason(shell, run):
    good, run.now = run.now, ValueError("bad <json>")
    live.show(shell, run)
    assert texts(shell) == ["r: cannot be followed at the moment: ValueError: bad <json>"]
    run.now = good
    eventually(lambda: "1 running" in texts(shell)[-1])


def test_a_summary_that_cannot_be_drawn_is_said_in_the_display(shell, run, monkeypatch, caplog):
    live.show(shell, run)
    run.now = summary([row(1)], title=None, name=None)
    eventually(lambda: "r: cannot be drawn: " in texts(shell)[-1])
    assert "cannot be drawn" in caplog.text
    run.end()
    eventually(lambda: "succeeded" in texts(shell)[-1])


def test_a_run_that_was_deleted_says_so_and_is_left_alone(shell, run):
    live.show(shell, run)
    run.now = RunNotFoundError("no run")
    eventually(lambda: live.GONE in texts(shell)[-1])
    eventually(lambda: not keeper())


def test_a_run_whose_name_another_took_is_not_shown_as_the_other(shell, run):
    live.show(shell, run)
    new = run.folder / "new.json"
    new.write_text("{}")
    new.replace(run.folder / "run.json")
    run.now = summary([row(1)], name="r", title="the other")
    eventually(lambda: live.GONE in texts(shell)[-1])
    assert "the other" not in "".join(texts(shell))


def test_a_display_that_cannot_be_sent_does_not_end_the_others(shell, run, tmp_path, caplog):
    live.show(shell, run)
    other = Scripted(tmp_path, "other")
    sent = []

    class Broken:
        execution_count = 7
        events = shell.events

        class display_pub:  # noqa: N801 - the name IPython gives it
            @staticmethod
            def publish(**message):
                if message["update"]:
                    raise RuntimeError("closed")
                sent.append(message)

    live.show(Broken, other)
    other.end()
    eventually(lambda: "could not be sent" in caplog.text)
    run.end()
    eventually(lambda: "succeeded" in texts(shell)[-1])


def test_one_execution_of_a_cell_has_one_display_of_a_run(shell, run):
    live.show(shell, run)
    live.show(shell, run)
    assert len({output["transient"]["display_id"] for output in shell.display_pub.outputs}) == 1
    shell.execution_count += 1
    live.show(shell, run)
    assert len({output["transient"]["display_id"] for output in shell.display_pub.outputs}) == 2


def test_of_many_displays_of_one_run_the_newest_move_and_all_end(shell, run, monkeypatch):
    monkeypatch.setattr(ticker, "OLD_PAUSE", 3600)
    for _ in range(6):
        shell.execution_count += 1
        live.show(shell, run)
    ids = [output["transient"]["display_id"] for output in shell.display_pub.outputs]
    run.now = summary([row(1), row(2, State.RUNNING)], name="r")
    eventually(lambda: sum("1 of 2 done" in text for text in texts(shell)) == ticker.LIVE_PER_RUN)
    monkeypatch.setattr(ticker, "OLD_PAUSE", 0)
    run.end()
    eventually(lambda: not keeper())
    last = {output["transient"]["display_id"]: output["data"]["text/plain"] for output in shell.display_pub.outputs}
    assert set(last) == set(ids)
    assert all("succeeded" in text for text in last.values())


def test_unloading_leaves_a_static_display_that_says_how_to_come_back(shell, run):
    live.show(shell, run)
    run.now = summary([row(1), row(2, State.RUNNING)], name="r")
    live.close()
    assert "1 of 2 done" in texts(shell)[-1]
    assert "%deploy attach r" in texts(shell)[-1]
    assert not keeper()


def test_settling_brings_a_display_up_to_date_before_it_returns(shell, run, monkeypatch):
    monkeypatch.setattr(live, "PAUSE", 30)
    live.show(shell, run)
    run.end()
    live.settle(shell, run)
    assert "succeeded" in texts(shell)[-1]


def test_plain_displays_are_static_only(shell, run):
    live.show(shell, run, plain=True)
    assert set(shell.display_pub.outputs[0]["data"]) == {"text/plain", "text/html"}


def test_a_terminal_gets_one_text_and_no_updates(shell, run, capsys):
    from IPython.core.displaypub import DisplayPublisher

    shell.display_pub = DisplayPublisher(shell=shell)
    live.show(shell, run)
    assert not keeper()
    assert capsys.readouterr().out.count("0 of 2 done") == 1


def test_a_slow_look_is_repeated_ever_more_rarely(shell, run, monkeypatch):
    display = live.Display(shell, run)
    clock = iter([100.0, 102.0, 102.0])
    monkeypatch.setattr(live.time, "monotonic", lambda: next(clock))
    display.draw()
    assert display.due == 102.0 + 2.0 * live.IDLE_SHARE
