"""The verbs in Python, on real processes."""

import logging
import time

import pytest

from jupyter_gpudeploy import attach, compare, launch, runs
from jupyter_gpudeploy.errors import BackendError, PlanError, RunExistsError, RunNotFoundError
from jupyter_gpudeploy.events.types import State
from jupyter_gpudeploy.launching import plan, replaced


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("JUPYTER_GPUDEPLOY_HOME", str(tmp_path / "state"))
    monkeypatch.chdir(tmp_path)
    yield tmp_path / "state"
    for run in runs():
        run.stop(1)


def sweep(*values):
    return {"name": "s", "code": "x = 0\nprint(f'loss={x}')", "parameters": {"x": list(values)}}


def test_a_handle_goes_on_showing_its_own_run_after_another_took_the_name():
    old = launch(sweep(1, 2)).wait()
    new = launch(sweep(100, 200), replace=True).wait()
    assert old.trials()["loss"].tolist() == [1, 2]
    assert old.logs(0) == "loss=1"
    assert old.folder != new.folder
    assert compare(old, new)["loss"].tolist() == [1, 2, 100, 200]
    assert [run.uid for run in replaced()] == [old.uid]
    old.remove(yes=True)
    assert not replaced()


def test_what_was_printed_is_a_table_too():
    frame = launch(sweep(1, 2)).wait().logs_frame()
    assert frame[["trial", "text"]].to_numpy().tolist() == [[0, "loss=1"], [1, "loss=2"]]


def test_a_server_that_ended_is_started_again_by_its_cell_and_by_no_other(home):
    serve = {"name": "web", "serve": "command", "run": "python -m http.server {port} --bind {host}"}
    first = launch(serve).wait(30)
    first.stop(1)
    second = launch(serve).wait(30)
    assert second.uid != first.uid
    assert second.request("/").status == 200
    second.stop(1)
    with pytest.raises(RunExistsError, match="web exists"):
        launch({"name": "web", "run": "echo hi"})


@pytest.mark.parametrize("damage", ["", "{", "[]", "{}"])
def test_one_broken_record_does_not_hide_the_other_runs(home, damage, caplog):
    launch(sweep(1)).wait()
    launch({"name": "broken", "run": "echo hi"}).wait()
    (home / "runs" / "broken" / "run.json").write_text(damage)
    with caplog.at_level(logging.WARNING):
        assert [run.name for run in runs()] == ["s"]
    assert "broken" in caplog.text
    with pytest.raises(RunNotFoundError):
        attach("broken")


def test_the_interpreters_script_is_a_source_like_any_other(tmp_path):
    (tmp_path / "nb").mkdir()
    (tmp_path / "out.py").write_text("")
    for command in ("python ../out.py", ["python", "-u", "../out.py"], f"python {tmp_path}/out.py"):
        with pytest.raises(PlanError, match="outside"):
            plan({"run": command}, base_dir=tmp_path / "nb")


def test_what_a_command_reads_is_part_of_what_it_is(tmp_path):
    def fingerprint():
        return plan({"run": "bash s.sh", "requirements": "req.txt"})[0].fingerprint

    (tmp_path / "s.sh").write_text("echo 1")
    (tmp_path / "req.txt").write_text("numpy\n")
    first = fingerprint()
    assert fingerprint() == first
    (tmp_path / "s.sh").write_text("echo 2")
    second = fingerprint()
    (tmp_path / "req.txt").write_text("numpy\npandas\n")
    assert len({first, second, fingerprint()}) == 3


def test_a_default_that_is_written_out_is_no_change():
    assert (
        plan({"run": "echo hi", "seed": 0, "parallelism": 1})[0].fingerprint == plan({"run": "echo hi"})[0].fingerprint
    )


def test_options_of_pip_in_a_requirements_file_are_refused(tmp_path):
    (tmp_path / "req.txt").write_text("numpy\n-r other.txt\n")
    with pytest.raises(PlanError, match=r"req\.txt, line 2"):
        plan({"run": "echo hi", "requirements": "req.txt"})


def test_a_file_whose_name_has_a_space_is_found(tmp_path):
    (tmp_path / "my train.py").write_text("print('loss=1')")
    assert launch({"run": "my train.py"}).wait(check=True).trials()["loss"].tolist() == [1]


@pytest.mark.fault(69)
def test_a_secret_file_beside_the_notebook_reaches_the_program_and_is_masked(tmp_path, monkeypatch):
    (tmp_path / "suite").mkdir()
    (tmp_path / "suite" / "main.py").write_text("import os; print('have', os.environ['TOK'])")
    (tmp_path / "sec.txt").write_text("very-secret-value\n")
    run = launch({"run": "suite", "entry_point": "main.py", "secrets": {"TOK": "file:sec.txt"}}).wait(check=True)
    monkeypatch.chdir("/")
    assert run.logs() == "have ••••••"


def notes(code, **parameters):
    return {note.field: note.message for note in plan({"code": code, "parameters": parameters})[0].notes}


def test_a_parameter_that_the_code_never_reads_is_told():
    found = plan({"code": "learning_rate = 1\nprint(learning_rate)", "parameters": {"learning_rte": [1, 2]}})[0].notes
    (note,) = [note for note in found if note.field == "parameters.learning_rte"]
    assert note.level == "warning"
    assert note.hint == "did you mean 'learning_rate'?"


def test_a_parameter_that_is_set_again_is_told():
    assert "line 2" in notes("x = 1\nx = 3\nprint(x)", x=[1, 2])["parameters.x"]
    assert "parameters.x" not in notes("x = 1\nx = x * 2\nprint(x)", x=[1, 2])
    assert "parameters.x" not in notes("print(x)", x=[1, 2])


def test_whole_bounds_draw_whole_numbers():
    def drawn(**axis):
        tasks = plan({"run": "echo", "parameters": {"n": axis}, "method": "random", "max_runs": 20})[0].tasks
        return {type(task.parameters["n"]) for task in tasks}

    assert drawn(min=1, max=8) == {int}
    assert drawn(min=1.0, max=8) == {float}
    assert drawn(min=1, max=8, distribution="log_uniform") == {float}


def test_a_stopped_sweep_is_not_done():
    run = launch({"name": "long", "code": "import time\ntime.sleep(60)\nx", "parameters": {"x": [1, 2, 3]}})
    run.stop(1)
    assert run.summary().done == 0
    assert run.summary().progress == "3 stopped"


def test_a_command_in_an_environment_that_needs_a_shell_is_refused():
    box = launch({"name": "box", "mode": "manual"}).wait()
    with pytest.raises(PlanError, match="shell"):
        box.exec("ls | head")
    with pytest.raises(PlanError, match="quot"):
        box.exec('echo "a')


def test_a_path_with_a_space_and_an_answer_that_is_no_http(tmp_path):
    server = "import socket,sys\ns=socket.create_server(('127.0.0.1',int(sys.argv[1])))\nwhile 1:\n c,_=s.accept()\n c.send(b'hello')\n c.close()"
    (tmp_path / "raw.py").write_text(server)
    run = launch({"name": "raw", "serve": "command", "run": "python raw.py {port}"}).wait(30)
    with pytest.raises(BackendError, match="does not answer"):
        run.request("/a b")


@pytest.mark.fault(69)
def test_a_secret_that_the_program_prints_is_in_no_file(home, monkeypatch):
    secret = "canary-0123456789"
    monkeypatch.setenv("TOKEN", secret)
    code = "import os, sys, time\nt = os.environ['TOKEN']\nprint('have', t)\nsys.stdout.write(t[:8])\nsys.stdout.flush()\ntime.sleep(0.1)\nprint(t[8:])\nraise ValueError(t)\n"
    run = launch({"name": "leak", "code": code, "secrets": ["TOKEN"]}).wait()
    monkeypatch.delenv("TOKEN")
    assert "have ••••••" in run.logs()
    files = [file for file in home.rglob("*") if file.is_file()]
    assert files
    assert not [file for file in files if secret.encode() in file.read_bytes()]


def test_a_server_that_fails_shows_why_while_it_waits_for_its_next_attempt():
    code = "import sys; print('no model here'); sys.exit(3)"
    run = launch({"name": "web", "serve": "command", "run": f'python -c "{code}" {{port}}', "retries": 5})
    deadline = time.monotonic() + 30
    while (task := run.status().tasks[0]).state is not State.WAITING or task.attempt == 1:
        assert time.monotonic() < deadline, task
        time.sleep(0.01)
    summary = run.summary()
    assert summary.log == ["no model here"]
    assert (summary.rows[0].attempt, summary.tries) == (2, 6)
    assert summary.rows[0].reason == "exit code 3; attempt 2 in 1 s"
