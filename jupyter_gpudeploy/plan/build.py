"""A Spec and what a backend can do become a Plan: every default, every decision, every warning.

Pure: it reads the user's files and changes nothing.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from jupyter_gpudeploy.errors import PlanError
from jupyter_gpudeploy.names import point_name, safe_name
from jupyter_gpudeploy.plan import arguments, cluster
from jupyter_gpudeploy.plan.feasible import feasibility
from jupyter_gpudeploy.plan.injection import unused
from jupyter_gpudeploy.plan.program import Program, preset, program_of, split_words
from jupyter_gpudeploy.plan.search import adaptive, points
from jupyter_gpudeploy.plan.spelling import spelled
from jupyter_gpudeploy.plan.types import (
    Health,
    Kind,
    Metric,
    Note,
    Plan,
    Resources,
    SecretRef,
    Service,
    Slot,
    Task,
    Warm,
    Word,
    word,
)
from jupyter_gpudeploy.quantities import parse_memory

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from jupyter_gpudeploy.backends.base import Capabilities
    from jupyter_gpudeploy.checkout import Checkout
    from jupyter_gpudeploy.plan.adaptive import Planned
    from jupyter_gpudeploy.plan.types import Argv, Git
    from jupyter_gpudeploy.samplers.base import Params
    from jupyter_gpudeploy.servers.base import ServerPreset
    from jupyter_gpudeploy.spec.models import Spec

SERVER_RETRIES = 5
COMMIT_VARIABLE = "GPUDEPLOY_COMMIT"
_NOT_WHAT_RUNS = ("name", "description", "allow_outside", "backend", "git")


def build(
    spec: Spec,
    capabilities: Capabilities,
    *,
    base: Path,
    cell: str = "",
    remarks: Sequence[Note] = (),
    checkout: Checkout | None = None,
) -> Plan:
    """Return the plan. `base` is the notebook's folder, for which the `checkout` of `git:` stands.

    Raises PlanError for what no backend could make sense of.
    """
    from jupyter_gpudeploy.spec.cell import write

    home, base, git = base, (checkout.folder if checkout else base), (checkout.git if checkout else None)

    program = program_of(spec, base, cell)
    kind = _kind(spec)
    server = preset(spec.serve) if spec.serve else None
    _check_words(spec, program, server)
    planned = adaptive(spec)
    found, notes = points(spec) if planned is None else ([], [])
    working_dir = _working_dir(spec, program, base)
    requirements = _requirements(spec, base)
    options = spelled(program.sources, spec.parameters) if program.append else {}
    plan = Plan(
        name=safe_name(spec.name or _default_name(spec, program)),
        title=spec.name or _default_name(spec, program),
        kind=kind,
        backend=capabilities.backend,
        tasks=() if kind == "manual" else tuple(_tasks(spec, program, server, found, options)),
        fingerprint=_fingerprint(spec, program, working_dir, requirements, git),
        parallelism=spec.replicas if kind == "server" else min(spec.parallelism, max(len(found), 1)),
        resources=Resources(spec.gpus, spec.cpu, parse_memory(spec.memory) if spec.memory else None),
        files=program.files,
        environment={**_server_environment(server), **_commit(git), "SEED": str(spec.seed), **spec.env},
        secrets={name: _secret(name, reference, home) for name, reference in spec.secrets.items()},
        requirements=requirements,
        working_dir=str(working_dir),
        max_seconds=spec.max_hours * 3600 if spec.max_hours else None,
        idle_seconds=spec.idle_minutes * 60 if spec.idle_minutes else None,
        retries=spec.retries if spec.retries is not None else SERVER_RETRIES if kind == "server" else 0,
        service=_service(spec, server) if server else None,
        metric=Metric(spec.metric.name, spec.metric.goal) if spec.metric else None,
        warm=_warm(spec, program),
        sources=program.sources,
        cell=cell or write(spec),
        spec=header_of(spec),
        base=str(base.resolve()),
        target=capabilities.target,
        cluster=cluster.options(spec, capabilities.target, server) if capabilities.target else None,
        git=git,
    )
    if planned is not None:
        plan = _searched(plan, planned, spec, program, options)
    needs = [needed for needed in (program.needs_module, server.needs_module if server else None) if needed]
    own = [
        *(checkout.notes if checkout else ()),
        *_program_notes(program),
        *_option_notes(program, options),
        *(unused(spec.code, list(spec.parameters)) if spec.code else []),
    ]
    return plan._replace(notes=_sorted([*remarks, *notes, *own, *feasibility(spec, plan, capabilities, needs)]))


def _searched(plan: Plan, planned: Planned, spec: Spec, program: Program, options: Mapping[str, str]) -> Plan:
    """Return the plan of a sweep whose points are chosen while it runs."""
    from jupyter_gpudeploy.plan.adaptive import search_of, unchosen

    return plan._replace(
        tasks=unchosen(planned.trials),
        parallelism=min(spec.parallelism, planned.trials),
        search=search_of(planned, spec, program, options),
    )


def with_notes(plan: Plan, notes: Sequence[Note]) -> Plan:
    """Return the plan with further notes, the gravest first."""
    return plan._replace(notes=_sorted([*plan.notes, *notes])) if notes else plan


def header_of(spec: Spec) -> dict[str, Any]:
    """Return what the cell said, as JSON; what it left out is left out."""
    header: dict[str, Any] = spec.model_dump(mode="json", exclude_unset=True, exclude={"code"})
    return header


def _sorted(notes: Sequence[Note]) -> tuple[Note, ...]:
    order = {"error": 0, "warning": 1, "info": 2}
    return tuple(sorted(notes, key=lambda note: order[note.level]))


def _kind(spec: Spec) -> Kind:
    if spec.serve is not None:
        return "server"
    if spec.mode == "manual":
        return "manual"
    if spec.mode == "auto_start":
        raise PlanError("mode: auto_start keeps a server up, and there is none", hint="say which: serve: command")
    return "sweep" if spec.is_sweep else "job"


def _default_name(spec: Spec, program: Program) -> str:
    if isinstance(spec.run, str) and not program.what.startswith("the "):
        return Path(program.what.split()[0]).stem or "run"
    return spec.serve or ("sweep" if spec.is_sweep else "job")


def _check_words(spec: Spec, program: Program, server: ServerPreset | None) -> None:
    if server is not None and spec.parameters and spec.is_sweep:
        raise PlanError("a server takes one value of each parameter", hint="give single values, or sweep with a job")
    words = [*(part for parts in program.lead for part in parts if not isinstance(part, Slot)), *program.words]
    arguments.check_shell(list(program.words))
    arguments.check_places(words, list(spec.parameters))
    if spec.serve == "command" and not {"port"} & arguments.places(words):
        raise PlanError(
            "serve: command must be told its port", hint="put {port} into run:, like python -m http.server {port}"
        )
    if server is not None and server.takes_code and program.module is None:
        raise PlanError(
            f"serve: {spec.serve} needs an application", hint="put it below a line ---, or name its file: run: app.py"
        )
    if server is not None and not server.takes_code and spec.serve != "command" and not spec.model:
        raise PlanError(f"serve: {spec.serve} needs model:", hint="for example model: Qwen/Qwen3-0.6B")


class _Asked(NamedTuple):
    """What a server preset reads of the cell."""

    model: str | None
    app: str
    gpus: int
    program: str | None
    words: Sequence[str]
    nodes: int


_MODULE_MARK = "\0module\0"


def _tasks(
    spec: Spec, program: Program, server: ServerPreset | None, found: Sequence[Params], options: Mapping[str, str]
) -> list[Task]:
    numbered = list(enumerate(found)) if server is None else [(n, found[0]) for n in range(spec.replicas)]
    flags = {name: axis.flags for name, axis in spec.parameters.items() if axis.flags}
    tasks = []
    for number, parameters in numbered:
        point = arguments.Point(parameters, number, spec.seed, flags, options)
        argv = _server_argv(spec, program, server, point) if server else _job_argv(program, point)
        tasks.append(
            Task(
                number=number,
                name=point_name(parameters) or (f"replica {number}" if server else program.what),
                argv=argv,
                parameters=parameters,
                metric_files=tuple(arguments.expand_text(text, point) for text in spec.metric_files),
            )
        )
    return tasks


def _job_argv(program: Program, point: arguments.Point) -> Argv:
    return (*program.lead, *arguments.expand(program.words, point, append=program.append))


def _server_argv(spec: Spec, program: Program, server: ServerPreset, point: arguments.Point) -> Argv:
    if spec.serve == "command":
        return (*program.lead, *arguments.expand(program.words, point, append=False))
    words = split_words(spec.args, "args")
    asked = _Asked(spec.model, spec.app, spec.gpus, _MODULE_MARK if program.module else None, words, spec.nodes)
    argv = arguments.expand(server.command(asked), point, append=bool(point.parameters))
    module = program.module or word()
    return tuple(_put_module(parts, module) for parts in argv)


def _put_module(parts: Word, module: Word) -> Word:
    return module if parts == (_MODULE_MARK,) else parts


def _service(spec: Spec, server: ServerPreset) -> Service:
    asked = spec.health
    startup = asked.startup if asked and asked.startup else server.startup_seconds
    named = asked.path if asked else None
    health = Health(named, strict=True, startup_seconds=startup) if named else Health(
        server.health_ready, strict=server.strict_health, startup_seconds=startup
    )  # fmt: skip
    return Service(spec.port or server.port, health, preset=spec.serve or "command")


def _server_environment(server: ServerPreset | None) -> Mapping[str, str]:
    return server.environment if server else {}


def _commit(git: Git | None) -> Mapping[str, str]:
    return {COMMIT_VARIABLE: git.commit} if git else {}


def _secret(name: str, reference: str, base: Path) -> SecretRef:
    source, separator, key = reference.partition(":")
    if not separator:
        return SecretRef("cluster", reference) if "/" in reference else SecretRef("env", reference)
    if source == "env":
        return SecretRef("env", key)
    if source == "file":
        return SecretRef("file", str((base / Path(key).expanduser()).resolve()))
    raise PlanError(f"secrets.{name}: {source}: is no place for a secret", hint="env:NAME or file:PATH")


def _requirements(spec: Spec, base: Path) -> tuple[str, ...]:
    if not isinstance(spec.requirements, str):
        return tuple(spec.requirements)
    from jupyter_gpudeploy.plan.sources import locate

    file = locate(spec.requirements, base, allow_outside=spec.allow_outside)
    lines = [line.split(" #")[0].strip() for line in file.read_text("utf-8").splitlines()]
    for number, line in enumerate(lines, start=1):
        if line.startswith("-") or line.endswith("\\"):
            raise PlanError(
                f"{file.name}, line {number}: {line!r} is for pip alone",
                hint="one package a line, or a list in the cell",
            )
    return tuple(line for line in lines if line and not line.startswith("#"))


def _working_dir(spec: Spec, program: Program, base: Path) -> Path:
    if spec.working_dir is None:
        return (program.working_dir or base).resolve()
    path = (base / Path(spec.working_dir).expanduser()).resolve()
    if not path.is_dir():
        raise PlanError(f"working_dir: {spec.working_dir!r} is no folder", hint=f"it is looked for in {base}")
    if spec.git is not None and not Path(spec.working_dir).is_absolute() and not path.is_relative_to(base):
        raise PlanError(f"working_dir: {spec.working_dir!r} leads out of the repository", hint="a folder in it")
    return path


def _warm(spec: Spec, program: Program) -> Warm | None:
    if spec.warm is False:
        return None
    if program.script is None or spec.serve is not None:
        raise PlanError("warm: forks a Python script or the code of a cell, nothing else", hint="leave warm: out")
    return Warm(program.script, () if spec.warm is True else tuple(spec.warm))


def _program_notes(program: Program) -> list[Note]:
    if not program.links:
        return []
    listed = ", ".join(program.links[:5]) + (", ..." if len(program.links) > 5 else "")  # noqa: PLR2004 - enough to see
    return [Note("warning", "run", f"links lead out of the folder: {listed}", "they are not part of what is compared")]


def _option_notes(program: Program, options: Mapping[str, str]) -> list[Note]:
    listed = ", ".join(f"{name} as --{option}" for name, option in options.items())
    return [Note("info", "parameters", f"{program.what} is given {listed}, as it spells that")] if options else []


def _fingerprint(spec: Spec, program: Program, working_dir: Path, requirements: Sequence[str], git: Git | None) -> str:
    """Return what tells runs apart. A default that is written out is no change; of a repository, the commit counts."""
    header = spec.model_dump(mode="json", exclude={"code", *_NOT_WHAT_RUNS}, exclude_defaults=True)
    parts = [header, program.digest, str(working_dir), requirements]
    parts += [[git.url, git.commit, git.path]] if git else []
    content = json.dumps(parts, sort_keys=True, default=str)
    return hashlib.sha256(content.encode()).hexdigest()[:16]
