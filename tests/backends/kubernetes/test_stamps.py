"""The node's stamps: taken off, and used to take every line once."""

import random
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jupyter_gpudeploy.backends.kubernetes.mirror.stamps import SECOND, Taken, Unstamper, stamp, stamp_text

BEGIN = 1_780_000_000 * SECOND


def stamped(lines, times):
    return [b"%s %s\n" % (text(time).encode(), line) for line, time in zip(lines, times, strict=True)]


def text(time, zone="Z"):
    moment = datetime.fromtimestamp(time // SECOND, UTC)
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{time % SECOND:09d}{zone}"


def test_a_stamp_is_read_in_any_zone_and_with_any_number_of_digits():
    assert stamp(text(BEGIN + 7).encode() + b" x") == BEGIN + 7
    assert stamp(b"2026-05-28T20:26:40Z x") == stamp(b"2026-05-28T22:26:40.0+02:00 x") == BEGIN
    assert stamp(b"no stamp") is None
    assert stamp(b"2026-99-99T00:00:00Z x") == 0


@given(st.lists(st.binary(max_size=40), max_size=30), st.randoms())
def test_what_was_printed_comes_out_byte_for_byte_however_the_stream_is_cut(lines, rnd):
    printed = [line.replace(b"\n", b"\r") for line in lines]
    wire = b"".join(stamped(printed, range(BEGIN, BEGIN + len(lines))))
    stream, out, position = Unstamper(), [], 0
    while position < len(wire):
        step = rnd.randrange(1, 40)
        out.append(stream.feed(wire[position : position + step]))
        position += step
    assert b"".join(out) == b"".join(line + b"\n" for line in printed)
    assert stream.lines == len(lines)
    assert not stream.pending


@pytest.mark.fault(19)
def test_a_last_line_without_a_newline_waits_until_it_is_known_to_be_the_last():
    stream = Unstamper()
    assert stream.feed(stamped([b"one", b"acc=0.93"], [BEGIN, BEGIN + 1])[0][:-1]) == b""
    assert stream.feed(b"\n" + stamped([b"acc=0.93"], [BEGIN + 1])[0][:-1]) == b"one\n"
    assert stream.pending.endswith(b"acc=0.93")
    assert stream.taken.last == BEGIN
    assert stream.rest() == b"acc=0.93"
    assert stream.taken.last == BEGIN + 1


@pytest.mark.fault(17)
@given(st.integers(0, 60), st.integers(0, 60), st.lists(st.integers(0, 3), min_size=60, max_size=60))
def test_after_a_break_every_line_is_taken_once_also_where_several_have_one_time(first, second, steps):
    """Steps of 0 give equal times; the lines are all alike, so only the times can tell them apart."""
    times, now = [], BEGIN
    for step in steps:
        now += step * 7
        times.append(now)
    wire = stamped([b"step done"] * 60, times)
    taken, got = Taken(), 0
    for end in [*sorted((first, second)), 60]:
        stream = Unstamper(taken)
        since = stamp(f"{taken.since} ".encode()) if taken.since else 0
        stream.feed(b"".join(line for line in wire[:end] if stamp(line) >= since))
        taken, got = stream.taken, got + stream.lines
        assert stream.gap is None
    assert got == 60


def test_lines_that_swap_places_within_a_moment_are_neither_lost_nor_doubled():
    rnd = random.Random(3)
    times = [BEGIN + n * 1000 for n in range(500)]
    for place in range(0, 498, 3):
        times[place], times[place + 1] = times[place + 1], times[place]
    wire = stamped([b"%d" % n for n in range(500)], times)
    taken, got = Taken(), b""
    for end in [*sorted(rnd.sample(range(500), 40)), 500]:
        stream = Unstamper(taken)
        got += stream.feed(b"".join(wire[:end]))
        taken = stream.taken
    assert got.split() == [b"%d" % n for n in range(500)]


@pytest.mark.fault(15)
def test_what_is_asked_for_is_a_whole_second_of_the_nodes_clock_not_later_than_the_last_line():
    stream = Unstamper()
    assert stream.taken.since is None
    stream.feed(b"".join(stamped([b"a", b"b"], [BEGIN + 1, BEGIN + SECOND + 5])))
    assert stamp(f"{stream.taken.since} ".encode()) == BEGIN


@pytest.mark.fault(7)
def test_a_gap_is_told_when_the_last_line_is_not_there_any_more():
    before = Unstamper()
    before.feed(b"".join(stamped([b"a", b"b"], [BEGIN, BEGIN + 5])))
    after = Unstamper(before.taken)
    assert after.feed(stamped([b"c"], [BEGIN + 9 * SECOND])[0]) == b"c\n"
    assert after.gap == (BEGIN + 5, BEGIN + 9 * SECOND)
    assert stamp_text(BEGIN + 9 * SECOND, "milliseconds") in str(after.gap)


def test_a_fragment_without_a_stamp_belongs_to_the_line_before_it():
    stream = Unstamper()
    wire = stamped([b"a"], [BEGIN])[0] + b"fragment\n" + stamped([b"b"], [BEGIN + 1])[0]
    assert stream.feed(wire) == b"a\nfragment\nb\n"
    again = Unstamper(stream.taken)
    assert again.feed(wire + stamped([b"c"], [BEGIN + 2])[0]) == b"c\n"
