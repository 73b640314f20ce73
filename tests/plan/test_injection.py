import json
import subprocess
import sys

import pytest

from jupyter_gpudeploy.errors import PlanError
from jupyter_gpudeploy.plan.injection import check_defaults, program


def run(tmp_path, code, parameters, header=()):
    file = tmp_path / "cell.py"
    file.write_text(program(code, list(parameters), header), "utf-8")
    environment = {"GPUDEPLOY_PARAMETERS": json.dumps(parameters), "PYTHONIOENCODING": "utf-8"}
    done = subprocess.run(
        [sys.executable, file], capture_output=True, text=True, env=environment, check=False, encoding="utf-8"
    )
    return done.stdout + done.stderr


@pytest.mark.parametrize(
    "code",
    [
        "lr = 0.5\nprint(lr)",
        "lr: float = 0.5\nprint(lr)",
        "a = lr = 0.5\nprint(lr)",
        "lr, a = 0.5, 2\nprint(lr)",
        "[a, lr] = [1, 0.5]\nprint(lr)",
        "lr = (\n  0.25 +\n  0.25\n)\nprint(lr)",
        "x = 'é'; lr = 0.5  # the default\nprint(lr)",
        "print(lr)",
        "def f():\n    return lr\nprint(f())",
        '"""doc"""\nfrom __future__ import annotations\nlr = 0.5\nprint(lr)',
        "for i in range(1): print(lr)",
        "if True:\n    pass\nprint(lr)\nlr = 0.5",
    ],
)
def test_a_parameter_is_a_plain_variable_and_wins_over_its_default(tmp_path, code):
    assert run(tmp_path, code, {"lr": 0.125}).strip() == "0.125"


def test_only_the_first_assignment_is_a_default(tmp_path):
    assert run(tmp_path, "lr = 1\nlr = lr * 2\nprint(lr)", {"lr": 10}).strip() == "20"


def test_a_traceback_names_the_line_of_the_cell(tmp_path):
    header = ["%%deploy x", "parameters:", "  lr: [1, 2]", "---"]
    code = "lr = (\n  1\n)\nprint(lr)\nraise ValueError('here')\n"
    cell = "\n".join([*header, code])
    line = cell.split("\n").index("raise ValueError('here')") + 1
    assert f"line {line}, in <module>" in run(tmp_path, code, {"lr": 3}, header)


def test_names_of_the_prologue_do_not_stay(tmp_path):
    assert run(tmp_path, "print([n for n in dir() if 'json' in n or n == '_os'])", {"lr": 1}).strip() == "[]"


def test_a_value_may_be_any_json(tmp_path):
    values = {"s": "quote ' \" \n { $(id)", "n": None, "b": True, "f": 1e-5, "i": 10**20, "nan": float("nan")}
    assert run(tmp_path, "print([s, n, b, f, i, nan])", values).strip() == repr(list(values.values()))


def test_code_without_parameters_runs_as_it_is(tmp_path):
    assert run(tmp_path, "from __future__ import annotations\nprint(1)", {}).strip() == "1"


def test_a_default_hidden_in_an_unpacking_is_refused():
    with pytest.raises(PlanError, match=r"line 2 .* 'lr'"):
        check_defaults("import os\nlr, a = f()", ["lr"])
