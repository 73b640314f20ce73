"""What is written as YAML is read again as it was, by our reader and by PyYAML's, which follows YAML 1.1."""

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from jupyter_gpudeploy.spec.yaml import load
from jupyter_gpudeploy.spec.yaml_dump import dump_yaml

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT.filter(bool), inner, max_size=4),
    max_leaves=20,
)  # fmt: skip


@settings(deadline=None)
@given(st.dictionaries(TEXT.filter(bool), VALUES, max_size=5))
def test_every_value_comes_back(value):
    assert load(dump_yaml(value)).value == value


@settings(deadline=None)
@given(TEXT)
def test_a_text_is_a_text_to_a_reader_of_yaml_1_1(text):
    assert yaml.safe_load(dump_yaml({"key": [text, {"name": text}]})) == {"key": [text, {"name": text}]}


@pytest.mark.parametrize(
    "text",
    ["no", "on", "y", "N", "1e-3", "1_000", "0o17", "017", "12:30:00", "2026-01-01", "~", "null", ".5", "1.", "=", "<<", "0x1F", "+1", ""],
)  # fmt: skip
def test_a_text_that_some_reader_takes_for_something_else_is_quoted(text):
    written = dump_yaml({"key": text})
    assert written.removeprefix("key: ").strip()[0] in "'\""
    assert load(written).value == yaml.safe_load(written) == {"key": text}


def test_short_lists_and_items_take_one_line_and_lines_stay_lines():
    value = {
        "command": ["python3", "-u", "boot.py"],
        "env": [{"name": "A", "value": "1"}, {"name": "B", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}],
        "text": "one\ntwo\n",
    }
    assert dump_yaml(value) == (
        "command: [python3, -u, boot.py]\n"
        "env:\n"
        '- {name: A, value: "1"}\n'
        "- {name: B, valueFrom: {fieldRef: {fieldPath: metadata.name}}}\n"
        "text: |\n  one\n  two\n"
    )


def test_what_is_no_json_is_refused():
    with pytest.raises(ValueError, match="cannot be written"):
        dump_yaml({"key": object()})
