import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jupyter_gpudeploy.names import LIMIT, point_name, safe_name, shortest

LABEL = re.compile(r"[a-z]([a-z0-9-]*[a-z0-9])?")

# The cases that kubespawner's own slug tests hold, and those that people type.
CORPUS = [
    "jupyter-alex", "jupyter-Alex", "jupyter-üni", "jupyter-user@email.com", "endswith-", "-startswith", "-x", "x-",
    "a", "1", "123", "0abc", "user-123", "jupyter-_user", "a" * 39, "a" * 40, "a" * 41, "a" * 63, "a" * 64, "a" * 65,
    "a" * 500, "Übung #1", "übung #1", "😀", "😀😀", "", " ", ".", "..", "/", "a/b", "a.b", "a_b", "a b", "a-b", "A-B",
    "lr=0.1", "lr=0-1", "lr_0.1", "LR=0.1", "lr-0-1", "lr=0.1, hidden=32", "../../etc/passwd", "$(id)", "a\nb", "a\0b",
    "日本語", "ﬁ", "fi", "İ", "ß", "ss", "x-12345678", "run-deadbeef", "run-0123456", "--", "-", "_", "a--b", "\ud800",
]  # fmt: skip


@pytest.mark.fault(42)
@pytest.mark.parametrize("original", CORPUS, ids=ascii)
def test_every_name_becomes_a_label_that_any_backend_takes(original):
    name = safe_name(original)
    assert LABEL.fullmatch(name)
    assert len(name) <= LIMIT


@pytest.mark.fault(42)
def test_no_two_of_the_corpus_share_a_name():
    assert len({safe_name(original) for original in CORPUS}) == len(set(CORPUS))


@pytest.mark.fault(42)
@pytest.mark.parametrize("original", ["digits", "a", "model-v1", "lr-0-1", "a" * 40])
def test_a_safe_name_stays_as_it_is(original):
    assert safe_name(original) == original


@pytest.mark.fault(42)
def test_a_name_stays_readable_and_the_same_every_time():
    assert safe_name("Übung #1") == "ubung-1-" + safe_name("Übung #1")[-8:]
    assert safe_name("lr=0.1") == "lr-0-1-f27540d9"


@pytest.mark.fault(42)
@pytest.mark.parametrize("limit", [10, 12, 40, 52, 63])
@pytest.mark.parametrize("original", ["x" * 100, "9" * 100, "-" * 100, "é" * 100])
def test_a_limit_is_kept(original, limit):
    name = safe_name(original, limit)
    assert LABEL.fullmatch(name)
    assert len(name) <= limit


@pytest.mark.fault(42)
@settings(deadline=None)
@given(st.text(max_size=80))
def test_any_text_becomes_a_label(original):
    name = safe_name(original)
    assert LABEL.fullmatch(name)
    assert len(name) <= LIMIT


# Texts close to each other, where slugs alone collide.
near = st.text(alphabet="aA-_.= 0é", max_size=6)


@pytest.mark.fault(42)
@settings(deadline=None)
@given(near, near)
def test_two_texts_never_share_a_name(one, other):
    assert (safe_name(one) == safe_name(other)) == (one == other)


@pytest.mark.fault(42)
@settings(deadline=None)
@given(st.text(max_size=60))
def test_a_name_is_never_what_another_text_was_turned_into(original):
    assert safe_name(safe_name(original)) == safe_name(original) or safe_name(original) != original


@pytest.mark.fault(42)
@settings(deadline=None)
@given(near)
def test_typing_the_name_that_another_text_was_given_makes_a_third_one(original):
    name = safe_name(original)
    if name != original:
        assert safe_name(name) != name


@pytest.mark.fault(52)
@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.1 + 0.2, "0.3"),
        (0.001, "0.001"),
        (1e-05, "1e-05"),
        (1.0, "1"),
        (3, "3"),
        (True, "True"),
        (None, "None"),
        ("a", "a"),
    ],
)
def test_numbers_are_named_in_their_shortest_form(value, text):
    assert shortest(value) == text


@pytest.mark.fault(52)
def test_a_point_is_called_by_its_parameters():
    assert point_name({"lr": 0.1 + 0.2, "hidden": 32, "name": "adam"}) == "lr=0.3, hidden=32, name=adam"
    assert point_name({}) == ""
