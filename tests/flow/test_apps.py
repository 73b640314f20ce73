"""Jupyter and VS Code in an environment that stays up, reached by a forward: with real processes of this machine."""

from __future__ import annotations

import json
import os
import signal
import stat
import urllib.request
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest

from jupyter_gpudeploy import launching
from jupyter_gpudeploy.backends.local.backend import LocalBackend
from jupyter_gpudeploy.errors import BackendError
from jupyter_gpudeploy.launching import launch
from jupyter_gpudeploy.notebook import arguments, verbs

# Listens, asks and answers as code-server's documentation says of --bind-addr, --auth password and PASSWORD.
CODE_SERVER = """#!/usr/bin/env python3
import http.server, os, sys, urllib.parse
assert sys.argv[sys.argv.index("--auth") + 1] == "password", sys.argv
host, _, port = sys.argv[sys.argv.index("--bind-addr") + 1].rpartition(":")

class Page(http.server.BaseHTTPRequestHandler):
    def answer(self, code, text=""):
        self.send_response(code)
        self.end_headers()
        self.wfile.write(text.encode())

    def do_GET(self):
        self.answer(200, '{"status": "alive"}' if self.path == "/healthz" else "login")

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"])).decode()
        is_right = urllib.parse.parse_qs(body).get("password") == [os.environ["PASSWORD"]]
        self.answer(200 if is_right else 401)

http.server.HTTPServer((host, int(port)), Page).serve_forever()
"""


@pytest.fixture
def lab(tmp_path, monkeypatch):
    """A manual run of this machine."""
    monkeypatch.setenv("JUPYTER_GPUDEPLOY_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("JUPYTER_CONFIG_DIR", str(tmp_path / "config"))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(launching, "_backends", {"local": LocalBackend()})
    run = launch("name: lab\nmode: manual\n").wait(30)
    yield run
    run.stop(3)


def get(url: str, **headers: str) -> bytes:
    with urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=10) as answer:
        return bytes(answer.read())


def test_jupyter_is_started_once_and_its_url_opens_it(lab, tmp_path):
    url = lab.forward(app="jupyter")
    token = parse_qs(urlsplit(url).query)["token"][0]
    base = url.partition("?")[0]
    assert base.startswith("http://127.0.0.1:")
    assert "kernels" in json.loads(get(f"{base}api/status", Authorization=f"token {token}"))
    with pytest.raises(urllib.error.HTTPError, match="403"):
        get(f"{base}api/status")
    assert lab.forward(app="jupyter") == url
    assert sorted(lab.status().tasks) == [1000]
    kept = [path for path in lab.folder.rglob("*") if path.is_file() and token.encode() in path.read_bytes()]
    assert [path.name for path in kept] == ["jupyter.json"]
    assert stat.S_IMODE(kept[0].stat().st_mode) == 0o600
    assert not any(token.encode() in _read(folder / "cmdline") for folder in Path("/proc").iterdir())


def test_jupyter_that_was_killed_is_started_again_where_it_was(lab):
    url = lab.forward(app="jupyter")
    for folder in Path("/proc").iterdir():
        is_app = b"programs/app.py" in _read(folder / "cmdline")
        if is_app and lab.uid.encode() in _read(folder / "environ"):
            os.killpg(os.getpgid(int(folder.name)), signal.SIGKILL)
    _until(lambda: lab.status().tasks[1000].state.is_final)
    assert verbs.line_verb(None, arguments.parse_line("forward lab --app jupyter")) == url
    assert sorted(lab.status().tasks) == [1000, 1001]


def test_code_server_asks_for_the_password_that_comes_with_its_url(tmp_path, monkeypatch, request):
    program = tmp_path / "bin" / "code-server"
    program.parent.mkdir()
    program.write_text(CODE_SERVER)
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    lab = request.getfixturevalue("lab")
    address = lab.forward(app="code-server")
    assert get(address) == b"login"
    assert repr(address) == f"{str(address)!r}, password {address.password}"
    body = f"password={address.password}".encode()
    with urllib.request.urlopen(urllib.request.Request(f"{address}login", data=body), timeout=10) as answer:
        assert answer.status == 200
    assert address.password not in lab.logs()


def test_an_app_that_is_not_there_is_one_error_with_the_way_out(lab, monkeypatch):
    with pytest.raises(BackendError, match=r"there is no code-server in lab") as caught:
        lab.forward(app="code-server")
    assert "image:" in str(caught.value.hint)
    with pytest.raises(BackendError, match="there is no app 'jupiter'") as caught:
        lab.forward(app="jupiter")
    assert "jupyter" in str(caught.value.hint)
    with pytest.raises(BackendError, match="a port of its own"):
        lab.forward(8888, app="jupyter")


def test_only_an_environment_takes_an_app(tmp_path, monkeypatch):
    monkeypatch.setenv("JUPYTER_GPUDEPLOY_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(launching, "_backends", {"local": LocalBackend()})
    run = launch("name: job\n---\nprint(1)\n").wait(30)
    with pytest.raises(BackendError, match="no environment that stays up"):
        run.forward(app="jupyter")


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""


def _until(what) -> None:
    import time

    deadline = time.monotonic() + 30
    while not what():
        assert time.monotonic() < deadline
        time.sleep(0.05)
