"""The card through a real kernel: its comm, its messages, what it leaves in the notebook."""

from __future__ import annotations

import queue
import time
from array import array

import pytest
from patience import eventually

from jupyter_gpudeploy import attach
from jupyter_gpudeploy.notebook.card.form import VIEW

pytestmark = pytest.mark.kernel

BUILT = """
import pathlib
from jupyter_gpudeploy.notebook.card import widget
widget.STATIC = pathlib.Path("static")
widget.STATIC.mkdir(exist_ok=True)
(widget.STATIC / "card.js").write_text("export default { render() {} }")
"""
JOB = """%%deploy
name: job
---
import pathlib, time
step = 0
while not pathlib.Path("go").exists():
    step += 1
    print(f"step={step} loss={1 / step}", flush=True)
    if step % 5 == 0:
        print(f"\\x1b[31mERROR\\x1b[0m number {step}", flush=True)
    time.sleep(0.02)
print("the end", flush=True)
"""
CALM = "%%deploy\nname: calm\n---\nimport pathlib, time\nprint('begun', flush=True)\nwhile not pathlib.Path('go').exists(): time.sleep(0.02)\n"


class Page:
    """What a browser does with the comms of one kernel: models by their comm, messages by their kind."""

    def __init__(self, kernel):
        self.kernel = kernel
        self.models = {}
        self.messages = []
        self.closed = []
        self.displays = {}
        self.stray = []
        self.answers = True

    def take(self):
        try:
            message = self.kernel.client.get_iopub_msg(timeout=0.05)
        except queue.Empty:
            return
        kind, content = message["header"]["msg_type"], message["content"]
        if kind == "comm_open" and content["data"]["state"].get("_model_name") == "AnyModel":
            self.models[content["comm_id"]] = content["data"]["state"]
        elif kind == "comm_close":
            self.closed.append(content["comm_id"])
        elif kind == "comm_msg" and content["data"].get("method") == "custom":
            said = content["data"]["content"]
            self.messages.append({**said, "comm": content["comm_id"], "buffers": message["buffers"]})
            if self.answers and said["seq"] % 5 == 0:
                self.say("ack", content["comm_id"], seq=said["seq"])
        elif kind in ("display_data", "update_display_data"):
            self.displays.setdefault(content["transient"].get("display_id"), []).append(content["data"])
        elif kind in ("stream", "error", "execute_result"):
            self.stray.append(content)

    def say(self, kind, comm=None, **more):
        comm = comm or list(self.models)[-1]
        data = {"method": "custom", "content": {"type": kind, **more}}
        client = self.kernel.client
        client.shell_channel.send(client.session.msg("comm_msg", {"comm_id": comm, "data": data}))

    def until(self, what):
        def look():
            self.take()
            return what()

        return eventually(look)

    def last(self, kind, comm=None):
        return next(
            (each for each in reversed(self.messages) if each["type"] == kind and comm in (None, each["comm"])), None
        )

    def wait(self, kind, comm=None):
        """Wait for the next message of a kind."""
        seen = len(self.messages)
        return self.until(
            lambda: next(
                (each for each in self.messages[seen:] if each["type"] == kind and comm in (None, each["comm"])), None
            )
        )

    def run(self, code):
        self.kernel.client.execute(code)

    def open(self, code):
        """Run a cell that shows a card, say hello, and return its comm."""
        known = len(self.models)
        self.run(code)
        comm = self.until(lambda: len(self.models) > known and list(self.models)[-1])
        self.until(
            lambda: any(VIEW in shown[0] and shown[0][VIEW]["model_id"] == comm for shown in self.displays.values())
        )
        self.say("hello", comm, view="v")
        return comm

    def display(self, comm):
        return next(
            shown
            for shown in self.displays.values()
            if any(data.get(VIEW, {}).get("model_id") == comm for data in shown)
        )


@pytest.fixture
def page(kernel):
    kernel.ok(BUILT)
    return Page(kernel)


def texts(lines):
    return [line[5] for line in lines]


def test_from_hello_over_lines_and_points_to_the_end_and_the_static_form(page, tmp_path):
    comm = page.open(JOB)
    (first,) = page.displays.values()
    assert set(first[0]) == {VIEW, "text/plain", "text/html"}
    assert page.models[comm]["run_name"] == "job"
    snapshot = page.wait("snapshot")
    assert (snapshot["seq"], snapshot["card"]["name"]) == (1, "job")
    lines = page.wait("lines")
    assert all(text.startswith(("step=", "\ue000bERROR\ue001")) for text in texts(lines["lines"]))
    append = page.wait("append")
    assert [len(each) for each in append["buffers"][:3:2]] == [
        8 * sum(n for _, n in append["points"]),
        4 * sum(n for _, n in append["points"]),
    ]
    assert array("d", bytes(append["buffers"][0]))[0] == pytest.approx(time.time(), abs=60)
    page.until(
        lambda: any(series["chart"] == "metric:loss" for each in page.messages for series in each.get("series", ()))
    )
    (tmp_path / "go").touch()
    shown = page.until(lambda: VIEW not in page.display(comm)[-1] and page.display(comm)[-1])
    page.say("left", comm)
    page.until(lambda: comm in page.closed)
    assert page.last("bye", comm)
    assert "succeeded" in shown["text/plain"]
    assert "the end" in shown["text/plain"]
    assert "<" in shown["text/html"]
    assert [each["seq"] for each in page.messages] == list(range(1, len(page.messages) + 1))
    assert page.stray == []


def test_a_page_that_does_not_know_the_display_keeps_a_card_that_answers(page, tmp_path):
    comm = page.open(JOB)
    page.wait("snapshot")
    (tmp_path / "go").touch()
    page.until(lambda: VIEW not in page.display(comm)[-1])
    page.say("hello", comm, view="of a page that was loaded anew")
    assert page.wait("snapshot", comm)["card"]["state"] == "succeeded"
    page.say("filter", request=1, task=None, text="the end", regex=False, level=None)
    assert texts(page.wait("log")["log"]["lines"]) == ["the end"]
    page.run("%unload_ext jupyter_gpudeploy")
    assert page.wait("bye", comm)
    page.run("print('on')")
    page.until(lambda: page.stray)
    assert comm not in page.closed
    page.say("left", comm)
    page.until(lambda: comm in page.closed)


def test_filter_page_jump_and_the_whole_log(page):
    page.open(JOB)
    page.wait("snapshot")
    page.until(lambda: "number 10" in str(page.messages))
    page.say("filter", request=1, task=None, text="number", regex=False, level="error")
    log = page.wait("log")
    assert log["request"] == 1
    assert log["log"]["lines"][0][1:5] == [0, 1, log["log"]["lines"][0][3], "error"]
    assert texts(log["log"]["lines"])[:2] == ["\ue000bERROR\ue001 number 5", "\ue000bERROR\ue001 number 10"]
    assert all("number" in text for text in texts(page.wait("lines")["lines"]))
    page.say("filter", request=2, task=None, text=r"step=1\b", regex=True, level=None)
    assert texts(page.wait("log")["log"]["lines"]) == ["step=1 loss=1.0"]
    page.say("filter", request=3, task=0, text="", regex=False, level=None)
    page.wait("log")
    page.say("jump", request=4, time=time.time() - 0.5)
    assert "around" in page.wait("log")["log"]["note"]
    page.say("page", request=5, before=[[0, 1, 60]])
    assert texts(page.wait("log")["log"]["lines"])[0] == "step=1 loss=1.0"
    page.say("full_log", request=6, task=0)
    assert page.wait("log")["log"]["files"][0][1].endswith("logs/0.1.log")


def test_stop_ends_the_run_and_the_card(page):
    comm = page.open(JOB)
    page.wait("lines")
    page.say("stop")
    assert page.wait("stopping")
    shown = page.until(lambda: VIEW not in page.display(comm)[-1] and page.display(comm)[-1])
    assert "stopped" in shown["text/plain"]
    assert str(attach("job").state) == "stopped"


def test_two_views_and_one_opened_again_get_everything(page):
    comm = page.open(JOB)
    page.wait("snapshot", comm)
    page.say("hello", comm, view="second")
    again = page.wait("snapshot", comm)
    assert again["seq"] > 1
    other = page.open("%deploy watch job")
    assert page.wait("snapshot", other)["card"]["uid"] == again["card"]["uid"]
    page.wait("lines", comm)
    page.wait("lines", other)


@pytest.mark.fault(4)
def test_a_tab_that_was_closed_gets_all_of_it_when_it_comes_back(page, tmp_path):
    comm = page.open(JOB)
    page.wait("lines")
    page.answers = False
    page.kernel.disconnect()
    eventually(lambda: attach("job").logs().count("step=") > 300)
    page.kernel.connect()
    page.answers = True
    page.say("hello", comm, view="again")
    log = page.wait("snapshot", comm)["log"]
    assert any("step=300 " in text for text in texts(log["lines"])) or log["before"]
    page.say("filter", request=1, task=None, text="step=1 ", regex=False, level=None)
    assert texts(page.wait("log")["log"]["lines"]) == ["step=1 loss=1.0"]


def test_no_hello_makes_it_static_and_a_late_one_brings_the_card_back(page):
    page.run(CALM)
    comm = page.until(lambda: list(page.models)[-1] if page.models else None)
    page.until(lambda: page.displays and VIEW in next(iter(page.displays.values()))[0])
    (shown,) = page.displays.values()
    page.until(lambda: VIEW not in shown[-1])
    assert "text/html" in shown[-1]
    page.say("hello", comm, view="late")
    page.until(lambda: VIEW in shown[-1])
    page.say("hello", comm, view="late")
    assert page.wait("snapshot")["card"]["name"] == "calm"


def test_without_a_built_front_end_it_is_static_from_the_start(page):
    page.kernel.ok("(widget.STATIC / 'card.js').unlink()")
    page.run(CALM)
    page.until(lambda: page.displays)
    (shown,) = page.displays.values()
    assert VIEW not in shown[0]
    assert page.models == {}


@pytest.mark.parametrize("line", ["%%deploy --plain", "%%deploy --wait"])
def test_plain_and_waiting_cells_are_static(page, tmp_path, line):
    page.run(CALM.replace("%%deploy", line))
    page.until(lambda: page.displays)
    (tmp_path / "go").touch()
    (shown,) = page.displays.values()
    page.until(lambda: "succeeded" in shown[-1]["text/plain"])
    assert page.models == {}
    assert not any(VIEW in data for data in shown)


@pytest.mark.fault(5)
def test_a_card_goes_on_while_other_cells_run_and_says_nothing_in_them(page):
    comm = page.open(JOB)
    page.wait("lines")
    page.run("import time\nfor n in range(8): time.sleep(0.5)")
    begun = time.monotonic()
    page.until(lambda: time.monotonic() - begun > 3)
    lines = [each for each in page.messages if each["type"] == "lines"]
    assert len(lines) >= 5
    assert page.stray == []
    assert comm not in page.closed


@pytest.mark.fault(3)
def test_an_interrupt_leaves_the_card_and_the_run_alone(page):
    page.open(JOB)
    page.wait("lines")
    page.run("import time; time.sleep(60)")
    page.wait("lines")
    page.kernel.manager.interrupt_kernel()
    page.until(lambda: any(each.get("ename") == "KeyboardInterrupt" for each in page.stray))
    page.wait("lines")
    assert not attach("job").is_over


def test_a_kernel_that_is_shut_down_leaves_the_static_form(page):
    comm = page.open(JOB)
    page.wait("lines")
    page.kernel.client.shutdown()
    shown = page.until(lambda: "%deploy attach job" in page.display(comm)[-1]["text/plain"] and page.display(comm)[-1])
    assert VIEW not in shown
    assert page.last("bye")


def test_unloading_the_extension_leaves_the_static_form(page):
    comm = page.open(JOB)
    page.wait("lines")
    page.run("%unload_ext jupyter_gpudeploy")
    page.until(lambda: VIEW not in page.display(comm)[-1])
    assert page.last("bye")


def test_a_new_kernel_shows_the_card_with_its_history(page, kernels, tmp_path):
    page.open(JOB)
    page.until(lambda: "number 20" in str(page.messages))
    page.kernel.manager.restart_kernel(now=True)
    new = kernels()
    new.ok(BUILT)
    fresh = Page(new)
    comm = fresh.open("%deploy watch job")
    snapshot = fresh.wait("snapshot", comm)
    assert snapshot["log"]["lines"]
    assert any(series["chart"] == "metric:loss" for series in snapshot["series"])
    assert max(count for _, count in snapshot["points"]) > 10
    fresh.say("filter", comm, request=1, task=None, text="number 20", regex=False, level=None)
    assert texts(fresh.wait("log")["log"]["lines"])[0].endswith("number 20")


def test_a_run_that_has_ended_is_watched_with_a_card_that_stays(page, tmp_path):
    (tmp_path / "go").touch()
    page.kernel.ok(JOB.replace("%%deploy", "%%deploy --wait"))
    comm = page.open("%deploy watch job")
    snapshot = page.wait("snapshot", comm)
    assert snapshot["card"]["state"] == "succeeded"
    assert texts(snapshot["log"]["lines"]) == ["the end"]
    page.say("full_log", request=1, task=0)
    assert page.wait("log")["log"]["files"]
    assert comm not in page.closed


def test_many_cards_share_the_threads_and_end_with_the_last(page, tmp_path):
    for _ in range(3):
        page.open("%deploy watch job" if page.models else JOB)
    (tmp_path / "go").touch()
    first = next(iter(page.models))
    page.until(lambda: VIEW not in page.display(first)[-1])
    page.say("left", first)
    page.until(lambda: page.closed == [first])
    names = "[t.name for t in threading.enumerate() if t.name.startswith('jupyter_gpudeploy')]"
    page.run(f"import threading; print({names})")
    assert page.until(lambda: page.stray)[-1]["text"].count("looker") <= 1
    page.run("%unload_ext jupyter_gpudeploy")
    for comm in page.models:
        page.say("left", comm)
    page.until(lambda: sorted(page.closed) == sorted(page.models))
    page.run(f"import time\nwhile {names}: time.sleep(0.02)\nprint('all gone')")
    page.until(lambda: page.stray[-1].get("text") == "all gone\n")
