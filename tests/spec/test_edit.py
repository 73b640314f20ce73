"""A cell with one key changed: nothing else moves, and it says exactly what was meant."""

import json

import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from jupyter_gpudeploy.errors import SpecError
from jupyter_gpudeploy.spec.cell import check, write
from jupyter_gpudeploy.spec.edit import KEYS, CellText, opened
from jupyter_gpudeploy.spec.models import TEXT_FIELDS

CELL = """\
# my sweep
run: train.py   # the script
parameters:
  # the rate
  lr: [0.1, 0.01]  # log
  depth: {min: 1, max: 3}

# resources
gpus: 1
---
# not yours
print(1)
"""
hostile = st.sampled_from([
    "no", "1e-3", "017", "null", "true", "---", "- x", "a: b", "a #b", "#x", "{lr}", "[x", "*a", "&a", "!x", "'", '"', "\\n",
    "x:", "a,b", "a\tb", "a\nb", "12:30:00", "...", "é 😀", "\u2028", "\ufeff", "|", ">", " x ", "\n", "%x", "`", "\x85", "~",
])  # fmt: skip
texts = hostile | st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1, max_size=12)
scalars = texts | st.integers(-(10**20), 10**20) | st.floats(allow_nan=False, allow_infinity=False) | st.booleans()
names = st.from_regex(r"[a-z][a-z0-9_]{0,6}", fullmatch=True)
anything = (
    scalars
    | st.lists(scalars, min_size=1, max_size=3)
    | st.dictionaries(names, scalars | st.lists(scalars, max_size=2), min_size=1, max_size=3)
)
written = st.sampled_from([
    CELL, "", "# only a word\n", "{run: train.py, gpus: 1}\n", "x = 1\nprint(x)\n", "---\nprint(1)\n", "run: x",
    "---\nrun: x\n---\nprint(1)", "base: &a [1, 2]\nparameters: {lr: *a}\n", "env: &e\n  A: b\nsecrets:\n  <<: *e\n",
    "run: |\n  a\n  # no comment\n\n  b\n# a comment\ngpus: 1\n", "requirements:\n- a  # one\n- b\ngpus: 1  # two\n", "name:\nrun: x\n",
    "run: 'a\n  b'\ngpus: 2\n", "run: x\r\ngpus: 1  # one\r\n---\r\nprint(1)\r\n", "  run: x\n  gpus: 1\n", '"run": x\n? gpus\n: 1\n',
    "parameters:\n    lr: [1,\n         2]\n    b: 3\n", "description: >+\n  long\n\n\ngpus: 1\n", "gpus: 1\nname: x", "env: {A: b}\n", "{}\n",
])  # fmt: skip


def as_read(key, value):
    """Return a value as a cell with that key says it."""
    if key not in TEXT_FIELDS:
        return value
    if isinstance(value, dict):
        return {name: as_read(key, item) for name, item in value.items()}
    if isinstance(value, list):
        return [as_read(key, item) for item in value]
    return value if isinstance(value, str) else json.dumps(value)


def same(one, other):
    return json.dumps(one, sort_keys=True) == json.dumps(other, sort_keys=True)


@given(st.text(max_size=80) | written)
def test_a_cell_that_is_opened_and_not_changed_is_the_same_text(text):
    try:
        cell = opened(text)
        again = cell
        for key, value in cell.values.items():
            again = again if value is None else again.with_value((key,), value)
    except SpecError:
        assume(False)
    assert again.text == cell.text
    if not text.lstrip().startswith("```"):
        assert cell.text == text


@settings(max_examples=120, deadline=None)
@example(CELL, "run", "---")
@example("x = 1\nprint(x)\n", "description", "a\n---\nb")
@given(written, st.sampled_from(KEYS), anything)
def test_a_change_of_one_key_is_read_as_exactly_that_change(text, key, value):
    cell = opened(text)
    made = cell.with_value((key,), value)
    assert same(CellText(made.text).values, {**cell.values, key: as_read(key, value)})
    assert (made.code or "").strip() == (cell.code or "").strip()
    gone = made.with_value((key,), None)
    assert same(gone.values, {name: item for name, item in cell.values.items() if name != key})
    assert (gone.code or "").strip() == (cell.code or "").strip()


@settings(max_examples=80, deadline=None)
@given(written, st.sampled_from(["parameters", "env", "metric"]), names, scalars)
def test_a_change_inside_a_key_is_read_as_exactly_that_change(text, key, name, value):
    cell = opened(text)
    made = cell.with_value((key, name), value)
    before = cell.values.get(key)
    expected = {**(before if isinstance(before, dict) else {}), name: as_read(key, value)}
    assert same(CellText(made.text).values, {**cell.values, key: expected})


@settings(max_examples=50, deadline=None)
@given(st.permutations(["name", "run", "gpus", "memory", "max_hours", "parameters"]), st.data())
def test_every_line_of_the_other_keys_stays_byte_for_byte(order, data):
    lines = {
        "name": "name:   'x'   # who", "run": "run: train.py", "gpus": "gpus: 0x1  # one", "memory": "memory: 16Gi",
        "max_hours": "max_hours: 1.50", "parameters": "parameters:\n   lr: [1e-3,   2]   # rates\n   # deep\n   depth: 3",
    }  # fmt: skip
    text = "".join(f"# above {key}\n{lines[key]}\n\n" for key in order) + "---\nprint(1)\n"
    key = data.draw(st.sampled_from(order))
    made = CellText(text).with_value((key,), data.draw(scalars)).text
    for other in order:
        assert f"# above {other}\n" in made
        assert other == key or f"{lines[other]}\n" in made
    assert made.endswith("---\nprint(1)\n")


def test_a_value_is_replaced_in_its_line_and_its_comment_stays():
    made = CellText(CELL).with_value(("run",), "other.py").with_value(("parameters", "lr"), [1, 2]).text
    assert made == CELL.replace("train.py", "other.py").replace("[0.1, 0.01]", "[1, 2]")


def test_a_new_key_stands_where_the_order_of_the_schema_puts_it():
    made = (
        CellText(CELL)
        .with_value(("args",), "--epochs 3")
        .with_value(("memory",), "8Gi")
        .with_value(("name",), "x")
        .text
    )
    lines = made.split("\n")
    assert lines[1:4] == ["name: x", "run: train.py   # the script", "args: --epochs 3"]
    assert lines[lines.index("gpus: 1") + 1] == "memory: 8Gi"


def test_a_key_goes_with_its_lines_and_the_comments_around_stay():
    made = CellText(CELL).with_value(("parameters",), None).text
    assert made == "# my sweep\nrun: train.py   # the script\n\n# resources\ngpus: 1\n---\n# not yours\nprint(1)\n"
    assert CellText(CELL).with_value(("parameters", "lr"), None).text == CELL.replace("  lr: [0.1, 0.01]  # log\n", "")


def test_the_last_of_the_axes_takes_the_key_with_it():
    cell = CellText("run: x\nparameters:\n  lr: [1]\ngpus: 1\n").with_value(("parameters", "lr"), None)
    assert cell.text == "run: x\ngpus: 1\n"


def test_a_cell_of_python_gets_a_header_above_it():
    assert CellText("x = 1\nprint(x)\n").with_value(("gpus",), 1).text == "gpus: 1\n---\nx = 1\nprint(x)\n"


def test_line_ends_stay_those_of_the_cell():
    made = CellText("run: x\r\n---\r\nprint(1)\r\n").with_value(("gpus",), 1).text
    assert made == "run: x\r\ngpus: 1\r\n---\r\nprint(1)\r\n"


def test_the_code_is_replaced_below_the_same_header():
    assert CellText(CELL).with_code("print(2)\n").text == CELL.replace("# not yours\nprint(1)", "print(2)")
    assert CellText("gpus: 1").with_code("x()").text == "gpus: 1\n---\nx()\n"
    assert CellText("gpus: 1\n---\nx()").with_code(None).values == {"gpus": 1}


def test_an_older_form_is_opened_in_todays_keys():
    cell = opened("application:\n  name: digits\n  source:\n    path: train.py\n")
    assert cell.values["run"] == "train.py"
    assert cell.text == write(check(cell.values).spec)


@pytest.mark.parametrize("text", ["run: 'x\n", "run: [1\n", "a: 1\na: 2\n", "- a\n"])
def test_what_is_no_header_is_refused_with_its_place(text):
    with pytest.raises(SpecError, match="line"):
        _ = opened(text)
