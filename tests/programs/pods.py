"""A pod without a cluster: a folder as its volumes would be, and `boot.py` as a plain process."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import time
from pathlib import Path

import jupyter_gpudeploy
from jupyter_gpudeploy.events.wire import Decoder, Record

PACKAGE = Path(jupyter_gpudeploy.__file__).parent
BOOT = PACKAGE / "programs" / "boot.py"
SHIPPED = ("__init__.py", "_version.py", "events", "programs", "trackers")
UID = "0d9a2f6e-1f7b-4a54-9b0e-6f4c4b1d9f00"
DEADLINE = 60.0
PYTHON = os.environ.get("GPUDEPLOY_POD_PYTHON") or sys.executable
"""The interpreter of the image: 3.8 or later."""


def tarball(members: dict[str, bytes | str]) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:gz") as archive:
        for name, content in members.items():
            data = content.encode() if isinstance(content, str) else content
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return stream.getvalue()


def runtime() -> bytes:
    members = {}
    for part in SHIPPED:
        path = PACKAGE / part
        for file in [path] if path.is_file() else sorted(path.rglob("*.py")):
            members[f"runtime/jupyter_gpudeploy/{file.relative_to(PACKAGE)}"] = file.read_bytes()
    return tarball(members)


def record(code: str = "", **fields) -> dict:
    """Return the record of a job that runs `code`."""
    argv = [[{"slot": "python"}], [{"slot": "code"}, "/main.py"]]
    task = {"number": 0, "name": "main", "parameters": {}, "argv": argv, "environment": {}, "metric_files": []}
    base = {"version": 1, "name": "digits", "kind": "job", "tasks": [task], "environment": {}, "secrets": {}}
    base |= {"working_dir": "/home/me/book", "base": "/home/me/book", "service": None, "cluster": {"storage": None}}
    task |= fields.pop("task", {})
    return {**base, **fields, "code": code}


class Pod:
    """One pod. `stdout` is what the node keeps of it."""

    def __init__(self, root: Path, content: dict, *, files=None, python: str = PYTHON) -> None:
        self.root = root
        self.python = python
        self.termination = root / "termination-log"
        (root / "in").mkdir(parents=True)
        self.termination.touch()
        (root / "in" / "boot.py").write_bytes(BOOT.read_bytes())
        self.put("runtime.tar.gz", runtime())
        self.put("work.tar.gz", tarball({"code/main.py": content.pop("code"), **(files or {})}))
        (root / "in" / "run.json.gz").write_bytes(gzip.compress(json.dumps(content).encode()))
        self.process = None

    def put(self, name: str, data: bytes) -> None:
        (self.root / "in" / name).write_bytes(data)
        (self.root / "in" / f"{name}.sha256").write_text(hashlib.sha256(data).hexdigest() + "\n")

    def command(self, *words: str) -> list[str]:
        return [self.python, "-u", str(self.root / "in" / "boot.py"), *words]

    def environment(self, given) -> dict[str, str]:
        kept = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
        own = {
            "GPUDEPLOY_POD_ROOT": str(self.root),
            "GPUDEPLOY_RUN": UID,
            "GPUDEPLOY_TERMINATION_LOG": str(self.termination),
        }
        return {**kept, **own, **given}

    def start(self, **given: str) -> Pod:
        self.output = (self.root / "stdout").open("w+b")
        self.process = subprocess.Popen(
            self.command(),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=self.environment(given),
            start_new_session=True,
        )
        self.copier = subprocess.Popen(["cat"], stdin=self.process.stdout, stdout=self.output)
        self.process.stdout.close()
        return self

    def run(self, **given: str) -> Pod:
        self.start(**given).wait()
        return self

    def wait(self) -> int:
        try:
            code = self.process.wait(DEADLINE)
            self.copier.wait(DEADLINE)
        finally:
            self.kill()
        return code

    def kill(self) -> None:
        for process in (self.process, self.copier):
            if process.poll() is None:
                os.kill(process.pid, signal.SIGKILL)
                process.wait()
        self.output.close()

    @property
    def stdout(self) -> bytes:
        return (self.root / "stdout").read_bytes()

    @property
    def code(self) -> int:
        return self.process.returncode

    def found(self) -> tuple[bytes, list[Record]]:
        """Return (what the program printed, the records)."""
        decoder = Decoder(UID)
        found = [*decoder.feed(self.stdout), decoder.rest()]
        assert decoder.broken == 0
        text = b"".join(item for item in found if isinstance(item, bytes))
        return text, [item for item in found if isinstance(item, Record)]

    @property
    def text(self) -> str:
        return self.found()[0].decode()

    def records(self, kind: str) -> list:
        return [record.payload for record in self.found()[1] if record.kind == kind]

    def ask(self, number: int, *argv: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self.command("exec", str(number), json.dumps(argv)),
            env=self.environment({}),
            capture_output=True,
            text=True,
            timeout=DEADLINE,
            check=False,
        )

    def last_word(self) -> dict:
        return json.loads(self.termination.read_text())

    def remove(self) -> None:
        shutil.rmtree(self.root)


def until(condition, what: str = "it"):
    """Wait until the condition holds; return its value."""
    deadline = time.monotonic() + DEADLINE
    while not (value := condition()):
        assert time.monotonic() < deadline, f"{what} did not come"
        time.sleep(0.02)
    return value
