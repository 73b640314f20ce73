"""Lines out of the files: newest, older, filtered, of a moment."""

from __future__ import annotations

import random
import time

import pytest
from written import tail_of, texts

from jupyter_gpudeploy.notebook.card import match, pages, protocol
from jupyter_gpudeploy.notebook.card.match import SLOW
from jupyter_gpudeploy.notebook.card.protocol import LINE_CHARACTERS, LOG_BYTES
from jupyter_gpudeploy.notebook.card.tail import LogTail


@pytest.fixture
def log(tmp_path):
    def make(data, task=0):
        file = tmp_path / f"{task}.1.log"
        file.write_bytes(data)
        return tail_of(file, task)

    return make


@pytest.fixture
def wanted():
    """Filters at work, ended with the test."""
    made = []

    def make(**filters):
        made.append(match.of(protocol.Filter(**filters)))
        return made[-1]

    yield make
    for each in made:
        each.close()


def said(found):
    return [line.text for line in found.lines]


def every_page(tails, match, limit=50):
    """All lines, page by page from the end, as a person who scrolls up sees them."""
    by_key = {(tail.task, tail.attempt): tail for tail in tails}
    log = pages.newest(tails, match, limit)
    lines = list(log.lines)
    while log.before:
        places = [(by_key[task, attempt], end) for task, attempt, end in log.before]
        log = pages.Reading(places, match, limit).backwards()
        lines = [*log.lines, *lines]
    return lines


def test_pages_from_the_end_bring_every_line_once_with_its_number(log, wanted):
    tail = log(b"".join(b"line %d\n" % n for n in range(1, 20_001)) + b"no newline")
    lines = every_page([tail], wanted(), 300)
    assert [line.text for line in lines] == [f"line {n}" for n in range(1, 20_001)] + ["no newline"]
    assert [line.number for line in lines] == list(range(1, 20_002))


def test_pages_of_many_logs_bring_every_line_once_in_the_order_of_their_times(tmp_path, wanted):
    chance = random.Random(3)
    tails = []
    for task in range(5):
        file = tmp_path / f"{task}.1.log"
        tail = LogTail(task, 1, file, 0.0)
        with file.open("ab", buffering=0) as stream:
            for second in sorted(chance.sample(range(1000), 300)):
                stream.write(b"%d at %d\n" % (task, second) * chance.randrange(1, 4))
                tail.poll(float(second))
        tails.append(tail)
    lines = every_page(tails, wanted(), 70)
    assert len(lines) == sum(tail.lines for tail in tails)
    for task in range(5):
        assert [line.number for line in lines if line.task == task] == list(range(1, tails[task].lines + 1))
    newest = pages.newest(tails, wanted(), 100).lines
    assert [line.time for line in newest] == sorted(line.time for line in newest)


@pytest.mark.parametrize(
    ("filters", "passes"),
    [
        ({"text": "NUMBER 77"}, lambda n: f"number {n}".startswith("number 77")),
        ({"text": r"number 7+$", "regex": True}, lambda n: set(str(n)) == {"7"}),
        ({"level": "error"}, lambda n: n == 77),
        ({"text": "NÜMBER"}, lambda n: n == 77),
        ({"text": "number", "level": "warning"}, lambda n: n == 77),
    ],
)
def test_a_filter_finds_what_is_in_the_file_however_far_back(log, wanted, filters, passes):
    lines = [f"number {n}" for n in range(50_001)]
    lines[77] = "\x1b[31mERROR\x1b[0m: nümber number 77"
    tail = log("\n".join(lines[1:]).encode() + b"\n")
    match = wanted(**filters)
    expected = [n for n in range(1, 50_001) if passes(n) or (n == 77)]
    assert [line.number for line in every_page([tail], match)] == expected
    assert [line.number for line in pages.newest([tail], match, 1).lines] == expected[-1:]


def test_text_that_colours_cut_in_two_is_found(log, wanted):
    assert said(pages.newest([log(b"x\nlo\x1b[31mss\x1b[0m=1\n")], wanted(text="loss"))) == ["lo\ue000bss\ue001=1"]


@pytest.mark.parametrize(
    ("level", "found"),
    [("error", ["ERROR a"]), ("warning", ["ERROR a", "WARNING b"]), ("info", ["ERROR a", "WARNING b", "INFO c"])],
)
def test_a_level_means_this_or_worse(log, level, found, wanted):
    assert said(pages.newest([log(b"ERROR a\nWARNING b\nINFO c\nplain\n")], wanted(level=level))) == found


def test_a_pattern_that_would_never_end_is_given_up_and_the_kernel_goes_on(log, wanted):
    match = wanted(text=r"(a+)+$", regex=True)
    started = time.monotonic()
    assert said(pages.newest([log(b"a" * 60 + b"!\n")], match)) == []
    assert match.problem == SLOW
    assert time.monotonic() - started < 20


@pytest.mark.parametrize("pattern", ["(", "[", "*", "(?P<x", "a{99999999999}"])
def test_what_is_no_pattern_says_so(wanted, pattern):
    match = wanted(text=pattern, regex=True)
    assert match.problem.startswith("no regular expression")
    assert match.select(b"x", [b"x"]) is None


def test_a_log_that_is_too_large_for_one_answer_is_searched_in_parts(log, monkeypatch, wanted):
    tail, match = log(b"needle\n" + b"hay\n" * 500_000), wanted(text="needle")
    monkeypatch.setattr(pages, "BUDGET", 1e-9)
    found = pages.newest([tail], match)
    assert "searched the newest 1" in found.note
    assert found.before
    monkeypatch.undo()
    assert [line.number for line in every_page([tail], match)] == [1]


def test_an_answer_has_no_more_than_fits_and_the_next_goes_on_there(log, wanted):
    tail = log(b"".join(b"%04d " % n + b"x" * 3000 + b"\n" for n in range(100)))
    found = pages.newest([tail], wanted())
    assert sum(len(line.text) for line in found.lines) <= LOG_BYTES + LINE_CHARACTERS
    lines = every_page([tail], wanted(), 300)
    assert [line.text[:4] for line in lines] == [f"{n:04d}" for n in range(100)]


@pytest.mark.fault(55)
def test_a_line_longer_than_every_block_is_one_line_of_a_page(log, wanted):
    tail = log(b"first\n" + b"x" * 5_000_000 + b"\nlast\n")
    lines = every_page([tail], wanted())
    assert [line.text[:5] for line in lines] == ["first", "xxxxx", "last"]
    assert [line.number for line in lines] == [1, 2, 3]


def test_a_moment_brings_the_lines_around_it(tmp_path, wanted):
    file = tmp_path / "0.1.log"
    tail = LogTail(0, 1, file, 0.0)
    with file.open("ab", buffering=0) as stream:
        for second in range(1, 1001):
            stream.write(b"at %d\n" % second)
            tail.poll(float(second))
    lines = said(pages.moment([tail], 500.5, wanted()))
    assert "at 500" in lines
    assert lines.index("at 501") == lines.index("at 500") + 1
    assert lines[0] == "at 351"
    assert said(pages.moment([tail], 500.5, wanted(text="at 49")))[0] == "at 49"


def test_a_moment_of_a_log_without_times_says_so(log, wanted):
    assert "not known" in pages.moment([log(b"x\n")], 500.0, wanted()).note


def test_what_was_deleted_meanwhile_is_no_error(log, wanted):
    tail = log(b"x\n")
    tail.file.unlink()
    assert pages.newest([tail], wanted()).lines == []
    assert texts([]) == []
