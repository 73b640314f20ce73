"""A run comes into being: its folder is prepared beside, and renamed to its name when it is whole.

The rename is the claim. Of two processes that launch the same at the same moment one succeeds, and the other finds
the run of the first. A process killed before the rename leaves nothing that counts; one killed after it leaves a run
without a supervisor, which gets one from whoever looks at it next.
"""

from __future__ import annotations

import errno
import json
import os
import shutil
import subprocess
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jupyter_gpudeploy
from jupyter_gpudeploy.backends.base import RunRef
from jupyter_gpudeploy.backends.local import environments
from jupyter_gpudeploy.backends.local.layout import LocalFolder, record_text
from jupyter_gpudeploy.backends.local.processes import SUPERVISOR_MARK
from jupyter_gpudeploy.backends.local.procfs import identity
from jupyter_gpudeploy.errors import BackendError

if TYPE_CHECKING:
    from jupyter_gpudeploy.backends.base import Rendering

_STALE_SECONDS = 3600.0
_SUPERVISOR = """\
import os
if os.fork():
    os._exit(0)
os.setsid()
import sys
sys.path.append(sys.argv.pop())
from jupyter_gpudeploy.backends.local.supervisor import main
main()
"""
_KERNEL_ONLY = ("JPY_PARENT_PID", "JPY_SESSION_NAME", "IPY_INTERRUPT_EVENT", "JPY_INTERRUPT_EVENT")


def claim(rendering: Rendering, runs: Path) -> RunRef | None:
    """Write the folder of a run and give it its name; None when there is a run of that name already."""
    ref = RunRef("local", rendering.name, os.urandom(6).hex(), rendering.fingerprint, time.time())
    runs.mkdir(parents=True, exist_ok=True, mode=0o700)
    _clear_stale(runs, rendering.name)
    draft = LocalFolder(runs / f".{ref.name}.{ref.uid}.tmp")
    try:
        _write(draft, rendering, ref)
        draft.path.rename(runs / ref.name)
    except OSError as error:
        shutil.rmtree(draft.path, ignore_errors=True)
        if error.errno in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR):
            return None
        raise BackendError(
            f"{ref.name} cannot be written below {runs}: {error.strerror}",
            hint="JUPYTER_GPUDEPLOY_HOME names the folder in which runs are kept",
        ) from error
    return ref


def start_supervisor(folder: LocalFolder) -> None:
    """Start the process that keeps a run. It is nobody's child, and there is never a second one: it would leave."""
    root = Path(jupyter_gpudeploy.__file__).parent.parent
    folder.lock_file.touch(0o600)  # tells when one was started last
    with folder.supervisor_log.open("ab") as log:
        done = subprocess.run(
            [sys.executable, "-I", "-S", "-c", _SUPERVISOR, str(folder.path), str(root)],
            stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            env=_inherited() | {SUPERVISOR_MARK: read_ref(folder).uid}, start_new_session=True, check=False,
        )  # fmt: skip
    if done.returncode != 0:
        raise BackendError(
            f"the supervisor of {folder.path.name} could not be started (exit code {done.returncode})",
            hint=f"its log tells more: {folder.supervisor_log}",
        )


def read_ref(folder: LocalFolder) -> RunRef:
    """Return whose folder this is. Raises OSError, ValueError, KeyError or TypeError for one that is broken."""
    content: dict[str, Any] = json.loads(folder.ref_file.read_bytes())
    return RunRef("local", **{key: content[key] for key in ("name", "uid", "fingerprint", "created")})


def write_driver(folder: LocalFolder) -> None:
    """Note that this process is the one that launched or took up the run."""
    from jupyter_gpudeploy.events.store import write_atomically

    who = {**identity()._asdict(), "host": os.uname().nodename, "since": time.time()}
    write_atomically(folder.path / "driver.json", json.dumps(who))


def _write(draft: LocalFolder, rendering: Rendering, ref: RunRef) -> None:
    draft.path.mkdir(mode=0o700)
    draft.control.mkdir()
    for path, text in rendering.files.items():
        file = draft.path / path
        if not file.resolve().is_relative_to(draft.path.resolve()):
            raise BackendError(f"{path!r} lies outside the run's folder")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(_record(text, ref) if path == "run.json" else text, "utf-8")
    draft.ref_file.write_text(json.dumps(asdict(ref)))
    write_driver(draft)


def _record(text: str, ref: RunRef) -> str:
    """Return the record with what is known only now: who it is, and what of this process it will run with."""
    plan = json.loads(text)
    known = {
        "uid": ref.uid,
        "created": ref.created,
        "python": sys.executable,
        "missing": environments.missing(plan["requirements"]),
        "site_packages": environments.site_packages() if plan["requirements"] else [],
        "working_dir": str(Path(plan["working_dir"]).absolute()),
    }
    return record_text({"version": plan.pop("version"), **known, **{k: v for k, v in plan.items() if k not in known}})


def _inherited() -> dict[str, str]:
    """Return this process's environment without what is true for a kernel alone, or for the run that we are part of."""
    environment = {
        name: value
        for name, value in os.environ.items()
        if name not in _KERNEL_ONLY and not name.startswith("GPUDEPLOY_")
    }
    if environment.get("MPLBACKEND", "").startswith("module://"):
        del environment["MPLBACKEND"]  # the kernel's inline backend draws into a notebook that a task does not have
    return environment


def _clear_stale(runs: Path, name: str) -> None:
    """Delete what a process killed while it prepared a run of this name left behind an hour ago or earlier."""
    for draft in runs.glob(f".{name}.*.tmp"):
        try:
            if time.time() - draft.stat().st_mtime > _STALE_SECONDS:
                shutil.rmtree(draft, ignore_errors=True)
        except FileNotFoundError:
            continue
