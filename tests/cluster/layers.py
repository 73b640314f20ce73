"""The layers of the images: tars in the cache, each made again only when what it is made of changes."""

from __future__ import annotations

import contextlib
import hashlib
import inspect
import json
import platform
import shutil
import stat
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from . import paths
from .system import command, timed

if TYPE_CHECKING:
    from collections.abc import Iterator

DEBIAN = ("python3", "python3-pip", "python3-venv", "git", "curl", "ca-certificates", "procps")
UNWANTED = ("doc", "man", "locale", "info", "lintian")
# What examples/ import, and what jupyter_gpudeploy itself needs inside a pod.
EXAMPLES = ("scikit-learn", "pandas", "fastapi", "uvicorn", "flask", "nbclient", "ipykernel", "pyyaml", "packaging")
IMPORTS = "import sklearn.ensemble, pandas, fastapi, uvicorn, flask, nbclient, ipykernel, yaml, packaging"
JUPYTER = ("jupyter-server",)  # what a forward to a notebook server needs
WHEELS = ("tabulate", "six", "colorama")  # what `requirements:` can install in a pod, without a network


def folder() -> Path:
    """Where layers and the archive are kept."""
    return paths.cache() / "images"


def recipes() -> dict[str, str]:
    """Layer -> what it is made of, and how: text that changes whenever its content would."""
    smi, pause = (paths.HERE / "image" / "nvidia-smi").read_text(), paths.program("pause").read_bytes()
    inputs: dict[str, list[object]] = {
        "debian": [DEBIAN, UNWANTED],
        "extras": [WHEELS, smi],
        "examples": [EXAMPLES, IMPORTS, inspect.getsource(_install)],
        "jupyter": [JUPYTER, EXAMPLES, IMPORTS, inspect.getsource(_install)],
        "pause": [hashlib.sha256(pause).hexdigest()],
    }
    return {name: json.dumps([inspect.getsource(_MAKERS[name]), *given]) for name, given in inputs.items()}


def make(name: str) -> Path:
    """The tar of a layer, made again when its recipe has changed."""
    recipe, target, stamp = recipes()[name], folder() / f"{name}.tar", folder() / f".{name}"
    if not target.exists() or not stamp.exists() or stamp.read_text() != recipe:
        fresh = target.with_suffix(".new.tar")
        with timed(f"made the layer {name}"):
            _MAKERS[name](fresh)
        fresh.replace(target)
        stamp.write_text(recipe)
    return target


def _debian(target: Path) -> None:
    """A minimal Debian with Python."""
    codename = platform.freedesktop_os_release().get("VERSION_CODENAME", "stable")
    drop = [f"--dpkgopt=path-exclude=/usr/share/{name}/*" for name in UNWANTED]
    # The machine's own sources: whatever mirror and proxy it uses, so do we.
    lists = [*Path("/etc/apt").glob("sources.list"), *Path("/etc/apt/sources.list.d").glob("debian*.sources")]
    argv: list[str | Path] = ["mmdebstrap", "--variant=minbase", "--mode=root", f"--include={','.join(DEBIAN)}"]
    # pip may install: an image with Python is no managed system.
    unmanaged = '--customize-hook=rm -f "$1"/usr/lib/python3*/EXTERNALLY-MANAGED'
    command([*argv, *drop, unmanaged, codename, target, *lists])


def _extras(target: Path) -> None:
    """Wheels, a made-up nvidia-smi, `python`, and a home for user 1000."""
    with _place() as root:
        _pip(["download", "--dest", str(root / "opt/wheels")], WHEELS)
        _write(root / "etc/pip.conf", "[global]\nno-index = true\nfind-links = /opt/wheels\n")
        _write(root / "usr/bin/nvidia-smi", (paths.HERE / "image" / "nvidia-smi").read_text(), executable=True)
        (root / "usr/local/bin").mkdir(parents=True)
        (root / "usr/local/bin/python").symlink_to("/usr/bin/python3")
        (root / "home/user").mkdir(parents=True)
        _tar(root, target, owners={"home/user": 1000})


def _examples(target: Path) -> None:
    """What the examples import, with its bytecode: without it each pod compiles again, 6 s of a processor instead of 2."""
    with _place() as root:
        command(["tar", "-C", root, "-xf", make("debian")])
        _install(root, EXAMPLES)
        command(["chroot", root, "python3", "-B", "-c", IMPORTS])
        _tar(root, target, only="usr/local")


def _jupyter(target: Path) -> None:
    """A notebook server, and what it needs that is not in the layers below."""
    with _place() as root:
        for below in ("debian", "examples"):
            command(["tar", "-C", root, "-xf", make(below)])
        _install(root, JUPYTER)
        command(["chroot", root, "python3", "-B", "-c", "import jupyter_server, ipykernel"])
        for name in command(["tar", "-tf", make("examples")]).splitlines():
            if not name.endswith("/"):
                (root / name).unlink(missing_ok=True)
        _tar(root, target, only="usr/local")


def _install(root: Path, requirements: tuple[str, ...]) -> None:
    """Install what is not there yet, with its bytecode."""
    packages = root / "usr/local/lib" / f"python{_python()}" / "dist-packages"
    _pip(["install", "--quiet", "--no-compile", "--target", str(packages)], requirements)
    for tests in [path for path in packages.rglob("tests") if path.is_dir()]:
        shutil.rmtree(tests)
    for script in (packages / "bin").iterdir():
        text = script.read_text().partition("\n")[2]
        _write(root / "usr/local/bin" / script.name, f"#!/usr/bin/python3\n{text}", executable=True)
    shutil.rmtree(packages / "bin")
    # A layer's files have the time 0, and bytecode must not depend on it.
    compileall = ["-m", "compileall", "-q", "--invalidation-mode", "unchecked-hash"]
    command(["chroot", root, "python3", *compileall, f"/{packages.relative_to(root)}"])


def _pause(target: Path) -> None:
    """One program, that does nothing."""
    with _place() as root:
        shutil.copy(paths.program("pause"), root / "pause")
        _tar(root, target)


_MAKERS = {"debian": _debian, "extras": _extras, "examples": _examples, "jupyter": _jupyter, "pause": _pause}


@contextlib.contextmanager
def _place() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(dir=folder()) as place:
        yield Path(place)


def _python() -> str:
    """The version of Python in the Debian layer, as 3.11."""
    listed = command(["tar", "-tf", make("debian"), "--wildcards", "./usr/bin/python3.*"])
    return str(min(listed.split(), key=len)).rpartition("/python")[2]


def _pip(argv: list[str], requirements: tuple[str, ...]) -> None:
    machine = platform.machine()
    libcs = [
        word for libc in ("2014", "_2_17", "_2_27", "_2_28") for word in ("--platform", f"manylinux{libc}_{machine}")
    ]
    target = ["--only-binary=:all:", "--implementation=cp", f"--python-version={_python()}", *libcs]
    pip = [_with_pip(), "-m", "pip", "--disable-pip-version-check"]
    command([*pip, *argv, *target, *requirements])


def _with_pip() -> str:
    for python in (sys.executable, "/usr/bin/python3", "python3"):
        if subprocess.run([python, "-m", "pip", "--version"], capture_output=True, check=False).returncode == 0:
            return python
    own = folder() / ".pip"
    command([sys.executable, "-m", "venv", "--clear", own])
    return str(own / "bin" / "python")


def _write(path: Path, text: str, *, executable: bool = False) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(0o755 if executable else 0o644)


def _tar(root: Path, target: Path, only: str = "", owners: dict[str, int] | None = None) -> None:
    """Pack a folder, or `only` what is below a part of it. The same content gives the same bytes.

    Everything belongs to root but what `owners` names.
    """

    def plain(info: tarfile.TarInfo) -> tarfile.TarInfo:
        info.uid = info.gid = (owners or {}).get(info.name, 0)
        info.uname = info.gname = ""
        info.mtime = 0
        info.mode = 0o755 if info.isdir() or info.mode & stat.S_IXUSR else 0o644
        return info

    with tarfile.open(target, "w", format=tarfile.PAX_FORMAT) as tar:
        for path in sorted((root / only).iterdir()):
            tar.add(path, str(path.relative_to(root)), filter=plain)
