"""The verbs in Python: plan, launch, attach, runs, compare. The magics are a thin coat over these."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from jupyter_gpudeploy.errors import PlanError, RunExistsError, RunNotFoundError
from jupyter_gpudeploy.events.store import state_root
from jupyter_gpudeploy.events.types import State
from jupyter_gpudeploy.names import safe_name
from jupyter_gpudeploy.plan.types import Note
from jupyter_gpudeploy.registry import Family, did_you_mean
from jupyter_gpudeploy.settings_file import settings_file

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from contextlib import AbstractContextManager

    import pandas as pd

    from jupyter_gpudeploy.backends.base import Backend, Rendering, RunRef
    from jupyter_gpudeploy.plan.types import Plan
    from jupyter_gpudeploy.run import Run, RunList
    from jupyter_gpudeploy.spec.cell import Asked
    from jupyter_gpudeploy.spec.models import Spec

BACKENDS = Family("jupyter_gpudeploy.backends")
LOCAL = "local"
CLUSTERS = "kubernetes"
_LOG = logging.getLogger(__name__)
_backends: dict[str, Backend] = {}


def backend_of(name: str | None = None) -> Backend:
    """Return the backend of that name, or that of the settings file, else this machine; one object a name."""
    name = name or default_backend()
    if name not in _backends:
        _backends[name] = BACKENDS.load(name)()
    return _backends[name]


def default_backend() -> str:
    """Return the backend of cells that name none: what the settings file says, else this machine."""
    if not settings_file().exists():
        return LOCAL
    from jupyter_gpudeploy.spec.settings import read_settings

    return read_settings().default_backend or LOCAL


def backends_in_use() -> list[str]:
    """Return the backends that may have runs of ours: this machine, the default one, those that keep mirrors here."""
    kept = [name for name in BACKENDS.names() if (state_root() / name).is_dir()]
    return [*dict.fromkeys([LOCAL, default_backend(), *kept])]


def _chosen(backend: str | None, cluster: str | None, namespace: str | None) -> list[Backend]:
    if backend is None and (cluster or namespace):
        backend = CLUSTERS
    return [backend_of(one) for one in ([backend] if backend else backends_in_use())]


def _has_cluster() -> bool:
    """Return whether this person uses clusters, as far as files tell."""
    kubeconfig = os.environ.get("KUBECONFIG") or str(Path("~/.kube/config").expanduser())
    if any(Path(file).is_file() for file in kubeconfig.split(os.pathsep) if file):
        return True
    if not settings_file().exists():
        return False
    from jupyter_gpudeploy.spec.settings import read_settings

    return read_settings().default_cluster is not None


def plan(
    cell: str | Mapping[str, Any] | Spec,
    *,
    base_dir: Path | str | None = None,
    **overrides: Any,  # noqa: ANN401 - any key of a cell
) -> tuple[Plan, ...]:
    """Return what would be done, without doing it: one Plan, or several for a transcript of several projects.

    `cell` is the text below the `%%deploy` line, a mapping of its header, or a Spec. `overrides` are header keys that
    win over it (None leaves one alone). `base_dir` is the notebook's folder, the working directory unless given.
    """
    return _plans(_asked(cell, overrides), cell, base_dir)


def _plans(
    asked: tuple[Asked, ...], cell: str | Mapping[str, Any] | Spec, base_dir: Path | str | None
) -> tuple[Plan, ...]:
    base = Path(base_dir or Path.cwd()).resolve()
    text = cell if isinstance(cell, str) else ""
    return tuple(_plan(one, base, text) for one in asked)


def _asked(cell: str | Mapping[str, Any] | Spec, overrides: Mapping[str, Any]) -> tuple[Asked, ...]:
    from jupyter_gpudeploy.spec import cell as cells
    from jupyter_gpudeploy.spec.models import Spec

    if isinstance(cell, str):
        return cells.read(cell, overrides=overrides)
    header = {**cells.header(cell), "code": cell.code} if isinstance(cell, Spec) else dict(cell)
    given = {key: value for key, value in overrides.items() if value is not None}
    code = header.pop("code", None)
    return (cells.check({**header, **given}, code=code),)


def _plan(asked: Asked, base: Path, text: str) -> Plan:
    from jupyter_gpudeploy.plan.build import build, with_notes

    remarks = [Note(remark.level, remark.field, remark.message, remark.hint) for remark in asked.remarks]
    backend = backend_of(asked.spec.backend)
    capabilities = backend.capabilities(asked.spec.cluster, asked.spec.namespace)
    found = None
    if asked.spec.git is not None:
        from jupyter_gpudeploy.checkout import checkout

        found = checkout(asked.spec.git)
    made = build(asked.spec, capabilities, base=base, cell=text, remarks=remarks, checkout=found)
    return with_notes(made, backend.advice(made))


def render(plan: Plan) -> Rendering:
    """Return what launching would write."""
    return backend_of(plan.backend).render(plan)


def changes(plan: Plan) -> str:
    """Return what launching would change of the run of that name, as a unified diff; empty for nothing."""
    backend = backend_of(plan.backend)
    return backend.changes(backend.render(plan))


def launch(cell: str | Mapping[str, Any] | Spec, **options: Any) -> Run:  # noqa: ANN401 - those of launch_all
    """Start what the cell says and return its Run at once; of several, the first. Options as for `launch_all`."""
    return launch_all(cell, **options)[0]


def launch_all(
    cell: str | Mapping[str, Any] | Spec,
    *,
    replace: bool = False,
    resume: bool = False,
    take_over: bool = False,
    base_dir: Path | str | None = None,
    **overrides: Any,  # noqa: ANN401 - any key of a cell
) -> tuple[Run, ...]:
    """Start what the cell says and return its runs at once.

    An unchanged cell finds its run again, whatever its state; `resume` goes on with a lost or stopped one, `replace`
    ends the old one, keeps it aside and starts anew. Raises SpecError, PlanError, RunExistsError for a changed cell
    without `replace`, NotConfirmedError where another kernel drives the run to be replaced and `take_over` is not
    given.
    """
    asked = _asked(cell, overrides)
    with _ahead(asked[0].spec):
        plans = _plans(asked, cell, base_dir)
        for one in plans:
            if one.errors:
                message = "; ".join(f"{note.field}: {note.message}" for note in one.errors)
                raise PlanError(f"{one.name}: {message}", hint=one.errors[0].hint)
        return tuple(start(one, replace=replace, resume=resume, take_over=take_over) for one in plans)


def _ahead(spec: Spec) -> AbstractContextManager[None]:
    """Let the backend begin while we plan; a run that is there already needs nothing."""
    return backend_of(spec.backend).ahead(safe_name(spec.name) if spec.name else None)


def start(plan: Plan, *, replace: bool = False, resume: bool = False, take_over: bool = False) -> Run:
    """Start one plan, or find the run that it already is; a server that has ended is started anew."""
    from jupyter_gpudeploy.run import Run

    backend = backend_of(plan.backend)
    where = (plan.target.cluster, plan.target.namespace) if plan.target is not None else ()
    existing = _opened(backend, backend.find(*where), plan.name)
    if existing is not None and (replace or _is_down(existing, plan)):
        existing.must_be_ours(take_over=take_over)
        existing.stop(take_over=take_over)
        backend.archive(existing.ref)
        existing = None
    if existing is None:
        return Run(backend, backend.launch(backend.render(plan)), origin="launched")
    if not take_over and (owner := backend.owner(existing.ref, must_know=True)) is not None:
        raise RunExistsError(
            f"{plan.name} exists ({existing.state}) and belongs to {owner}",
            hint=f"give this one another name; %deploy watch {plan.name} shows theirs",
        )
    if existing.ref.fingerprint != plan.fingerprint:
        changes = differences(existing, plan)
        raise RunExistsError(
            f"{plan.name} exists ({existing.state}) and the cell has changed: {'; '.join(changes)}",
            hint="--replace ends the old one and starts anew; or give a new name",
        )
    if resume and existing.state in (State.LOST, State.STOPPED):
        backend.resume(existing.ref)
        return Run(backend, existing.ref, origin="resumed")
    return Run(backend, backend.launch(backend.render(plan)), origin="found")


def _is_down(run: Run, plan: Plan) -> bool:
    """Return whether this is the plan's server or environment, ended: running its cell again means starting it."""
    return run.kind in ("server", "manual") and run.ref.fingerprint == plan.fingerprint and run.is_over


def differences(run: Run, plan: Plan) -> list[str]:
    """Return what the plan would change of the run, one line each."""
    from jupyter_gpudeploy.spec import cell

    record = run.record
    lines = cell.differences(record.get("spec", {}), plan.spec, cell.code_of(run.cell), cell.code_of(plan.cell))
    old = {source["path"]: source["sha256"] for source in record.get("sources", [])}
    edited = (source.path for source in plan.sources if old.get(source.path) not in (None, source.sha256))
    lines += [f"{Path(path).name} was edited" for path in edited]
    before = record.get("git") or {}
    if plan.git is not None and before and before["commit"] != plan.git.commit:
        lines.append(f"git: {before['ref']} was commit {before['commit'][:12]}, and is {plan.git.commit[:12]}")
    if plan.git is None and record.get("working_dir") != plan.working_dir:
        lines.append(f"working_dir: {record.get('working_dir')} -> {plan.working_dir}")
    return lines or ["files of the program were edited"]


def runs(
    backend: str | None = None,
    *,
    cluster: str | None = None,
    namespace: str | None = None,
    known: Mapping[str, Run] | None = None,
) -> RunList:
    """Return every run that is there, newest first; of one backend or place, or of all that are in use.

    None of them is followed before it is used. The list's `notices` say what could not be asked. `known`: runs by their
    uid that are used again, with what was read of them already.
    """
    chosen = _chosen(backend, cluster, namespace)
    found = _listed(chosen, lambda one: one.find(cluster, namespace), lambda one: one.troubles(), known or {})
    found.answers = tuple(answer for one in chosen for answer in one.answers())
    return found


def replaced(backend: str | None = None) -> RunList:
    """Return the runs whose name another run has taken, newest first."""
    return _listed(_chosen(backend, None, None), lambda one: one.find_archived())


def attach(name: str, backend: str | None = None, *, cluster: str | None = None, namespace: str | None = None) -> Run:
    """Return the run of that name, from whichever kernel it was launched. Raises RunNotFoundError.

    Of several backends that have one, a run that is alive wins, then the newest. `cluster`, `namespace`: look there
    alone. A name that none of the backends in use knows is looked for on the default cluster too.
    """
    chosen = _chosen(backend, cluster, namespace)
    found: list[Run] = []
    known: list[str] = []
    troubles: list[str] = []
    for one in [*chosen, None]:
        if one is None:
            if found or backend or cluster or namespace or not _has_cluster() or backend_of(CLUSTERS) in chosen:
                break
            one = backend_of(CLUSTERS)  # noqa: PLW2901 - the last one
        refs = one.find(cluster, namespace)
        known += [ref.name for ref in refs]
        troubles += one.troubles()
        if (run := _opened(one, refs, name) or _opened(one, refs, safe_name(name))) is not None:
            found.append(run)
    if not found:
        hint = "; ".join(filter(None, (did_you_mean(name, known), *troubles)))
        raise RunNotFoundError(f"no run is called {name!r}", hint=hint)
    return found[0] if len(found) == 1 else max(found, key=lambda run: (not run.is_over, run.ref.created))


def compare(*wanted: Run | str) -> pd.DataFrame:
    """Return the trials of several runs in one table, the first column says which run; all sweeps without names."""
    from jupyter_gpudeploy import frames
    from jupyter_gpudeploy.run import Run

    chosen = [run if isinstance(run, Run) else attach(run) for run in wanted] or [
        run for run in runs() if run.kind in ("job", "sweep")
    ]
    return frames.compare([run.parts() for run in chosen])


def _listed(
    chosen: Sequence[Backend],
    find: Callable[[Backend], Sequence[RunRef]],
    troubles: Callable[[Backend], Sequence[str]] = lambda _: (),
    known: Mapping[str, Run] = MappingProxyType({}),
) -> RunList:
    from jupyter_gpudeploy.run import RunList

    opened = (known.get(ref.uid) or _open(one, ref, listed=True) for one in chosen for ref in find(one))
    found = [run for run in opened if run is not None]
    notices = [notice for one in chosen for notice in troubles(one)]
    return RunList(sorted(found, key=lambda run: run.ref.created, reverse=True), notices)


def _opened(backend: Backend, refs: Sequence[RunRef], name: str) -> Run | None:
    """Return the newest run of that name, or None."""
    ref = next((ref for ref in refs if ref.name == name), None)
    return None if ref is None else _open(backend, ref)


def _open(backend: Backend, ref: RunRef, *, listed: bool = False) -> Run | None:
    """Return the Run, or None when it was deleted meanwhile or its record cannot be read."""
    from jupyter_gpudeploy.run import Run

    try:
        return Run(backend, ref, listed=listed)
    except (OSError, RunNotFoundError):
        return None
    except (ValueError, KeyError, TypeError) as error:
        _LOG.warning("the record of %s cannot be read (%s): left out", ref.name, error)
        return None
