from __future__ import annotations

import base64
import errno
import hashlib
import json
import os
import zlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jupyter_gpudeploy.events import receive
from jupyter_gpudeploy.events.receive import FILE_LIMIT, Receiver
from jupyter_gpudeploy.events.store import RunFolder
from jupyter_gpudeploy.events.types import Notice, State, StateChange
from jupyter_gpudeploy.events.wire import Record


def packed(data: bytes) -> str:
    return base64.b64encode(zlib.compress(data)).decode()


def whole(path: str, data: bytes, **more) -> Record:
    digest = hashlib.sha256(data).hexdigest()
    return Record("file", {"path": path, "size": len(data), "sha256": digest, "data": packed(data), **more})


def part(path: str, at: int, data: bytes) -> Record:
    return Record("file", {"path": path, "at": at, "size": at + len(data), "data": packed(data)})


def row(time: float, **metrics) -> dict:
    return {"time": time, "attempt": 1, "metrics": metrics}


def metrics(*rows) -> Record:
    return Record("metrics", {"rows": list(rows)})


@pytest.fixture
def folder(tmp_path):
    folder = RunFolder(tmp_path / "run")
    folder.path.mkdir()
    return folder


def everything(folder: RunFolder) -> dict[str, bytes]:
    return {str(path.relative_to(folder.path)): path.read_bytes() for path in folder.path.rglob("*") if path.is_file()}


def test_rows_are_written_as_log_writes_them(folder):
    receiver = Receiver(folder, 3)
    rows = [row(1.5, loss=0.25), row(1.75, **{"val/acc": float("nan")}), {"time": 2, "step": 1, "metrics": {"a": 1}}]
    assert receiver.receive(metrics(*rows)) == []
    expected = "".join(json.dumps(one, separators=(",", ":")) + "\n" for one in rows)
    assert folder.metrics_file(3).read_text() == expected


RECORDS = [
    metrics(row(10, a=1), row(11, a=2)),
    part("grows.csv", 0, b"loss\n1\n"),
    whole("deep/er/model.bin", b"first"),
    metrics(row(12, a=3)),
    part("grows.csv", 7, b"2\n"),
    metrics(row(9, a=4), row(12, a=5)),
    part("grows.csv", 0, b"loss\n3\n"),
    whole("deep/er/model.bin", b"second"),
    Record("exec", {"exec": 1000, "argv": ["ls"], "time": 13.0}),
    Record("output", {"exec": 1000, "at": 0, "text": "one\n\udcff"}),
    Record("metrics", {"rows": [row(13, b=1)], "exec": 1000}),
    Record("output", {"exec": 1000, "at": 5, "text": "two"}),
    whole("result", b"x", exec=1000),
    Record("ended", {"exec": 1000, "time": 14.0, "exit_code": 2, "reason": ""}),
    Record("notice", {"message": "large.bin stays in the pod", "level": "info", "time": 15.0}),
    metrics(row(16, a=6)),
    part("grows.csv", 7, b"4\n"),
    Record("file", {"path": "grows.csv", "size": 9, "sha256": hashlib.sha256(b"loss\n3\n4\n").hexdigest()}),
]


@given(st.lists(st.tuples(st.integers(0, len(RECORDS)), st.booleans()), max_size=6))
@settings(deadline=None, max_examples=150)
def test_whatever_is_received_again_the_folder_is_the_same_in_the_end(tmp_path_factory, restarts):
    once = RunFolder(tmp_path_factory.mktemp("once"))
    again = RunFolder(tmp_path_factory.mktemp("again"))
    receiver = Receiver(once, 0, executes=True)
    events = [event for record in RECORDS for event in receiver.receive(record)]
    receiver, reached, seen = Receiver(again, 0, executes=True), 0, set()
    for stop, is_new in [*restarts, (len(RECORDS), False)]:
        start = 0 if stop <= reached else reached
        for record in RECORDS[start : max(stop, reached)]:
            seen.update(repr(event) for event in receiver.receive(record))
        reached = max(stop, reached)
        if is_new:
            receiver = Receiver(again, 0, executes=True)
    assert everything(again) == everything(once)
    assert seen == set(map(repr, events))


def test_what_was_received_is_in_its_place(folder):
    receiver = Receiver(folder, 0, executes=True)
    events = [event for record in RECORDS for event in receiver.receive(record)]
    assert events == [
        StateChange(13.0, State.RUNNING, 1000, details={"log": "logs/1000.1.log"}),
        StateChange(14.0, State.FAILED, 1000, reason="exit code 2", exit_code=2),
        Notice(15.0, "large.bin stays in the pod", 0, "info"),
    ]
    assert (folder.output(0) / "grows.csv").read_bytes() == b"loss\n3\n4\n"
    assert (folder.output(0) / "deep" / "er" / "model.bin").read_bytes() == b"second"
    assert (folder.output(1000) / "result").read_bytes() == b"x"
    assert folder.log_file(1000).read_bytes() == b"one\n\xfftwo"
    values = [json.loads(line)["metrics"]["a"] for line in folder.metrics_file(0).read_text().splitlines()]
    assert values == [1, 2, 3, 4, 5, 6]
    assert not any(path.name.startswith(".") for path in folder.path.rglob("*"))


def test_half_a_row_of_a_killed_writer_is_replaced(folder):
    Receiver(folder, 0).receive(metrics(row(1, a=1), row(2, a=2)))
    file = folder.metrics_file(0)
    file.write_bytes(file.read_bytes()[:-5])
    Receiver(folder, 0).receive(metrics(row(2, a=2), row(3, a=3)))
    assert [json.loads(line)["time"] for line in file.read_text().splitlines()] == [1, 2, 3]


def test_rows_of_processes_whose_clocks_cross_are_all_kept(folder):
    Receiver(folder, 0).receive(metrics(row(5, a=1), row(9, a=2)))
    receiver = Receiver(folder, 0)
    receiver.receive(metrics(row(7, rank=0), row(7, rank=1), row(9, a=2), row(8, rank=1)))
    assert [json.loads(line)["time"] for line in folder.metrics_file(0).read_text().splitlines()] == [5, 9, 7, 7, 8]


def test_what_is_missing_in_a_log_shows(folder):
    receiver = Receiver(folder, 0, executes=True)
    receiver.receive(Record("output", {"exec": 1000, "at": 4, "text": "end"}))
    assert folder.log_file(1000).read_bytes() == b"????end"
    receiver.receive(Record("output", {"exec": 1000, "at": 0, "text": "the "}))
    assert folder.log_file(1000).read_bytes() == b"the end"


def test_a_gap_in_a_growing_file_is_told_and_healed_by_the_whole(folder):
    receiver = Receiver(folder, 0)
    receiver.receive(part("h.csv", 0, b"loss\n"))
    (notice,) = receiver.receive(part("h.csv", 9, b"3\n"))
    assert "h.csv is not complete" in notice.message
    assert receiver.receive(part("h.csv", 11, b"4\n")) == []
    assert (folder.output(0) / "h.csv").read_bytes() == b"loss\n"
    assert receiver.receive(whole("h.csv", b"loss\n1\n2\n3\n4\n")) == []
    assert (folder.output(0) / "h.csv").read_bytes() == b"loss\n1\n2\n3\n4\n"


def test_the_sum_at_the_end_tells_what_was_lost(folder):
    receiver = Receiver(folder, 0)
    receiver.receive(part("h.csv", 0, b"loss\n"))
    end = {"path": "h.csv", "size": 5, "sha256": hashlib.sha256(b"loss\n").hexdigest()}
    assert receiver.receive(Record("file", end)) == []
    (notice,) = receiver.receive(Record("file", {**end, "sha256": "0" * 64}))
    assert "not complete" in notice.message


@pytest.mark.fault(61)
@pytest.mark.parametrize(
    "path",
    [
        *("../evil", "a/../../evil", "/evil", "a//evil", "./evil", "..", ".", "", "a/", "nul\0", "half\udcff"),
        *("x" * 201, "d/" * 600 + "x", 3, None, ["a"]),
    ],
)
def test_nothing_is_written_outside_the_folder_of_the_task(folder, path):
    (notice,) = Receiver(folder, 0).receive(Record("file", {**whole("x", b"evil").payload, "path": path}))
    assert notice.message.startswith("something the pod sent was not kept")
    assert not [name for name in everything(folder) if "evil" in name or name == "x"]
    assert not list(folder.path.parent.glob("evil"))


@pytest.mark.fault(61)
def test_no_link_is_followed(folder, tmp_path):
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "file").write_text("mine")
    folder.output(0).mkdir(parents=True)
    (folder.output(0) / "folder").symlink_to(outside)
    (folder.output(0) / "file").symlink_to(outside / "file")
    os.mkfifo(folder.output(0) / "fifo")
    (folder.output(0) / "plain").write_text("x")
    receiver = Receiver(folder, 0)
    for path in ("folder/file", "file", "fifo", "plain/file", "folder"):
        for record in (whole(path, b"evil"), part(path, 0, b"evil")):
            receiver.receive(record)
    assert (outside / "file").read_text() == "mine"
    assert sorted(outside.iterdir()) == [outside / "file"]
    assert (folder.output(0) / "plain").read_text() == "x"


@pytest.mark.fault(61)
@pytest.mark.parametrize(
    "change",
    [
        {"data": packed(b"x" * 10_000_000)},
        {"size": FILE_LIMIT + 1},
        {"size": -1},
        {"size": 10**30},
        {"size": None},
        {"sha256": "0" * 64},
        {"data": "not base64!"},
        {"data": packed(b"four")[:-4]},
        {"data": base64.b64encode(b"no zlib").decode()},
        {"data": 3},
        {"at": -1},
        {"at": 2},
        {"at": "x"},
        {"exec": 1000},
        {"exec": "0"},
    ],
)
def test_a_file_that_is_not_what_it_says_is_not_kept(folder, change):
    receiver = Receiver(folder, 0)
    (notice,) = receiver.receive(Record("file", {**whole("x", b"four").payload, **change}))
    assert isinstance(notice, Notice)
    assert all(data == b"" for data in everything(folder).values())


def test_there_is_a_limit_to_what_one_task_may_send(folder, monkeypatch):
    monkeypatch.setattr(receive, "TASK_LIMIT", 10)
    receiver = Receiver(folder, 0)
    assert receiver.receive(whole("a", b"123456")) == []
    assert receiver.receive(whole("a", b"1234567890")) == []
    (notice,) = receiver.receive(whole("b", b"1"))
    assert "too much" in notice.message
    assert sorted(everything(folder)) == ["out/0/a"]


@pytest.mark.parametrize(
    "kind", ["metrics", "file", "notice", "exec", "output", "ended", "began", "of a later version"]
)
@pytest.mark.parametrize(
    "payload",
    [
        *(None, 1, "exec", [], {}, {"rows": 3}, {"rows": [1, {}, {"metrics": 1}]}, {"exec": True}, {"exec": 1000}),
        *({"exec": 999}, {"message": 1, "level": []}, {"exec": 1000, "at": 1e400, "text": "x"}),
        {"exec": 1000, "at": 1 << 29, "text": "x"},
        {"exec": 1000, "time": float("nan"), "exit_code": "x", "reason": 1},
    ],
)
def test_records_without_sense_do_no_harm(folder, kind, payload):
    for executes in (False, True):
        receiver = Receiver(folder, 0, executes=executes)
        for event in receiver.receive(Record(kind, payload)):
            assert event.time == event.time > 0
    assert sum(map(len, everything(folder).values())) < 100


def test_only_the_pod_of_a_manual_run_speaks_for_other_tasks(folder):
    receiver = Receiver(folder, 0)
    for record in RECORDS:
        receiver.receive(record)
    assert not [name for name in everything(folder) if "1000" in name]


@pytest.mark.fault(34)
def test_on_a_full_disk_nothing_of_a_record_is_kept_and_it_can_be_given_again(folder, monkeypatch):
    receiver = Receiver(folder, 0)
    receiver.receive(metrics(row(1, a=1)))
    before = folder.metrics_file(0).read_bytes()
    written = os.pwrite

    def half(descriptor, data, at):
        if at > len(before):
            raise OSError(errno.ENOSPC, "No space left on device")
        return written(descriptor, data[:5], at)

    monkeypatch.setattr(os, "pwrite", half)
    with pytest.raises(OSError, match="No space"):
        receiver.receive(metrics(row(2, a=2), row(3, a=3)))
    assert folder.metrics_file(0).read_bytes() == before
    monkeypatch.undo()
    receiver.receive(metrics(row(2, a=2), row(3, a=3)))
    assert len(folder.metrics_file(0).read_text().splitlines()) == 3


def test_a_pod_cannot_flood_the_journal(folder):
    receiver = Receiver(folder, 0)
    events = [
        event
        for n in range(20_000)
        for event in receiver.receive(Record("notice", {"message": f"{n}" * 5000, "level": "x"}))
    ]
    assert len(events) <= 10_000
    assert all(len(event.message) <= 2000 and event.level == "warning" for event in events)


def test_what_was_sent_and_what_was_not_is_kept_beside_the_results(tmp_path):

    folder = RunFolder(tmp_path)
    receiver = Receiver(folder, 3)
    told = {"attempt": 2, "files": [["a", 1, "f" * 64]], "left": [["b", 9]], "left_count": 1, "left_size": 9}
    assert not receiver.receive(Record("outputs", {**told, "more": "x"}))
    assert json.loads(folder.balance_file(3).read_text()) == told
    (notice,) = receiver.receive(Record("outputs", {**told, "files": [["a"]]}))
    assert "was not kept" in notice.message
    assert json.loads(folder.balance_file(3).read_text()) == told
