from __future__ import annotations

import os
import subprocess
import sys
import threading
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jupyter_gpudeploy.events import follow
from jupyter_gpudeploy.events.follow import BLOCK, LINE_LIMIT, Tail, last_lines, text, texts


@pytest.fixture
def log(tmp_path):
    return tmp_path / "0.1.log"


def add(file, data):
    with file.open("ab") as stream:
        stream.write(data)


def test_a_file_that_is_not_there_yet_has_no_lines(log):
    tail = Tail(log)
    assert tail.lines() == []
    assert tail.lines(ended=True) == []
    add(log, b"now\n")
    assert tail.lines() == ["now"]


def test_a_line_is_handed_out_once_and_only_when_it_is_whole(log):
    tail = Tail(log)
    add(log, b"one\ntw")
    assert tail.lines() == ["one"]
    assert tail.lines() == []
    add(log, b"o\n\nthree")
    assert tail.lines() == ["two", ""]


@pytest.mark.fault(19)
def test_the_last_line_needs_no_newline_once_the_task_has_ended(log):
    tail = Tail(log)
    add(log, b"step 1\nfinal accuracy=0.93 no newline")
    assert tail.lines(ended=True) == ["step 1", "final accuracy=0.93 no newline"]
    assert tail.lines(ended=True) == []


@pytest.mark.fault(19)
def test_of_a_progress_bar_only_the_last_state_is_seen(log):
    add(log, b"\r10%|#  |\r50%|## |\r100%|###|\ndone\r\n\r 5%\r    \r\n")
    assert Tail(log).lines() == ["100%|###|", "done", " 5%"]


@pytest.mark.fault(19)
def test_backspaces_are_obeyed():
    assert text(b"1/3 loss: 0.5" + b"\b" * 13 + b"\r3/3 loss: 0.1") == "3/3 loss: 0.1"
    assert text(b"spin |\b/\b-") == "spin -"
    assert text(b"abc\b\bX") == "aXc"
    assert text(b"\b\b\bok") == "ok"


@pytest.mark.fault(19)
@pytest.mark.parametrize("updates", [2_000, 40_000])
def test_the_last_state_of_a_bar_is_found_however_long_it_was_updated(log, updates):
    add(log, b"".join(b"\r%d%% loss=%d.5 %s" % (number, number, b"#" * 60) for number in range(updates)) + b"\nnext\n")
    line, after = Tail(log).lines()
    assert line == f"{updates - 1}% loss={updates - 1}.5 " + "#" * 60
    assert after == "next"


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.binary(max_size=40), max_size=12),
    st.lists(st.integers(1, 60), max_size=20),
    st.integers(8, 64),
)
def test_however_a_file_grows_and_blocks_fall_the_lines_are_the_same(tmp_path_factory, pieces, steps, block):
    data = b"\n".join(pieces)
    file = tmp_path_factory.mktemp("tail") / "log"
    tail, seen, at = Tail(file), [], 0
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(follow, "BLOCK", block)
        for step in [*steps, len(data)]:
            add(file, data[at : at + step])
            at += step
            seen += tail.raw(blocks=2)
        while found := tail.raw(blocks=2, ended=True):
            seen += found
    expected = data.split(b"\n")
    if not expected[-1]:
        expected.pop()
    assert len(seen) == len(expected)
    for line, whole in zip(seen, expected, strict=True):
        assert line == whole or (len(whole) > block and b"\r" in whole and whole.rstrip(b"\r \t").endswith(line))


def test_characters_of_several_bytes_survive_the_border_of_blocks(log):
    line = "ä€😀" * 1000
    add(log, (line + "\n").encode() * 300)
    assert log.stat().st_size > 2 * BLOCK
    assert Tail(log).lines() == [line] * 300


@pytest.mark.fault(55)
@pytest.mark.parametrize("megabytes", [10, 50])
def test_a_giant_line_is_cut_and_says_how_much_is_missing(log, megabytes):
    size = megabytes * 1_000_000
    add(log, b"before\n" + b"x" * size + b"\nafter\n")
    tail = Tail(log)
    before, giant, after = tail.lines()
    assert (before, after) == ("before", "after")
    assert len(giant) <= LINE_LIMIT
    kept = len(giant) - len(giant.lstrip("x"))
    assert kept > LINE_LIMIT - 100
    assert giant[kept:] == f" ... {size - kept} bytes omitted (kept in the file)"
    assert tail.offset == log.stat().st_size


@pytest.mark.fault(55)
def test_a_giant_line_that_grows_is_not_read_again_and_again(log, monkeypatch):
    read = 0
    real = os.pread

    def counted(descriptor, size, offset):
        nonlocal read
        data = real(descriptor, size, offset)
        read += len(data)
        return data

    monkeypatch.setattr(os, "pread", counted)
    tail = Tail(log)
    for _ in range(200):
        add(log, b"x" * 100_000)
        assert tail.lines() == []
    add(log, b"\nnext\n")
    giant, following = tail.lines()
    assert following == "next"
    assert giant.endswith(f"{20_000_000 - giant.count('x')} bytes omitted (kept in the file)")
    assert read < 3 * 20_000_000, "what is below a block may be read again, not the whole line"


@pytest.mark.fault(55)
@pytest.mark.parametrize("size", [LINE_LIMIT - 1, LINE_LIMIT, LINE_LIMIT + 1, BLOCK - 1, BLOCK, BLOCK + 1])
@pytest.mark.parametrize("ended", [True, False])
def test_lines_around_the_limits_are_whole_or_cut(log, size, ended):
    add(log, b"z" * size + (b"" if ended else b"\n"))
    (line,) = Tail(log).lines(ended=ended)
    if size <= LINE_LIMIT:
        assert line == "z" * size
    else:
        assert len(line) <= LINE_LIMIT
        assert f"{size - line.count('z')} bytes omitted" in line


def test_a_cut_falls_between_two_characters():
    for shift in range(4):
        assert "\ufffd" not in text(b"a" * shift + "😀".encode() * LINE_LIMIT)


@pytest.mark.fault(56)
def test_bytes_that_are_no_text_are_still_a_line(log):
    add(log, b"\x00\x01\xff\xfe\n\x80abc\n")
    assert Tail(log).lines() == ["\x00\x01\ufffd\ufffd", "\ufffdabc"]


@pytest.mark.fault(56)
@given(st.binary(max_size=200))
def test_any_bytes_become_text_that_can_be_sent(data):
    text(data).encode("utf-8")


def test_a_file_that_was_cut_short_is_read_anew(log):
    add(log, b"old 1\nold 2\n")
    tail = Tail(log)
    tail.lines()
    log.write_bytes(b"new\n")
    assert tail.lines() == ["new"]


def test_a_file_that_was_replaced_is_read_anew(log, tmp_path):
    add(log, b"old\n")
    tail = Tail(log)
    tail.lines()
    neighbour = tmp_path / "neighbour"
    neighbour.write_bytes(b"rotated, and longer than before\n")
    neighbour.replace(log)
    assert tail.lines() == ["rotated, and longer than before"]


def test_more_than_one_call_can_take_is_left_for_the_next(log):
    add(log, b"0123456789abcde\n" * (3 * BLOCK // 16) + b"last")
    tail = Tail(log)
    sizes = []
    while lines := tail.lines(ended=True, blocks=1):
        sizes.append(len(lines))
    assert sizes == [BLOCK // 16] * 3 + [1]


def test_until_now_takes_all_that_is_there_and_does_not_wait_for_a_flood(log):
    add(log, b"line\n" * 100)
    tail, seen = Tail(log), []
    for line in tail.until_now():
        seen.append(line)
        if len(seen) < 10_000:
            add(log, b"more\n" * 200)
    assert 100 <= len(seen) < 10_000
    assert list(tail.until_now()), "the rest comes with the next look"


CHATTY = "import sys\nfor n in range(2_000_000): sys.stdout.write(f'line {n}\\n')"


@pytest.mark.fault(57)
def test_two_million_lines_are_followed_while_they_are_written(log):
    with log.open("wb") as stream, subprocess.Popen([sys.executable, "-c", CHATTY], stdout=stream) as child:
        tail, count, last, deadline = Tail(log), 0, "", time.monotonic() + 120
        while True:
            ended = child.poll() is not None
            lines = tail.lines(ended=ended)
            assert all(line == f"line {count + index}" for index, line in enumerate(lines))
            count += len(lines)
            last = lines[-1] if lines else last
            if ended and not lines:
                break
            assert time.monotonic() < deadline
    assert (count, last) == (2_000_000, "line 1999999")


def test_a_reader_beside_a_writer_sees_every_line_once(log):
    def write():
        with log.open("ab", buffering=0) as stream:
            for number in range(20_000):
                stream.write(b"%d\n" % number)

    writer = threading.Thread(target=write)
    writer.start()
    tail, seen = Tail(log), []
    while writer.is_alive():
        seen += tail.lines()
    seen += tail.lines(ended=True)
    assert seen == [str(number) for number in range(20_000)]


@pytest.mark.parametrize(
    ("data", "count", "expected"),
    [
        (b"", 3, []),
        (b"a\nb\nc\n", 2, ["b", "c"]),
        (b"a\nb\nc", 2, ["b", "c"]),
        (b"a\nb\n", 9, ["a", "b"]),
        (b"a\n\n\n", 2, ["", ""]),
        (b"a\nb\n", 0, []),
        (b"\n", 1, [""]),
    ],
)
def test_the_last_lines_of_a_file(log, data, count, expected):
    log.write_bytes(data)
    assert last_lines(log, count) == expected


def test_the_last_lines_of_a_large_file_are_found_from_its_end(log, monkeypatch):
    add(log, b"".join(b"line %d\n" % number for number in range(1_000_000)))
    read = []
    real = os.pread
    monkeypatch.setattr(os, "pread", lambda *given: read.append(given[1]) or real(*given))
    assert last_lines(log, 2) == ["line 999998", "line 999999"]
    assert sum(read) < 200_000


def test_the_last_lines_of_no_file_are_none(tmp_path):
    assert last_lines(tmp_path / "none", 3) == []


@given(st.lists(st.binary(max_size=40).filter(lambda line: b"\n" not in line), max_size=8))
@settings(deadline=None)
def test_lines_read_at_once_are_the_same_as_lines_read_one_by_one(lines):
    assert texts(lines) == [text(line) for line in lines]
