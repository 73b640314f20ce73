from __future__ import annotations

import pytest

from jupyter_gpudeploy.errors import GpuDeployError
from jupyter_gpudeploy.notebook import verbs
from jupyter_gpudeploy.notebook.arguments import (
    CELL_VERBS,
    OPTIONS,
    START,
    VERBS,
    help_text,
    parse_cell_line,
    parse_line,
    usage,
)


def test_a_cell_line_takes_a_name_and_options():
    asked = parse_cell_line("digits -o run --wait --gpus 2 --backend=local --replace")
    assert (asked.verb, asked.name, asked.output, asked.wait) == ("start", "digits", "run", True)
    assert (asked.gpus, asked.backend, asked.replace, asked.resume) == (2, "local", True, False)


def test_a_first_word_that_is_a_cell_verb_is_a_verb():
    assert parse_cell_line("plan").verb == "plan"
    assert parse_cell_line("show --gpus 1").gpus == 1
    assert parse_cell_line("--name plan").name == "plan"


def test_a_line_without_a_word_asks_for_help():
    assert parse_line("  ").verb == "help"
    assert parse_line("--help").verb == "help"


@pytest.mark.parametrize(
    ("line", "command"),
    [
        ("exec env -- python x.py --lr 0.1", ["python", "x.py", "--lr", "0.1"]),
        ("exec env python x.py --lr 0.1", ["python", "x.py", "--lr", "0.1"]),
        ("exec env -- python -c 'print(1, \"$HOME\")'", ["python", "-c", 'print(1, "$HOME")']),
        ("exec env -- python -c 'a;'", ["python", "-c", "a;"]),
        ("exec -o code env -- a -- b", ["a", "--", "b"]),
    ],
)
def test_exec_hands_its_command_over_word_by_word(line, command):
    asked = parse_line(line)
    assert (asked.names, asked.command) == (["env"], command)


def test_durations_are_written_as_elsewhere():
    assert parse_line("clean --older 7d").older == 7 * 86400
    assert parse_line("stop x --grace 2").grace == 2
    assert parse_line("wait x --timeout 15m").timeout == 900


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("stauts x", ["stauts", "did you mean 'status'", "known:"]),
        ("logs x --tial 3", ["--tial", "did you mean '--trial'"]),
        ("stop x --tail 3", ["--tail does not go with %deploy stop", "--grace"]),
        ("logs", ["needs the name of a run", "usage: %deploy logs NAME", "%deploy ls"]),
        ("status a b", ["'b' is too much"]),
        ("ls x", ["'x' is too much"]),
        ("logs x --tail", ["--tail needs a value"]),
        ("logs x --tail --follow", ["--tail needs a value"]),
        ("logs x --tail three", ["'three' is no whole number"]),
        ("logs x --tail=-3", ["'-3' is no whole number"]),
        ("logs x --follow=yes", ["takes no value"]),
        ("status x -o 1x", ["'1x' cannot be the name of a variable"]),
        ("clean --older soon", ["'soon' is no quantity"]),
        ("exec env", ["needs a command"]),
        ("clean x --all", ["exclude each other"]),
        ("logs 'x", ["no closing quotation", "close the quote"]),
    ],
)
def test_a_wrong_line_is_our_error_and_names_the_way_out(line, words):
    with pytest.raises(GpuDeployError) as caught:
        parse_line(line)
    for word in words:
        assert word in str(caught.value)


def test_two_names_for_one_run_are_refused():
    with pytest.raises(GpuDeployError, match="two names"):
        parse_cell_line("a --name b")


def test_every_verb_is_done_by_something_and_told_in_the_help():
    assert set(verbs._LINE) == set(VERBS)
    for verb in VERBS:
        assert f"%deploy {verb}" in help_text()
    for verb in CELL_VERBS:
        assert f"%%deploy {verb}" in help_text()


@pytest.mark.parametrize("verb", VERBS)
def test_help_works_behind_every_verb(verb):
    assert parse_line(f"{verb} --help").help
    assert parse_line(f"{verb} x -h").help
    assert usage(verb) in help_text(verb)
    for name in VERBS[verb].options:
        assert OPTIONS[name].flags[0] in help_text(verb)


def test_help_works_in_a_cell():
    assert parse_cell_line("--help").help
    assert parse_cell_line("plan --help").help
    for name in START.options:
        assert OPTIONS[name].flags[0] in help_text(cell=True)


def test_help_of_an_unknown_verb_names_the_nearest():
    with pytest.raises(GpuDeployError, match="did you mean 'logs'"):
        help_text("log")
