"""What is said of runs that live elsewhere, that are many, or that cannot be read."""

import threading

import pytest
from jserver import eventually

from jupyter_gpudeploy import launch, launching
from jupyter_gpudeploy.backends.base import Answer, Glance
from jupyter_gpudeploy.backends.local.backend import LocalBackend
from jupyter_gpudeploy.errors import BackendError, NotConfirmedError
from jupyter_gpudeploy.events.types import State
from jupyter_gpudeploy.server import doing, looking
from jupyter_gpudeploy.server.looking import Looking
from jupyter_gpudeploy.summary import Summary


class Far(LocalBackend):
    """This machine's runs, as if they lived elsewhere: nothing is known of one before it is followed."""

    def __init__(self, root, person=None):
        super().__init__(root)
        self.person = person
        self.followed = set()
        self.gate = threading.Event()
        self.gate.set()

    def find(self, cluster=None, namespace=None):
        return [ref._replace(backend="far", place="there/ml", owner=self.person or "") for ref in super().find()]

    def answers(self):
        return (Answer("there/ml"),)

    def owner(self, ref, *, must_know=False):
        return self.person

    def glance(self, ref):
        return None if ref.uid in self.followed else Glance(None, State.RUNNING, "by its Job")

    def folder(self, ref):
        assert self.gate.wait(30)
        self.followed.add(ref.uid)
        return super().folder(ref)


@pytest.fixture
def apart(home):
    """What is patched by it is as before when the runs are deleted."""
    with pytest.MonkeyPatch.context() as patched:
        yield patched


@pytest.fixture
def far(home, apart):
    """Return the other backend, the only one from then on."""

    def make(person=None):
        made = Far(home, person)
        apart.setitem(launching._backends, "far", made)
        apart.setattr(launching, "backends_in_use", lambda: ["far"])
        return made

    return make


def only(house):
    (run,) = house.listing()["runs"]
    return run


def test_a_run_elsewhere_is_told_at_once_and_followed_beside(far):
    run = launch({"name": "there", "run": "sleep 600"})
    eventually(lambda: run.state is State.RUNNING)
    there, house = far(), Looking()
    there.gate.clear()
    seen = only(house)  # does not wait
    assert (seen["state"], seen["reason"], seen["is_seen"]) == ("running", "by its Job", True)
    assert (seen["place"], seen["progress"]["total"], seen["can_stop"]) == ("there/ml", 0, True)
    assert house.listing()["places"] == [{"backend": "far", "name": "there/ml", "ok": True, "problem": "", "hint": ""}]
    there.gate.set()
    seen = eventually(lambda: (seen := only(house))["progress"]["total"] and seen)
    assert seen["progress"]["running"] == 1
    assert seen["started"]


def test_the_run_of_somebody_else_is_seen_and_left_alone(far):
    run = launch({"name": "theirs", "run": "sleep 600"})
    there, house = far("somebody"), Looking()
    seen = [only(house) for _ in range(3)][-1]
    assert (seen["read_only"], seen["can_stop"], seen["can_clean"]) == (True, False, False)
    assert there.followed == set()
    with pytest.raises(NotConfirmedError, match="belongs to somebody"):
        doing.stop(house.known(run.uid))
    assert doing.clean(house, [run.uid])["cleaned"] == []
    assert not run.is_over


def test_a_backend_that_breaks_hides_no_other(home, apart):
    launch({"name": "here", "run": "echo hi"}).wait()

    class Broken(Far):
        def find(self, cluster=None, namespace=None):
            raise ZeroDivisionError("<b>\u202e")

    apart.setitem(launching._backends, "far", Broken(home))
    apart.setattr(launching, "backends_in_use", lambda: ["far", "local"])
    listing = Looking().listing()
    assert [run["name"] for run in listing["runs"]] == ["here"]
    assert [place["ok"] for place in listing["places"]] == [False, True]
    assert listing["places"][0]["problem"] == "ZeroDivisionError: <b>⟨U+202E⟩"


def test_a_run_that_cannot_be_read_says_so_in_its_place(home, monkeypatch):
    launch({"name": "whole", "run": "echo hi"}).wait()
    broken = launch({"name": "broken", "run": "echo hi"}).wait()
    house = Looking()
    facts = looking.facts

    def breaks(ref, summary: Summary, *rest):
        if ref.uid == broken.uid and summary.is_seen:
            raise KeyError("what nobody thought of")
        return facts(ref, summary, *rest)

    monkeypatch.setattr(looking, "facts", breaks)
    seen = {run["name"]: run for run in house.listing()["runs"]}
    assert seen["whole"]["state"] == "succeeded"
    assert "what nobody thought of" in seen["broken"]["problem"]
    assert (seen["broken"]["is_seen"], seen["broken"]["can_stop"], seen["broken"]["can_clean"]) == (False, False, False)


def test_an_ended_run_is_described_once(home, monkeypatch):
    launch({"name": "done", "run": "echo hi"}).wait()
    house = Looking()
    only(house)
    described = []
    facts = looking.facts
    monkeypatch.setattr(looking, "facts", lambda *given: described.append(given) or facts(*given))
    first = only(house)
    assert described == []
    assert only(house) == first


def test_a_run_that_goes_on_is_described_anew(home):
    run = launch({"name": "again", "run": "sleep 600"})
    eventually(lambda: run.state is State.RUNNING)
    house = Looking()
    run.stop(0.5)
    assert only(house)["state"] == "stopped"
    run.resume()
    eventually(lambda: only(house)["state"] == "running")


def test_of_very_many_ended_runs_the_newest_are_listed_and_all_that_live(home, monkeypatch):
    monkeypatch.setattr(looking, "ENDED", 2)
    alive = launch({"name": "alive", "run": "sleep 600"})
    done = [launch({"name": f"done-{number}", "run": "echo hi"}).wait() for number in range(4)]
    house = Looking()
    listing = house.listing()
    assert [run["name"] for run in listing["runs"]] == ["done-3", "done-2", "alive"]
    assert listing["more"] == 2
    assert house.known(done[0].uid) is not None
    assert not alive.is_over


def test_stopping_that_fails_is_told_with_the_run(home, monkeypatch):
    run = launch({"name": "stubborn", "run": "sleep 600"})
    house = Looking()
    known = house.known(run.uid)

    def fails():
        raise BackendError("the machine refused")

    with monkeypatch.context() as patched:
        patched.setattr(known.run, "stop", fails)
        assert doing.stop(known) == {"stopping": True}
        seen = eventually(lambda: (seen := only(house))["problem"] and seen)
    assert seen["problem"] == "could not be stopped: the machine refused"
    assert not seen["is_stopping"]
    doing.stop(known)
    assert eventually(lambda: (seen := only(house))["is_over"] and seen)["problem"] == ""
