"""What the cell of the form would do: its mistakes at once, its plan and its files in the background."""

from __future__ import annotations

import re
import threading
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple

from jupyter_gpudeploy import launching, using
from jupyter_gpudeploy.errors import GpuDeployError, Problem, SpecError
from jupyter_gpudeploy.quantities import format_memory

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from jupyter_gpudeploy.backends.base import Capabilities
    from jupyter_gpudeploy.plan.options import Options
    from jupyter_gpudeploy.plan.types import Plan
    from jupyter_gpudeploy.report import Report

DELAY = 0.3
LONGEST_FILES = 40_000


class Preview(NamedTuple):
    """What was found out of one text.

    `trouble`: why there is no plan; `script`: why its options are not known. `prices`: of a GPU hour.
    """

    plans: tuple[Plan, ...] = ()
    files: str = ""
    trouble: str = ""
    options: Options | None = None
    script: str = ""
    can: Capabilities | None = None
    prices: Mapping[str, float] = MappingProxyType({})


def mistakes(text: str) -> tuple[Problem, ...]:
    """Return the mistakes of a cell below its magic line: the same that running it would tell."""
    from jupyter_gpudeploy.spec import cell

    try:
        cell.read(text)
    except SpecError as error:
        return error.problems
    return ()


def by_key(problems: tuple[Problem, ...]) -> dict[str, list[Problem]]:
    """Return the mistakes by the key they are about; those about none, or about an unknown key, under ''."""
    from jupyter_gpudeploy.spec.edit import KEYS

    found: dict[str, list[Problem]] = {}
    for problem in problems:
        key = re.split(r"[.\[]", problem.field, maxsplit=1)[0]
        found.setdefault(key if key in KEYS else "", []).append(problem)
    return found


def look(text: str, values: Mapping[str, Any], base: Path) -> Preview:
    """Return everything that takes time: files of the user are read, a backend is asked what it can do."""
    options, script = _options(values, base)
    made = Preview(options=options, script=script)
    try:
        backend = launching.backend_of(values.get("backend"))
        made = made._replace(can=backend.capabilities(values.get("cluster"), values.get("namespace")))
        if mistakes(text):
            return made
        if "git" in values:
            return made._replace(trouble="the plan needs the repository: %%deploy plan fetches it and shows the plan")
        plans = launching.plan(text, base_dir=base)
        return made._replace(plans=plans, files=_files(plans), prices=using.known_prices())
    except (GpuDeployError, OSError) as error:
        return made._replace(trouble=str(error))


def cost(plan: Plan, hours: float | None, prices: Mapping[str, float] = MappingProxyType({})) -> str:
    """Return how many runs there will be, and what they hold: `12 runs, 2 at a time, about 24 GPU hours, cost 57.60`.

    `hours`: what a run is expected to take; None: no estimate, its limit counts. `prices`: of a GPU hour, as `using`.
    """
    count = len(plan.tasks)
    words = [f"{count} run{'s' * (count != 1)}"]
    words += [f"{plan.parallelism} at a time"] if count > 1 else []
    nodes = plan.cluster.nodes if plan.cluster is not None else 1
    limit = plan.max_seconds / 3600 if plan.max_seconds else None
    each = min(hours, limit) if hours and limit else hours or limit
    if each is not None:
        kind, size = ("GPU", plan.resources.gpus * nodes) if plan.resources.gpus else ("process", 1)
        word = "about" if hours else "at most"
        words.append(f"{word} {count * size * each:.3g} {kind} hours")
        cluster = plan.target.cluster if plan.target is not None else None
        price = using.price_of(prices, plan.spec.get("gpu_type"), cluster, plan.backend)
        words += [f"cost {count * size * each * price:,.2f}"] if price is not None and plan.resources.gpus else []
    return ", ".join(words)


def place_text(can: Capabilities) -> str:
    """Return what a backend has, in one line."""
    words = []
    if can.gpus is not None:
        names = f" ({', '.join(dict.fromkeys(can.gpu_names))})" if can.gpu_names else ""
        words.append(f"{can.gpus} GPU{'s' * (can.gpus != 1)}{names}" if can.gpus else "no GPU")
    words += [f"{can.cpus:g} processors"] if can.cpus is not None else []
    words += [f"{format_memory(can.memory)} of memory"] if can.memory is not None else []
    return f"{can.where}: {', '.join(words)}" if words else can.where


def examined(values: Mapping[str, Any]) -> Report | None:
    """Return what is there and free in the place of the cell; None where it cannot be asked. It may take seconds."""
    try:
        return launching.backend_of(values.get("backend")).examine(values.get("cluster"), values.get("namespace"))
    except (GpuDeployError, OSError):
        return None


class Debounced:
    """Does the newest piece of work a moment after the last call, on a thread; older pieces are dropped."""

    def __init__(self, delay: float = DELAY) -> None:
        self._delay = delay
        self._lock = threading.Lock()
        self._idle = threading.Event()
        self._idle.set()
        self._newest = 0
        self._timer: threading.Timer | None = None

    def call(self, work: Callable[[], Any], done: Callable[[Any], None]) -> None:
        """Do `work` soon and give what it returns to `done`, unless there is newer work by then."""
        with self._lock:
            self._newest += 1
            if self._timer is not None:
                self._timer.cancel()
            self._idle.clear()
            self._timer = threading.Timer(self._delay, self._run, (self._newest, work, done))
            self._timer.daemon = True
            self._timer.start()

    def settled(self, timeout: float | None = None) -> bool:
        """Wait until nothing is left to do."""
        return self._idle.wait(timeout)

    def close(self) -> None:
        """Drop what is left to do."""
        with self._lock:
            self._newest += 1
            if self._timer is not None:
                self._timer.cancel()
            self._idle.set()

    def _run(self, number: int, work: Callable[[], Any], done: Callable[[Any], None]) -> None:
        try:
            found = work()
            if number == self._newest:
                done(found)
        finally:
            with self._lock:
                if number == self._newest:
                    self._idle.set()


def _options(values: Mapping[str, Any], base: Path) -> tuple[Options | None, str]:
    """Return the options of the script that the cell runs, or why they are not known."""
    from jupyter_gpudeploy.plan.options import read_options

    run, entry = values.get("run"), values.get("entry_point")
    script = f"{run}/{entry}" if isinstance(run, str) and isinstance(entry, str) else run
    if not isinstance(script, str) or not script.endswith(".py"):
        return None, ""
    script = script.split()[-1] if not (base / script).exists() and script.startswith("python") else script
    try:
        return read_options(script, base, allow_outside=values.get("allow_outside") is True), ""
    except (GpuDeployError, OSError) as error:
        return None, str(error)


def _files(plans: tuple[Plan, ...]) -> str:
    text = "\n".join(str(launching.render(plan)) for plan in plans)
    left_out = len(text) - LONGEST_FILES
    return f"{text[:LONGEST_FILES]}\n… and {left_out:,} more characters" if left_out > 0 else text
