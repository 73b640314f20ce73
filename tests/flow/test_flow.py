"""The main job, end to end, through the real magic in a real kernel."""

import pytest
from kernels import kernel, texts

pytestmark = pytest.mark.kernel

SWEEP = """%%deploy squares -o run
metric: {name: loss, goal: minimize}
parameters:
  x: [3, 1, 2]
  flag: [true, false]
parallelism: 2
---
import time
x = 0
flag = True
for step in range(3):
    print(f"step={step} loss={x * x + step + flag}")
    time.sleep(SECONDS)
"""


def sweep(seconds):
    return SWEEP.replace("SECONDS", str(seconds))


@pytest.fixture
def state(tmp_path):
    return tmp_path / "state"


@pytest.fixture
def shell(tmp_path, state):
    with kernel(tmp_path, state) as made:
        reply, _ = made.run("%load_ext jupyter_gpudeploy")
        assert reply["status"] == "ok", reply
        yield made


def ok(shell, code):
    reply, messages = shell.run(code)
    assert reply["status"] == "ok", "\n".join(reply.get("traceback", []))
    return messages


def test_a_sweep_comes_back_as_tables_and_figures(shell):
    (shown, *_) = texts(ok(shell, sweep(0.01)))
    assert "squares" in shown
    ok(shell, "run.wait(60)")
    assert shell.value("run.state") == "succeeded"
    rows = shell.value("run.trials()[['x', 'flag', 'loss', 'best_loss', 'state', 'exit_code']].values.tolist()")
    assert rows[0] == [3, True, 12, 10, "succeeded", 0]
    assert len(rows) == 6
    assert shell.value("len(run.metrics())") == 18
    assert shell.value("run.best()['parameters']") == {"x": 1, "flag": False}
    assert shell.value("len(run.figure().data) > 0 and len(run.figure('metrics').data)") >= 6


def test_the_cell_returns_before_the_work_is_done(shell):
    ok(shell, sweep(0.5))
    assert shell.value("run.state") in ("starting", "running", "waiting")
    ok(shell, "run.stop(1)")
    assert shell.value("run.state") == "stopped"


@pytest.mark.fault(1)
def test_another_kernel_sees_the_same_run_and_the_cell_is_idempotent(tmp_path, state, shell):
    ok(shell, sweep(0.3))
    uid = shell.value("run.uid")
    with kernel(tmp_path, state) as second:
        ok(second, "%load_ext jupyter_gpudeploy")
        ok(second, sweep(0.3))
        assert second.value("run.uid") == uid
        assert second.value("__import__('jupyter_gpudeploy').attach('squares').uid") == uid
        assert second.value("len(__import__('jupyter_gpudeploy').runs())") == 1
        ok(second, "run.wait(60)")
        assert second.value("run.trials()['attempt'].tolist()") == [1] * 6


@pytest.mark.fault(43)
def test_a_changed_cell_says_what_differs_and_asks(shell):
    ok(shell, sweep(0.01))
    ok(shell, "run.wait(60)")
    changed = sweep(0.01).replace("[3, 1, 2]", "[3, 1]")
    reply, _ = shell.run(changed)
    assert reply["ename"] == "RunExistsError"
    assert "parameters.x: [3, 1, 2] -> [3, 1]" in reply["evalue"]
    assert "--replace" in reply["evalue"]
    assert len(reply["traceback"]) == 2
    first = shell.value("run.uid")
    ok(shell, changed.replace("-o run", "-o run --replace"))
    assert shell.value("run.uid") != first
    ok(shell, "run.wait(60)")
    assert shell.value("len(run.trials())") == 4


def test_a_server_in_the_cell_answers_and_stops(shell):
    pytest.importorskip("fastapi")
    ok(
        shell,
        """%%deploy hello -o server --wait
serve: fastapi
---
from fastapi import FastAPI
app = FastAPI()
@app.get("/hello")
def hello(name: str = "you"):
    return {"hello": name}
""",
    )
    assert shell.value("server.state") == "ready"
    assert shell.value("server.request('/hello?name=me').json()") == {"hello": "me"}
    assert shell.value("server.url").startswith("http://127.0.0.1:")
    ok(shell, "server.stop()")
    assert shell.value("server.state") == "stopped"


def test_a_manual_environment_runs_commands(shell, tmp_path):
    (tmp_path / "x.py").write_text("import os; print('hello', os.environ['WHO']); raise SystemExit(3)")
    ok(shell, "%%deploy box -o box --wait\nmode: manual\nenv:\n  WHO: world\n")
    messages = ok(shell, "code = box.exec('python x.py')")
    assert "hello world" in "".join(m["content"].get("text", "") for m in messages)
    assert shell.value("code") == 3
    ok(shell, "box.stop()")


def test_a_failed_run_that_is_waited_for_fails_the_cell_in_two_lines(shell):
    reply, _ = shell.run("%%deploy bad --wait\n---\nraise ValueError('no data')\n")
    assert reply["ename"] == "RunFailedError"
    assert "no data" in reply["evalue"]
    assert len(reply["traceback"]) == 2


def test_verbs_return_values(shell):
    ok(shell, sweep(0.01))
    ok(shell, "run.wait(60)")
    ok(
        shell,
        "df = %deploy results squares\nlisted = %deploy ls\nsame = %deploy attach squares\ntext = %deploy logs squares --trial 0",
    )
    assert shell.value("[len(df), len(listed), same.uid == run.uid]") == [6, 1, True]
    assert "loss=" in shell.value("text")


@pytest.mark.fault(20)
@pytest.mark.parametrize("attempt", range(5))
def test_two_kernels_that_run_the_same_cell_at_once_drive_one_run(tmp_path, state, attempt):
    with kernel(tmp_path, state) as one, kernel(tmp_path, state) as two:
        for shell in (one, two):
            ok(shell, "%load_ext jupyter_gpudeploy")
        cell = sweep(0.05).replace("flag = True\n", "flag = True\nopen('starts.txt', 'a').write(f'{x}{flag}\\n')\n")
        waiting = [shell.client.execute(cell) for shell in (one, two)]
        for shell, message in zip((one, two), waiting, strict=True):
            assert shell.client.get_shell_msg(timeout=60)["content"]["status"] == "ok", message
        assert one.value("run.uid") == two.value("run.uid")
        ok(one, "run.wait(60)")
        assert two.value("run.trials()['attempt'].tolist()") == [1] * 6
        starts = (tmp_path / "starts.txt").read_text().split()
        assert len(starts) == len(set(starts)) == 6
