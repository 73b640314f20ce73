"""Packages that a cell asks for come into a container that nobody may change; what its image has is kept."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

PROGRAM = Path(__file__).parents[2] / "jupyter_gpudeploy" / "programs" / "install.py"


@pytest.fixture
def wheels(tmp_path):
    """A folder with one package of our own making."""
    folder = tmp_path / "wheels"
    folder.mkdir()
    with zipfile.ZipFile(folder / "madeup_gd-1.0-py3-none-any.whl", "w") as wheel:
        wheel.writestr("madeup_gd.py", "WHERE = __file__\n")
        about = "madeup_gd-1.0.dist-info/"
        wheel.writestr(about + "METADATA", "Metadata-Version: 2.1\nName: madeup-gd\nVersion: 1.0\n")
        wheel.writestr(about + "WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr(about + "RECORD", "")
    return folder


def run(python, words, tmp_path, wheels):
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PIP_", "PYTHON"))}
    environment |= {
        "HOME": str(tmp_path / "home"),
        "PYTHONUSERBASE": str(tmp_path / "deps"),
        "PYTHONPATH": str(tmp_path / "deps"),
        "PIP_NO_INDEX": "1",
        "PIP_FIND_LINKS": str(wheels),
        "PIP_BREAK_SYSTEM_PACKAGES": "1",
    }
    return subprocess.run([python, *words], env=environment, text=True, capture_output=True, check=False)


@pytest.mark.parametrize("python", [sys.executable, getattr(sys, "_base_executable", sys.executable)])
def test_what_is_missing_is_installed_below_the_folder_of_dependencies(python, tmp_path, wheels):
    if run(python, ["-m", "pip", "--version"], tmp_path, wheels).returncode:
        pytest.skip(f"{python} has no pip")
    done = run(python, [str(PROGRAM), str(tmp_path / "deps"), "madeup-gd>=1", "pip"], tmp_path, wheels)
    assert done.returncode == 0, done.stderr
    found = run(python, ["-c", "import madeup_gd; print(madeup_gd.WHERE)"], tmp_path, wheels)
    assert found.stdout.startswith(str(tmp_path / "deps")), found.stderr
    where = run(python, ["-c", "import pip; print(pip.__file__)"], tmp_path, wheels)
    assert not where.stdout.startswith(str(tmp_path))  # what was there is not installed anew


@pytest.mark.parametrize("wanted", ["madeup-gd>=2", "there-is-no-such-package"])
def test_what_cannot_be_installed_ends_with_the_code_and_the_words_of_pip(wanted, tmp_path, wheels):
    done = run(sys.executable, [str(PROGRAM), str(tmp_path / "deps"), wanted], tmp_path, wheels)
    assert done.returncode == 1
    assert "No matching distribution found" in done.stderr


def test_an_image_without_pip_is_told_so(tmp_path, wheels):
    words = ["-c", f"import sys, runpy; sys.modules['pip'] = None; sys.argv = ['x', 'd', 'nothing-here']; runpy.run_path({str(PROGRAM)!r}, run_name='__main__')"]  # fmt: skip
    done = run(sys.executable, words, tmp_path, wheels)
    assert done.returncode == 1
    assert "this image has no pip" in done.stderr
