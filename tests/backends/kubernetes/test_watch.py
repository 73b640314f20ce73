"""A watch that is broken in every way a server and a network know."""

import time

import pytest
from nodes import PODS, UID, pod, until
from wire import CUT, END, HOLD, RESET, fails, gives, lines, reset, silence

from jupyter_gpudeploy.backends.kubernetes.api.connect import connect
from jupyter_gpudeploy.backends.kubernetes.api.transport import Patience
from jupyter_gpudeploy.backends.kubernetes.mirror import watch
from jupyter_gpudeploy.backends.kubernetes.mirror.shared import Shared
from jupyter_gpudeploy.backends.kubernetes.mirror.watch import Selection, Watcher


class Inbox:
    def __init__(self):
        self.seen = []
        self.troubles = []

    def put(self, kind, item, *, gone):
        self.seen.append((item["metadata"]["name"], item.get("status", {}).get("phase"), gone))

    def trouble(self, message):
        self.troubles.append(message)


def listing(*items, version="10"):
    return gives({"items": list(items), "metadata": {"resourceVersion": version}})


def change(item, kind="MODIFIED"):
    return {"type": kind, "object": item}


def bookmark(version):
    return {"type": "BOOKMARK", "object": {"metadata": {"resourceVersion": version}}}


GONE = {"type": "ERROR", "object": {"kind": "Status", "code": 410, "reason": "Expired", "message": "too old"}}
RUNNING = pod(state="running")
NAME = RUNNING["metadata"]["name"]


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(watch, "_FIRST_PAUSE", 0.02)
    monkeypatch.setattr(watch, "_PATIENCE_SECONDS", 0.0)


@pytest.fixture
def watched(alone, wire, tmp_path, monkeypatch):
    monkeypatch.setenv("KUBECONFIG", str(wire.kubeconfig(tmp_path / "kubeconfig")))
    made = []
    with connect(patience=Patience(total=0)) as cluster:

        def start(selection=None, run=UID):
            made.append(Watcher(cluster, "Pod", selection))
            inbox = Inbox()
            made[-1].subscribe(run, inbox)
            return made[-1], inbox

        yield start
        for watcher in made:
            watcher.close()


def test_what_is_there_and_what_changes_is_told_once(wire, watched):
    ended = pod(state="ended")
    wire.on("GET", PODS, listing(RUNNING))
    wire.on("WATCH", PODS, lines(change(RUNNING), change(ended), change(ended, "DELETED"), then=HOLD))
    _, inbox = watched()
    until(lambda: len(inbox.seen) == 3)
    assert inbox.seen == [(NAME, "Running", False), (NAME, "Succeeded", False), (NAME, "Succeeded", True)]
    (request,) = wire.seen("WATCH")
    assert request.query["resourceVersion"] == "10"
    assert request.query["allowWatchBookmarks"] == "true"
    assert "managed-by" in request.query["labelSelector"]


def test_only_the_own_run_is_told_and_others_are_not(wire, watched):
    wire.on("GET", PODS, listing(RUNNING))
    wire.on("WATCH", PODS, silence)
    _, inbox = watched(run="another run")
    wire.await_seen("WATCH")
    assert not inbox.seen


@pytest.mark.fault(9)
@pytest.mark.parametrize("gone", [fails(410, "too old", "Expired"), lines(GONE)])
def test_a_version_that_is_too_old_leads_to_one_list(wire, watched, gone):
    later = pod(state="ended")
    wire.on("GET", PODS, listing(RUNNING), listing(later, version="20"))
    wire.on("WATCH", PODS, gone, lines(then=HOLD))
    watcher, inbox = watched()
    until(lambda: len(inbox.seen) == 2)
    wire.await_seen("WATCH", count=2)
    assert [request.query["resourceVersion"] for request in wire.seen("WATCH")] == ["10", "20"]
    assert len([r for r in wire.seen("GET") if r.method == "GET"]) == 2
    assert watcher.stale_since is None


@pytest.mark.fault(11)
@pytest.mark.parametrize(
    "broken",
    [
        lines(change(RUNNING), b'{"type":"MODIF', then=CUT),
        lines(change(RUNNING), b'{"type":"MODIF', then=RESET),
        lines(change(RUNNING), b'{"type":"MODIFIED","object"\n', then=END),
        lines(change(RUNNING), b"null\n", then=END),
        lines(b"\n", b"\n", change(RUNNING), b"\n", then=END),
        reset,
        fails(500),
        fails(503),
        fails(429, Retry_After=1),
    ],
)
def test_whatever_breaks_a_watch_it_goes_on_from_where_it_was(wire, watched, broken):
    wire.on("GET", PODS, listing())
    wire.on("WATCH", PODS, broken, lines(change(RUNNING), change(pod(state="ended")), then=HOLD))
    watcher, inbox = watched()
    until(lambda: (NAME, "Succeeded", False) in inbox.seen)
    assert inbox.seen == [(NAME, "Running", False), (NAME, "Succeeded", False)]
    assert watcher.stale_since is None
    assert not inbox.troubles


@pytest.mark.fault(10)
def test_a_server_that_throttles_is_asked_again_when_it_says(wire, watched):
    wire.on("GET", PODS, fails(429, Retry_After=2), listing(RUNNING))
    wire.on("WATCH", PODS, lines(then=HOLD))
    watcher, inbox = watched()
    until(lambda: watcher.stale_since is not None)
    until(lambda: inbox.seen)
    first, second = wire.seen("GET")
    assert second.at - first.at >= 2
    assert watcher.stale_since is None


@pytest.mark.fault(8)
def test_a_server_that_is_away_is_not_stormed(wire, watched, monkeypatch):
    monkeypatch.setattr(watch, "_FIRST_PAUSE", 0.25)
    wire.on("GET", PODS, fails(503))
    watcher, _ = watched()
    time.sleep(3)
    assert 2 <= len(wire.requests) <= 8
    assert watcher.why_stale
    wire.on("GET", PODS, listing(RUNNING))
    wire.on("WATCH", PODS, lines(then=HOLD))
    until(lambda: watcher.stale_since is None)


@pytest.mark.fault(12)
def test_a_watch_that_is_open_and_silent_is_checked_by_lists(wire, watched):
    other = pod(1, state="running")
    wire.on("GET", PODS, listing(RUNNING, other), listing(other))
    wire.on("GET", f"{PODS}/{NAME}", gives(pod(state="ended")))
    wire.on("WATCH", PODS, lambda _, answer: (answer.begin(), time.sleep(1.5), answer.end()))
    _, inbox = watched(Selection(relisted="status.phase!=Succeeded", seconds=1.0))
    until(lambda: (NAME, "Succeeded", False) in inbox.seen)
    wire.on("GET", PODS, listing())
    wire.on("GET", f"{PODS}/*", fails(404))
    until(lambda: (other["metadata"]["name"], None, True) in inbox.seen)
    assert len(inbox.seen) == 4


def test_bookmarks_bring_the_version_forward(wire, watched):
    wire.on("GET", PODS, listing())
    wire.on("WATCH", PODS, lines(bookmark("77")), lines(then=HOLD))
    _, inbox = watched()
    wire.await_seen("WATCH", count=2)
    assert wire.seen("WATCH")[1].query["resourceVersion"] == "77"
    assert not inbox.seen


def test_what_is_forbidden_is_said_and_not_asked_for_again_at_once(wire, watched):
    wire.on("GET", PODS, fails(403, 'pods is forbidden: User "x" cannot list resource "pods"'))
    watcher, _ = watched()
    until(lambda: watcher.stale_since is not None)
    time.sleep(0.5)
    assert len(wire.requests) == 1
    assert "cannot list" in watcher.why_stale


def test_a_mistake_of_ours_is_said_and_the_watching_goes_on(wire, watched):
    wire.on("GET", PODS, listing({"metadata": {"name": "without a uid"}}), listing(RUNNING))
    wire.on("WATCH", PODS, lines(then=HOLD))
    _, inbox = watched()
    until(lambda: inbox.seen)
    assert "KeyError" in inbox.troubles[0]


def test_one_watcher_serves_all_runs_and_ends_with_the_last(alone, wire, tmp_path, monkeypatch):
    monkeypatch.setenv("KUBECONFIG", str(wire.kubeconfig(tmp_path / "kubeconfig")))
    wire.on("GET", PODS, listing(RUNNING))
    wire.on("WATCH", PODS, lines(then=HOLD))
    watchers, first, second = Shared(), Inbox(), Inbox()
    with connect(patience=Patience(total=0)) as cluster:
        one = watchers.subscribe(cluster, "Pod", UID, first)
        wire.await_seen("WATCH")
        assert watchers.subscribe(cluster, "Pod", UID, second) is one
        assert len(wire.requests) == 2
        watchers.unsubscribe(cluster, "Pod", UID, first)
        assert not one._closed.is_set()
        watchers.unsubscribe(cluster, "Pod", UID, second)
        thread = one._thread
        thread.join(5)
        assert not thread.is_alive()
