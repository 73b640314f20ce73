"""What a task runs: its command and its environment, filled in from the record. Everything fixed is prepared once."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jupyter_gpudeploy.backends.local import control
from jupyter_gpudeploy.backends.local.processes import RUN_MARK, TASK_MARK
from jupyter_gpudeploy.errors import BackendError
from jupyter_gpudeploy.events.secrets import secret_value

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from jupyter_gpudeploy.backends.local.layout import LocalFolder

HOST = "127.0.0.1"


class Program:
    """The tasks of one record, ready to be started. `python` is the interpreter that runs them."""

    def __init__(self, record: Mapping[str, Any], folder: LocalFolder, python: str) -> None:
        self.record = record
        self.python = python
        self.uid: str = record["uid"]
        self._folder = folder
        self._tasks: dict[int, dict[str, Any]] = {task["number"]: task for task in record["tasks"]}
        self._environment = self._prepared()
        sources = record.get("base", record["working_dir"])
        self._slots = {"python": python, "code": str(folder.code), "sources": sources, "host": HOST}
        self._output = f"{folder.path}/out/"
        self._metrics = f"{folder.path}/metrics/"
        self._found: dict[tuple[str, str], str] = {}

    def task(self, number: int) -> Mapping[str, Any]:
        """Return what the record says of a task, or what `execute` was asked for."""
        if number in self._tasks:
            return self._tasks[number]
        import shlex

        argv = control.executed_argv(self._folder, number)
        self._tasks[number] = {
            "number": number,
            "name": shlex.join(argv),
            "parameters": {},
            "argv": [[text] for text in argv],
            "environment": {},
        }
        return self._tasks[number]

    def learn(self, task: Mapping[str, Any]) -> None:
        """Take in a task that was decided after the run began."""
        self._tasks[task["number"]] = dict(task)

    def command(self, number: int, port: int | None = None) -> list[str]:
        """Return the argv of a task, every slot filled."""
        slots = {**self._slots, "output": self._output + str(number), "port": str(port)}
        return fill(self.task(number)["argv"], slots)

    def script(self) -> str:
        """Return the program that a warm start forks."""
        return fill([self.record["warm"]["script"]], self._slots)[0]

    def shared_environment(self) -> dict[str, str]:
        """Return what is the same for all tasks, without secrets."""
        return dict(self._environment)

    def environment(self, number: int, attempt: int, extra: Mapping[str, str]) -> dict[str, str]:
        """Return the whole environment of an attempt. Raises BackendError for a secret that is not to be found."""
        task = self.task(number)
        own = {
            TASK_MARK: str(number),
            "GPUDEPLOY_ATTEMPT": str(attempt),
            "GPUDEPLOY_TASK_NAME": task["name"],
            "GPUDEPLOY_OUTPUT": f"{self._output}{number}",
            "GPUDEPLOY_METRICS": f"{self._metrics}{number}.jsonl",
            "GPUDEPLOY_PARAMETERS": json.dumps(task["parameters"]),
        }
        return {**self._environment, **task["environment"], **self._secrets(), **extra, **own}

    def executable(self, name: str, environment: Mapping[str, str]) -> str:
        """Return the file that a command's first word names. Raises BackendError."""
        if "/" in name:
            return name
        path = environment.get("PATH", os.defpath)
        if (name, path) not in self._found:
            for place in path.split(os.pathsep):
                candidate = Path(place or ".") / name
                if os.access(candidate, os.X_OK) and candidate.is_file():
                    self._found[name, path] = str(candidate)
                    break
            else:
                raise BackendError(f"no program {name!r} on PATH")
        return self._found[name, path]

    def _prepared(self) -> dict[str, str]:
        """Return the kernel's environment, with the interpreter's own programs found first, and the plan's own."""
        environment = {"PYTHONUNBUFFERED": "1", **os.environ}
        programs = Path(self.python).parent
        environment["PATH"] = os.pathsep.join([str(programs), environment.get("PATH", os.defpath)])
        if (programs.parent / "pyvenv.cfg").exists():
            environment["VIRTUAL_ENV"] = str(programs.parent)
        environment.update(self.record["environment"])
        environment[RUN_MARK] = self.uid
        environment["GPUDEPLOY_RUN_NAME"] = self.record["name"]
        return environment

    def hidden(self, environment: Mapping[str, str]) -> list[bytes]:
        """Return the values that no log may show, of a task with this environment."""
        return [environment[name].encode() for name in self.record["secrets"] if name in environment]

    def _secrets(self) -> dict[str, str]:
        """Look the secrets up, anew for each attempt, so that they are never kept."""
        return {name: secret_value(name, where) for name, where in self.record["secrets"].items()}


def fill(argv: Sequence[Sequence[Any]], slots: Mapping[str, str]) -> list[str]:
    """Return the argv of a record with every slot filled, as `plan.types.fill` does it for a plan's."""
    return ["".join(slots[part["slot"]] if isinstance(part, dict) else part for part in parts) for parts in argv]
