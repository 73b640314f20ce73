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
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jupyter_gpudeploy.backends.base import RunRef
from jupyter_gpudeploy.backends.local import keepers
from jupyter_gpudeploy.backends.local.keepers import Keeper
from jupyter_gpudeploy.backends.local.layout import LocalFolder
from jupyter_gpudeploy.backends.local.procfs import identity
from jupyter_gpudeploy.errors import BackendError
from jupyter_gpudeploy.plan.record import record_text

if TYPE_CHECKING:
    from jupyter_gpudeploy.backends.base import Rendering

_STALE_SECONDS = 3600.0


def claim(rendering: Rendering, runs: Path, uid: str = "") -> RunRef | None:
    """Write the folder of a run and give it its name; None when there is a run of that name already."""
    ref = RunRef("local", rendering.name, uid or keepers.new_uid(), rendering.fingerprint, time.time())
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


def start_supervisor(folder: LocalFolder, keeper: Keeper | None = None) -> None:
    """Start the process that keeps a run. It is nobody's child, and there is never a second one: it would leave.

    `keeper`: one that waits already, under the uid of this run.
    """
    folder.lock_file.touch(0o600)  # tells when one was started last
    with folder.supervisor_log.open("ab") as log:
        if keeper is not None and keeper.keep(folder):
            return
        with Keeper(read_ref(folder).uid, log) as fresh:
            if fresh.keep(folder):
                return
    raise BackendError(
        f"the supervisor of {folder.path.name} could not be started (exit code {fresh.exit_code})",
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
        file.write_text(_record(text, ref, draft) if path == "run.json" else text, "utf-8")
    draft.ref_file.write_text(json.dumps(ref._asdict()))
    write_driver(draft)


def _record(text: str, ref: RunRef, draft: LocalFolder) -> str:
    """Return the record with what is known only now: who it is, and what of this process it will run with."""
    from jupyter_gpudeploy.backends.local import environments

    plan = json.loads(text)
    if plan.get("git"):
        _copy_checkout(plan, draft, LocalFolder(draft.path.with_name(ref.name)))
    known = {
        "uid": ref.uid,
        "created": ref.created,
        "python": sys.executable,
        "missing": environments.missing(plan["requirements"]),
        "site_packages": environments.site_packages() if plan["requirements"] else [],
        "working_dir": str(Path(plan["working_dir"]).absolute()),
    }
    return record_text({"version": plan.pop("version"), **known, **{k: v for k, v in plan.items() if k not in known}})


def _copy_checkout(plan: dict[str, Any], draft: LocalFolder, folder: LocalFolder) -> None:
    """Give a run files of a repository that are its own, for it may write among them; the record names these then."""
    base = Path(plan["base"])
    shutil.copytree(base, draft.checkout, symlinks=True)

    def here(path: str) -> str:
        inside = Path(path).is_relative_to(base)
        return str(folder.checkout.absolute() / Path(path).relative_to(base)) if inside else path

    plan["base"], plan["working_dir"] = here(plan["base"]), here(plan["working_dir"])
    plan["sources"] = [{**source, "path": here(source["path"])} for source in plan["sources"]]


def _clear_stale(runs: Path, name: str) -> None:
    """Delete what a process killed while it prepared a run of this name left behind an hour ago or earlier."""
    for draft in runs.glob(f".{name}.*.tmp"):
        try:
            if time.time() - draft.stat().st_mtime > _STALE_SECONDS:
                shutil.rmtree(draft, ignore_errors=True)
        except FileNotFoundError:
            continue
