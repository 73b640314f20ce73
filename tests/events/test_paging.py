"""A log in pieces: they join, they end at lines, and hide nothing."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jupyter_gpudeploy.events.paging import LIMIT, NEWEST, page


@pytest.fixture
def log(tmp_path):
    return tmp_path / "0.1.log"


def pages(file, limit, *, is_over=True):
    """Return all pieces from the beginning."""
    found, place = [], 0
    while (one := page(file, place, is_over=is_over, limit=limit)).end > place:
        assert one.start == place
        found.append(one)
        place = one.end
    return found


@settings(max_examples=150, deadline=None)
@given(
    st.lists(st.sampled_from([b"a", b"\n", b"\n", "é€😀".encode(), b"\r", b"\x1b[31m", b"\xff"]), max_size=60),
    st.integers(4, 20),
)
def test_pieces_join_to_the_whole_file(tmp_path_factory, parts, limit):
    file = tmp_path_factory.mktemp("log") / "0.1.log"
    data = b"".join(parts)
    file.write_bytes(data)
    found = pages(file, limit)
    assert sum(one.end - one.start for one in found) == len(data)
    assert all(one.end - one.start <= limit and one.size == len(data) for one in found)
    assert all(one.text.endswith("\n") and "\x1b" not in one.text and "\r" not in one.text for one in found)


def test_a_line_longer_than_a_piece_is_cut_between_characters_and_says_so(log):
    log.write_bytes("é".encode() * LIMIT + b"\nend\n")
    found = pages(log, LIMIT - 1)
    assert [one.is_cut for one in found] == [True, True, False]
    assert not any("\ufffd" in one.text for one in found)
    assert found[-1].text.endswith("\nend\n")


def test_a_line_that_is_not_finished_waits(log):
    log.write_bytes(b"one\ntw")
    assert page(log, 0, is_over=False)[:3] == ("one\n", 0, 4)
    assert page(log, 4, is_over=False)[:3] == ("", 4, 4)
    assert page(log, 4, is_over=True)[:3] == ("tw\n", 4, 6)


def test_the_newest_begins_with_a_line(log):
    log.write_bytes(b"0123456789\n" * NEWEST)
    found = page(log, is_over=False)
    assert found.is_cut
    assert found.end == found.size
    assert set(found.text.splitlines()) == {"0123456789"}
    assert NEWEST - 11 <= found.end - found.start <= NEWEST


def test_a_short_log_is_not_cut(log):
    log.write_bytes(b"one\n")
    assert page(log, is_over=False) == ("one\n", 0, 4, 4, False)


def test_what_is_beyond_the_end_is_the_newest_and_says_so(log):
    log.write_bytes(b"one\n")
    assert page(log, 5, is_over=False) == ("one\n", 0, 4, 4, True)
    assert page(log, 4, is_over=False) == ("", 4, 4, 4, False)


def test_a_log_that_is_not_there_is_empty(log):
    assert page(log, is_over=False) == ("", 0, 0, 0, False)
    assert page(log, 7, is_over=False) == ("", 0, 0, 0, True)
