"""What outlives a run on a real cluster, what is refused there, and what is reached."""

import base64
import time
import urllib.request

import pytest

from jupyter_gpudeploy import launch
from jupyter_gpudeploy.errors import BackendError
from jupyter_gpudeploy.events.types import State

from .people import until, until_running

PORT = """
import http.server, sys
print("up", flush=True)
http.server.HTTPServer(("127.0.0.1", 8123), http.server.SimpleHTTPRequestHandler).serve_forever()
"""
STUBBORN = """
import signal, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
print("begun", flush=True)
time.sleep(600)
"""


@pytest.mark.timeout(300)
def test_storage_of_another_size_is_kept_as_it_is_and_told(mine, client):
    cell = "name: kept\nupload: false\nstorage: {}\n---\nprint('here')\n"
    first = launch(cell.format("10Mi"), backend="kubernetes")
    before = client.get("PersistentVolumeClaim", "kept")
    again = launch(cell.format("20Mi"), backend="kubernetes", replace=True)
    assert again.uid != first.uid
    after = client.get("PersistentVolumeClaim", "kept")
    assert after["metadata"]["uid"] == before["metadata"]["uid"]
    assert after["spec"]["resources"]["requests"]["storage"] == "10Mi"
    assert any(
        "kept from an earlier run, as it is: size 10Mi, not 20Mi" in one.message for one in again.status().notices
    )
    third = launch(cell.format("10Mi"), backend="kubernetes", replace=True)
    assert not any("kept from an earlier run" in one.message for one in third.status().notices)
    third.stop(0)


@pytest.mark.timeout(300)
def test_a_port_that_a_job_opens_is_reached_by_a_forward(mine):
    run = until_running(launch(f"name: ported\nupload: false\n---\n{PORT}", backend="kubernetes"))
    until(lambda: "up" in run.logs())
    url = run.forward(8123)
    begun = time.monotonic()
    with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(url, timeout=30) as answer:
        assert answer.status == 200
    assert time.monotonic() - begun < 10
    run.stop(0)


def test_a_secret_is_told_to_be_refused_where_it_is_and_to_be_another_persons_where_it_is_not(mine, client):
    mine.backend.keep_secret("token", {"a": "1"})
    mine.backend.keep_secret("token", {"b.c": "2"})
    with pytest.raises(BackendError, match="a valid config key") as caught:
        mine.backend.keep_secret("token", {"a/b": "3"})
    assert "not yours" not in str(caught.value)
    with pytest.raises(BackendError, match="a valid config key"):
        mine.backend.keep_secret("token", {"a~0b": "3"})
    values = {key: base64.b64decode(value).decode() for key, value in client.get("Secret", "token")["data"].items()}
    assert values == {"a": "1", "b.c": "2"}
    client.create({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "other"}, "stringData": {"a": "1"}})
    with pytest.raises(BackendError, match="not yours by %deploy secret"):
        mine.backend.keep_secret("other", {"a": "2"})


@pytest.mark.timeout(300)
def test_a_grace_is_kept_or_refused_and_never_something_else(mine, client):
    run = until_running(launch(f"name: stubborn\nupload: false\n---\n{STUBBORN}", backend="kubernetes"))
    until(lambda: "begun" in run.logs())
    with pytest.raises(BackendError, match=r"its pods are killed after 30\.0 s"):
        run.stop(60)
    assert run.state is State.RUNNING
    begun = time.monotonic()
    run.stop(6)
    assert 5 < time.monotonic() - begun < 20
    assert run.state is State.STOPPED


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_what_does_not_end_has_its_grace_to_the_end_and_is_then_killed_by_the_node(mine):
    code = STUBBORN.replace("import signal", "import os, pathlib, signal").replace(
        "print(", "pathlib.Path(os.environ['GPUDEPLOY_OUTPUT'], 'half.txt').write_text('half')\nprint("
    )
    run = until_running(launch(f"name: patient\nupload: false\n---\n{code}", backend="kubernetes"))
    until(lambda: "begun" in run.logs())
    begun = time.monotonic()
    run.stop(30)
    assert 27 < time.monotonic() - begun < 60
    assert (run.state, run.status().tasks[0].exit_code) == (State.STOPPED, 137)
    assert (run.output_dir() / "half.txt").read_text() == "half"
