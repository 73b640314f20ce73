from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jupyter_gpudeploy.events.store import Journal, JournalReader, RunFolder, decode, encode, repair, write_atomically
from jupyter_gpudeploy.events.types import Notice, State, StateChange

EVENTS = [
    StateChange(1.5, State.RUNNING, 0, details={"pid": 12, "gpus": "0,1"}),
    Notice(2.5, "Übergang: disk full\nsecond line", task=3),
    StateChange(3.5, State.FAILED, 0, attempt=2, reason='exit "1"', exit_code=0),
]
LAST = Notice(9.0, "after")


def whole_lines(data: bytes) -> int:
    return data.count(b"\n")


@given(
    st.builds(
        StateChange,
        st.floats(0, 1e10),
        st.sampled_from(State),
        st.none() | st.integers(0, 9),
        st.integers(1, 9),
        st.text(),
        st.none() | st.integers(-64, 255),
        st.dictionaries(st.text(), st.integers() | st.text()),
    )
    | st.builds(Notice, st.floats(0, 1e10), st.text(), st.none() | st.integers(0, 9))
)
def test_an_event_is_one_line_and_comes_back(event):
    line = encode(event)
    assert line.endswith(b"\n")
    assert line.count(b"\n") == 1
    assert decode(line) == event


@pytest.mark.fault(2)
def test_a_journal_cut_at_any_byte_keeps_every_whole_record_and_glues_nothing(tmp_path):
    whole = b"".join(map(encode, EVENTS))
    for cut in range(len(whole) + 1):
        file = tmp_path / "events.jsonl"
        file.write_bytes(whole[:cut])
        seen_before = JournalReader(file).poll()
        journal = Journal(file)
        assert journal.append(LAST)
        journal.close()
        kept = EVENTS[: whole_lines(whole[:cut])]
        assert seen_before == kept
        assert JournalReader(file).poll() == [*kept, LAST]
        assert journal.dropped == cut - len(b"".join(map(encode, kept)))
        assert all(json.loads(line) for line in file.read_bytes().splitlines())


@pytest.mark.fault(2)
def test_a_reader_that_was_there_before_the_cut_goes_on_after_the_repair(tmp_path):
    whole = b"".join(map(encode, EVENTS))
    for cut in range(len(whole) + 1):
        file = tmp_path / "events.jsonl"
        file.write_bytes(whole[:cut])
        reader = JournalReader(file)
        seen = reader.poll()
        journal = Journal(file)
        journal.append(LAST)
        journal.close()
        assert [*seen, *reader.poll()] == [*EVENTS[: whole_lines(whole[:cut])], LAST]


@pytest.mark.fault(2)
@pytest.mark.parametrize(
    "tail",
    [b"\0" * 100, b"\0" * 100 + b"\n", b"\0\n\0\n\0", b"{\n", b"\xff\xfe\n", b"12\n", b"\n\n", b"[[" * 50_000 + b"\n"],
)
def test_what_a_crash_leaves_behind_is_cut_off_and_readers_wait_before_it(tmp_path, tail):
    file = tmp_path / "events.jsonl"
    whole = b"".join(map(encode, EVENTS))
    file.write_bytes(whole + tail)
    reader = JournalReader(file)
    assert reader.poll() == EVENTS
    assert repair(file) == len(tail)
    assert file.read_bytes() == whole
    journal = Journal(file)
    journal.append(LAST)
    journal.close()
    assert reader.poll() == [LAST]


def test_records_of_a_later_version_are_kept_by_writers_and_passed_over_by_readers(tmp_path):
    file = tmp_path / "events.jsonl"
    later = b'{"event":"checkpoint","time":4.0,"path":"x"}\n{"event":"state","state":"hibernating","time":5}\n{}\n'
    extended = encode(LAST)[:-2] + b',"colour":"red"}\n'
    file.write_bytes(encode(EVENTS[0]) + later)
    journal = Journal(file)
    journal.append(EVENTS[1])
    journal.close()
    with file.open("ab") as stream:
        stream.write(extended + later)
    assert repair(file) == 0
    assert file.read_bytes() == encode(EVENTS[0]) + later + encode(EVENTS[1]) + extended + later
    assert JournalReader(file).poll() == [EVENTS[0], EVENTS[1], LAST]


def test_reading_and_repairing_what_is_not_there_is_nothing(tmp_path):
    assert JournalReader(tmp_path / "none").poll() == []
    assert repair(tmp_path / "none") == 0


def test_a_reader_hands_out_each_event_once(tmp_path):
    journal = Journal(tmp_path / "j")
    reader = JournalReader(tmp_path / "j")
    for event in EVENTS:
        journal.append(event)
        assert reader.poll() == [event]
        assert reader.poll() == []
    journal.close()


WRITER = """
import sys
from pathlib import Path
from jupyter_gpudeploy.events.store import Journal
from jupyter_gpudeploy.events.types import Notice
journal = Journal(Path(sys.argv[1]))
print("open", flush=True)
number = int(sys.argv[2])
while True:
    journal.append(Notice(float(number), "x" * (number % 500)))
    number += 1
"""


@pytest.mark.fault(2)
def test_a_writer_killed_again_and_again_leaves_a_journal_without_a_gap_or_a_double(tmp_path):
    file = tmp_path / "events.jsonl"
    following = 0
    for _ in range(6):
        with subprocess.Popen(
            [sys.executable, "-c", WRITER, str(file), str(following)], stdout=subprocess.PIPE
        ) as writer:
            assert writer.stdout.readline() == b"open\n"
            size, deadline = file.stat().st_size, time.monotonic() + 20
            while file.stat().st_size < size + 20_000:
                assert time.monotonic() < deadline
            writer.send_signal(signal.SIGKILL)
        with file.open("ab") as stream:
            stream.write(b'{"event":"notice","time":7')  # as if the kill had come in the middle of a write
        repair(file)
        events = JournalReader(file).poll()
        assert [event.time for event in events] == list(map(float, range(len(events))))
        assert len(events) > following
        following = len(events)


def test_a_write_that_takes_only_part_is_finished(tmp_path, monkeypatch):
    real = os.write
    monkeypatch.setattr(os, "write", lambda descriptor, data: real(descriptor, bytes(data[:3])))
    journal = Journal(tmp_path / "j")
    assert all(journal.append(event) for event in EVENTS)
    journal.close()
    assert JournalReader(tmp_path / "j").poll() == EVENTS


def test_signals_while_writing_lose_nothing(tmp_path):
    hits = []
    before = signal.signal(signal.SIGALRM, lambda *_: hits.append(1))
    signal.setitimer(signal.ITIMER_REAL, 0.001, 0.001)
    try:
        journal = Journal(tmp_path / "j")
        written = 0
        while len(hits) < 20:
            assert journal.append(Notice(float(written), "y" * 1000))
            written += 1
        journal.close()
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert [event.time for event in JournalReader(tmp_path / "j").poll()] == list(map(float, range(written)))


FULL = """
import json, os, resource, signal, sys
from pathlib import Path
from jupyter_gpudeploy.events.store import Journal, JournalReader
from jupyter_gpudeploy.events.types import Notice
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, resource.RLIM_INFINITY))
file = Path(sys.argv[1])
journal = Journal(file)
results = [journal.append(Notice(float(n), "z" * 500)) for n in range(40)]
behind = journal.is_behind
seen = len(JournalReader(file).poll())
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
retried = journal.retry()
journal.close()
print(json.dumps([results[0], results[-1], behind, seen < 40, retried, journal.is_behind]))
"""


@pytest.mark.fault(34)
def test_a_disk_that_is_full_for_a_while_delays_records_and_loses_none(tmp_path):
    file = tmp_path / "j"
    done = subprocess.run([sys.executable, "-c", FULL, str(file)], stdout=subprocess.PIPE, check=True)
    assert json.loads(done.stdout) == [True, False, True, True, True, False]
    assert [event.time for event in JournalReader(file).poll()] == list(map(float, range(40)))


def fill(file):
    with file.open("wb", buffering=0) as stream:
        while True:
            stream.write(b"b" * 4096)


@pytest.mark.fault(34)
def test_a_full_file_system_delays_records_and_loses_none(tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(disk)], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("mounting is not allowed here")
    try:
        journal = Journal(disk / "j")
        ballast = disk / "ballast"
        journal.append(EVENTS[0])
        with pytest.raises(OSError, match="No space"):
            fill(ballast)
        results = [journal.append(Notice(float(number), "q" * 900)) for number in range(20)]
        assert not results[-1]
        assert journal.is_behind
        ballast.unlink()
        assert journal.retry()
        journal.close()
        events = JournalReader(disk / "j").poll()
        assert events[0] == EVENTS[0]
        assert [event.time for event in events[1:]] == list(map(float, range(20)))
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def test_only_the_owner_may_read_a_journal(tmp_path):
    Journal(tmp_path / "j").close()
    assert (tmp_path / "j").stat().st_mode & 0o777 == 0o600


def test_a_file_written_atomically_is_always_whole_whoever_writes(tmp_path):
    file = tmp_path / "run.json"
    texts = [str(number) * 20_000 for number in range(4)]
    write_atomically(file, texts[0])
    threads = [
        threading.Thread(target=lambda text=text: [write_atomically(file, text) for _ in range(25)]) for text in texts
    ]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        assert file.read_text() in texts
    assert [found.name for found in tmp_path.iterdir()] == ["run.json"]


def test_a_file_that_cannot_be_written_leaves_the_old_one_and_no_litter(tmp_path):
    file = tmp_path / "run.json"
    write_atomically(file, "old")
    with pytest.raises(UnicodeEncodeError):
        write_atomically(file, "\ud800")
    assert file.read_text() == "old"
    assert [found.name for found in tmp_path.iterdir()] == ["run.json"]


def test_a_folder_knows_its_files_and_creates_none(tmp_path):
    folder = RunFolder(tmp_path / "run")
    assert folder.log_files(3) == []
    assert not folder.path.exists()
    folder.log_file(3).parent.mkdir(parents=True)
    for attempt in (1, 2, 4):
        folder.log_file(3, attempt).touch()
    assert [attempt for attempt, _ in folder.log_files(3)] == [1, 2]


@pytest.mark.parametrize("content", ["[1]", "{", ""])
def test_a_record_that_is_none_is_refused(tmp_path, content):
    (tmp_path / "run.json").write_text(content)
    with pytest.raises(ValueError):
        RunFolder(tmp_path).record()
