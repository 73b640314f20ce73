"""The magics in a real shell, over the real local backend."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys

import pytest
from patience import REPOSITORY, eventually

from jupyter_gpudeploy import attach, runs
from jupyter_gpudeploy.errors import (
    GpuDeployError,
    NotConfirmedError,
    RunExistsError,
    RunFailedError,
    RunNotFoundError,
    SpecError,
    WaitTimeoutError,
)
from jupyter_gpudeploy.notebook import verbs
from jupyter_gpudeploy.notebook.reprs import bundle
from jupyter_gpudeploy.quantities import parse_seconds
from jupyter_gpudeploy.run import Run

JOB = "name: job\n---\nprint('loss=0.5', flush=True)\n"
SWEEP = (
    "name: sweep\nparameters: {lr: [0.1, 0.2, 0.3]}\nparallelism: 2\nmetric: loss\n---\nlr = 1\nprint(f'loss={lr}')\n"
)
LONG = "name: long\n---\nimport time\nprint('begun', flush=True)\ntime.sleep(600)\n"


@pytest.fixture
def cell(shell):
    """Run one `%%deploy` cell and return what it displayed, the last version of each display."""

    def run(line: str, body: str) -> list[dict[str, str]]:
        shell.display_pub.outputs.clear()
        assert shell.run_cell_magic("deploy", line, body) is None
        last = {}
        for output in shell.display_pub.outputs:
            last[(output["transient"] or {}).get("display_id", len(last))] = output["data"]
        return list(last.values())

    return run


@pytest.fixture
def line(shell):
    """Run one `%deploy` line and return its value."""
    return lambda text: shell.run_line_magic("deploy", text)


def test_a_cell_starts_its_run_shows_it_and_returns_at_once(shell, cell):
    (shown,) = cell("", LONG)
    assert shown["text/plain"].startswith("long: ")
    assert "text/html" in shown
    assert isinstance(shell.user_ns["_deploy"], Run)
    assert not shell.user_ns["_deploy"].is_over


def test_waiting_ends_with_the_final_table(shell, cell):
    (shown,) = cell("-o run --wait", SWEEP)
    assert "3 of 3 done" in shown["text/plain"]
    assert "succeeded" in shown["text/html"]
    assert re.search(r"^★ +0 +0\.1 ", shown["text/plain"], re.MULTILINE)
    assert shell.user_ns["run"].trials().shape[0] == 3


def test_a_name_on_the_line_wins_over_the_cell(shell, cell):
    cell("other --wait", JOB)
    assert [run.name for run in runs()] == ["other"]


def test_a_failed_run_that_was_waited_for_is_an_error(shell, cell):
    with pytest.raises(RunFailedError, match="bad"):
        cell("--wait", "name: bad\n---\nraise SystemExit(3)\n")
    assert "exit code 3" in shell.display_pub.outputs[-1]["data"]["text/plain"]


def test_several_runs_of_one_cell_are_each_shown_and_stored_as_a_list(shell, cell, tmp_path):
    (tmp_path / "a.py").write_text("print(1)")
    transcript = (
        "make wizard PROJECT=first\n# - Type: Single file\n# - Source: ./a.py\n# - Mode: Job\n\n"
        "make wizard PROJECT=second\n# - Type: Single file\n# - Source: ./a.py\n# - Mode: Job\n"
    )
    shown = cell("-o both --wait", transcript)
    assert [run.name for run in shell.user_ns["both"]] == ["first", "second"]
    assert [bundle["text/plain"].split(":")[0] for bundle in shown] == ["first", "second"]


@pytest.mark.parametrize("first_line", ["--dry-run", "plan"])
def test_a_dry_run_shows_the_plan_and_starts_nothing(cell, first_line, home):
    (shown,) = cell(f"{first_line} --plain", SWEEP)
    assert "plan, nothing started" in shown["text/plain"]
    assert "3 trials, 2 at a time" in shown["text/plain"]
    assert set(shown) == {"text/plain"}
    assert runs() == []


def test_showing_a_cell_prints_the_files_it_would_write(cell, capsys):
    cell("show", SWEEP)
    printed = capsys.readouterr().out
    assert "# --- run.json" in printed
    assert '"kind": "sweep"' in printed
    assert runs() == []


def test_a_plan_can_be_stored(shell, cell):
    cell("plan -o plan", SWEEP)
    assert shell.user_ns["plan"].kind == "sweep"


def test_an_unchanged_cell_finds_its_run_and_a_changed_one_says_what_differs(shell, cell):
    cell("-o first --wait", SWEEP)
    cell("-o again --wait", SWEEP)
    assert shell.user_ns["again"].uid == shell.user_ns["first"].uid
    with pytest.raises(RunExistsError, match="--replace"):
        cell("", SWEEP.replace("0.3", "0.4"))
    cell("--replace --wait -o new", SWEEP.replace("0.3", "0.4"))
    assert shell.user_ns["new"].uid != shell.user_ns["first"].uid


def test_mistakes_of_a_cell_name_their_line(cell):
    with pytest.raises(SpecError, match=r"line 3:1: .*paramters"):
        cell("", "name: x\nparamters: {lr: [1]}\n---\nprint(1)\n")
    assert runs() == []


def test_an_empty_cell_is_our_error_and_help_needs_no_body(shell, capsys):
    result = shell.run_cell("%%deploy --gpus 1")
    assert isinstance(result.error_in_exec, GpuDeployError)
    assert "the cell is empty" in capsys.readouterr().out
    shell.run_cell("%%deploy --help")
    assert "%%deploy [NAME]" in capsys.readouterr().out


def test_braces_and_dollars_reach_us_untouched(shell, line):
    shell.user_ns["name"] = "other"
    with pytest.raises(RunNotFoundError, match=r"\{name\}"):
        line("status {name}")
    with pytest.raises(RunNotFoundError, match=r"\$name"):
        line("status $name")


def test_lines_return_values(shell, cell, line):
    cell("--wait", SWEEP)
    assert [run.name for run in line("ls")] == ["sweep"]
    assert line("status sweep").done == 3
    assert list(line("results sweep").index) == [0, 1, 2]
    assert "loss=0.2" in line("logs sweep")
    assert line("logs sweep --trial 2").strip() == "loss=0.3"
    assert line("attach sweep").uid == line("wait sweep").uid
    assert '"parameters"' in line("plan sweep")
    assert "lr: [0.1, 0.2, 0.3]" in line("show sweep")
    assert "%%deploy [NAME]" in line("help")
    assert "--trial" in line("help logs")
    assert "--trial" in line("logs --help")


def test_a_semicolon_silences_a_line(shell, cell, line):
    cell("--wait", JOB)
    assert line("status job").name == "job"
    assert line("status job;") is None


def test_a_value_can_be_stored_by_name_too(shell, cell, line):
    cell("--wait", JOB)
    assert line("results job -o table") is None
    assert shell.user_ns["table"].shape[0] == 1


def test_the_results_of_several_runs_are_compared(shell, cell, line):
    cell("--wait", JOB)
    cell("--wait", SWEEP)
    assert set(line("results job sweep").iloc[:, 0]) == {"job", "sweep"}


def test_values_are_shown_as_tables_and_text(shell, cell):
    cell("--wait", SWEEP)
    shell.display_pub.outputs.clear()
    shown = shell.display_formatter.format(runs())[0]
    assert "1 run" in shown["text/plain"]
    assert "3 of 3" in shown["text/html"]
    assert "3 of 3 done" in shell.display_formatter.format(attach("sweep").summary())[0]["text/html"]
    assert shell.display_formatter.format(attach("sweep")) == ({}, {})
    assert "3 of 3 done" in shell.display_pub.outputs[-1]["data"]["text/plain"]


def test_attaching_to_nothing_names_the_nearest(cell, line):
    cell("--wait", JOB)
    with pytest.raises(RunNotFoundError, match="job"):
        line("attach jb")


def test_a_wait_can_be_bounded_and_the_run_goes_on(cell, line):
    cell("", LONG)
    with pytest.raises(WaitTimeoutError):
        line("wait long --timeout 0.2")
    assert not attach("long").is_over


def test_exec_runs_a_command_in_a_manual_run_and_returns_its_exit_code(cell, line, capsys):
    cell("--wait", "name: env\nmode: manual\n")
    assert line("exec env -- python -c 'import sys; print(\"in\", 1 + 1); sys.exit(4)'") == 4
    assert "in 2" in capsys.readouterr().out
    assert str(line("logs env --task 1000")) == "in 2"
    with pytest.raises(GpuDeployError, match="env has no task 7"):
        line("logs env --task 7")


def test_a_lost_run_says_how_to_resume_and_is_resumed(cell, line, tmp_path):
    cell("", "name: lost\n---\nimport pathlib, time\nwhile not pathlib.Path('go').exists(): time.sleep(0.02)\n")
    eventually(lambda: str(attach("lost").state) == "running")
    os.kill(json.loads((attach("lost").folder / "supervisor.json").read_text())["pid"], signal.SIGKILL)
    eventually(lambda: str(line("status lost").state) == "lost")
    assert "%deploy resume lost" in bundle(line("status lost"))["text/plain"]
    (tmp_path / "go").touch()
    assert str(line("resume lost --wait").state) == "succeeded"


def test_of_a_long_log_the_end_is_shown_and_what_is_hidden_is_said(cell, line):
    cell("--wait", "name: long\n---\nfor n in range(5000): print(n)\n")
    said, *lines = str(line("logs long")).split("\n")
    file = attach("long").folder / "logs" / "0.1.log"
    assert said == f"[3,000 lines hidden, full log at {file}; --all or --tail N shows more]"
    assert lines == [str(n) for n in range(3000, 5000)]
    assert str(line("logs long --all")).split("\n") == [str(n) for n in range(5000)]
    assert str(line("logs long --tail 2500")).split("\n") == [str(n) for n in range(2500, 5000)]


def test_wide_lines_are_hidden_beyond_a_million_characters_and_of_many_trials_each_has_its_share(cell, line):
    cell("--wait", "name: wide\n---\nfor n in range(30): print(str(n % 10) * 50_000)\n")
    said, *lines = str(line("logs wide")).split("\n")
    assert said.startswith("[10 lines hidden, ")
    assert [text[0] for text in lines] == [str(n % 10) for n in range(10, 30)]
    cell("--wait", "name: many\nparameters: {x: [0, 1, 2, 3]}\n---\nfor n in range(600): print(n)\n")
    said, *lines = str(line("logs many")).split("\n")
    assert said == f"[400 lines hidden, full log at {attach('many').folder / 'logs'}; --all or --tail N shows more]"
    assert lines[:1] == ["0 | 100"]
    assert len(lines) == 2000


def test_a_short_log_is_shown_as_it_is(cell, line):
    cell("--wait", "name: short\n---\nprint('a'); print('b')\n")
    assert str(line("logs short")) == "a\nb"


@pytest.mark.parametrize("how", ["resume half --wait", "cell"])
def test_a_stopped_sweep_says_how_to_resume_and_goes_on(cell, line, tmp_path, how):
    text = "name: half\nparameters: {x: [0, 1, 2]}\n---\nimport pathlib, time\nprint(f'loss={x}')\nwhile x and not pathlib.Path('go').exists(): time.sleep(0.02)\n"
    cell("", text)
    eventually(lambda: str(attach("half").status().tasks[1].state) == "running")
    line("stop half --grace 1s")
    assert "%deploy resume half" in bundle(line("status half"))["text/plain"]
    cell("", text)
    assert str(attach("half").state) == "stopped", "only when it is asked for"
    (tmp_path / "go").touch()
    if how == "cell":
        cell("--resume --wait", text)
    else:
        line(how)
    run = attach("half")
    assert (str(run.state), run.trials()["attempt"].tolist()) == ("succeeded", [1, 2, 1])
    assert run.trials()["loss"].tolist() == [0, 1, 2]


@pytest.mark.fault(3)
def test_an_interrupt_while_waiting_ends_the_waiting_only(shell, cell, line, monkeypatch, capsys):
    cell("", LONG)

    def interrupted(*_args, **_kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr(Run, "wait", interrupted)
    assert line("wait long").name == "long"
    assert capsys.readouterr().out == "no longer waiting; long goes on. To wait again: %deploy wait long\n"
    assert not attach("long").is_over


@pytest.mark.fault(78)
def test_stopping_by_name_acts_at_once(cell, line):
    cell("", LONG)
    assert line("stop long --grace 1").is_over
    assert str(attach("long").state) == "stopped"


@pytest.mark.fault(78)
def test_stopping_everything_asks_back_and_says_what_it_would_end(cell, line):
    cell("", LONG)
    cell("another", LONG)
    with pytest.raises(NotConfirmedError) as caught:
        line("stop --all")
    assert re.search(r"end 2 runs \(another, long\), 0 GPU hours", str(caught.value))
    assert "%deploy stop --all --yes" in str(caught.value)
    assert not any(run.is_over for run in runs())
    line("stop --all --yes --grace 1")
    assert all(run.is_over for run in runs())
    assert line("stop --all") == []


@pytest.mark.fault(78)
@pytest.mark.parametrize("chosen", ["job", "--all", "--older 0s"])
def test_cleaning_asks_back_with_count_hours_size_and_the_command(cell, line, chosen, capsys):
    cell("--wait", JOB)
    with pytest.raises(NotConfirmedError) as caught:
        line(f"clean {chosen}")
    assert re.search(r"delete 1 run \(job\), 0 GPU hours, [\d.]+ KiB", str(caught.value))
    assert f"%deploy clean {chosen} --yes" in str(caught.value)
    assert [run.name for run in runs()] == ["job"]
    line(f"clean {chosen} --yes")
    assert runs() == []
    assert "deleted: job" in capsys.readouterr().out


@pytest.mark.fault(78)
def test_cleaning_leaves_what_lives_and_what_is_young(cell, line, capsys):
    cell("", LONG)
    cell("--wait", JOB)
    with pytest.raises(GpuDeployError, match="only runs that have ended"):
        line("clean long --yes")
    line("clean --older 7d --yes")
    assert "deleted: nothing" in capsys.readouterr().out
    line("clean --all --yes")
    assert [run.name for run in runs()] == ["long"]


@pytest.mark.parametrize("age", ["7d", "12h", "90m", "45s", "0s", "1.5s"])
def test_an_age_is_told_back_as_it_was_written(age):
    assert verbs._age(parse_seconds(age)) == age


def test_a_flood_is_shown_as_far_as_a_front_end_takes_it_and_says_what_is_left_out(capsys):
    now = [0.0]
    shown = verbs.Valve(clock=lambda: now[0])
    now[0] = 10.0
    for number in range(5000):
        shown.print(str(number))
    now[0] = 11.5
    shown.print("calm again")
    shown.print("x" * (verbs.BYTES_A_SECOND + 1))
    shown.print("interrupted", always=True)
    shown.end()
    lines = capsys.readouterr().out.splitlines()
    assert lines[: verbs.LINES_A_SECOND] == [str(number) for number in range(verbs.LINES_A_SECOND)]
    assert lines[verbs.LINES_A_SECOND :] == [
        "[3000 lines came too fast to be shown; the log has them]",
        "calm again",
        "interrupted",
        "[1 lines came too fast to be shown; the log has them]",
    ]


def test_unloading_takes_everything_away_and_loading_brings_it_back(shell, cell):
    cell("--wait", JOB)
    shell.run_line_magic("unload_ext", "jupyter_gpudeploy")
    assert shell.find_line_magic("deploy") is None
    assert shell.find_cell_magic("deploy") is None
    assert "text/html" not in shell.display_formatter.format(runs())[0]
    assert not [one for one in shell.Completer.custom_matchers if "gpudeploy" in one.matcher_identifier]
    shell.run_line_magic("load_ext", "jupyter_gpudeploy")
    assert "1 run" in shell.display_formatter.format(runs())[0]["text/html"]


def test_plain_ipython_works_too(home, tmp_path):
    script = tmp_path / "session.ipy"
    script.write_text(f"%load_ext jupyter_gpudeploy\nget_ipython().run_cell_magic('deploy', '--wait', {SWEEP!r})\n")
    command = [sys.executable, "-m", "IPython", "--no-banner", "--colors=NoColor", str(script)]
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    done = subprocess.run(command, check=True, capture_output=True, text=True, env=environment)
    assert "3 of 3 done" in done.stdout
