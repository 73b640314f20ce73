"""The whole way through a real Jupyter kernel: cells in, messages out."""

from __future__ import annotations

import pytest
from patience import eventually

from jupyter_gpudeploy import attach, runs

pytestmark = pytest.mark.kernel

SWEEP = """%%deploy -o run
name: sweep
parameters: {lr: [0.1, 0.2, 0.3, 0.4]}
parallelism: 2
metric: loss
---
import pathlib, time
lr = 1.0
for epoch in range(3):
    print(f"epoch={epoch} loss={lr / (epoch + 1)}", flush=True)
while not pathlib.Path("go").exists():
    time.sleep(0.02)
"""
TRAPPED = """
name: trapped
---
import pathlib, signal, time
signal.signal(signal.SIGINT, lambda *_: pathlib.Path("interrupted").write_text("SIGINT"))
print("begun", flush=True)
while not pathlib.Path("go").exists():
    time.sleep(0.02)
print("done", flush=True)
"""


def test_a_sweep_from_its_cell_to_a_table_and_a_figure(kernel, tmp_path):
    started = kernel.ok(SWEEP)
    (display,) = started.displays
    assert started.stdout == started.stderr == ""
    kernel.until_shown(display, "2 running, 2 waiting")
    (tmp_path / "go").touch()
    assert "succeeded" in kernel.until_shown(display, "4 of 4 done")
    assert kernel.displays[display]["text/html"].count("succeeded") == 5
    table = kernel.ok("table = %deploy results sweep\ntable")
    assert "<table" in table.result["text/html"]
    assert "4 4" in kernel.ok("print(len(table), table.index.nunique())").stdout
    assert "application/vnd.plotly.v1+json" in kernel.ok("run.figure('compare')").displays.popitem()[1]


def test_waiting_in_the_cell_leaves_the_final_table_in_it(kernel, tmp_path):
    (tmp_path / "go").touch()
    reply = kernel.ok(SWEEP.replace("-o run", "--wait"))
    assert "4 of 4 done" in reply.shown
    sent = len(kernel.updates)
    kernel.ok("import time; time.sleep(1.5)")
    assert len(kernel.updates) == sent


@pytest.mark.parametrize(
    ("cell", "ename", "words"),
    [
        ("%%deploy\nname: x\ngpus: -1\n---\nprint(1)", "SpecError", "line 3"),
        ("%%deploy --wiat\nname: x\n---\nprint(1)", "GpuDeployError", "did you mean '--wait'"),
        ("%deploy statsu", "GpuDeployError", "did you mean 'status'"),
        ("%deploy attach nothing", "RunNotFoundError", "nothing"),
        ("%%deploy\n", "GpuDeployError", "the cell is empty"),
        ("%%deploy --wait\nname: bad\n---\nraise SystemExit(3)", "RunFailedError", "bad failed"),
    ],
)
def test_an_error_is_a_failed_cell_with_our_name_and_two_lines(kernel, cell, ename, words):
    reply = kernel.run(cell)
    assert (reply.status, reply.ename) == ("error", ename)
    lines = "\n".join(reply.traceback).splitlines()
    assert words in "\n".join(lines)
    assert "Traceback" not in lines[0]
    assert len([line for line in lines if not line.startswith("    ")]) <= 2


@pytest.mark.fault(5)
def test_a_display_stays_in_its_cell_while_others_run(kernel, tmp_path):
    (display,) = kernel.ok(SWEEP).displays
    for number in range(5):
        before = len(kernel.updates)
        other = kernel.ok(f"import time; print({number}); time.sleep(0.7)")
        assert other.displays == {}
        assert (other.stdout, other.stderr, other.result) == (f"{number}\n", "", {})
    (tmp_path / "go").touch()
    kernel.ok("import time\nfor i in range(40): time.sleep(0.1)\nprint('end')")
    assert "4 of 4 done" in kernel.displays[display]["text/plain"]
    assert len(kernel.updates) > before
    assert set(kernel.updates) == {display}


@pytest.mark.fault(5)
def test_a_display_is_not_swallowed_by_a_cell_that_captures(kernel, tmp_path):
    (display,) = kernel.ok(SWEEP).displays
    (tmp_path / "go").touch()
    kernel.ok(
        "%%capture kept\nimport time; from jupyter_gpudeploy import attach\nattach('sweep').wait(); time.sleep(1.2)"
    )
    assert "4 of 4 done" in kernel.until_shown(display, "4 of 4 done")
    assert kernel.ok("print(len(kept.outputs))").stdout == "0\n"


@pytest.mark.fault(3)
@pytest.mark.parametrize(
    ("cell", "sign", "said"),
    [
        (
            "%%deploy --wait" + TRAPPED,
            "display_data",
            "no longer waiting; trapped goes on. To wait again: %deploy wait trapped",
        ),
        ("%deploy wait trapped", "display_data", "no longer waiting; trapped goes on."),
        (
            "%deploy logs trapped -f",
            "stream",
            "no longer following; trapped goes on. To see more: %deploy logs trapped -f",
        ),
    ],
)
def test_an_interrupt_ends_the_looking_and_never_the_job(kernel, tmp_path, cell, sign, said):
    if not cell.startswith("%%"):
        kernel.ok("%%deploy" + TRAPPED)
    waiting = kernel.start(cell)
    eventually(lambda: [run for run in runs() if "begun" in run.logs()])
    kernel.until_sent(waiting, sign)
    kernel.manager.interrupt_kernel()
    reply = kernel.finish(waiting)
    assert reply.status == "ok"
    assert said in reply.stdout
    assert not attach("trapped").is_over
    (tmp_path / "go").touch()
    assert str(attach("trapped").wait(30).state) == "succeeded"
    assert not (tmp_path / "interrupted").exists()


@pytest.mark.fault(4)
def test_with_nobody_connected_all_the_while_nothing_is_lost(kernel, tmp_path):
    kernel.ok(SWEEP)
    kernel.disconnect()
    (tmp_path / "go").touch()
    attach("sweep").wait(60, check=True)
    kernel.connect()
    shown = kernel.ok("%deploy watch sweep").shown
    assert "4 of 4 done" in shown
    assert kernel.ok("print(run.logs().count('epoch='), len(run.metrics()))").stdout == "12 12\n"


@pytest.mark.fault(20)
def test_two_kernels_with_one_cell_drive_one_run(kernels, tmp_path):
    first, second = kernels(), kernels()
    cells = [kernel.start(SWEEP) for kernel in (first, second)]
    replies = [kernel.finish(cell) for kernel, cell in zip((first, second), cells, strict=True)]
    assert [reply.status for reply in replies] == ["ok", "ok"]
    assert len(runs()) == 1
    changed = SWEEP.replace("0.4]", "0.5]")
    asked = second.run(changed.replace("-o run", "--replace"))
    driven = first.run(changed.replace("-o run", "--replace"))
    refused = asked if asked.status == "error" else driven
    assert refused.ename == "NotConfirmedError"
    assert "--take-over" in "\n".join(refused.traceback)
    loser = second if refused is asked else first
    (tmp_path / "go").touch()
    assert "4 of 4 done" in loser.ok(changed.replace("-o run", "--replace --take-over --wait")).shown
    assert len(runs()) == 1


def test_the_run_is_shown_again_by_a_new_kernel(kernels, tmp_path):
    old = kernels()
    old.ok(SWEEP)
    old.manager.shutdown_kernel(now=True)
    new = kernels()
    (display,) = new.ok(SWEEP).displays
    (tmp_path / "go").touch()
    new.until_shown(display, "4 of 4 done")
    assert len(runs()) == 1


def test_a_kernel_that_ends_leaves_a_display_that_says_how_to_come_back(kernel):
    (display,) = kernel.ok(SWEEP).displays
    kernel.client.shutdown()
    text = kernel.until_shown(display, "%deploy attach sweep")
    assert "4 waiting" in text or "running" in text


def test_a_server_is_shown_until_it_is_stopped(kernel):
    server = "%%deploy -o server --wait\nname: files\nserve: command\nrun: python -m http.server {port} --bind {host}\nhealth: /\n"
    reply = kernel.ok(server)
    (display,) = reply.displays
    assert "ready" in reply.shown
    assert "http://" in reply.shown
    assert kernel.ok("print(server.request('/').status)").stdout == "200\n"
    kernel.ok("%deploy stop files --grace 1;")
    kernel.until_shown(display, "stopped")


def test_tab_completes_in_a_kernel(kernel):
    def complete(code):
        kernel.client.complete(code, len(code))
        return kernel.client.get_shell_msg(timeout=30)["content"]["matches"]

    assert complete("%deploy st") == ["status", "stop"]
    assert complete("%%deploy\nname: x\npara") == ["parameters:", "parallelism:"] or set(
        complete("%%deploy\nname: x\npara")
    ) == {"parameters:", "parallelism:"}
    assert "fastapi" in complete("%%deploy\nserve: ")
