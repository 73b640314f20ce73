import pickle

import pytest

from jupyter_gpudeploy import errors
from jupyter_gpudeploy.errors import GpuDeployError, Problem, RunFailedError, SpecError, WaitTimeoutError


def tree():
    return [value for value in vars(errors).values() if isinstance(value, type) and issubclass(value, Exception)]


@pytest.mark.parametrize("kind", tree(), ids=lambda kind: kind.__name__)
def test_every_error_is_one_of_ours_and_stands_in_the_picture(kind):
    assert issubclass(kind, GpuDeployError)
    assert kind.__name__ in errors.__doc__


def test_an_error_is_its_message_and_its_way_out():
    error = RunFailedError("digits failed: 3 of 12 trials", hint="run.logs() shows why")
    assert str(error) == "digits failed: 3 of 12 trials\n  → run.logs() shows why"
    assert str(GpuDeployError("gone")) == "gone"


def test_a_notebook_shows_two_lines_and_no_traceback():
    lines = GpuDeployError("no run is called 'x'", hint="known: y")._render_traceback_()
    assert lines == ["\x1b[31mGpuDeployError\x1b[0m: no run is called 'x'", "  → known: y"]


def test_a_wait_that_took_too_long_is_a_timeout_to_python():
    assert issubclass(WaitTimeoutError, TimeoutError)


def test_one_mistake_is_told_with_its_place_its_line_and_its_way_out():
    problem = Problem("gpus must be 0 or more, not -1", "for example gpus: 1", 3, 7, "gpus", "gpus: -1\n      ^")
    assert str(SpecError([problem])).split("\n") == [
        "line 3:7: gpus must be 0 or more, not -1",
        "    gpus: -1",
        "          ^",
        "  → for example gpus: 1",
    ]
    assert SpecError([problem])._render_traceback_()[0].endswith("line 3:7: gpus must be 0 or more, not -1")


def test_many_mistakes_are_told_in_the_order_of_their_lines():
    error = SpecError([Problem("b", line=5, column=1), Problem("c", "do", 5, 9), Problem("a")])
    assert str(error) == "3 mistakes in the cell\n  a\n  line 5:1: b\n  line 5:9: c  → do"
    assert [problem.message for problem in error.problems] == ["a", "b", "c"]


@pytest.mark.parametrize(
    "error", [GpuDeployError("m", hint="h"), SpecError([Problem("a", "b", 1, 2)]), WaitTimeoutError("m")]
)
def test_errors_survive_pickling(error):
    again = pickle.loads(pickle.dumps(error))  # noqa: S301 - our own bytes
    assert type(again) is type(error)
    assert str(again) == str(error)
