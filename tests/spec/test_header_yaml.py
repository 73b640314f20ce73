import math
import tracemalloc

import pytest

from jupyter_gpudeploy.errors import SpecError
from jupyter_gpudeploy.spec.yaml import MAX_NODES, load

SCALARS = [
    ("1e-3", 0.001), ("1e5", 100000.0), ("1E5", 100000.0), (".5", 0.5), ("5.", 5.0), ("-.5e1", -5.0), ("+1.5", 1.5),
    ("no", "no"), ("No", "No"), ("on", "on"), ("yes", "yes"), ("off", "off"), ("y", "y"),
    ("true", True), ("True", True), ("FALSE", False), ("tRUE", "tRUE"),
    ("null", None), ("~", None), ("", None), ("Null", None),
    ("017", 17), ("0o17", 15), ("0x1F", 31), ("-12", -12), ("+3", 3), ("0b11", "0b11"), ("1_000", "1_000"),
    ("12:30:00", "12:30:00"), ("2026-01-31", "2026-01-31"), ("2026-01-31 10:00:00", "2026-01-31 10:00:00"),
    (".inf", math.inf), ("-.Inf", -math.inf), ("inf", "inf"), ("1.2.3", "1.2.3"), ("1e", "1e"), ("e5", "e5"),
    ("'1'", "1"), ('"true"', "true"), ("train.py", "train.py"), ("--lr {lr}", "--lr {lr}"), ("=", "="),
    ("1" * 5000, "1" * 5000),
]  # fmt: skip


@pytest.mark.fault(45)
@pytest.mark.parametrize(("text", "value"), SCALARS, ids=[text[:20] for text, _ in SCALARS])
def test_scalars_are_those_of_yaml_1_2(text, value):
    read = load(f"a: {text}").value["a"]
    assert read == value
    assert type(read) is type(value)


@pytest.mark.fault(45)
def test_nan_is_a_number():
    assert math.isnan(load("a: .nan").value["a"])


def test_keys_are_text_as_they_are_written():
    assert load("on: 1\n1: 2\nnull: 3\n1e-3: 4\n'a b': 5").value == {"on": 1, "1": 2, "null": 3, "1e-3": 4, "a b": 5}


def test_an_empty_text_has_no_value():
    assert load("").value is None
    assert load("# nothing\n\n").value is None


def test_every_value_knows_its_place_in_the_cell():
    document = load("# note\nname: x\nparameters:\n  lr: [0.1,\n       0.01]\n", first_line=2)
    assert document.where(("name",)) == (3, 1)
    assert document.where_value(("name",)) == (3, 7)
    assert document.where(("parameters", "lr")) == (5, 3)
    assert document.where_value(("parameters", "lr")) == (5, 7)
    assert document.where_value(("parameters", "lr", 1)) == (6, 8)


def test_a_place_that_is_not_there_is_that_of_what_is_above_it():
    document = load("metric:\n  goal: minimize", first_line=2)
    assert document.where(("metric", "name")) == (2, 1)
    assert document.where(("nothing",)) == (2, 1)


def test_columns_count_characters_and_lines_end_at_a_line_feed_only():
    document = load('name: "Übung 😀"\u2028\ngpus: 1', first_line=2)
    assert document.where_value(("gpus",)) == (3, 7)


def test_numbers_can_be_had_as_they_are_spelled():
    document = load("env: {VERSION: 1.10, RATE: 1e-3, ON: True, NOTHING: ~}")
    assert document.as_text(("env",)) == {"VERSION": "1.10", "RATE": "1e-3", "ON": "True", "NOTHING": None}


def test_aliases_and_merge_keys_are_understood_and_share_nothing():
    document = load("base: &base {lr: [1, 2], h: 3}\nother:\n  <<: *base\n  h: 4\nmany: {<<: [{h: 1, j: 5}, *base]}")
    assert document.value["other"] == {"lr": [1, 2], "h": 4}
    assert document.value["many"] == {"h": 1, "j": 5, "lr": [1, 2]}
    document.value["other"]["lr"].append(3)
    assert document.value["base"]["lr"] == [1, 2]


@pytest.mark.fault(44)
def test_a_key_that_stands_twice_is_refused_with_both_lines():
    with pytest.raises(SpecError) as caught:
        load("lr: 1\nname: x\nlr: 2\nparameters: {a: 1,\n  a: 2}", first_line=2)
    first, second = caught.value.problems
    assert (first.line, first.column) == (4, 1)
    assert first.message == "the key 'lr' stands twice, first on line 2"
    assert first.hint == "keep one of lines 2 and 4"
    assert (second.line, second.column) == (6, 3)


BROKEN = [
    ("name: x\n\tgpus: 1", 3, 1, "a tab stands here", "spaces"),
    ("parameters:\n  lr: 1\n\tdepth: 2", 4, 1, "a tab stands here", "spaces"),
    ("name: x\n  gpus: 1", 3, 3, "wrong indentation", "same column"),
    ("parameters:\n   a: 1\n  b: 2", 4, 3, "wrong indentation", "neighbours"),
    ('name: "abc\ngpus: 1', 2, 7, "quote that begins here is not closed", "close"),
    ("args: 'it's'", 2, 11, "behind a closed quote", "doubled"),
    ("lr: [1, 2\ngpus: 3", 2, 5, "this [ is not closed", "]"),
    ("lr: {a: 1\ngpus: 3", 2, 5, "this { is not closed", "}"),
    ("args: {lr} --epochs 20", 2, 12, "behind a closed quote or bracket", "quotes"),
    ("args: --a: b: c", 2, 10, "a second `: `", "quotes"),
    ("name: x\nprint('hello')\ngpus: 1", 3, 1, "this line is no `key: value`", "---"),
    ("args: *.csv", 2, 7, "cannot begin with * or &", "quotes"),
    ("args: @file", 2, 7, "cannot begin with @", "quotes"),
    ("args: *gone", 2, 7, "*gone stands for nothing", "quotes"),
    ("a: &x 1\nb: &x 2", 3, 4, "the same &name", "another name"),
    ('args: "\\d"', 2, 9, r"\d means nothing", "single quotes"),
    ("lr: - 1", 2, 5, "list item", "own line"),
    ("gpus: 1\n}", 3, 1, "} closes nothing", "delete"),
    ("lr:\n  - 1\n  b: 2", 4, 3, "one level", "indent"),
    ("a: |text\n  b", 2, 4, "behind | or >", "next line"),
    ("%time x\na: 1", 2, 1, "begins with %", "---"),
    ("a: 1\n...\nb: 2", 4, 1, "outside the header", "---"),
    ("{lr}: 1", 2, 1, "a key must be plain text", "quotes"),
    ("b: {<<: 1}", 2, 9, "takes in a mapping", "*name"),
    ("a: x\x01y", 2, 5, "'\\x01' is not allowed", "delete"),
]


@pytest.mark.fault(46)
@pytest.mark.parametrize(("text", "line", "column", "message", "way_out"), BROKEN, ids=[case[0] for case in BROKEN])
def test_broken_yaml_is_told_with_its_place_a_caret_and_the_fix(text, line, column, message, way_out):
    with pytest.raises(SpecError) as caught:
        load(text, first_line=2)
    (problem,) = caught.value.problems
    assert message in problem.message
    assert way_out in problem.hint
    assert (problem.line, problem.column) == (line, column)
    shown, caret = problem.excerpt.split("\n")
    assert shown == text.split("\n")[line - 2].replace("\t", " ").replace("\x01", "·")
    assert caret == " " * (column - 1) + "^"
    assert problem.excerpt.replace("\n", "\n    ") in str(caught.value)
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None


def bomb(levels=9, width=9):
    rows = ["a0: &a0 [" + ",".join("x" * width) + "]"]
    rows += [f"a{n}: &a{n} [" + ",".join([f"*a{n - 1}"] * width) + "]" for n in range(1, levels)]
    return "\n".join(rows)


@pytest.mark.fault(49)
@pytest.mark.parametrize(
    ("text", "message"),
    [
        (bomb(), f"aliases expand to more than {MAX_NODES:,} nodes: refused"),
        (bomb().replace("[", "{k: [").replace("]", "]}"), f"aliases expand to more than {MAX_NODES:,} nodes: refused"),
        ("a: &a [*a]", "an alias stands inside the value it stands for"),
        ("a: &a {b: {c: *a}}", "an alias stands inside the value it stands for"),
        ("a: &a {<<: *a}", "an alias stands inside the value it stands for"),
        ("a: " + "[" * 20000, "nested deeper than 50 levels"),
        ("a: " + "[" * 20000 + "]" * 20000, "nested deeper than 50 levels"),
        ("- " * 20000 + "a", "nested deeper than 50 levels"),
        ("\n".join(" " * n + "a:" for n in range(2000)), "nested deeper than 50 levels"),
        ("x0: &x0 [1]\n" + "\n".join(f"x{n}: &x{n} [*x{n - 1}]" for n in range(1, 90)), "nested deeper than 50 levels"),
        ("a: [" + ",".join(["1"] * (MAX_NODES + 1)) + "]", f"more than {MAX_NODES:,} values: refused"),
    ],
    ids=[
        "lists",
        "mappings",
        "itself",
        "deep itself",
        "merge itself",
        "open",
        "flow",
        "block",
        "keys",
        "chain",
        "long",
    ],
)
def test_what_would_explode_is_refused_before_it_is_used(text, message):
    with pytest.raises(SpecError) as caught:
        load(text)
    assert caught.value.problems[0].message == message


@pytest.mark.fault(49)
def test_a_bomb_takes_no_memory():
    tracemalloc.start()
    try:
        with pytest.raises(SpecError):
            load(bomb(12))
        assert tracemalloc.get_traced_memory()[1] < 2**20
    finally:
        tracemalloc.stop()


def test_aliases_within_the_limit_are_welcome():
    assert load(bomb(3)).value["a2"][8][8] == ["x"] * 9


@pytest.mark.fault(50)
@pytest.mark.parametrize(
    ("value", "column"),
    [
        ("!!python/object/apply:os.system ['touch pwned']", 4),
        ("!!python/name:os.system", 4),
        ("!!float 1", 4),
        ("!env HOME", 4),
        ("! x", 4),
        ("!<tag:yaml.org,2002:int> 1", 4),
        ("!x!y 1", 4),
        ("[1, !!str 2]", 8),
    ],
)
def test_tags_are_not_allowed(value, column, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SpecError) as caught:
        load(f"a: {value}", first_line=2)
    (problem,) = caught.value.problems
    assert problem.message == "tags are not allowed"
    assert (problem.line, problem.column) == (2, column)
    assert list(tmp_path.iterdir()) == []
