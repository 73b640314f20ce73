"""The tour of the README, run as it stands."""

import re
from pathlib import Path

import pytest
from kernels import kernel, texts

README = Path(__file__).parents[2] / "README.md"


def tour():
    part = README.read_text("utf-8").split("## A tour in ten lines")[1].split("\n## ")[0]
    return re.findall(r"```python\n(.*?)```", part, re.DOTALL)


@pytest.mark.kernel
def test_the_tour_does_what_it_says(tmp_path):
    with kernel(tmp_path, tmp_path / "state") as shell:
        shown = []
        for cell in tour():
            reply, messages = shell.run(cell)
            assert reply["status"] == "ok", "\n".join(reply.get("traceback", []))
            shown.append("\n".join(texts(messages)))
        assert "parabola" in shown[1]
        assert re.search(r"1\s+0\s+1\.0\s+succeeded", shown[2])
        assert "{'x': 1}" in shown[3]
        assert "parabola" in shown[4]
        again = shell.value("run.uid")
        assert shell.value("__import__('jupyter_gpudeploy').attach('parabola').uid") == again


def test_the_tour_has_ten_lines_that_are_not_the_program():
    assert sum(len(cell.strip().splitlines()) for cell in tour()) <= 15


def test_every_file_that_the_readme_links_is_there():
    for target in re.findall(r"\]\(([^)#]+)\)", README.read_text("utf-8")):
        assert (README.parent / target).exists(), target
