"""People at notebooks of their own, for the tests of ownership, rights and lifetime: a profile, a home, a shell."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

from jupyter_gpudeploy import launching
from jupyter_gpudeploy.backends.kubernetes.backend import KubernetesBackend
from jupyter_gpudeploy.events.types import State
from jupyter_gpudeploy.notebook import arguments, verbs

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from jupyter_gpudeploy.plan.types import Plan
    from jupyter_gpudeploy.run import Run

PATIENCE = 120.0


class Notebook:
    """What one person has: a settings file whose one profile is the cluster of the tests, and a folder for the runs."""

    def __init__(self, folder: Path, kubeconfig: Path, namespace: str, image: str) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        context = json.loads(kubeconfig.read_text())["current-context"]
        profile = {"kubeconfig": str(kubeconfig), "context": context, "namespace": namespace, "image": image}
        settings = {"default_cluster": "here", "default_backend": "kubernetes", "clusters": {"here": profile}}
        self.folder = folder
        self.home = folder / "home"
        self.settings = folder / "config.yaml"
        self.settings.write_text(json.dumps(settings))
        self.environment = {
            "JUPYTER_GPUDEPLOY_CONFIG": str(self.settings),
            "JUPYTER_GPUDEPLOY_HOME": str(self.home),
        }

    @contextlib.contextmanager
    def sits_down(self) -> Iterator[KubernetesBackend]:
        """A fresh kernel of this person, as far as the package can tell: its backends and variables."""
        kept = {name: os.environ.get(name) for name in self.environment}
        before = dict(launching._backends)
        os.environ.update(self.environment)
        launching._backends.clear()
        backend = launching._backends["kubernetes"] = KubernetesBackend()
        try:
            yield backend
        finally:
            backend.close()
            launching._backends.clear()
            launching._backends.update(before)
            for name, value in kept.items():
                os.environ.pop(name, None) if value is None else os.environ.__setitem__(name, value)

    def start(self, program: str, *words: str) -> subprocess.Popen[str]:
        """A process of this person that runs a Python program."""
        return subprocess.Popen(
            [sys.executable, "-W", "ignore", "-c", program, *words],
            env={**os.environ, **self.environment},
            cwd=self.folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )


def plan(cell: str, **overrides: Any) -> Plan:
    """The one plan of a cell, for the cluster."""
    (made,) = launching.plan(cell, backend="kubernetes", **overrides)
    return made


def changed(made: Plan, **options: Any) -> Plan:
    """The plan with other options for the cluster than a cell can ask for in a test's time."""
    assert made.cluster is not None
    return made._replace(cluster=made.cluster._replace(**options))


def until(what: Callable[[], object], seconds: float = PATIENCE, every: float = 0.2) -> Any:
    """Poll until it is true, and return it."""
    deadline = time.monotonic() + seconds
    while not (found := what()):
        assert time.monotonic() < deadline, "it never came so far"
        time.sleep(every)
    return found


def until_running(run: Run, task: int = 0) -> Run:
    """Wait until a task runs."""

    def looks() -> bool:
        status = run.status()
        assert not status.state.is_final, f"{status.state}: {status.reason}"
        found = status.tasks.get(task)
        return run.state is State.READY if run.kind == "manual" else bool(found and found.state is State.RUNNING)

    until(looks)
    return run


def kill(process: subprocess.Popen[str]) -> None:
    """kill -9, and nothing of it is left."""
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=30)


def names(items: Sequence[dict[str, Any]]) -> list[str]:
    """The names of objects."""
    return sorted(item["metadata"]["name"] for item in items)


def line(text: str) -> Any:
    """What a `%deploy` line returns."""
    return verbs.line_verb(None, arguments.parse_line(text))
