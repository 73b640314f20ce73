"""Who may ask what: every route, and everybody who may not."""

import http.client
import json
import os

import pytest
from jserver import API, BASE, TOKEN, Client

from jupyter_gpudeploy import launch
from jupyter_gpudeploy.server import routes

ROUTES = {
    "runs": "GET",
    "runs/{id}": "GET",
    "runs/{id}/log": "GET",
    "runs/{id}/results": "GET",
    "runs/{id}/stop": "POST",
    "clean": "POST",
    "changes": "GET",
}


@pytest.fixture(scope="module")
def target(place):
    """A run that is alive for all tests of this file."""
    before = dict(os.environ)
    os.environ["JUPYTER_GPUDEPLOY_HOME"] = str(place / "home")
    run = launch({"name": "target", "run": "sleep 600"})
    yield run
    run.stop(0.5).remove(yes=True)
    os.environ.clear()
    os.environ.update(before)


@pytest.fixture
def alive(target):
    """A run that is alive at the end of a test too, whatever was tried with it."""
    yield target
    assert not target.is_over


def body(path, run):
    return {"ids": [run.uid]} if path == "clean" else {}


def test_the_table_holds_every_route():
    made = {path.replace(routes._ID, "{id}"): handler for path, handler in routes.PATHS}
    assert made.keys() == ROUTES.keys()
    for path, handler in made.items():
        own = {verb for verb in ("get", "post", "put", "patch", "delete", "head") if verb in vars(handler)}
        assert own == {ROUTES[path].lower()}


@pytest.mark.fault(73)
@pytest.mark.parametrize("path", ROUTES)
def test_nobody_gets_in_without_a_token(server, alive, path):
    found = Client(server.port).send(ROUTES[path], path.format(id=alive.uid), body(path, alive))
    assert found.status == 403
    assert b"target" not in found.body


@pytest.mark.fault(73)
@pytest.mark.parametrize("path", ROUTES)
@pytest.mark.parametrize("token", ["", "another", TOKEN + "x"])
def test_nobody_gets_in_with_another_token(server, alive, path, token):
    headers = {"Authorization": f"token {token}"}
    assert Client(server.port, headers).send(ROUTES[path], path.format(id=alive.uid), body(path, alive)).status == 403


@pytest.mark.fault(73)
@pytest.mark.parametrize("path", ROUTES)
def test_a_cookie_alone_does_nothing(server, panel, alive, path):
    del panel.headers["X-XSRFToken"]
    found = panel.send(ROUTES[path], path.format(id=alive.uid), body(path, alive))
    assert found.status == 403
    assert b"target" not in found.body


@pytest.mark.fault(73)
@pytest.mark.parametrize("path", ROUTES)
@pytest.mark.parametrize("origin", ["http://elsewhere.example", "null", "http://127.0.0.1:1"])
def test_a_page_from_elsewhere_gets_nothing(server, panel, alive, path, origin):
    found = panel.send(ROUTES[path], path.format(id=alive.uid), body(path, alive), headers={"Origin": origin})
    assert found.status in (403, 404)
    assert b"target" not in found.body


@pytest.mark.fault(73)
@pytest.mark.parametrize("path", ROUTES)
def test_a_page_from_elsewhere_gets_nothing_by_a_link_to_it(server, panel, alive, path):
    del panel.headers["X-XSRFToken"]
    headers = {"Referer": "http://elsewhere.example/page"}
    assert panel.send(ROUTES[path], path.format(id=alive.uid), body(path, alive), headers=headers).status == 403


@pytest.mark.fault(74, 75)
@pytest.mark.parametrize("path", [path for path in ROUTES if "{id}" in path or path == "clean"])
@pytest.mark.parametrize(
    "uid",
    ["unknown", "0", "target", "A" * 64, "A" * 65, "", "..", "../target", "..%2Ftarget", "%2e%2e%2f%2e%2e%2fetc%2fpasswd",
     "%2Fetc%2Fpasswd", "target%00", "file:%2F%2F%2Fetc%2Fpasswd", "http:%2F%2F169.254.169.254%2F", "*"],
)  # fmt: skip
def test_what_is_no_id_of_a_run_is_not_there(server, panel, alive, path, uid):
    sent = {"ids": [uid]} if path == "clean" else {}
    found = panel.send(ROUTES[path], path.format(id=uid), sent)
    # without any id the address is another one: `runs//log`, or `runs/`, which leads to `runs`
    assert found.status in ((404, 302) if uid == "" else (404,)), found.body
    assert b"root:" not in found.body


@pytest.mark.fault(75)
@pytest.mark.parametrize("path", ["../runs", "runs/../../../api/contents", "%2e%2e/runs", "..%2fruns", "runs/../clean"])
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_no_way_leads_out_of_the_routes(panel, path, method):
    """http.client sends the path as it is, which no browser does."""
    assert panel.send(method, path, {}).status in (404, 405)


@pytest.mark.fault(73)
@pytest.mark.parametrize("path", ROUTES)
def test_a_page_of_this_server_and_a_program_with_the_token_get_in(server, panel, alive, path, listen):
    if path == "changes":
        for client in (panel, server.client()):
            stream = listen(client)
            assert (stream.status, stream.type) == (200, "text/event-stream")
            assert alive.uid in {run["id"] for run in next(stream.events())["runs"]}
        return
    if ROUTES[path] == "POST":  # nothing is to happen to the run
        assert panel.post("clean", {"ids": [alive.uid]}).json["cleaned"] == []
        return
    origin = {"Origin": f"http://127.0.0.1:{server.port}"}
    for client, headers in ((panel, {}), (panel, origin), (server.client(), {})):
        found = client.get(path.format(id=alive.uid), headers=headers)
        assert found.status == 200, found.body
        assert found.headers["Content-Type"] == "application/json"
        assert found.headers["X-Content-Type-Options"] == "nosniff"


@pytest.mark.parametrize(
    ("path", "method"), [(path, "POST" if verb == "GET" else "GET") for path, verb in ROUTES.items()]
)
def test_reading_and_changing_are_not_to_be_confused(panel, alive, path, method):
    assert panel.send(method, path.format(id=alive.uid), {}).status == 405


@pytest.mark.parametrize("sent", [b"", b"[]", b"{", b"\xff", b"null", b'{"ids": 3}', b'{"ids": []}', b'{"ids": [1]}',
                                  b'{"ids": ["a", null]}', json.dumps({"ids": ["a"] * 1001}).encode()])  # fmt: skip
def test_what_is_no_list_of_ids_is_refused_with_words(panel, sent):
    found = panel.post("clean", sent)
    assert found.status == 400
    assert found.json["message"]


@pytest.mark.parametrize("query", ["?task=x", "?from=1.5", "?task=99", "?attempt=", "?task=99999999999999999999999999"])
def test_what_is_no_task_is_refused_with_words(panel, alive, query):
    found = panel.get(f"runs/{alive.uid}/log{query}")
    assert found.status in (400, 404)
    assert found.json["message"]


@pytest.mark.parametrize("every", ["0", "-1", "nan", "soon"])
def test_a_pace_that_is_none_is_refused(panel, every):
    assert panel.get(f"changes?every={every}").status == 400


def test_the_base_url_is_the_only_place(server):
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
    connection.request("GET", API.removeprefix(BASE[:-1]) + "runs", headers=server.client().headers)
    assert connection.getresponse().status == 404
    connection.close()
