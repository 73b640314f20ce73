"""What is put onto a cluster beside what is there already, and what is told to end. The cluster is a dictionary."""

import copy
import logging
import time

import pytest

from jupyter_gpudeploy.backends.base import RunRef
from jupyter_gpudeploy.backends.kubernetes import marks
from jupyter_gpudeploy.backends.kubernetes.api import kinds
from jupyter_gpudeploy.backends.kubernetes.api.errors import (
    ApiError,
    ConflictError,
    ForbiddenError,
    NotFoundError,
)
from jupyter_gpudeploy.backends.kubernetes.api.objects import Listing
from jupyter_gpudeploy.backends.kubernetes.life import graces, keeping, objects
from jupyter_gpudeploy.errors import BackendError

REF = RunRef("kubernetes", "digits", "u1", "f", 1.0, "here/ml")


class Cluster:
    """Objects by (kind, name). What is deleted is gone after `lingers` further looks; `forbidden` are never deleted."""

    namespace = "ml"
    user = "me"

    def __init__(self, *bodies, lingers=1, forbidden=()):
        self.there = {(body["kind"], body["metadata"]["name"]): body for body in bodies}
        self.lingers = lingers
        self.forbidden = forbidden
        self.done = []

    def create(self, body, *, dry_run=False):
        key = body["kind"], body["metadata"]["name"]
        if key in self.there:
            raise ConflictError("it exists", status=409, reason="AlreadyExists")
        if not dry_run:
            self.there[key] = copy.deepcopy(body)
            self.done.append(("create", *key))
        return body

    def apply(self, body):
        self.done.append(("apply", body["kind"], body["metadata"]["name"]))

    def get(self, kind, name):
        if (body := self.there.get((kind, name))) is None:
            raise NotFoundError(f"no {kind} {name}", status=404)
        if body["metadata"].get("deletionTimestamp"):
            body["left"] = body.get("left", self.lingers) - 1
            if body["left"] < 0:
                del self.there[kind, name]
        return body

    def list(self, kind, **_):
        return Listing([body for (known, _), body in self.there.items() if known == kind], "1")

    def delete(self, kind, name, *, uid, grace_seconds=None, propagation="Foreground"):
        if name in self.forbidden:
            raise ForbiddenError("you may not", status=403)
        body = self.get(kind, name)
        if body["metadata"]["uid"] != uid:
            raise ConflictError("another uid", status=409, reason="Conflict")
        body["metadata"]["deletionTimestamp"] = "now"
        self.done.append(("delete", kind, name, grace_seconds))


def claim(size, *, uid="old", mode="ReadWriteOnce", storage_class=None, **metadata):
    spec = {"accessModes": [mode], "resources": {"requests": {"storage": size}}}
    if storage_class:
        spec["storageClassName"] = storage_class
    named = {"name": "digits", "uid": uid, "labels": marks.labels("digits", marks.STORAGE), **metadata}
    return {"kind": "PersistentVolumeClaim", "metadata": named, "spec": spec}


def job(uid, **metadata):
    named = {"name": "digits", "uid": f"of-{uid}", "labels": marks.labels("digits", marks.WORK, uid), **metadata}
    return {"kind": "Job", "metadata": named, "spec": {}}


@pytest.mark.parametrize(
    ("wanted", "words"),
    [
        (claim("10Mi"), []),
        (claim("10485760"), []),
        (claim("20Mi"), ["size 10Mi, not 20Mi"]),
        (claim("1Mi", mode="ReadWriteMany"), ["size 10Mi, not 1Mi", "access ReadWriteOnce, not ReadWriteMany"]),
        (claim("10Mi", storage_class="slow"), ["storage class fast, not slow"]),
    ],
)
def test_storage_of_an_earlier_run_is_left_as_it_is_and_what_differs_is_told(wanted, words):
    cluster = Cluster(claim("10Mi", storage_class="fast"))
    possible = objects.check(cluster, "digits", [wanted, job("new")])
    told = objects.missing([wanted, job("new")], possible)
    kept = f"the storage digits is kept from an earlier run, as it is: {', '.join(words)}; deleting that claim, "
    assert told == ([kept + "with all that it holds, makes a new one"] if words else [])
    assert objects.put(cluster, "digits", wanted, "new") is False
    assert cluster.done == []


def test_storage_that_is_being_deleted_is_made_anew_when_it_is_gone():
    cluster = Cluster(claim("10Mi", deletionTimestamp="before"))
    wanted = claim("20Mi", uid="new")
    assert objects.check(cluster, "digits", [wanted]) == [wanted]
    assert objects.put(cluster, "digits", wanted, "u1") is True
    assert cluster.done == [("create", "PersistentVolumeClaim", "digits")]


def test_what_an_earlier_run_left_is_deleted_and_waited_for():
    cluster = Cluster(job("old"), lingers=2)
    assert objects.put(cluster, "digits", job("u1"), "u1") is True
    assert cluster.done == [("delete", "Job", "digits", None), ("create", "Job", "digits")]


def test_what_may_not_be_deleted_but_has_an_owner_goes_with_it(monkeypatch):
    owned = job("old", ownerReferences=[{"name": "digits.run", "uid": "old"}])
    cluster = Cluster(owned, forbidden=["digits"])
    monkeypatch.setattr(objects.time, "sleep", lambda _: owned["metadata"].update(deletionTimestamp="by its owner"))
    objects.await_gone(cluster, "Job", owned, time.monotonic() + 60)
    assert cluster.there == {}
    with pytest.raises(ForbiddenError):
        objects.await_gone(Cluster(alone := job("old"), forbidden=["digits"]), "Job", alone, time.monotonic() + 60)


def test_what_takes_the_name_meanwhile_is_spared_and_what_never_goes_is_named():
    old = job("old")
    cluster = Cluster(job("another"))
    objects.await_gone(cluster, "Job", old, time.monotonic() + 60)
    assert cluster.there
    stuck = Cluster(held := job("old"), lingers=10**9)
    with pytest.raises(BackendError, match="Job digits is still being deleted in ml") as caught:
        objects.await_gone(stuck, "Job", held, time.monotonic() + 0.2)
    assert "finalizers" in caught.value.hint


def test_a_json_pointer_escapes_what_has_a_meaning_in_it():
    assert objects.pointer("data", "a/b~c~1") == "/data/a~1b~0c~01"


@pytest.mark.parametrize("is_mine", [True, False])
def test_values_that_are_refused_are_not_taken_for_a_secret_of_somebody_else(is_mine):
    class Kept(Cluster):
        def create(self, _):
            raise ConflictError("it exists", status=409, reason="AlreadyExists")

        def patch(self, _kind, _name, steps, *, content):
            self.done.append(steps)
            if not is_mine or any(step["op"] == "add" for step in steps):
                raise ApiError("a value is refused: data[a/b]", status=422)

    cluster = Kept()
    with pytest.raises(BackendError, match="a value is refused" if is_mine else "not yours by %deploy secret"):
        keeping.keep(cluster, "token", {"a/b": "x"})
    assert cluster.done[0][-1]["path"] == "/data/a~1b"
    assert {step["op"] for step in cluster.done[1]} == {"test"}


def pod(name, grace, **metadata):
    named = {"name": name, "uid": name, **metadata}
    return {"kind": "Pod", "metadata": named, "spec": {"terminationGracePeriodSeconds": grace}, "status": {}}


def test_every_pod_gets_the_grace_that_is_asked_for_and_those_that_refuse_are_told(caplog):
    pods = [pod(f"p{number}", 30) for number in range(120)]
    soon = pod("soon", 30, deletionTimestamp="now", deletionGracePeriodSeconds=2)
    short = pod("short", 3)
    cluster = Cluster(*pods, soon, short, forbidden=["p7"])
    with caplog.at_level(logging.WARNING):
        graces.end(cluster, REF, 5)
    given = {name: seconds for _, _, name, seconds in cluster.done}
    assert given == {f"p{number}": 5 for number in range(120) if number != 7} | {"short": 3}
    assert "1 pods of digits may take longer to end: you may not" in caplog.text


def test_a_grace_that_the_cluster_does_not_give_is_refused_before_anything_is_done():
    cluster = Cluster(pod("a", 75), pod("b", 30))
    graces.check(cluster, REF, 30)
    with pytest.raises(BackendError, match=r"not stopped: its pods are killed after 30\.0 s") as caught:
        graces.check(cluster, REF, 60)
    assert "30 s or less" in caught.value.hint
    graces.check(Cluster(pod("a", 75)), REF, 60)
    assert cluster.done == []


@pytest.mark.parametrize(
    ("record", "kind"),
    [
        ({"kind": "job"}, "Job"),
        ({"kind": "sweep", "max_seconds": 5}, "Job"),
        ({"kind": "server", "max_seconds": None}, "Deployment"),
        ({"kind": "manual", "max_seconds": 5}, "Job"),
    ],
)
def test_one_table_says_what_makes_pods(record, kind):
    assert kinds.watched_kind(record) == kind
    assert set(kinds.MAKER_KINDS) <= set(kinds.KINDS)
    assert [maker.kind for maker in kinds.MAKERS if not maker.is_everywhere] == ["JobSet", "LeaderWorkerSet"]
