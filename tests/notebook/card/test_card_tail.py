"""The end of a log that grows, and when which of its lines was written."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from written import tail_of

from jupyter_gpudeploy.events.times import TimesWriter, read_times
from jupyter_gpudeploy.notebook.card import tail as tails
from jupyter_gpudeploy.notebook.card.tail import Clock, LogTail


@pytest.fixture
def log(tmp_path):
    return tmp_path / "0.1.log"


def add(log, data):
    with log.open("ab") as stream:
        stream.write(data)


def test_each_poll_brings_what_is_new_with_its_numbers(log):
    tail = LogTail(0, 1, log)
    assert tail.poll(1.0) is None
    add(log, b"a\nb\n")
    chunk = tail.poll(2.0)
    assert (chunk.number, chunk.whole, chunk.lines, chunk.rest) == (1, 2, [b"a", b"b"], None)
    assert tail.poll(3.0) is None
    add(log, b"c\nhal")
    chunk = tail.poll(4.0)
    assert (chunk.number, chunk.whole, chunk.lines, chunk.rest) == (3, 1, [b"c"], b"hal")
    add(log, b"f\n")
    chunk = tail.poll(5.0)
    assert (chunk.number, chunk.lines, chunk.rest) == (4, [b"half"], b"")


def test_a_progress_bar_comes_again_under_its_number_until_it_is_done(log):
    tail = LogTail(0, 1, log)
    add(log, b"start\n 10%\r")
    assert tail.poll(1.0).rest == b" 10%\r"
    add(log, b" 50%\r")
    chunk = tail.poll(2.0)
    assert (chunk.whole, chunk.number, chunk.rest) == (0, 2, b" 10%\r 50%\r")


@pytest.mark.fault(57)
def test_of_a_flood_only_the_end_is_looked_at_and_all_is_counted(log):
    tail = LogTail(0, 1, log)
    add(log, b"".join(b"line %d\n" % n for n in range(300_000)))
    chunk = tail.poll(1.0)
    assert chunk.whole == 300_000
    assert chunk.lines[-1] == b"line 299999"
    assert sum(map(len, chunk.lines)) <= tails.NEWEST
    first = 300_000 - len(chunk.lines)
    assert chunk.lines[0] == b"line %d" % first
    add(log, b"after\n")
    chunk = tail.poll(2.0)
    assert (chunk.number, chunk.lines) == (300_001, [b"after"])


@pytest.mark.fault(55)
def test_a_line_of_fifty_megabytes_is_shown_by_its_beginning(log):
    tail = LogTail(0, 1, log)
    add(log, b"before\n" + b"x" * 50_000_000)
    chunk = tail.poll(1.0)
    assert chunk.whole == 1
    assert set(chunk.rest) == set(b"x")
    assert len(chunk.rest) < 100_000
    add(log, b"y\nafter\n")
    chunk = tail.poll(2.0)
    assert (chunk.number, chunk.whole, chunk.lines[1]) == (2, 2, b"after")
    assert len(chunk.lines[0]) + chunk.extra == 50_000_001


def test_a_long_line_that_is_printed_over_shows_its_last_state(log):
    tail = LogTail(0, 1, log)
    add(log, b"".join(b"%d%%\r" % (n % 100) for n in range(200_000)))
    assert tail.poll(1.0).rest.rstrip(b"\r").rpartition(b"\r")[2] == b"99%"


def test_a_file_that_was_replaced_or_cut_is_read_anew(log):
    tail = LogTail(0, 1, log)
    add(log, b"old 1\nold 2\n")
    tail.poll(1.0)
    log.unlink()
    add(log, b"new\n")
    chunk = tail.poll(2.0)
    assert (chunk.number, chunk.lines) == (1, [b"new"])
    os.truncate(log, 0)
    assert tail.poll(3.0) is None
    add(log, b"again\n")
    assert tail.poll(4.0).lines == [b"again"]


def test_nothing_is_held_open(log):
    tails_ = [LogTail(n, 1, log) for n in range(50)]
    add(log, b"x\n")
    before = len(list(Path("/proc/self/fd").iterdir()))
    for tail in tails_:
        tail.poll(1.0)
    assert len(list(Path("/proc/self/fd").iterdir())) == before


def test_what_was_there_before_is_counted_and_only_the_rest_comes(log):
    add(log, b"a\nb\nhalf")
    tail = tail_of(log)
    assert (tail.lines, tail.offset, tail.end) == (2, 4, 8)
    assert tail.poll(1.0).rest == b"half"
    add(log, b" whole\n")
    assert (tail.poll(2.0).lines, tail.lines) == ([b"half whole"], 3)


def test_lines_that_were_seen_to_come_have_their_time(log):
    tail = LogTail(0, 1, log, begun=100.0)
    for second in range(10):
        add(log, b"line\n" * 3)
        tail.poll(101.0 + 5 * second)
    assert tail.clock.of_line(1) == 101.0
    assert tail.clock.of_line(7) == 111.0
    assert tail.clock.at(15) == 101.0
    assert tail.clock.offset(111.5) == 45
    assert tail.clock.offset(0.0) == 0
    assert tail.clock.counted(31) == (30, 6)


def test_a_log_that_nobody_watched_has_the_times_that_were_noted(log):
    writer = TimesWriter(str(log), begun=100.0)
    for second in range(1, 61):
        add(log, b"line %d\n" % second)
        if writer.is_due(100.0 + second):
            writer.note(100.0 + second, log.stat().st_size)
    clock = tail_of(log, begun=100.0).clock
    assert clock.of_line(30) == 130.0
    assert clock.offset(130.2) == sum(len(b"line %d\n" % n) for n in range(1, 31))


def test_a_log_without_times_says_that_they_are_not_known(log):
    add(log, b"line\n" * 1000)
    os.utime(log, (5000.0, 5000.0))
    clock = tail_of(log, begun=100.0).clock
    assert clock.of_line(500) is None
    assert clock.offset(3000.0) == 0
    assert Clock(log).offset(3000.0) is None


def test_a_short_log_is_as_old_as_its_task(log):
    add(log, b"line\n" * 10)
    os.utime(log, (101.0, 101.0))
    assert tail_of(log, begun=100.0).clock.of_line(5) == 101.0


def test_marks_are_bounded(log):
    clock = Clock(log, 0.0)
    for second in range(100_000):
        clock.mark(second * 10 + 10, second + 1, float(2 * second))
    assert len(clock._offsets) <= tails._MARKS + 1
    assert clock.offset(2.0 * 99_999) == 1_000_000
    assert list(clock._times) == sorted(clock._times)


def test_times_that_contradict_each_other_are_left_out(log):
    writer = TimesWriter(str(log), 0.0)
    for now, size in ((1.0, 100), (2.0, 300), (3.0, 200), (4.0, 400)):
        writer.note(now, size)
    with log.with_suffix(".times").open("ab") as stream:
        stream.write(b"torn")
    times, sizes = read_times(str(log))
    assert (list(times), list(sizes)) == ([1.0, 3.0, 4.0], [100, 200, 400])
