"""Notebooks executed in a child, by the real nbclient with a real kernel."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

import jupyter_gpudeploy
from jupyter_gpudeploy.programs import notebook as program

ROOT = Path(jupyter_gpudeploy.__file__).parent.parent
pytestmark = pytest.mark.kernel


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    (tmp_path / "work").mkdir()
    for name in ("IPYTHONDIR", "JUPYTER_RUNTIME_DIR", "JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR"):
        monkeypatch.setenv(name, str(tmp_path / name))
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.delenv("GPUDEPLOY_PARAMETERS", raising=False)
    return tmp_path


def write(folder: Path, *cells, **metadata) -> Path:
    file = folder / "in.ipynb"
    cells = [new_code_cell(cell) if isinstance(cell, str) else cell for cell in cells]
    nbformat.write(new_notebook(cells=cells, metadata=metadata), file)
    return file


def start(folder: Path, file: Path, parameters=None) -> subprocess.Popen:
    environment = dict(os.environ)
    if parameters is not None:
        environment["GPUDEPLOY_PARAMETERS"] = json.dumps(parameters)
    words = [sys.executable, "-m", "jupyter_gpudeploy.programs.notebook", str(file), str(folder / "made" / "out.ipynb")]
    return subprocess.Popen(
        words, cwd=folder / "work", env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )  # fmt: skip


def run(folder: Path, file: Path, parameters=None) -> tuple[int, str, str]:
    with start(folder, file, parameters) as process:
        out, err = process.communicate(timeout=100)
        return process.returncode, out, err


def executed(folder: Path):
    return nbformat.read(folder / "made" / "out.ipynb", as_version=4)


def is_gone(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True


def until(fits, seconds=30.0) -> None:
    deadline = time.monotonic() + seconds
    while not fits():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_a_notebook_runs_in_this_interpreter_and_folder_whatever_kernel_it_names(folder):
    file = write(
        folder,
        "import os, sys\nprint(sys.executable)\nprint(os.getcwd())\nprint('err', file=sys.stderr)",
        new_markdown_cell("# text"),
        "40 + 2",
        kernelspec={"name": "no-such-kernel", "display_name": "x", "language": "python"},
    )
    code, out, err = run(folder, file)
    assert (code, out) == (0, f"{sys.executable}\n{folder / 'work'}\n")
    assert "err\n" in err
    cells = executed(folder).cells
    assert cells[2].outputs[0].data["text/plain"] == "42"
    assert [cell.get("execution_count") for cell in cells] == [1, None, 2]
    assert list((folder / "work").iterdir()) == []
    assert not list(folder.glob("IPYTHONDIR/**/history.sqlite"))


def test_what_a_cell_prints_is_seen_while_it_runs(folder):
    gate = folder / "gate"
    file = write(
        folder,
        f"import os, time\nprint('loss=0.5', flush=True)\nwhile not os.path.exists({str(gate)!r}): time.sleep(0.01)",
    )
    with start(folder, file) as process:
        assert process.stdout.readline() == "loss=0.5\n"
        gate.touch()
        process.communicate(timeout=60)
        assert process.returncode == 0


def test_a_failing_cell_is_named_and_what_ran_is_kept(folder):
    file = write(
        folder, new_markdown_cell("title"), "print('one')", "def f():\n    return 1 / 0\nf()", "print('never')"
    )
    code, out, err = run(folder, file, {"lr": 1})
    assert (code, out) == (1, "one\n")
    assert "return 1 / 0" in err
    assert "\x1b" not in err
    assert err.endswith("cell 3 of 4 failed: ZeroDivisionError: division by zero\n")
    cells = executed(folder).cells
    assert cells[2].outputs[0].text == "one\n"
    assert cells[3].outputs[0].ename == "ZeroDivisionError"
    assert cells[4].outputs == []


def test_parameters_reach_the_cells(folder):
    file = write(
        folder,
        new_code_cell("lr = 1\nname = 'x'", metadata={"tags": ["parameters"]}),
        "print(repr((lr, name, flag, none, big, items)))",
    )
    parameters = {
        "lr": 0.001,
        "name": "a'b\n",
        "flag": True,
        "none": None,
        "big": float("-inf"),
        "items": [1, {"a": float("inf")}],
    }
    code, out, err = run(folder, file, parameters)
    assert code == 0, err
    assert out == repr(tuple(parameters.values())) + "\n"


def test_a_stopped_notebook_lets_the_cell_clean_up_and_is_written(folder):
    file = write(
        folder,
        "print('first')",
        "import time\ntry:\n    print('up', flush=True)\n    time.sleep(600)\nfinally:\n    print('cleaned up', flush=True)",
        "print('never')",
    )
    with start(folder, file) as process:
        assert [process.stdout.readline() for _ in range(2)] == ["first\n", "up\n"]
        process.send_signal(signal.SIGTERM)
        out, err = process.communicate(timeout=60)
    assert process.returncode == 143
    assert out == "cleaned up\n"
    assert err.endswith("cell 2 of 3 was told to stop\n")
    kept = ["".join(output.get("text", "") for output in cell.outputs) for cell in executed(folder).cells]
    assert kept == ["first\n", "up\ncleaned up\n", ""]


KERNEL = "import os, signal, time\n{}\nprint(os.getpid(), flush=True)\ntime.sleep(600)"
STUBBORN = "signal.signal(signal.SIGINT, signal.SIG_IGN)"


@pytest.mark.parametrize(("number", "before"), [(signal.SIGTERM, STUBBORN), (signal.SIGTERM, ""), (signal.SIGKILL, "")])
def test_the_kernel_ends_with_the_program(folder, number, before):
    file = write(folder, KERNEL.format(before))
    with start(folder, file) as process:
        kernel = int(process.stdout.readline())
        process.send_signal(number)
        process.communicate(timeout=60)
        assert process.returncode == (143 if number == signal.SIGTERM else -9)
    until(lambda: is_gone(kernel))
    if number == signal.SIGTERM:
        assert executed(folder).cells[0].outputs[0].text == f"{kernel}\n"


def test_a_kernel_that_is_killed_is_told(folder):
    code, _, err = run(folder, write(folder, "print('a')", "import os\nos.kill(os.getpid(), 9)"))
    assert code == 1
    assert err.endswith("cell 2 of 2 failed: the kernel died: killed by signal 9, as a rule for want of memory\n")
    assert executed(folder).cells[0].outputs[0].text == "a\n"


def test_a_cell_that_may_raise_does_not_end_the_run(folder):
    file = write(folder, new_code_cell("1 / 0", metadata={"tags": ["raises-exception"]}), "print('on')")
    assert run(folder, file)[:2] == (0, "on\n")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("print(1)", "is no notebook"),
        ("{}", "is no notebook"),
        ("[1]", "is no notebook"),
        (None, "cannot be read: No such file"),
        (
            json.dumps(new_notebook(metadata={"kernelspec": {"name": "ir", "display_name": "R", "language": "R"}})),
            "written in R",
        ),
    ],
)
def test_what_is_no_python_notebook_is_told_in_one_line(folder, text, message):
    file = folder / "in.ipynb"
    if text is not None:
        file.write_text(text)
    code, out, err = run(folder, file)
    assert (code, out) == (1, "")
    assert message in err
    assert "Traceback" not in err


@pytest.mark.parametrize("missing", ["nbclient", "ipykernel"])
def test_what_is_missing_is_named(monkeypatch, missing):
    monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(SystemExit, match=f"a notebook needs {missing}: pip install"):
        program.main(["a.ipynb", "b.ipynb"])


def tags(notebook) -> list[str]:
    return [",".join(cell.metadata.get("tags", [])) or cell.source for cell in notebook.cells]


def cell(tag: str):
    return new_code_cell("x = 0", metadata={"tags": [tag]})


@pytest.mark.parametrize(
    ("cells", "after", "added"),
    [
        ([new_code_cell("a"), cell("parameters"), new_code_cell("b")], ["a", "parameters", "injected-parameters", "b"], 2),
        ([new_code_cell("a")], ["injected-parameters", "a"], 0),
        ([cell("parameters"), new_code_cell("a"), cell("injected-parameters")], ["parameters", "a", "injected-parameters"], 3),
        ([new_code_cell("a"), cell("injected-parameters")], ["a", "injected-parameters"], 2),
    ],
)  # fmt: skip
def test_parameters_are_put_where_papermill_puts_them(cells, after, added):
    from papermill.parameterize import parameterize_notebook

    mine, theirs = (
        new_notebook(cells=cells),
        new_notebook(
            cells=cells,
            metadata={"kernelspec": {"name": "python3", "display_name": "x", "language": "python"}, "papermill": {}},
        ),
    )
    for one in theirs.cells:
        one.metadata.setdefault("tags", [])
    mine = nbformat.from_dict(json.loads(json.dumps(mine)))
    assert program.inject(mine, {"x": 1}) == added
    assert tags(mine) == after
    theirs = parameterize_notebook(theirs, {"x": 1})
    assert tags(theirs) == after
    assert [one.source for one in mine.cells] == [one.source.rstrip() for one in theirs.cells]


def test_without_parameters_nothing_is_put_in():
    notebook = new_notebook(cells=[cell("injected-parameters")])
    assert program.inject(notebook, {}) == 1
    assert notebook.cells[0].source == "x = 0"


def test_a_parameter_that_is_no_variable_is_refused():
    with pytest.raises(SystemExit, match="'a-b' cannot be"):
        program.inject(new_notebook(), {"a-b": 1})


def test_an_old_format_stays_valid(folder):
    file = folder / "in.ipynb"
    file.write_text(json.dumps({"cells": [], "metadata": {}, "nbformat": 4, "nbformat_minor": 4}))
    code, _, err = run(folder, file, {"x": 1})
    assert (code, err) == (0, "")
    nbformat.validate(executed(folder))
