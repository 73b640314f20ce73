import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jupyter_gpudeploy.errors import PlanError
from jupyter_gpudeploy.plan.arguments import Point, as_argument, check_places, check_shell, expand
from jupyter_gpudeploy.plan.types import Slot, fill


def words(text, parameters, *, append=True, flags=None):
    values = {Slot.PORT: "8000", Slot.OUTPUT: "/out", Slot.HOST: "h", Slot.PYTHON: "py", Slot.CODE: "/code"}
    return fill(expand(text, Point(parameters, trial=3, seed=9, flags=flags), append=append), values)


def test_a_parameter_stands_where_its_braces_stand_and_is_appended_otherwise():
    assert words(["--lr", "{lr}", "--epochs", "20"], {"lr": 0.001, "hidden": 32}) == [
        "--lr", "0.001", "--epochs", "20", "--hidden", "32",
    ]  # fmt: skip


def test_booleans_become_flags():
    assert words([], {"amp": True, "ema": False}) == ["--amp", "--no-ema"]


def test_the_cell_says_other_flags():
    flags = {"attention": ("--use-attention", "--no-attention"), "ema": ("--ema", "")}
    assert words([], {"attention": False, "ema": False}, flags=flags) == ["--no-attention"]
    assert words(["{attention}", "x"], {"attention": True}, flags=flags) == ["--use-attention", "x"]


def test_null_leaves_an_option_out():
    assert words(["a"], {"scheduler": None}) == ["a"]


def test_slots_and_literal_braces():
    assert words(["--out={output}/{trial}", "{{lr}}", "{port}", '{"a": 1}'], {"lr": 1}, append=False) == [
        "--out=/out/3", "{lr}", "8000", '{"a": 1}',
    ]  # fmt: skip


@pytest.mark.fault(67)
@given(st.text(alphabet=st.characters(blacklist_characters="\0", blacklist_categories=["Cs"])))
def test_a_text_reaches_argv_as_it_is(value):
    text = words(["--x={value}"], {"value": value})
    assert text == [f"--x={value}"]


@pytest.mark.fault(68)
@pytest.mark.parametrize("value", ["--config=/evil", "-rf", "--"])
def test_a_value_that_would_be_an_option_is_joined_or_refused(value):
    assert words([], {"lr": value}) == [f"--lr={value}"]
    with pytest.raises(PlanError, match="would be read as an option") as error:
        words(["--lr", "{lr}"], {"lr": value})
    assert error.value.hint == "write --lr={lr} in args"


def test_negative_numbers_are_values():
    assert words(["--lr", "{lr}"], {"lr": -1.5}) == ["--lr", "-1.5"]
    assert words([], {"lr": "-1e-3"}) == ["--lr=-1e-3"]  # apart, argparse takes it for an option


@given(st.floats(allow_nan=False))
def test_numbers_are_read_back_exactly(number):
    assert float(as_argument(number)) == number


def test_nan_and_inf_are_written():
    assert math.isnan(float(as_argument(math.nan)))
    assert as_argument(-math.inf) == "-inf"


def test_a_name_in_braces_that_nothing_fills_is_refused_with_the_nearest():
    with pytest.raises(PlanError, match="learning_rat") as error:
        check_places(["{learning_rat}"], ["learning_rate"])
    assert "did you mean 'learning_rate'?" in error.value.hint


@pytest.mark.fault(67)
@pytest.mark.parametrize(
    "command",
    [
        ["a", "&&", "b"],
        ["a", "|", "b"],
        ["a", ">", "f"],
        ["bash", "-c", "echo {lr}"],
        ["/bin/sh", "-c", "{lr}"],
        ["bash", "-lc", "echo {lr}"],
        ["bash", "-e", "-c", "echo {lr}"],
        ["env", "A=1", "bash", "-ec", "echo {lr}"],
        ["timeout", "5", "sh", "-c", "x{lr}"],
        ["bash", "-c", "-e", "x{lr}"],
    ],
)
def test_what_needs_a_shell_is_refused(command):
    with pytest.raises(PlanError):
        check_shell(command)


def test_a_shell_script_may_take_parameters_as_arguments():
    check_shell(["bash", "-c", 'echo "$1"', "bash", "{lr}"])
