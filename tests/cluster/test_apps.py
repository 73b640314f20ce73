"""Jupyter and VS Code in a pod that stays, reached by a forward: a kernel over a websocket, a password, what is missing."""

from __future__ import annotations

import json
import urllib.request
import uuid
from urllib.parse import parse_qs, urlsplit

import pytest

from jupyter_gpudeploy.errors import BackendError
from jupyter_gpudeploy.events.types import State
from jupyter_gpudeploy.launching import attach, launch
from tests.flow.test_apps import CODE_SERVER

from .people import until

pytestmark = pytest.mark.cluster


def send(url: str, token: str, body: object = None) -> dict:
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, {"Authorization": f"token {token}", "Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=30) as answer:
        return dict(json.loads(answer.read()))


def computed(base: str, token: str, code: str) -> str:
    """What a fresh kernel behind the URL answers, asked over its websocket as a browser does."""
    import websocket

    kernel = send(f"{base}api/kernels", token, {})["id"]
    at = f"{base.replace('http', 'ws', 1)}api/kernels/{kernel}/channels?token={token}"
    channel = websocket.create_connection(at, timeout=60, origin=base.rstrip("/"))
    try:
        header = {
            "msg_id": uuid.uuid4().hex,
            "msg_type": "execute_request",
            "username": "",
            "session": "s",
            "version": "5.3",
        }
        content = {"code": code, "silent": False}
        asked = {
            "header": header,
            "parent_header": {},
            "metadata": {},
            "content": content,
            "channel": "shell",
            "buffers": [],
        }
        channel.send(json.dumps(asked))
        while True:
            said = json.loads(channel.recv())
            if said["msg_type"] == "execute_result":
                return str(said["content"]["data"]["text/plain"])
    finally:
        channel.close()


def test_a_notebook_server_in_a_pod_runs_cells_through_the_forward_and_outlives_the_kernel(
    mine, examples_image, namespace
):
    run = launch(f"name: lab\nmode: manual\nimage: {examples_image}\n", backend="kubernetes").wait(120)
    url = run.forward(app="jupyter")
    token = parse_qs(urlsplit(url).query)["token"][0]
    base = url.partition("?")[0]
    assert urlsplit(url).hostname == "127.0.0.1"
    assert computed(base, token, "1 + 1") == "2"
    assert computed(base, token, "import os; os.path.basename(os.getcwd())") == "'work'"
    assert token not in run.logs()
    assert not [path for path in mine.home.rglob("*") if path.is_file() and token.encode() in path.read_bytes()]
    mine.backend.close()
    with mine.sits_down():  # a fresh kernel finds the same server again
        again = attach("lab", backend="kubernetes")
        found = again.forward(app="jupyter")
        assert parse_qs(urlsplit(found).query)["token"] == [token]
        assert computed(found.partition("?")[0], token, "2 + 2") == "4"
        assert sorted(number for number in again.status().tasks if number >= 1000) == [1000]
        again.stop(2)
        assert again.state is State.STOPPED


def test_vs_code_is_behind_a_password_and_what_is_missing_is_said(mine):
    run = launch("name: lab\nmode: manual\n", backend="kubernetes").wait(120)
    with pytest.raises(BackendError, match="there is no code-server in lab") as caught:
        run.forward(app="code-server")
    assert "image:" in str(caught.value.hint)
    with pytest.raises(BackendError, match="there is no JupyterLab in lab") as caught:
        run.forward(app="jupyter")
    assert "requirements: [jupyterlab]" in str(caught.value.hint)
    # No package has code-server here: a stand-in that takes its options.
    place = "/gpudeploy/deps/bin/code-server"
    script = (
        f"import os; os.makedirs('/gpudeploy/deps/bin', exist_ok=True); open({place!r}, 'w').write({CODE_SERVER!r})"
    )
    assert run.exec(["python3", "-c", f"{script}; os.chmod({place!r}, 0o755)"], stream=None) == 0
    address = run.forward(app="code-server")
    with urllib.request.urlopen(address, timeout=10) as answer:
        assert answer.read() == b"login"
    data = f"password={address.password}".encode()
    with urllib.request.urlopen(urllib.request.Request(f"{address}login", data), timeout=10) as answer:
        assert answer.status == 200
    assert address.password not in run.logs()
    until(lambda: run.state is State.READY)
    run.stop(2)
