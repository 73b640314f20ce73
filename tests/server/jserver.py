"""A real Jupyter server in a process of its own, and a plain client."""

from __future__ import annotations

import http.client
import json
import os
import re
import subprocess
import sys
import time
from dataclasses import dataclass, field
from http.cookies import SimpleCookie
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

PATIENCE = 60.0
TOKEN = "the-token-of-the-tests"
BASE = "/some/where/"
API = f"{BASE}gpudeploy/api/"


def eventually(what, patience=PATIENCE):
    """Return the first true value of `what()`."""
    deadline = time.monotonic() + patience
    while not (value := what()):
        assert time.monotonic() < deadline, f"never came true within {patience} s: {what}"
        time.sleep(0.02)
    return value


@dataclass
class Answer:
    status: int
    body: bytes
    headers: dict[str, str]

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass
class Client:
    """Sends exactly what it is told; `headers` go with every request."""

    port: int
    headers: dict[str, str] = field(default_factory=dict)

    def send(self, method, path, body=None, headers=None, base=API) -> Answer:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE)
        sent = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
        try:
            connection.request(method, base + path, sent, {**self.headers, **(headers or {})})
            found = connection.getresponse()
            return Answer(found.status, found.read(), dict(found.headers))
        finally:
            connection.close()

    def get(self, path, **options) -> Answer:
        return self.send("GET", path, **options)

    def post(self, path, body=None, **options) -> Answer:
        return self.send("POST", path, {} if body is None else body, **options)

    def listing(self) -> dict[str, Any]:
        found = self.get("runs")
        assert found.status == 200, found.body
        return found.json

    def run(self, name) -> dict[str, Any] | None:
        return next((run for run in self.listing()["runs"] if run["name"] == name), None)


class Stream:
    """One listener. `events` yields listings as they come; `status` is told at once."""

    def __init__(self, client: Client, query: str = "?every=1", headers=None) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", client.port, timeout=PATIENCE)
        self._connection.request("GET", f"{API}changes{query}", headers={**client.headers, **(headers or {})})
        self._answer = self._connection.getresponse()
        self.status = self._answer.status
        self.type = self._answer.headers["Content-Type"]

    def events(self) -> Iterator[dict[str, Any]]:
        while line := self._answer.readline():
            if line.startswith(b"data: "):
                yield json.loads(line[6:])

    def until(self, wanted):
        """Return the first listing that is as wanted."""
        return next(listing for listing in self.events() if wanted(listing))

    def close(self) -> None:
        self._answer.close()
        self._connection.close()


class Jupyter:
    """`jupyter server` with the extension, below a base url, where nothing may be had without authentication."""

    def __init__(self, place: Path, home: Path, *options: str, **environment: str) -> None:
        self.log = place / "server.log"
        self.home = home
        self._runtime = place / "runtime"
        settings = {
            "JUPYTER_CONFIG_DIR": str(place / "config"),
            "JUPYTER_DATA_DIR": str(place / "data"),
            "JUPYTER_RUNTIME_DIR": str(self._runtime),
            "JUPYTER_NO_CONFIG": "1",
            "JUPYTER_GPUDEPLOY_HOME": str(home),
            "PYTHONWARNINGS": "ignore",
        }
        extensions = {"jupyter_gpudeploy.server": True}
        command = [sys.executable, "-m", "jupyter_server", "--no-browser", "--allow-root", "--port=0", *options]
        command += ["--ip=127.0.0.1", f"--ServerApp.root_dir={place}", f"--ServerApp.base_url={BASE}"]
        command += [f"--IdentityProvider.token={TOKEN}", "--ServerApp.allow_unauthenticated_access=False"]
        command += [f"--ServerApp.jpserver_extensions={extensions}"]
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                command, env={**os.environ, **settings, **environment}, cwd=place, stdout=log, stderr=log
            )
        try:
            self.port = int(eventually(self._said_port))
            eventually(self._answers)
        except BaseException:
            self.process.kill()
            self.process.wait()
            raise

    def _said_port(self):
        assert self.process.poll() is None, self.log.read_text("utf-8")
        return next((re.search(r'"port": (\d+)', file.read_text())[1] for file in self._runtime.glob("jpserver-*.json")
                     if '"port"' in file.read_text()), None)  # fmt: skip

    def _answers(self):
        try:
            return self.client().get("", base=f"{BASE}api/status").status == 200
        except ConnectionRefusedError:  # it tells its port before it listens
            return False

    def client(self, **headers: str) -> Client:
        """Return a client with the token."""
        return Client(self.port, {"Authorization": f"token {TOKEN}", **headers})

    def browser(self) -> Client:
        """Return a client with the cookies that a page gets, and with the XSRF token that it sends."""
        cookies: SimpleCookie = SimpleCookie()
        client = Client(self.port)
        for path in ("login?next=%2F", f"login?token={TOKEN}", "login"):
            connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE)
            connection.request("GET", BASE + path, headers=client.headers)
            answer = connection.getresponse()
            answer.read()
            for line in answer.headers.get_all("Set-Cookie") or ():
                cookies.load(line)
            connection.close()
            client.headers["Cookie"] = "; ".join(f"{name}={one.value}" for name, one in cookies.items())
        client.headers["X-XSRFToken"] = cookies["_xsrf"].value
        return client

    def close(self) -> int:
        """End it as Ctrl-C twice does, and return its exit code."""
        self.process.terminate()
        return self.process.wait(PATIENCE)
