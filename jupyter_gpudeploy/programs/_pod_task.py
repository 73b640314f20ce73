"""What a pod's task is: its number, its command and its environment, from the record and what Kubernetes says.

Standard library, Python 3.8.
"""

from __future__ import annotations

import getpass
import json
import os
import shlex
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jupyter_gpudeploy.events.wire import working_folder

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

HOST = "0.0.0.0"  # noqa: S104 - the pod's own network; who may reach it is the cluster's to say
_MARGIN_SECONDS = 10.0
_OURS = (
    "FAILURES",
    "IGNORED_FAILURES",
    "GRACE_SECONDS",
    "NODE",
    "POD",
    "POINT",
    "POD_ROOT",
    "ROUND",
    "TERMINATION_LOG",
)


class Place:
    """The folders of a pod, and what is the same for everything that runs in it.

    `given` is the environment of PID 1: secrets and what the image sets are in it.
    """

    def __init__(self, root: Path, record: Mapping[str, Any], given: Mapping[str, str]) -> None:
        self.root = root
        self.record = record
        self.given = given
        self.uid = given.get("GPUDEPLOY_RUN") or str(record.get("uid", ""))
        self.cluster: Mapping[str, Any] = record.get("cluster") or {}
        asked, base = str(record.get("working_dir", ".")), str(record.get("base", "."))
        self.work = working_folder(asked, base, str(root / "work"))

    @property
    def is_manual(self) -> bool:
        """Whether nothing runs but what is asked for."""
        return bool(self.record["kind"] == "manual")

    def output(self, number: int) -> Path:
        """Return the folder in which a task may leave files: on the run's volume, where there is one."""
        folder = self.root / "out"
        return (folder / self.record["name"] if self.cluster.get("storage") else folder) / str(number)

    def hidden(self) -> list[bytes]:
        """Return the values that may not be seen."""
        values = (self.given.get(name, "") for name in self.record.get("secrets", {}))
        return [os.fsencode(value) for value in values if value]

    def is_out_of_time(self) -> bool:
        """Whether the pod has lasted as long as it may. Its volumes were made when it began."""
        limit = self.record.get("task_seconds")
        try:
            began = os.lstat(str(self.root / "in" / "..data")).st_mtime
        except OSError:
            return False
        return limit is not None and time.time() - began > float(limit) - _MARGIN_SECONDS

    def attempt(self) -> int:
        """Count a start of this container, and return which attempt at its task it is, from 1."""
        file = self.root / "state" / "starts"
        earlier = _number(file.read_text("ascii")) if file.exists() else 0
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(str(earlier + 1), "ascii")
        return first_attempt(self.given) + earlier

    def task(self) -> Mapping[str, Any]:
        """Return the record's entry of this pod; of the nodes of a job, one each. Raises IndexError."""
        tasks: Sequence[Mapping[str, Any]] = self.record["tasks"]
        if self.given.get("GPUDEPLOY_POINT"):
            chosen: Mapping[str, Any] = json.loads(self.given["GPUDEPLOY_POINT"])
            return chosen
        asked = self.given.get("GPUDEPLOY_TASK", "")
        if asked:
            return next((task for task in tasks if str(task["number"]) == asked), tasks[0])
        index = _number(self.given.get("JOB_COMPLETION_INDEX") or self.given.get("LWS_WORKER_INDEX", ""))
        return tasks[index] if self._nodes == 1 else {**tasks[0], "number": index, "name": f"node {index}"}

    @property
    def _nodes(self) -> int:
        return int(self.cluster.get("nodes") or 1)

    def environment(self, task: Mapping[str, Any], attempt: int) -> dict[str, str]:
        """Return the whole environment of a task."""
        record, given = self.record, self.given
        mine = {f"GPUDEPLOY_{name}" for name in _OURS}
        environment = {"PYTHONUNBUFFERED": "1", **{name: given[name] for name in given if name not in mine}}
        programs = [str(self.root / "deps" / "bin"), str(Path(sys.executable).parent)]
        environment["PATH"] = os.pathsep.join([*programs, environment.get("PATH", os.defpath)])
        environment.update(_person(environment, self.root))
        environment.update(record.get("environment", {}))
        environment.update(task.get("environment", {}))
        environment.update({name: given[name] for name in record.get("secrets", {}) if name in given})
        own = [str(self.root / "deps"), environment.get("PYTHONPATH", ""), str(self.root / "runtime")]
        environment["PYTHONPATH"] = os.pathsep.join(path for path in own if path)
        if record.get("service"):
            environment.update(PORT=self._port(), HOST=HOST)
        if self._nodes > 1:
            environment.update(NODE_RANK=str(task["number"]), NNODES=str(self._nodes))
        number = task["number"]
        environment.update(
            GPUDEPLOY_RUN=self.uid,
            GPUDEPLOY_RUN_NAME=record["name"],
            GPUDEPLOY_TASK=str(number),
            GPUDEPLOY_TASK_NAME=task["name"],
            GPUDEPLOY_ATTEMPT=str(attempt),
            GPUDEPLOY_OUTPUT=str(self.output(number)),
            GPUDEPLOY_METRICS=str(self.metrics(number)),
            GPUDEPLOY_PARAMETERS=json.dumps(task.get("parameters", {})),
        )
        return environment

    def metrics(self, number: int) -> Path:
        """Return what the task gives to log()."""
        return self.root / "metrics" / f"{number}.jsonl"

    def filled(self, words: Sequence[Sequence[Any]], number: int) -> list[str]:
        """Return words of the record with every slot filled."""
        slots = {
            "python": sys.executable,
            "code": str(self.root / "code"),
            "sources": str(self.root / "work"),
            "output": str(self.output(number)),
            "host": HOST,
            "port": self._port(),
        }
        return ["".join(slots[part["slot"]] if isinstance(part, dict) else part for part in parts) for parts in words]

    def _port(self) -> str:
        service = self.record.get("service") or {}
        return str(service.get("port", ""))


def first_attempt(given: Mapping[str, str]) -> int:
    """Return which attempt at its task the first start of this pod's container is, from 1."""
    return 1 + sum(_number(given.get(f"GPUDEPLOY_{name}", "")) for name in ("FAILURES", "IGNORED_FAILURES"))


def executed(number: int, argv: Sequence[str]) -> dict[str, Any]:
    """Return a task for a command that was asked for."""
    name = " ".join(map(shlex.quote, argv))
    return {"number": number, "name": name, "argv": [[word] for word in argv]}


def _person(environment: Mapping[str, str], root: Path) -> dict[str, str]:
    """Return a home that can be written to and a name, where the image has none for whoever runs it."""
    found: dict[str, str] = {}
    if not os.access(environment.get("HOME") or "/nowhere", os.W_OK):
        home = root / "home"
        home.mkdir(parents=True, exist_ok=True)
        found["HOME"] = str(home)
    try:
        getpass.getuser()
    except (KeyError, OSError):
        found.update(USER="gpudeploy", LOGNAME="gpudeploy")
    return found


def _number(text: str) -> int:
    return int(text) if text.strip().isdigit() else 0
