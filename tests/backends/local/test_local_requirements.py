"""Packages beyond what the kernel has: an environment of their own, made once."""

from __future__ import annotations

import base64
import hashlib
import sys
import zipfile

import pytest

from jupyter_gpudeploy.backends.local import environments
from jupyter_gpudeploy.events.types import State


@pytest.fixture
def wheel(tmp_path, monkeypatch):
    """A package that can be installed without a network."""
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    file = tmp_path / "gpudeploy_tiny-1.5-py3-none-any.whl"
    content = {
        "gpudeploy_tiny.py": "ANSWER = 42\n",
        "gpudeploy_tiny-1.5.dist-info/METADATA": "Metadata-Version: 2.1\nName: gpudeploy-tiny\nVersion: 1.5\n",
        "gpudeploy_tiny-1.5.dist-info/WHEEL": "Wheel-Version: 1.0\nGenerator: hand\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = "gpudeploy_tiny-1.5.dist-info/RECORD"
    digest = lambda text: base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=").decode()  # noqa: E731
    lines = [f"{name},sha256={digest(text)},{len(text)}" for name, text in content.items()]
    with zipfile.ZipFile(file, "w") as archive:
        for name, text in content.items():
            archive.writestr(name, text)
        archive.writestr(record, "\n".join([*lines, f"{record},,"]) + "\n")
    return f"gpudeploy-tiny @ {file.as_uri()}"


PROGRAM = "import gpudeploy_tiny, pytest, sys; print(gpudeploy_tiny.ANSWER, sys.prefix)"


@pytest.mark.slow
def test_what_is_missing_is_installed_once_beside_what_the_kernel_has(local, backend, wheel):
    ref = local.launch(PROGRAM, requirements=(wheel, "pytest"))
    status = local.wait(ref, seconds=120)
    setup = (backend.folder(ref).path / "logs" / "setup.log").read_text()
    assert status.state is State.SUCCEEDED, setup
    first = next(event for event in local.events(ref) if getattr(event, "task", 0) is None)
    assert (first.state, first.reason) == (State.STARTING, "installing 1 package")
    answer, prefix = local.lines(ref)[0].split()
    assert (answer, prefix.startswith(str(backend.root / "envs"))) == ("42", True)
    again = local.launch(PROGRAM, requirements=(wheel, "pytest"), name="again")
    assert local.wait(again, seconds=60).state is State.SUCCEEDED
    assert "the environment is there" in (backend.folder(again).path / "logs" / "setup.log").read_text()


@pytest.mark.slow
def test_what_cannot_be_installed_fails_the_run_with_pips_last_line(local, monkeypatch):
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    ref = local.launch("print(1)", requirements=("no-such-package-anywhere==9",))
    status = local.wait(ref, seconds=120)
    assert status.state is State.FAILED
    assert status.reason.startswith("the requirements cannot be installed: ERROR: No matching distribution")
    assert not status.tasks


@pytest.mark.slow
def test_an_installation_can_be_stopped(local, backend, wheel):
    ref = local.launch("print(1)", requirements=(wheel,))
    local.wait_for(ref, lambda status: status.state is State.STARTING)
    backend.stop(ref, 1)
    status = local.wait(ref)
    assert (status.state, status.tasks[0].state) == (State.STOPPED, State.STOPPED)


def test_what_the_kernel_has_is_not_missing():
    assert environments.missing(["pytest", "pytest>=7", "pytest>=999", "no-such-thing", "x @ file:///x.whl", "-r file"]) == [
        "pytest>=999", "no-such-thing", "x @ file:///x.whl", "-r file",
    ]  # fmt: skip
    assert environments.missing([f"no-such-thing; python_version < '{sys.version_info.major}'"]) == []


def test_a_run_without_missing_packages_makes_no_environment(local, backend):
    ref = local.launch("print(1)", requirements=("pytest",))
    assert local.wait(ref).state is State.SUCCEEDED
    assert not (backend.root / "envs").exists()
