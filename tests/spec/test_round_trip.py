import json

import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from jupyter_gpudeploy.errors import SpecError
from jupyter_gpudeploy.spec.cell import check, code_of, differences, header, read, write
from jupyter_gpudeploy.spec.yaml import load

words = st.sampled_from([
    "no", "1e-3", "017", "null", "true", "---", "- x", "a: b", "a #b", "#x", "{lr}", "[x", "*a", "&a", "!x", "@x", "%x", "'", '"',
    "\\n", "--lr {lr}", "0x1F", ".5", ".inf", "~", "=", "<<", "?", "? x", "x:", ":x", "a,b", "a\tb", "a\nb", "12:30:00", "...",
    "é 😀", "\u2028", "\ufeff", "`x`", "|", ">", "",
])  # fmt: skip
# What a cell may hold; what looks like a token and NUL are refused, which other tests hold.
texts = words | st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=20)
lines = st.text(st.characters(exclude_categories=["C", "Zl", "Zp", "Zs"]), min_size=1, max_size=20)
names = st.from_regex(r"[a-z][a-z0-9_]{0,8}", fullmatch=True)
numbers = st.integers(-(10**30), 10**30) | st.floats(allow_nan=False)
scalars = texts | numbers | st.booleans() | st.none()
finite = st.floats(-1e6, 1e6, allow_nan=False)


@st.composite
def parameter(draw):
    kind = draw(st.sampled_from(["values", "one", "range", "flags", "bell"]))
    if kind == "values":
        return draw(
            st.lists(scalars, min_size=1, max_size=4, unique_by=lambda value: str(value).rstrip("0").rstrip("."))
        )
    if kind == "one":
        return draw(scalars)
    if kind == "flags":
        return {"values": [True, False], "flags": draw(st.lists(texts, min_size=2, max_size=2))}
    if kind == "bell":
        return {"distribution": "normal", "mu": draw(finite), "sigma": draw(st.floats(0.001, 10))}
    low, high = sorted(draw(st.lists(finite, min_size=2, max_size=2, unique=True)))
    return {"min": low, "max": high, "distribution": "uniform", "integer": draw(st.booleans())}


HEADERS = st.fixed_dictionaries(
    {},
    optional={
        "name": lines, "description": texts, "run": texts | st.lists(texts, max_size=3), "args": texts | st.lists(texts, max_size=3),
        "parameters": st.dictionaries(names, parameter(), max_size=3), "method": st.just("bayes"), "metric": lines,
        "max_runs": st.integers(1, 99), "parallelism": st.integers(1, 9), "seed": st.integers(), "gpus": st.integers(0, 8),
        "cpu": st.floats(0.001, 64), "memory": st.sampled_from(["16Gi", "256GB", "1.5Gi", 10**9]), "nodes": st.integers(1, 4),
        "env": st.dictionaries(names, texts, max_size=3), "requirements": texts | st.lists(texts, max_size=2),
        "secrets": st.dictionaries(names, st.sampled_from(["env:A", "file:/run/secrets/a", "name/key"]), max_size=2),
        "working_dir": texts, "allow_outside": st.booleans(), "max_hours": st.floats(0.01, 100), "retries": st.integers(0, 5),
        "warm": st.booleans() | st.lists(lines, max_size=2), "metric_files": st.lists(texts, max_size=2),
        "tracking": st.fixed_dictionaries({"backend": lines}, optional={"project": lines, "tags": st.lists(lines, max_size=2)}),
        "backend": lines, "cluster": lines, "mode": st.just("manual"),
    },
)  # fmt: skip
CODE = st.none() | st.sampled_from(
    ["print(1)", "\n\nx = 1\nprint(x)", 'text = """\n---\nname: x\n"""\nprint(text)', "# é 😀\npass"]
)


@example({"run": "x.py", "parameters": {"a": [float("inf"), -0.0]}}, None)
@example({"run": "---"}, None)
@example({}, "print(1)")
@settings(deadline=None)
@given(HEADERS, CODE)
def test_a_written_cell_is_read_back_as_the_same_spec(values, code):
    if code is not None:
        values = {key: value for key, value in values.items() if key != "run"}
    try:
        spec = check(values, code=code).spec
    except SpecError:
        assume(False)
    text = write(spec)
    (asked,) = read(text)
    assert asked.spec == spec
    assert header(asked.spec) == header(spec)
    assert write(asked.spec) == text
    assert code_of(text) == spec.code
    assert differences(header(spec), header(asked.spec), spec.code, asked.spec.code) == []
    assert json.loads(json.dumps(header(spec))) == header(spec)


@settings(deadline=None)
@given(
    st.recursive(
        scalars,
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts.filter(bool), inner, max_size=3),
        max_leaves=12,
    )
)
def test_json_is_read_as_itself(value):
    # JSON is YAML 1.2, except for the characters that PyYAML does not take raw
    text = json.dumps(value, ensure_ascii=True)
    assume("\\ud" not in text and "Infinity" not in text)
    assert load(f"a: {text}").value == {"a": value}


def must_be_read_or_refused(text):
    try:
        asked = read(text)
    except SpecError as error:
        refused = error
    else:
        for one in asked:
            assert read(write(one.spec))[0].spec == one.spec
        return
    assert refused.problems
    assert all(problem.message and problem.line >= 2 for problem in refused.problems)
    assert refused.__context__ is None


@settings(deadline=None)
@given(st.text(max_size=200))
def test_any_text_is_read_or_refused_with_a_place(text):
    must_be_read_or_refused(text)


LINES = [
    "name: x", "---", "  lr: [1", "\tx", "- a", "run: 'a", "}", "? ", ": ", "&a b", "*a", "<<: *a", "print(", "x = 1", "```", "|",
    "# - Name: x", "make wizard PROJECT=a", "!x", "resources: {gpus: 1}", "%a", "...", "run: x.py", "gpus: 1", "application:",
]  # fmt: skip


@settings(deadline=None)
@given(st.lists(st.sampled_from(LINES), max_size=8).map("\n".join))
def test_any_lines_are_read_or_refused_with_a_place(text):
    must_be_read_or_refused(text)


@pytest.mark.parametrize("name", ["no", "1e-3", "017", "null", "2026-01-31", "12:30:00", "yes", "0o7", "~"])
def test_text_that_looks_like_something_else_is_quoted(name):
    text = write(check({"name": name, "run": "x.py"}).spec)
    assert read(text)[0].spec.name == name
    assert load(text).value["name"] == name
