"""Shift-Tab: what a key means, told where the cursor stands, and the kernel's own answer everywhere else."""

import pytest

from jupyter_gpudeploy.notebook.inspection import help_at

CELL = "%%deploy x\nmetric: {name: loss}\nserve: vllm\nsecrets:\n  HF_TOKEN: hf/token\n---\nimport os\n"


@pytest.mark.parametrize(
    ("at", "begins", "holds"),
    [
        ("%%dep", "%%deploy [NAME]", "--dry-run"),
        ("metr", "metric\n", "for example"),
        ("loss", "metric\n", "for example"),
        ("vllm", "serve\n", "one of: command, fastapi"),
        ("HF_T", "secrets\n", "for example"),
    ],
)
def test_the_help_of_a_cell_is_told_where_the_cursor_stands(at, begins, holds):
    text = help_at(CELL, CELL.index(at) + 1)
    assert text.startswith(begins)
    assert holds in text


def test_a_key_inside_another_is_told_with_its_path():
    cell = "%%deploy\nmetric:\n  goal: maximize\n"
    assert help_at(cell, cell.index("goal")).startswith("metric.goal\n")
    assert "one of: minimize, maximize" in help_at(cell, cell.index("goal"))


def test_a_line_is_told_with_its_verb():
    assert help_at("import os\ndf = %deploy results x", 30).startswith("%deploy results NAME ...")


@pytest.mark.parametrize("at", ["import os", "---"])
def test_the_code_is_the_kernels_own(at):
    assert help_at(CELL, CELL.index(at) + 1) == ""


@pytest.mark.parametrize("code", ["", "\n", "print(1)", "%%deployed\nmetric: x", "%%deploy\nunknown: 1", "%%deploy\n:"])
def test_what_is_not_known_is_not_told(code):
    assert help_at(code, len(code)) == ""


def test_a_kernel_tells_it_keeps_its_own_help_and_forgets_ours(kernel):
    def inspect(code, at):
        kernel.client.inspect(code, at)
        return kernel.client.get_shell_msg(timeout=30)["content"]

    asked = inspect(CELL, CELL.index("vllm"))
    assert (asked["status"], asked["found"]) == ("ok", True)
    assert asked["data"]["text/plain"].startswith("serve\n")
    own = inspect("sorted", 3)
    assert "iterable" in own["data"]["text/plain"]
    kernel.ok("%reload_ext jupyter_gpudeploy")
    kernel.ok("%unload_ext jupyter_gpudeploy")
    assert not inspect(CELL, CELL.index("metric") + 2)["found"]
    assert "iterable" in inspect("sorted", 3)["data"]["text/plain"]
