from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jupyter_gpudeploy.events.text import overwritten, plain, strip_controls


@pytest.mark.fault(56)
@pytest.mark.parametrize(
    ("printed", "shown"),
    [
        ("plain ü € 😀", "plain ü € 😀"),
        ("\x1b[1m\x1b[38;5;196mred\x1b[0m", "red"),
        ("\x9b31mred", "red"),
        ("\x1b]8;;https://evil.example\x1b\\click\x1b]8;;\x1b\\ me", "click me"),
        ("\x1b]8;;https://evil.example\x07click\x1b]8;;\x07", "click"),
        ("\x1b]0;window title\x07text", "text"),
        ("\x1bPq#0;2;0;0;0\x1b\\sixel", "sixel"),
        ("a\x1b[2Kb\x1b[1;1Hc\x1b[Ad", "abcd"),
        ("\x1b(Bset\x1b7\x1b8\x1bc", "set"),
        ("\x1b]8;;never ended", "␛]8;;never ended"),
        ("\x1b[", "␛["),
        ("a\x00b\x07c\x7fd", "a␀b␇c␡d"),
        ("tab\tstays", "tab\tstays"),
        ("two\nlines", "two␊lines"),
        ("exe\u202egnp.js", "exe⟨U+202E⟩gnp.js"),
        ("a\u2066b\u2069c", "a⟨U+2066⟩b⟨U+2069⟩c"),
        ("zero\u200bwidth\ufeff", "zero⟨U+200B⟩width⟨U+FEFF⟩"),
        ("tag\U000e0041", "tag⟨U+E0041⟩"),
        ("half \ud83d pair", "half ⟨U+D83D⟩ pair"),
        ("next\u2028line\x85", "next⟨U+2028⟩line⟨U+0085⟩"),
        ("10%\r20%", "20%"),
        ("abc\b\b\bX", "Xbc"),
        ("fam\U0001f468\u200d\U0001f469", "fam\U0001f468\u200d\U0001f469"),
    ],
)
def test_a_line_is_shown_with_nothing_hidden_and_nothing_moved(printed, shown):
    assert plain(printed) == shown


@pytest.mark.fault(56)
@given(
    st.text(alphabet=st.characters() | st.sampled_from("\x1b\x9b\x9d[]8;;mHP\\\x07\x00\r\b\u202e\u2066"), max_size=80)
)
def test_whatever_is_printed_what_is_shown_holds_no_control_character(printed):
    shown = plain(printed)
    shown.encode("utf-8")
    assert not [letter for letter in shown if (ord(letter) < 32 and letter != "\t") or 0x7F <= ord(letter) < 0xA0]
    assert not set(shown) & set("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\u200e\u200f")
    assert plain(shown) == shown


@pytest.mark.fault(56)
@pytest.mark.parametrize(
    "piece",
    [
        "\x1b[",
        "\x1b]",
        "\x1bP",
        "\x1b[0;",
        "\x9d",
        "\x90",
        "\x9b1",
        "\x9d\x90",
        "\x1b]8;;a",
        "\b",
        "a\b",
        "\r",
        "\x1b",
        "\x1b (",
    ],
)
def test_hostile_repetition_is_no_more_work_than_its_length(piece):
    text = piece * (65536 // len(piece))
    assert len(plain(text)) <= 8 * len(text)
    assert len(strip_controls(text)) <= len(text)


def test_blanks_that_wipe_a_line_do_not_hide_what_it_said():
    assert overwritten("\r 5% loss=0.5\r              \r") == " 5% loss=0.5"
    assert overwritten("a\rb\rlast") == "last"
    assert overwritten("\r\r") == ""
