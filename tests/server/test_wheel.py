"""The wheel, built once and installed where no node is; and a checkout where none is."""

import os
import shutil
import subprocess
import sys
import tarfile
import venv
import zipfile
from pathlib import Path

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]

REPOSITORY = Path(__file__).parents[2]
PANEL = "jupyter_gpudeploy/labextension"
CARD = "jupyter_gpudeploy/notebook/static"
HERE = "data/share/jupyter/labextensions/jupyter-gpudeploy"
LEFT_OUT = (
    "node_modules",
    ".git",
    ".venv",
    "__pycache__",
    ".yarn",
    ".mypy_cache",
    ".ruff_cache",
    ".hypothesis",
    "lib",
    "dist",
)


def bare(*programs: Path) -> dict[str, str]:
    """Return an environment in which no program is found but those beside these."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("JUPYTER", "PYTHON"))}
    found = {**environment, "PATH": os.pathsep.join(str(program.parent) for program in programs), "PYTHONSAFEPATH": "1"}
    assert shutil.which("node", path=found["PATH"]) is None
    return found


def run(*command, **options):
    told = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    done = subprocess.run([*map(str, command)], check=False, **told, **options)
    assert done.returncode == 0, done.stdout
    return done.stdout


def build(checkout, *options, env=None):
    return run(sys.executable, "-m", "build", checkout, "--outdir", checkout / "dist", *options, env=env)


@pytest.fixture(scope="module")
def checkout(tmp_path_factory):
    """A copy of this folder, with what is built in it."""
    sys.path.insert(0, str(REPOSITORY / "scripts"))
    try:
        import build_labextension
    finally:
        sys.path.pop(0)
    if not build_labextension.build():
        pytest.skip("the panel is not built, and cannot be: make labextension says why")
    target = tmp_path_factory.mktemp("wheel") / "checkout"
    return shutil.copytree(REPOSITORY, target, ignore=shutil.ignore_patterns(*LEFT_OUT), symlinks=True)


@pytest.fixture(scope="module")
def dist(checkout):
    """The sdist, and the wheel that was built from it."""
    build(checkout)
    return checkout / "dist"


def test_wheel_and_sdist_carry_both_front_ends_once(dist):
    (wheel,) = dist.glob("*.whl")
    (sdist,) = dist.glob("*.tar.gz")
    names = zipfile.ZipFile(wheel).namelist()
    assert len(names) == len(set(names))
    assert not [name for name in names if PANEL in name], "JupyterLab does not look there"
    for wanted in (f"{HERE}/package.json", f"{HERE}/install.json", f"{HERE}/static/style.js", f"{CARD}/card.js",
                   "data/etc/jupyter/jupyter_server_config.d/jupyter_gpudeploy.json"):  # fmt: skip
        assert [name for name in names if name.endswith(wanted)], wanted
    assert [name for name in names if f"{HERE}/static/remoteEntry." in name]
    with tarfile.open(sdist) as archive:
        packed = archive.getnames()
    for wanted in (f"{PANEL}/package.json", f"{PANEL}/static/style.js", f"{CARD}/card.js", "labextension/install.json"):
        assert [name for name in packed if name.endswith(wanted)], wanted
    assert not [name for name in packed if "node_modules" in name or ".yarn/" in name]
    assert sdist.stat().st_size < 5 << 20


def test_the_wheel_works_where_no_node_is(dist, tmp_path):
    (wheel,) = dist.glob("*.whl")
    venv.create(tmp_path / "venv", with_pip=True)
    python = tmp_path / "venv" / "bin" / "python"
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    places = {f"JUPYTER_{name}_DIR": str(tmp_path / name) for name in ("CONFIG", "DATA", "RUNTIME")}
    environment = {**bare(python), **places, "IPYTHONDIR": str(tmp_path / "ipython"), "HOME": str(tmp_path)}
    options = {"cwd": elsewhere, "env": environment}
    run(python, "-m", "pip", "install", "--quiet", f"{wheel}[lab]", **options)

    told = run(python, "-m", "jupyter", "labextension", "list", **options)
    (line,) = [line for line in told.splitlines() if "jupyter-gpudeploy" in line]
    assert "OK" in line
    assert "(python, jupyter-gpudeploy)" in line
    told = run(python, "-m", "jupyter", "server", "extension", "list", **options)
    lines = [line.split() for line in told.splitlines() if "jupyter_gpudeploy.server" in line]
    assert any("enabled" in word for line in lines for word in line)
    assert any("OK" in word for line in lines for word in line)

    told = run(python, "-m", "IPython", "-c", "%load_ext jupyter_gpudeploy\n%deploy help", **options)
    assert "%%deploy" in told


def test_a_checkout_without_node_installs_and_says_what_is_off(checkout, tmp_path):
    copy = shutil.copytree(checkout, tmp_path / "checkout", ignore=shutil.ignore_patterns("dist"), symlinks=True)
    for built in (PANEL, CARD):
        shutil.rmtree(copy / built)
    told = build(copy, "--wheel", env=bare(Path(sys.executable)))
    assert "the panel of JupyterLab is not built: node is not here" in told
    assert "the live card is not built: npm is not here" in told
    (wheel,) = (copy / "dist").glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    assert not [name for name in names if "labextensions" in name]
    assert [name for name in names if name.endswith("jupyter_server_config.d/jupyter_gpudeploy.json")]
