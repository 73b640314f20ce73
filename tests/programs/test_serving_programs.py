"""Flask and FastAPI applications served from a file, by the real servers."""

import http.client
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from pathlib import Path

import pytest

import jupyter_gpudeploy
from jupyter_gpudeploy.programs import _loader

ROOT = Path(jupyter_gpudeploy.__file__).parent.parent

APPS = {
    "flask": """
import os, sys, time, helper
from flask import Flask
app = Flask(__name__)
@app.get("/")
def root(): return f"{__name__} {helper.VALUE} {sys.path[0] == os.path.dirname(__file__)}"
@app.get("/slow")
def slow():
    open("started", "w").close()
    time.sleep(1)
    return "slow done"
@app.get("/stuck")
def stuck():
    open("started", "w").close()
    time.sleep(600)
""",
    "fastapi": """
import asyncio, os, sys, helper
from fastapi import FastAPI
from fastapi.responses import PlainTextResponse
app = FastAPI(default_response_class=PlainTextResponse)
@app.get("/")
def root(): return f"{__name__} {helper.VALUE} {sys.path[0] == os.path.dirname(__file__)}"
@app.get("/slow")
async def slow():
    open("started", "w").close()
    await asyncio.sleep(1)
    return "slow done"
@app.get("/stuck")
async def stuck():
    open("started", "w").close()
    await asyncio.sleep(600)
""",
}
both = pytest.mark.parametrize("kind", list(APPS))


@pytest.fixture
def folder(tmp_path) -> Path:
    (tmp_path / "code").mkdir()
    (tmp_path / "code" / "helper.py").write_text("VALUE = 42\n")
    return tmp_path


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


def words(kind: str, file: Path | str, app: str, port: int | str) -> list[str]:
    return [sys.executable, "-m", f"jupyter_gpudeploy.programs.{kind}_app", str(file), app, "127.0.0.1", str(port)]


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"}


class Server:
    def __init__(self, process: subprocess.Popen, port: int, log: Path) -> None:
        self.process, self.port, self.log = process, port, log

    def get(self, path: str, agent: str = "test") -> str:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            connection.request("GET", path, headers={"User-Agent": agent})
            return connection.getresponse().read().decode()
        finally:
            connection.close()


@contextmanager
def serving(folder: Path, kind: str):
    file = folder / "code" / "my-app.py"
    file.write_text(APPS[kind])
    port, log = free_port(), folder / "log"
    with log.open("wb") as stream:
        process = subprocess.Popen(
            words(kind, file, "app", port), cwd=folder, env=environment(), stdout=stream, stderr=stream
        )
    try:
        server = Server(process, port, log)
        deadline = time.monotonic() + 60
        while True:
            try:
                server.get("/", agent="jupyter_gpudeploy")
                break
            except OSError:
                assert process.poll() is None, log.read_text()
                assert time.monotonic() < deadline
                time.sleep(0.05)
        yield server
    finally:
        process.kill()
        process.wait()


def fail(
    folder: Path, kind: str, code: str | None, app: str = "app", port: int | str | None = None, *, again: bool = False
) -> str:
    file = folder / "code" / "cell.py"
    if code is not None:
        file.write_text(code)
    command = words(kind, file, app, free_port() if port is None else port)
    answer = subprocess.run(
        command, cwd=folder, env=environment(), capture_output=True, text=True, check=False, timeout=60
    )
    assert answer.returncode == (1 if again else _loader.CANNOT_WORK)
    return answer.stderr


@both
def test_an_application_is_served_as_a_module_with_its_folder_on_the_path(folder, kind):
    with serving(folder, kind) as server:
        assert server.get("/") == "my-app 42 True"


@both
def test_the_log_has_requests_and_no_probes_and_no_warning(folder, kind):
    with serving(folder, kind) as server:
        server.get("/?mine")
        server.get("/?probe", agent="jupyter_gpudeploy")
        server.get("/?last")
        deadline = time.monotonic() + 20
        while "/?last" not in server.log.read_text():
            assert time.monotonic() < deadline
            time.sleep(0.02)
        log = server.log.read_text()
    assert "/?mine" in log
    assert "probe" not in log
    assert "development server" not in log
    assert log.count("GET ") == 2


@both
def test_a_request_that_runs_is_answered_before_the_end(folder, kind):
    with serving(folder, kind) as server:
        answers: list[str] = []
        asking = threading.Thread(target=lambda: answers.append(server.get("/slow")))
        asking.start()
        wait_for(folder / "started")
        server.process.terminate()
        asking.join()
        assert answers == ["slow done"]
        assert server.process.wait(20) in (0, -signal.SIGTERM)


@both
@pytest.mark.slow
def test_a_request_that_never_ends_does_not_hold_the_end_up(folder, kind):
    with serving(folder, kind) as server:
        connection = http.client.HTTPConnection("127.0.0.1", server.port)
        connection.request("GET", "/stuck")
        wait_for(folder / "started")
        started = time.monotonic()
        server.process.terminate()
        server.process.wait(20)
        assert time.monotonic() - started < 9
        connection.close()


def wait_for(file: Path) -> None:
    deadline = time.monotonic() + 30
    while not file.exists():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@both
def test_a_wrong_variable_is_told_with_the_right_one(folder, kind):
    name = {"flask": "Flask", "fastapi": "FastAPI"}[kind]
    code = f"from {kind} import {name}\nclass Mine({name}): pass\napi = {'Mine(__name__)' if kind == 'flask' else 'Mine()'}\n"
    assert fail(folder, kind, code) == f"no variable `app` in cell.py (found: {name} instance `api`): say app: api\n"


@both
def test_a_file_without_an_application_is_told(folder, kind):
    name = {"flask": "Flask", "fastapi": "FastAPI"}[kind]
    assert fail(folder, kind, "x = 1\n") == f"no variable `app` in cell.py (found no {name} either)\n"
    assert "is a int, which cannot be called" in fail(folder, kind, "app = 1\n")


def test_an_application_of_the_other_kind_is_told(folder):
    assert (
        fail(folder, "flask", "from fastapi import FastAPI\napp = FastAPI()\n")
        == "`app` in cell.py is a FastAPI: say serve: fastapi\n"
    )
    assert (
        fail(folder, "fastapi", "from flask import Flask\napp = Flask('x')\n")
        == "`app` in cell.py is a Flask: say serve: flask\n"
    )


def test_a_file_that_raises_shows_its_own_traceback_alone(folder):
    file = folder / "code" / "cell.py"
    printed = fail(folder, "flask", "def f():\n    return 1 / 0\nf()\n").splitlines()
    assert [line for line in printed if line.strip("~^ ")] == [  # each Python marks other places
        "Traceback (most recent call last):",
        f'  File "{file}", line 3, in <module>',
        "    f()",
        f'  File "{file}", line 2, in f',
        "    return 1 / 0",
        "ZeroDivisionError: division by zero",
    ]
    assert fail(folder, "flask", "if True\n").splitlines()[0] == f'  File "{file}", line 1'
    assert fail(folder, "flask", "open('missing.txt')", again=True).endswith(
        "No such file or directory: 'missing.txt'\n"
    )


@pytest.mark.parametrize(
    ("code", "again"),
    [
        ("import no_such_module_anywhere", False),
        ("{}['x']", False),
        ("raise ConnectionError('the hub is down')", True),
        ("raise RuntimeError('CUDA out of memory')", True),
        ("class Late(Exception): pass\nraise Late", True),
    ],
)
def test_what_may_pass_is_told_from_what_fails_for_ever_by_the_exit_code(folder, code, again):
    fail(folder, "fastapi", code, again=again)


def test_a_file_that_is_not_there_is_told_in_one_line(folder):
    assert fail(folder, "flask", None) == f"{folder / 'code' / 'cell.py'} is not there\n"


@both
def test_a_wrong_command_line_is_told(folder, kind):
    assert fail(folder, kind, "", port="http").startswith(
        f"usage: python -m jupyter_gpudeploy.programs.{kind}_app FILE"
    )


def test_a_port_that_is_taken_is_told(folder):
    with socket.create_server(("127.0.0.1", 0)) as server:
        assert "in use" in fail(folder, "flask", APPS["flask"], port=server.getsockname()[1], again=True)


def test_a_file_named_like_an_imported_module_does_not_replace_it(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "path", list(sys.path))
    before = sys.modules["json"] if "json" in sys.modules else __import__("json")
    (tmp_path / "json.py").write_text("app = print\n")
    assert _loader.application(tmp_path / "json.py", "app", "Flask") is print
    assert sys.modules["json"] is before
    del sys.modules["json_app"]


@pytest.mark.parametrize(("kind", "module"), [("flask", "werkzeug.serving"), ("fastapi", "uvicorn")])
def test_a_missing_server_is_named(monkeypatch, tmp_path, capsys, kind, module):
    import importlib

    monkeypatch.setitem(sys.modules, module, None)
    program = importlib.import_module(f"jupyter_gpudeploy.programs.{kind}_app")
    with pytest.raises(SystemExit) as left:
        program.main([str(tmp_path / "x.py"), "app", "127.0.0.1", "8000"])
    assert left.value.code == _loader.CANNOT_WORK
    assert capsys.readouterr().err.startswith(f"serve: {kind} needs")
