"""What the panel sees and does, with real runs of this machine."""

import json
import os
import re
import socket

import pytest
from jserver import PATIENCE, Jupyter, eventually

from jupyter_gpudeploy import launch
from jupyter_gpudeploy.server.watching import LISTENERS

RUN = {
    "id", "name", "title", "kind", "backend", "place", "state", "reason", "is_over", "created", "started", "ended", "progress",
    "remaining_s", "gpus", "gpu_percent", "cpu_percent", "memory_bytes", "cost", "currency", "is_idle", "url", "best",
    "can_stop", "can_clean", "read_only", "stop_costs", "gpu_hours", "is_stopping", "problem", "is_seen",
}  # fmt: skip


def sweep(name="sweep", *values, **more):
    code = "import time\nx = 0\nprint(f'loss={(x - 2) ** 2}')"
    metric = {"name": "loss", "goal": "minimize"}
    return {"name": name, "code": code, "parameters": {"x": list(values or (1, 2, 3))}, "metric": metric, **more}


def server_cell(name="web"):
    return {"name": name, "serve": "command", "run": "python -m http.server {port} --bind {host}"}


def test_a_run_is_seen_with_everything_that_the_panel_shows(home, panel):
    made = launch(sweep()).wait()
    listing = panel.listing()
    assert listing["api"] == 1
    assert listing["places"] == [{"backend": "local", "name": "this machine", "ok": True, "problem": "", "hint": ""}]
    (run,) = listing["runs"]
    assert run.keys() == RUN
    assert run["progress"] == {"total": 3, "done": 3, "running": 0, "waiting": 0, "failed": 0, "stopped": 0}
    assert run["best"] == {"metric": "loss", "value": 0.0, "trial": 1}
    assert (run["id"], run["kind"], run["state"], run["is_over"]) == (made.uid, "sweep", "succeeded", True)
    assert (run["can_stop"], run["can_clean"], run["gpus"], run["stop_costs"]) == (False, True, 0, "")
    assert run["created"] <= run["started"] <= run["ended"]
    assert panel.get(f"runs/{made.uid}").json == run


def test_a_server_shows_its_address_and_what_stopping_it_costs(home, panel):
    launch(server_cell()).wait(PATIENCE)
    run = panel.run("web")
    assert run["state"] == "ready"
    assert re.fullmatch(r"http://127\.0\.0\.1:\d+.*", run["url"])
    assert run["can_stop"]
    assert "Requests to it fail" in run["stop_costs"]


def test_a_run_that_is_stopped_says_so_at_once_and_ends(home, panel):
    run = launch({"name": "long", "run": ["bash", "-c", "trap 'sleep 1; exit 0' TERM; while :; do sleep 0.1; done"]})
    eventually(lambda: panel.run("long")["state"] == "running")
    assert re.search(r"1 running task is ended: [\d.]+ s of work", panel.run("long")["stop_costs"])
    assert panel.post(f"runs/{run.uid}/stop").json == {"stopping": True}
    assert panel.run("long")["is_stopping"]
    ended = eventually(lambda: (seen := panel.run("long"))["is_over"] and seen)
    assert (ended["state"], ended["is_stopping"], ended["problem"]) == ("stopped", False, "")
    again = panel.post(f"runs/{run.uid}/stop")
    assert again.status == 409
    assert "has ended" in again.json["message"]


def test_only_what_has_ended_is_cleaned_and_the_rest_says_why(home, panel):
    done = launch({"name": "done", "run": "echo hi"}).wait()
    alive = launch({"name": "alive", "run": "sleep 600"})
    folder = done.folder
    found = panel.post("clean", {"ids": [done.uid, alive.uid, "0000"]}).json
    assert found["cleaned"] == [done.uid]
    assert {one["id"] for one in found["kept"]} == {alive.uid, "0000"}
    assert all(one["reason"] for one in found["kept"])
    assert not folder.exists()
    assert {run["name"] for run in panel.listing()["runs"]} == {"alive"}
    assert not alive.is_over
    assert panel.get(f"runs/{done.uid}").status == 404


def test_a_run_that_took_the_name_of_another_is_not_meant_by_its_id(home, panel):
    old = launch({"name": "same", "run": "echo old"}).wait()
    assert panel.get(f"runs/{old.uid}/log").json["text"] == "old\n"
    new = launch({"name": "same", "run": "echo new"}, replace=True).wait()
    assert panel.listing()["runs"][0]["id"] == new.uid
    assert panel.get(f"runs/{old.uid}/log").status == 404
    assert panel.get(f"runs/{new.uid}/log").json["text"] == "new\n"


def test_a_log_is_read_piece_by_piece_while_it_grows(home, panel, tmp_path):
    gate = tmp_path / "gate"
    os.mkfifo(gate)
    code = f"import os\ngate = os.open({str(gate)!r}, os.O_RDONLY)\nwhile data := os.read(gate, 9999):\n    os.write(1, data)"
    run = launch({"name": "growing", "code": code})
    place, got, written = 0, "", b""
    with gate.open("wb", buffering=0) as stream:
        for piece in (
            b"one\n",
            b"two\nhal",
            b"f\n",
            b"\x1b[31mred\x1b[0m\nbar 1\rbar 2\n",
            b"\xc3",
            b"\xa9\n",
            b"no end",
        ):
            written += piece
            stream.write(piece)
            asked = f"runs/{run.uid}/log?task=0&from={place}"
            size = len(written)
            page = eventually(lambda asked=asked, size=size: (page := panel.get(asked).json)["size"] == size and page)
            assert (page["from"], page["cut"]) == (place, False)
            assert page["to"] == written.rfind(b"\n") + 1
            place, got = page["to"], got + page["text"]
    assert got == "one\ntwo\nhalf\nred\nbar 2\né\n"
    run.wait()
    assert panel.get(f"runs/{run.uid}/log?from={place}").json["text"] == "no end\n"
    page = panel.get(f"runs/{run.uid}/log").json
    assert page["text"] == f"{got}no end\n"
    assert (page["task"], page["attempt"], page["tasks"]) == (
        0,
        1,
        [{"number": 0, "name": "the code of the cell", "state": "succeeded"}],
    )


def test_a_large_log_comes_in_pieces_that_join(home, panel):
    lines = [f"line {number} {'x' * 50}" for number in range(20_000)]
    run = launch({"name": "large", "code": "for n in range(20_000):\n    print('line', n, 'x' * 50)"}).wait()
    newest = panel.get(f"runs/{run.uid}/log").json
    assert newest["cut"]
    assert newest["to"] == newest["size"]
    assert newest["text"].splitlines() == lines[-len(newest["text"].splitlines()) :]
    place, text = 0, ""
    while place < newest["size"]:
        page = panel.get(f"runs/{run.uid}/log?from={place}").json
        assert page["from"] == place < page["to"] <= place + (1 << 18)
        place, text = page["to"], text + page["text"]
    assert text.splitlines() == lines
    beyond = panel.get(f"runs/{run.uid}/log?from={newest['size'] + 1}").json
    assert beyond["cut"]
    assert beyond["text"] == newest["text"]


def test_a_new_attempt_is_told_from_the_old_one(home, panel, tmp_path):
    code = f"import pathlib, sys\nfile = pathlib.Path({str(tmp_path / 'been')!r})\nprint('again' if file.exists() else 'first')\n"
    run = launch({"name": "twice", "retries": 1, "code": f"{code}sys.exit(0 if file.exists() else file.touch() or 1)"})
    run.wait()
    page = panel.get(f"runs/{run.uid}/log?attempt=1&from=6").json
    assert (page["attempt"], page["cut"], page["text"]) == (2, True, "again\n")
    page = panel.get(f"runs/{run.uid}/log?attempt=2&from=0").json
    assert (page["cut"], page["text"]) == (False, "again\n")


def test_hostile_text_is_harmless_wherever_it_is_shown(home, panel):
    name = "<img src=x onerror=alert(1)>"
    code = "print('\\x1b]8;;javascript:alert(1)\\x07click\\x1b]8;;\\x07 \\u202e <script>alert(1)</script>')"
    run = launch({"name": name, "code": code}).wait()
    record = json.loads((run.folder / "run.json").read_text())
    (run.folder / "run.json").write_text(json.dumps({**record, "title": "\u202egnp\x1b[2J\n" + 999 * "<b>"}))
    title = panel.get(f"runs/{run.uid}").json["title"]
    assert title.startswith("⟨U+202E⟩gnp <b>")
    assert len(title) < 300
    page = panel.get(f"runs/{run.uid}/log").json
    assert page["text"] == "click ⟨U+202E⟩ <script>alert(1)</script>\n"


def test_results_are_a_table_the_best_first(home, panel):
    code = "import math\nx = 0\nprint(f'loss={math.nan if x == 3 else math.inf if x == 4 else (x - 2) ** 2}')\nraise SystemExit(x == 5)"
    run = launch({**sweep("table", 0, 1, 2, 3, 4, 5), "code": code}).wait()
    table = panel.get(f"runs/{run.uid}/results").json
    assert table["sorted_by"] == "best_loss"
    assert table["total"] == 6
    rows = [dict(zip(table["columns"], row, strict=True)) for row in table["rows"]]
    assert [row["x"] for row in rows] == [2, 1, 0, 5, 3, 4]
    assert [row["best_loss"] for row in rows] == [0, 1, 4, 9, None, None]
    assert [row["loss"] for row in rows] == [0, 1, 4, 9, None, "inf"]
    assert (rows[0]["trial"], rows[0]["exit_code"], rows[3]["exit_code"], rows[3]["state"]) == (2, 0, 1, "failed")


def test_two_who_listen_see_every_change_of_one_look(home, server, listen):
    before = server.client().listing()["runs"]
    assert before == []
    streams = [listen(server.client()), listen(server.browser())]
    for stream in streams:
        assert next(stream.events())["runs"] == []
    run = launch({"name": "seen", "run": "sleep 600"})
    first = [
        stream.until(lambda listing: listing["runs"] and listing["runs"][0]["state"] == "running") for stream in streams
    ]
    assert first[0] == first[1], "each looks for itself"
    server.client().post(f"runs/{run.uid}/stop")
    ends = [stream.until(lambda listing: listing["runs"][0]["is_over"]) for stream in streams]
    assert ends[0] == ends[1]
    server.client().post("clean", {"ids": [run.uid]})
    for stream in streams:
        stream.until(lambda listing: not listing["runs"])
        stream.close()


def place_of(place, name):
    made = place / name
    made.mkdir()
    return made


def test_a_server_ends_at_once_while_somebody_listens(home, place, listen):
    server = Jupyter(place_of(place, "ending"), home, JUPYTER_GPUDEPLOY_CONFIG="/none", KUBECONFIG="/none")
    stream = listen(server.client())
    next(stream.events())
    assert server.close() == 0
    assert list(stream.events()) == []
    stream.close()
    said = server.log.read_text("utf-8")
    assert "Traceback" not in said
    assert "Task was destroyed" not in said


def test_so_many_may_listen_and_who_leaves_makes_room(home, server, listen):
    streams = [listen(server.client()) for _ in range(LISTENERS)]
    assert {stream.status for stream in streams} == {200}
    refused = server.client().get("changes")
    assert refused.status == 503
    assert refused.json["hint"]
    streams.pop().close()

    def joined():
        stream = listen(server.client())
        stream.close()
        return stream.status == 200

    eventually(joined)
    for stream in streams:
        stream.close()


@pytest.mark.parametrize("damage", ["run.json", "ref.json", "events.jsonl", "nothing there"])
def test_a_broken_run_hides_no_other(home, panel, damage, listen):
    launch({"name": "whole", "run": "echo hi"}).wait()
    broken = launch(sweep("broken")).wait()
    assert {run["name"] for run in panel.listing()["runs"]} == {"whole", "broken"}
    if damage == "nothing there":
        broken.folder.rename(home / "elsewhere")
    else:
        (broken.folder / damage).write_bytes(b"\xff\x00{[")
    stream = listen(panel)
    listing = next(stream.events())
    stream.close()
    seen = {run["name"]: run for run in listing["runs"]}
    assert seen["whole"]["state"] == "succeeded"
    assert listing["places"][0]["ok"]
    for path in ("", "/log", "/results"):
        assert panel.get(f"runs/{broken.uid}{path}").status in (200, 404, 502)
    for name in ("broken", "../elsewhere"):
        if (folder := home / "runs" / name).exists():
            folder.rename(home / f"gone-{damage}")


@pytest.fixture
def settings(place):
    """The settings file of the server, gone at the end."""
    file = place / "settings.yaml"
    yield file
    file.unlink(missing_ok=True)


@pytest.fixture
def silent():
    """The port of something that takes connections and says nothing."""
    with socket.create_server(("127.0.0.1", 0), backlog=64) as listening:
        yield listening.getsockname()[1]


def kubeconfig(tmp_path, port):
    cluster = {"name": "far", "cluster": {"server": f"http://127.0.0.1:{port}"}}
    context = {"name": "far", "context": {"cluster": "far", "user": "me", "namespace": "ml"}}
    file = tmp_path / "kubeconfig"
    file.write_text(json.dumps({
        "apiVersion": "v1", "kind": "Config", "current-context": "far", "clusters": [cluster], "contexts": [context],
        "users": [{"name": "me", "user": {"token": "t"}}],
    }))  # fmt: skip
    return file


def test_a_cluster_that_cannot_be_seen_says_so_and_hides_nothing(
    home, server, panel, settings, silent, tmp_path, listen
):
    launch({"name": "here", "run": "echo hi"}).wait()
    config = kubeconfig(tmp_path, silent)
    settings.write_text(
        f"default_backend: kubernetes\ndefault_cluster: far\nclusters: {{far: {{kubeconfig: {config}}}}}\n"
    )
    stream = listen(panel)
    listing = stream.until(lambda found: len(found["places"]) > 1)
    here, far = listing["places"]
    assert here["ok"]
    assert (far["backend"], far["name"], far["ok"]) == ("kubernetes", "far/ml", False)
    assert far["problem"]
    assert [run["name"] for run in listing["runs"]] == ["here"]
    settings.unlink()
    listing = stream.until(lambda found: len(found["places"]) == 1)
    assert [run["name"] for run in listing["runs"]] == ["here"]
    stream.close()


def test_settings_that_cannot_be_read_say_so_and_hide_nothing(home, panel, settings):
    launch({"name": "here", "run": "echo hi"}).wait()
    settings.write_text("default_backend: [\n")
    listing = panel.listing()
    assert [run["name"] for run in listing["runs"]] == ["here"]
    broken = next(place for place in listing["places"] if not place["ok"])
    assert broken["name"] == str(settings)
    assert "line" in broken["problem"]


def test_what_runs_cost_is_told_where_prices_are_known(home, panel, settings):
    settings.write_text("prices: {local: 3.60}\n")
    launch({"name": "priced", "gpus": 0, "run": "echo hi"}).wait()
    assert panel.run("priced")["cost"] is None  # no GPU, no GPU hours
