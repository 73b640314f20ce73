"""What each verb does: read the arguments, call the package, return a value. IPython shows the value."""

from __future__ import annotations

import json
import os
import time
from getpass import getpass
from typing import TYPE_CHECKING, Any

from jupyter_gpudeploy import launching
from jupyter_gpudeploy.errors import GpuDeployError, NotConfirmedError
from jupyter_gpudeploy.events.text import plain
from jupyter_gpudeploy.notebook import live, logs
from jupyter_gpudeploy.notebook.arguments import help_text
from jupyter_gpudeploy.notebook.progress import Progress
from jupyter_gpudeploy.notebook.reprs import Text, plan_bundle
from jupyter_gpudeploy.quantities import format_memory

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from IPython.core.interactiveshell import InteractiveShell

    from jupyter_gpudeploy.notebook.arguments import Arguments
    from jupyter_gpudeploy.run import Run, RunList

LINES_A_SECOND = 2000
BYTES_A_SECOND = 400_000
DEFAULT_GRACE = 10.0
_UNITS = (("d", 86400), ("h", 3600), ("m", 60))


def line_verb(shell: InteractiveShell, asked: Arguments) -> Any:  # noqa: ANN401 - each verb's own value
    """Do what `%deploy` was asked and return the value."""
    if asked.help:
        return Text(help_text(asked.verb))
    value = _LINE[asked.verb](shell, asked)
    return _stored(shell, asked, value)


def cell_verb(shell: InteractiveShell, asked: Arguments, cell: str) -> None:
    """Do what `%%deploy` was asked with the text below it."""
    if asked.help:
        print(help_text(asked.verb, cell=True))  # noqa: T201 - the answer, in the cell that asked
        return
    if asked.verb == "wizard":
        from jupyter_gpudeploy.notebook.wizard import opening

        form: Any = opening.from_cell(shell, cell, asked.name)
        shell.display_pub.publish(data=form._repr_mimebundle_(), metadata={})
        return
    if not cell.strip():
        raise GpuDeployError("the cell is empty", hint="write what to run below the line, or see %deploy help")
    if asked.verb in ("plan", "show", "diff") or asked.dry_run:
        _dry_run(shell, asked, cell)
        return
    started = launching.launch_all(
        cell,
        **_overrides(asked),
        replace=asked.replace,
        resume=asked.resume,
        take_over=asked.take_over,
    )
    shell.user_ns["_deploy"] = started[0]
    _stored(shell, asked, _one_or_all(started))
    if asked.wait:
        _wait(shell, started, asked)
    else:
        for run in started:
            live.show(shell, run, plain=asked.plain)


def _overrides(asked: Arguments) -> dict[str, Any]:
    """Return the keys of the header that the line sets."""
    return {key: getattr(asked, key) for key in ("name", "backend", "cluster", "namespace", "gpus")}


def _dry_run(shell: InteractiveShell, asked: Arguments, cell: str) -> None:
    plans = launching.plan(cell, **_overrides(asked))
    _stored(shell, asked, _one_or_all(plans))
    for plan in plans:
        if asked.verb == "show":
            print(launching.render(plan))  # noqa: T201 - the answer, in the cell that asked
        elif asked.verb == "diff":
            print(launching.changes(plan) or f"{plan.name} is as the cell says")  # noqa: T201 - see above
        else:
            made = plan_bundle(plan)
            shell.display_pub.publish(data={"text/plain": made["text/plain"]} if asked.plain else made, metadata={})


def _every(asked: Arguments) -> RunList:
    return launching.runs(asked.backend, cluster=asked.cluster, namespace=asked.namespace)


def _runs(asked: Arguments) -> list[Run]:
    return [_run(asked, name) for name in asked.names]


def _run(asked: Arguments, name: str = "") -> Run:
    """Return the run of that name, or the first that was named, wherever it was said to be."""
    return launching.attach(name or asked.names[0], asked.backend, cluster=asked.cluster, namespace=asked.namespace)


def _help(_shell: InteractiveShell, asked: Arguments) -> Text:
    return Text(help_text(asked.names[0] if asked.names else None))


def _ls(_shell: InteractiveShell, asked: Arguments) -> RunList:
    return _every(asked)


def _top(_shell: InteractiveShell, asked: Arguments) -> Any:  # noqa: ANN401 - a Top
    from jupyter_gpudeploy import using

    return using.top(asked.backend, cluster=asked.cluster, namespace=asked.namespace)


def _status(_shell: InteractiveShell, asked: Arguments) -> Any:  # noqa: ANN401 - a Summary
    return _run(asked).summary()


def _attach(_shell: InteractiveShell, asked: Arguments) -> Run:
    return _run(asked)


def _watch(shell: InteractiveShell, asked: Arguments) -> Run | None:
    run = _run(asked)
    live.show(shell, run, plain=asked.plain, keeps=True)
    return run if asked.output else None  # shown already


def _wait_for(shell: InteractiveShell, asked: Arguments) -> Run:
    run = _run(asked)
    _wait(shell, [run], asked)
    return run


def _wait(shell: InteractiveShell, started: Sequence[Run], asked: Arguments) -> None:
    """Show them, wait for all, then fail where one failed. Ctrl-C ends the waiting for all."""
    try:
        for run in started:
            live.show(shell, run, plain=asked.plain, waits=True)
        for run in started:
            run.wait(asked.timeout)
        for run in started:
            run.wait(check=True)
    except KeyboardInterrupt:
        name = next((run.name for run in started if not run.is_over), started[-1].name)
        print(f"no longer waiting; {name} goes on. To wait again: %deploy wait {name}")  # noqa: T201 - asked by Ctrl-C
    finally:
        for run in started:
            live.settle(shell, run)


def _results(_shell: InteractiveShell, asked: Arguments) -> Any:  # noqa: ANN401 - a DataFrame
    if len(asked.names) > 1:
        return launching.compare(*_runs(asked))
    return _run(asked).trials()


def _logs(_shell: InteractiveShell, asked: Arguments) -> Text | None:
    run = _run(asked)
    if asked.trial is not None and asked.trial not in run.status().tasks:
        kind = "trial" if run.kind == "sweep" else "task"
        raise GpuDeployError(f"{run.name} has no {kind} {asked.trial}", hint=f"%deploy status {run.name} lists them")
    is_cut = asked.tail is None and not asked.whole
    if not asked.follow:
        if is_cut:
            return Text(logs.shown(run, asked.trial))
        return Text("\n".join(plain(line) for line in run.logs(asked.trial, asked.tail).splitlines()))
    shown = Valve()
    task = asked.trial or 0
    if is_cut and (hidden := logs.count(run, [task]) - logs.LINES) > 0:
        shown.print(logs.note(run, [task], hidden))
    try:
        for line in run.follow(task, logs.LINES if is_cut else asked.tail):
            shown.print(plain(line.text))
    except KeyboardInterrupt:
        shown.print(f"no longer following; {run.name} goes on. To see more: %deploy logs {run.name} -f", always=True)
    shown.end()
    return None


def _exec(_shell: InteractiveShell, asked: Arguments) -> int | None:
    run = _run(asked)
    shown = Valve()
    try:
        return run.exec(asked.command, stream=lambda line: shown.print(plain(line)))
    except KeyboardInterrupt:
        shown.print(f"no longer watching; the command goes on. To end it: %deploy stop {run.name}", always=True)
        return None
    finally:
        shown.end()


def _forward(_shell: InteractiveShell, asked: Arguments) -> str:
    run = _run(asked)
    if asked.app is not None:
        return run.forward(asked.port, asked.trial or 0, app=asked.app)
    port = asked.port or (run.record["service"] or {}).get("port")
    if port is None:
        raise GpuDeployError(
            f"{run.name} is no server: which port?", hint=f"%deploy forward {run.name} --port 8888 or --app jupyter"
        )
    return run.forward(int(port), asked.trial or 0)


def _download(_shell: InteractiveShell, asked: Arguments) -> list[Path]:
    run = _run(asked)
    shown = Progress()
    try:
        return run.download(asked.to or run.name, asked.trial, asked.path or "", progress=shown.show)
    except KeyboardInterrupt:
        raise GpuDeployError("the download was ended", hint="the same line again goes on: what came is kept") from None
    finally:
        shown.end()


def _secret(_shell: InteractiveShell, asked: Arguments) -> Text:
    name, key = asked.names[0], asked.key or "token"
    backend = launching.backend_of(asked.backend or "kubernetes")
    value = getpass(f"value of {name}/{key}, not shown: ")
    if not value:
        raise GpuDeployError(f"{name} was not changed: no value was given", hint="run it again")
    backend.keep_secret(name, {key: value}, cluster=asked.cluster, namespace=asked.namespace)
    return Text(f"kept. In a cell: secrets: {{VARIABLE: {name}/{key}}}")


def _doctor(_shell: InteractiveShell, asked: Arguments) -> Text:
    chosen = asked.backend or ("kubernetes" if asked.cluster or asked.namespace else None)
    report = launching.backend_of(chosen).examine(asked.cluster, asked.namespace)
    role = f"\n\nThe Role to ask for:\n{report.role}" if report.role else ""
    return Text(f"{report}{role}")


def _stop(_shell: InteractiveShell, asked: Arguments) -> Any:  # noqa: ANN401 - a Run, or a RunList
    grace = DEFAULT_GRACE if asked.grace is None else asked.grace
    if asked.names:
        chosen = _runs(asked)
    else:
        chosen = [run for run in _every(asked) if not run.is_over and run.owner is None]
        if chosen and not asked.yes:
            raise NotConfirmedError(f"this would end {_told(chosen)}", hint="%deploy stop --all --yes")
    for run in chosen:
        run.stop(grace, take_over=asked.take_over)
    if len(chosen) == 1:
        return chosen[0]
    from jupyter_gpudeploy.run import RunList

    return RunList(chosen)


def _resume(shell: InteractiveShell, asked: Arguments) -> Run:
    run = _run(asked).resume(take_over=asked.take_over)
    if asked.wait:
        _wait(shell, [run], asked)
    return run


def _pause(_shell: InteractiveShell, asked: Arguments) -> Run:
    run = _run(asked)
    return run.pause() if asked.verb == "pause" else run.unpause()


def _parallelism(_shell: InteractiveShell, asked: Arguments) -> int:
    run = _run(asked)
    for count in asked.names[1:]:
        try:
            run.parallelism = int(count)
        except ValueError:
            raise GpuDeployError(f"{count!r} is no whole number", hint=f"%deploy parallelism {run.name} 8") from None
    return run.parallelism


def _record(_shell: InteractiveShell, asked: Arguments) -> Text:
    run = _run(asked)
    record = json.dumps(run.record, indent=2, ensure_ascii=False)
    if asked.verb == "plan":
        return Text(record)
    return Text(f"# --- cell\n{run.cell.rstrip()}\n\n# --- run.json\n{record}")


def _wizard(shell: InteractiveShell, asked: Arguments) -> Any:  # noqa: ANN401 - a Wizard
    from jupyter_gpudeploy.notebook.wizard import opening

    return opening.from_run(shell, _run(asked)) if asked.names else opening.new(shell, asked.backend)


def _clean(_shell: InteractiveShell, asked: Arguments) -> None:
    chosen = _to_clean(asked)
    if chosen and not asked.yes:
        size = sum(_size(run) for run in chosen)
        words = [*asked.names, *["--all"] * asked.all]
        words += [f"--older {_age(asked.older)}"] if asked.older is not None else []
        raise NotConfirmedError(
            f"this would delete {_told(chosen)}, {format_memory(size)} of logs, metrics and outputs",
            hint=f"%deploy clean {' '.join(words)} --yes",
        )
    for run in chosen:
        run.remove(yes=True, take_over=asked.take_over)
    print(f"deleted: {', '.join(run.name for run in chosen) or 'nothing'}")  # noqa: T201 - the answer, in the cell that asked


def _to_clean(asked: Arguments) -> list[Run]:
    if asked.names:
        chosen = _runs(asked)
        for run in chosen:
            if not run.is_over:
                raise GpuDeployError(f"{run.name} is {run.state}: only runs that have ended are deleted",
                                     hint=f"%deploy stop {run.name}")  # fmt: skip
        return chosen
    before = time.time() - (asked.older or 0.0)
    is_anywhere = asked.cluster is None and asked.namespace is None
    every = [*_every(asked), *(launching.replaced(asked.backend) if is_anywhere else ())]
    return [
        run for run in every if run.is_over and (run.status().ended or run.ref.created) <= before and run.owner is None
    ]


def _told(chosen: Sequence[Run]) -> str:
    hours = sum(run.summary(log_lines=0, metrics=False).gpu_hours for run in chosen)
    names = ", ".join(run.name for run in chosen[:5]) + (", ..." if len(chosen) > 5 else "")  # noqa: PLR2004 - enough
    return f"{len(chosen)} run{'s' * (len(chosen) != 1)} ({names}), {hours:.2g} GPU hours"


def _age(seconds: float) -> str:
    unit, size = next(((unit, size) for unit, size in _UNITS if seconds and seconds % size == 0), ("s", 1))
    return f"{seconds / size:g}{unit}"


def _size(run: Run) -> int:
    total = 0
    for folder, _, files in os.walk(run.folder):
        for name in files:
            try:
                total += os.lstat(os.path.join(folder, name)).st_size  # noqa: PTH118 - walked names, thousands of them
            except OSError:
                continue
    return total


def _one_or_all(values: Sequence[Any]) -> Any:  # noqa: ANN401 - a value, or all of them
    return values[0] if len(values) == 1 else list(values)


def _stored(shell: InteractiveShell, asked: Arguments, value: Any) -> Any:  # noqa: ANN401 - the same value
    if asked.output is None:
        return value
    shell.user_ns[asked.output] = value
    return None


class Valve:
    """Prints lines as they come, and of a flood no more than a front end takes; says what it left out."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._second, self._lines, self._bytes, self._left_out = 0.0, 0, 0, 0

    def print(self, line: str, *, always: bool = False) -> None:
        """Print the line, or count it as left out."""
        now = self._clock()
        if now - self._second >= 1:
            self._tell()
            self._second, self._lines, self._bytes = now, 0, 0
        self._lines += 1
        self._bytes += len(line)
        if always or (self._lines <= LINES_A_SECOND and self._bytes <= BYTES_A_SECOND):
            print(line)  # noqa: T201 - what was asked for
        else:
            self._left_out += 1

    def end(self) -> None:
        """Say what was left out last."""
        self._tell()

    def _tell(self) -> None:
        if self._left_out:
            print(f"[{self._left_out} lines came too fast to be shown; the log has them]")  # noqa: T201 - see above
            self._left_out = 0


_LINE: dict[str, Callable[[Any, Arguments], Any]] = {
    "help": _help,
    "ls": _ls,
    "top": _top,
    "status": _status,
    "attach": _attach,
    "watch": _watch,
    "wait": _wait_for,
    "results": _results,
    "logs": _logs,
    "exec": _exec,
    "forward": _forward,
    "download": _download,
    "secret": _secret,
    "doctor": _doctor,
    "stop": _stop,
    "resume": _resume,
    "pause": _pause,
    "unpause": _pause,
    "parallelism": _parallelism,
    "plan": _record,
    "show": _record,
    "clean": _clean,
    "wizard": _wizard,
}
