"""Packages that a cell asks for beyond what the kernel has: an environment of their own, made once and kept.

What is missing is decided in the kernel's process, since it knows its environment; making the environment is left to
a process of the supervisor. The new environment sees the kernel's packages behind its own.
"""

from __future__ import annotations

import fcntl
import hashlib
import importlib.metadata
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jupyter_gpudeploy.backends.local.attempts import Attempt, Outcome
from jupyter_gpudeploy.backends.local.layout import LocalFolder
from jupyter_gpudeploy.events.follow import last_lines
from jupyter_gpudeploy.events.types import State

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from jupyter_gpudeploy.backends.local.loop import Loop

_SETUP = -1
_MAKER = """\
import sys
sys.path.append(sys.argv.pop())
from jupyter_gpudeploy.backends.local.environments import main
main()
"""


def missing(requirements: Sequence[str]) -> list[str]:
    """Return the requirements that this process's environment does not satisfy. What cannot be told is missing."""
    return [text for text in requirements if not _is_satisfied(text)]


def site_packages() -> list[str]:
    """Return the folders of this process's installed packages."""
    return [path for path in sys.path if Path(path).name in ("site-packages", "dist-packages")]


def start_setup(
    loop: Loop, folder: LocalFolder, record: Mapping[str, Any], on_end: Callable[[Outcome, str], None]
) -> Attempt:
    """Make the run's environment in a process of its own; `on_end` is given its interpreter."""
    import jupyter_gpudeploy

    python = _folder(folder, record) / "bin" / "python"
    root = str(Path(jupyter_gpudeploy.__file__).parent.parent)
    argv = [sys.executable, "-I", "-S", "-c", _MAKER, str(folder.path), root]
    environment = {**os.environ, "GPUDEPLOY_RUN": record["uid"], "GPUDEPLOY_TASK": str(_SETUP)}
    folder.setup_log.parent.mkdir(exist_ok=True)

    def ended(_attempt: Attempt, outcome: Outcome) -> None:
        if outcome.state is State.FAILED:
            said = last_lines(folder.setup_log, 1) or [outcome.reason]
            outcome = Outcome(State.FAILED, f"the requirements cannot be installed: {said[0].strip()}")
        on_end(outcome, str(python))

    attempt = Attempt(loop, (record["uid"], _SETUP), 1, on_end=ended, on_gap=lambda _attempt, _dropped: None)
    attempt.start(str(folder.setup_log), sys.executable, argv, environment)
    return attempt


def main() -> None:
    """Make the environment of the run whose folder is the first argument, unless it is there. Exits with pip's code."""
    run = LocalFolder(sys.argv[1])
    record = run.record()
    folder = _folder(run, record)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with folder.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if (folder / "complete").exists():
            print(f"the environment is there: {folder}", flush=True)  # noqa: T201 - goes into setup.log
            return
        shutil.rmtree(folder, ignore_errors=True)
        sys.exit(_make(folder, record))


def _make(folder: Path, record: Mapping[str, Any]) -> int:
    kernel = record["python"]
    has_pip = subprocess.run([kernel, "-m", "pip", "--version"], stdout=subprocess.DEVNULL, check=False).returncode == 0
    venv = [kernel, "-m", "venv", "--system-site-packages", *(["--without-pip"] if has_pip else []), str(folder)]
    code = subprocess.run(venv, check=False).returncode
    if code:
        return code
    python = str(folder / "bin" / "python")
    where = subprocess.run(
        [python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"],
        capture_output=True, text=True, check=True,
    ).stdout.strip()  # fmt: skip
    Path(where, "the_kernels_packages.pth").write_text("\n".join(record["site_packages"]) + "\n", "utf-8")
    pip = [kernel, "-m", "pip", "--python", python] if has_pip else [python, "-m", "pip"]
    options = ["--disable-pip-version-check", "--no-input", "--progress-bar", "off"]
    code = subprocess.run([*pip, "install", *options, *record["missing"]], check=False).returncode
    if code == 0:
        (folder / "complete").touch()
    return code


def _folder(run: LocalFolder, record: Mapping[str, Any]) -> Path:
    content = "\0".join([record["python"], *sorted(record["missing"]), *record["site_packages"]])
    return run.root / "envs" / hashlib.sha256(content.encode()).hexdigest()[:16]


def _is_satisfied(text: str) -> bool:
    try:
        from packaging.requirements import InvalidRequirement, Requirement
    except ImportError:
        return False
    try:
        requirement = Requirement(text)
    except InvalidRequirement:
        return False
    if requirement.marker is not None and not requirement.marker.evaluate():
        return True
    if requirement.url is not None or requirement.extras:
        return False
    try:
        version = importlib.metadata.version(requirement.name)
    except importlib.metadata.PackageNotFoundError:
        return False
    return requirement.specifier.contains(version, prereleases=True)
