"""An application for a person, in an environment that stays up: JupyterLab, or VS Code in the browser (code-server).

    app.py run NAME FOLDER       start it and stay until it ends; one at a time, the others leave at once
    app.py show NAME FOLDER      print {"port", "token"} of the one that runs, as JSON; null for none

It listens on 127.0.0.1 only, and asks for a token that is made here and kept in `FOLDER/NAME.json`, which nobody else
may read. It is no word of a command and no line of a log. One that is started again in the same place has the token
and, where that is free, the port of the one before: an address that a person has stays right.

Standard library, Python 3.8: it runs in any image.
"""

from __future__ import annotations

import fcntl
import importlib.util
import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

MISSING = 69
"""The exit code where there is no such program (EX_UNAVAILABLE of sysexits.h)."""
_JUPYTER = ("jupyterlab", "notebook", "jupyter_server")
_HOST = "127.0.0.1"
_PATIENCE_SECONDS = 1.0


def main(words: list[str]) -> int:
    """Do what the words say; return the exit code."""
    if len(words) != 3 or words[0] not in ("run", "show") or words[1] not in _COMMANDS:  # noqa: PLR2004 - as documented
        print(__doc__, file=sys.stderr)  # noqa: T201 - a program's usage
        return 2
    name, folder = words[1], Path(words[2])
    if words[0] == "show":
        print(json.dumps(show(name, folder)))  # noqa: T201 - the answer
        return 0
    return run(name, folder)


def show(name: str, folder: Path) -> dict[str, Any] | None:
    """Return port and token of the application that runs, None where none does."""
    if not _is_held(folder / f"{name}.lock"):
        return None
    found = _read(folder / f"{name}.json")
    return {key: found[key] for key in ("port", "token")} if found.get("port") else None


def run(name: str, folder: Path) -> int:
    """Start it, and stay until it has ended. Return its exit code, MISSING where it is not installed."""
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    if _take(folder / f"{name}.lock", _PATIENCE_SECONDS) is None:  # held until this program ends
        print(f"{name} runs already")  # noqa: T201 - its log
        return 0
    file = folder / f"{name}.json"
    before = _read(file)
    port, token = _free_port(before.get("port")), before.get("token") or secrets.token_urlsafe(24)
    command = _COMMANDS[name](port)
    if command is None:
        print(f"there is no {name} in this environment")  # noqa: T201 - its log
        return MISSING
    _write(file, {"port": port, "token": token})
    environment = {**os.environ, _TOKENS[name]: token}
    child = subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL)
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda number, _: child.send_signal(number))
    code = child.wait()
    return code if code >= 0 else 128 - code


def _jupyter(port: int) -> list[str] | None:
    """Return the command of the best that is installed; all of them can be asked for kernels."""
    module = next((name for name in _JUPYTER if importlib.util.find_spec(name) is not None), None)
    if module is None:
        return None
    words = [sys.executable, "-m", module, "--no-browser", f"--ServerApp.ip={_HOST}", f"--ServerApp.port={port}"]
    words += ["--ServerApp.port_retries=0", f"--ServerApp.root_dir={Path.cwd()}"]
    return [*words, "--allow-root"] if os.geteuid() == 0 else words


def _code_server(port: int) -> list[str] | None:
    program = shutil.which("code-server")
    if program is None:
        return None
    words = [program, "--bind-addr", f"{_HOST}:{port}", "--auth", "password"]
    return [*words, "--disable-telemetry", "--disable-update-check", str(Path.cwd())]


_COMMANDS = {"jupyter": _jupyter, "code-server": _code_server}
_TOKENS = {"jupyter": "JUPYTER_TOKEN", "code-server": "PASSWORD"}


def _take(file: Path, patience: float = 0.0) -> int | None:
    """Return a lock that is ours now, None where another has it. Who only looks has it for moments: be patient."""
    lock = os.open(str(file), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    deadline = time.monotonic() + patience
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            if time.monotonic() < deadline:
                time.sleep(0.02)
                continue
            os.close(lock)
            return None
        return lock


def _is_held(file: Path) -> bool:
    if not file.exists():
        return False
    lock = _take(file)
    if lock is None:
        return True
    os.close(lock)
    return False


def _free_port(wanted: Any) -> int:  # noqa: ANN401 - read from a file
    for port in (wanted, 0) if isinstance(wanted, int) else (0,):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((_HOST, port))
            except OSError:
                continue
            return int(probe.getsockname()[1])
    raise OSError("no port is free")


def _read(file: Path) -> dict[str, Any]:
    try:
        found = json.loads(file.read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _write(file: Path, content: dict[str, Any]) -> None:
    draft = file.with_name(f".{file.name}.{os.getpid()}")
    descriptor = os.open(str(draft), os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as stream:
        stream.write(json.dumps(content))
    draft.replace(file)


if __name__ == "__main__":
    # The modules beside this one are not for whoever it starts; one of them is called as Jupyter's own is.
    sys.path[:] = [path for path in sys.path if Path(path or ".").resolve() != Path(__file__).resolve().parent]
    sys.exit(main(sys.argv[1:]))
