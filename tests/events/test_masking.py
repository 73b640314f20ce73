import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jupyter_gpudeploy.events.masking import Mask

SECRETS = [b"hf_verysecret", b"hf_verysecretlonger", b"abcabcabd"]


@given(st.lists(st.sampled_from([*SECRETS, b"hf_very", b"abcabc", b"x", b"\n", b"secret"])), st.data())
@settings(deadline=None)
def test_no_secret_gets_through_however_it_is_cut(words, data):
    text = b"".join(words)
    mask, written, position = Mask(SECRETS), b"", 0
    while position < len(text):
        size = data.draw(st.integers(1, 9))
        written += mask.feed(text[position : position + size])
        position += size
    written += mask.rest()
    assert not any(secret in written for secret in SECRETS)
    assert written.replace("••••••".encode(), b"").count(b"\n") == text.count(b"\n")


def test_what_only_begins_like_a_secret_is_written_in_the_end():
    mask = Mask([b"hf_verysecret"])
    assert mask.feed(b"have hf_very") + mask.rest() == b"have hf_very"
    assert mask.feed(b"hf_very") == b""
    assert mask.feed(b" good") == b"hf_very good"


@pytest.mark.parametrize("values", [[], [b"short"]])
def test_without_anything_to_hide_nothing_is_held(values):
    mask = Mask(values)
    assert not mask.is_needed
    assert mask.feed(b"short") == b"short"
