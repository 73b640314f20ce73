"""One line of a log, however hostile, as the card shows it."""

from __future__ import annotations

import json
import random
import unicodedata

import pytest

from jupyter_gpudeploy.notebook.card.lines import Seen, level_of, line, shown, size
from jupyter_gpudeploy.notebook.card.protocol import LINE_CHARACTERS

RED, END = "\ue000b", "\ue001"


def text(raw):
    return line(raw, 1, 0, 1, None).text


def test_an_ordinary_line_is_as_it_was():
    assert line(b"step=1 loss=0.5", 3, 2, 1, 5.0) == (3, 2, 1, 5.0, None, "step=1 loss=0.5", 0)


@pytest.mark.fault(56)
@pytest.mark.parametrize(
    ("raw", "seen"),
    [
        (b"\x1b[31mred\x1b[0m plain", f"{RED}red{END} plain"),
        (b"\x1b[1;31;40mred", f"{RED}red{END}"),
        (b"\x1b[91mbright\x1b[39m", "\ue000jbright\ue001"),
        (b"\x1b[31ma\x1b[32mb\x1b[m", f"{RED}a{END}\ue000cb{END}"),
        (b"\x1b[38;5;1mred\x1b[0m\x1b[38;5;200mx\x1b[38;2;31;31;31my", f"{RED}red{END}xy"),
        (b"\x1b[48;5;1mx\x1b[4m\x1b[7my", "xy"),
        (b"\x1b[99999999999999999999mx", "x"),
        (b"\x1b]8;;http://evil\x1b\\click\x1b]8;;\x1b\\", "click"),
        (b"a\x1b[2K\x1b[1Ab", "ab"),
        (b"\x00\x01 binary \xff\xfe", "␀␁ binary \ufffd\ufffd"),
        ("a\u202eb\u200bc".encode(), "a⟨U+202E⟩b⟨U+200B⟩c"),
        ("\ue000bnot ours\ue001".encode(), "bnot ours"),
        (b"<img src=x onerror=alert(1)>", "<img src=x onerror=alert(1)>"),
        (b" 10%|#    |\r 50%|###  |\r100%|#####|", "100%|#####|"),
        (b" 99%\r100%\r", "100%"),
        (b"12\b\b34", "34"),
    ],
)
def test_what_a_terminal_would_obey_is_harmless_and_colours_are_kept(raw, seen):
    assert text(raw) == seen


@pytest.mark.fault(55)
@pytest.mark.parametrize("size", [2001, 70_000, 50_000_000])
def test_a_long_line_is_cut_and_says_how_much_was_left_out(size):
    found = line(b"x" * size, 1, 0, 1, None)
    assert found.text == "x" * LINE_CHARACTERS
    assert found.cut == size - LINE_CHARACTERS


def test_a_coloured_line_is_cut_at_what_can_be_seen_and_its_colour_ends():
    found = line(b"\x1b[31m" + b"r" * 1500 + b"\x1b[32m" + b"g" * 1500, 1, 0, 1, None)
    assert found.text == f"{RED}{'r' * 1500}{END}\ue000c{'g' * 500}{END}"
    assert found.cut == 1000


@pytest.mark.parametrize(
    ("said", "level"),
    [
        ("2026-11-23 INFO starting", "info"),
        ("WARNING: low memory", "warning"),
        ("/x/y.py:3: DeprecationWarning: old", "warning"),
        ("Traceback (most recent call last):", "error"),
        ("ValueError: bad", "error"),
        ("torch.cuda.OutOfMemoryError: CUDA", "error"),
        ("[ERROR] it broke", "error"),
        ("error: no such file", "error"),
        ("DEBUG x", "debug"),
        ("errors=0 information", None),
        ("val_error=0.3", None),
        ("step 3", None),
    ],
)
def test_a_line_says_its_level(said, level):
    assert level_of(said) == level


@pytest.mark.fault(56)
def test_whatever_bytes_come_nothing_that_hides_or_moves_is_left():
    chance = random.Random(7)
    pieces = [
        b"\x1b[31m",
        b"\x1b[",
        b"\x1b]8;;",
        b"\r",
        b"\b",
        b"\x00",
        b"\xff",
        b"abc",
        "\u202e\u2066\ue000a\ue001".encode(),
        b"\x9b",
        b"<script>",
        "é\U0001f600".encode(),
    ]
    for _ in range(3000):
        raw = b"".join(chance.choices(pieces, k=chance.randrange(1, 12)))
        found = shown(Seen(raw), 1, 0, 1, None)
        inner = found.text
        marks = [each for each in inner if each in "\ue000\ue001"]
        assert marks == ["\ue000", "\ue001"] * (len(marks) // 2)
        assert not [
            each for each in inner if unicodedata.category(each) in ("Cc", "Cf", "Cs", "Zl", "Zp") and each != "\t"
        ]
        inner.encode()


@pytest.mark.parametrize(
    "text", ["plain", 'a "quoted" \\ path', "\u4e2d" * 500, "\x1b[31mred\x1b[0m", "\U0001f600" * 90, '"' * 3000]
)
def test_a_line_takes_no_more_bytes_on_its_way_than_is_said(text):
    made = line(text.encode(), 123_456_789, 9_999, 12, 1795479133.1234567)
    assert len(json.dumps(list(made), ensure_ascii=False).encode()) <= size([made])
