"""Lines that are read by their shape say the same as the parser says of each."""

from __future__ import annotations

import json
import math
import random
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jupyter_gpudeploy.events.follow import text
from jupyter_gpudeploy.trackers._columns import Columns
from jupyter_gpudeploy.trackers._shapes import SIGHTINGS, Shapes
from jupyter_gpudeploy.trackers.stdout import is_candidate, parse_line

SAMPLES = [
    json.loads(line)["line"]
    for line in (Path(__file__).parents[1] / "data" / "metric_lines.jsonl").read_text("utf-8").splitlines()
]


class Counting:
    """The parser, and how often it was asked."""

    def __init__(self):
        self.asked = 0

    def __call__(self, line):
        self.asked += 1
        return parse_line(text(line)) if is_candidate(line) else None


def by_shape(lines, parse=None, batch=64):
    shapes, columns = Shapes(parse or Counting()), Columns()
    encoded = [line.encode() for line in lines]
    for start in range(0, len(lines), batch):
        shapes.read(encoded[start : start + batch], start + 1, 1, columns)
    return told(columns.mark(0, "stdout"))


def one_by_one(lines):
    parse, columns = Counting(), Columns()
    for number, line in enumerate(lines, 1):
        if (row := parse(line.encode())) is not None:
            columns.add(row, 1, number)
    return told(columns.mark(0, "stdout"))


def told(columns):
    return [
        (point.line, point.name, repr(point.value), point.step, point.epoch, point.time, point.attempt)
        for point in columns
    ]


def jittered(line, chance):
    """Return the line with other digits, now and then more or fewer of them."""
    signs = []
    for sign in line:
        if sign.isascii() and sign.isdigit():
            kind = chance.random()
            signs.append(sign if kind < 0.2 else chance.choice("0123456789"))
            if kind > 0.95:
                signs.append(chance.choice("0123456789"))
        elif sign == "." and chance.random() < 0.03:
            signs.append(chance.choice(["", ",", "e-0"]))
        elif sign == "-" and chance.random() < 0.1:
            continue
        else:
            signs.append(sign)
            if sign in "=: " and chance.random() < 0.02:
                signs.append("-")
    return "".join(signs)


@pytest.mark.parametrize("sample", range(0, len(SAMPLES), 10))
def test_lines_like_those_of_real_programs_say_what_the_parser_says(sample):
    chance = random.Random(sample)
    for line in SAMPLES[sample : sample + 10]:
        lines = [line] * SIGHTINGS + [jittered(line, chance) for _ in range(60)] + [line] * 2
        assert by_shape(lines) == one_by_one(lines)


FLOODS = [
    "step={i} loss={x}",
    "epoch={e} step={i} loss={x} acc={y} lr=0.001",
    "Epoch {e}/100 step {i} - loss: {x} - acc: {y}",
    "Epoch {e:03d}/100 loss={x}",
    "2025-01-02 03:04:{s:02d},{i:03d} - train - INFO - step: {i}, loss: {x}, lr: 1e-3",
    '{{"step": {i}, "loss": {x}, "eval/acc": {y}, "id": {i}}}',
    '{{"time": {t}, "loss": {x}}}',
    "{{'loss': {x}, 'grad_norm': {y}, 'learning_rate': 5e-05, 'epoch': {f}}}",
    "INFO request id={i}abc url=http://x/y path: /a/b/c.txt ok",
    " 45%|####      | {i}/500000 [00:12<00:15, {f}it/s, loss={x}, acc={y}]",
    "\x1b[32m[rank0]\x1b[0m loss={x} time {s}ms",
    "top5 acc: {x} ({s:02d}.5) samples/s: {f}",
    "loss=nan acc={y} step={i}",
]


@pytest.mark.parametrize("form", FLOODS)
def test_a_flood_is_parsed_by_its_shape_and_says_the_same(form):
    chance = random.Random(1)
    lines = [
        form.format(
            i=i, e=i // 100, s=i % 60, f=round(i / 100, 2), t=1.7e9 + i,
            x=f"{chance.uniform(-3, 3):.4f}" if i % 50 else chance.random() * 1e-6, y=chance.random(),
        )
        for i in range(3000)
    ]  # fmt: skip
    parse = Counting()
    assert by_shape(lines, parse) == one_by_one(lines)
    assert parse.asked < len(lines) / 2


@given(st.lists(st.text(alphabet="ab 01.:=,{}()[]'\"-/%|e\t", max_size=40), max_size=6), st.integers(0, 1000))
@settings(max_examples=60, deadline=None)
def test_any_mixture_says_what_the_parser_says(texts, seed):
    chance = random.Random(seed)
    lines = [jittered(line, chance) for line in [*texts * SIGHTINGS, *texts * 20]]
    assert by_shape(lines, batch=17) == one_by_one(lines)


def test_lines_of_several_shapes_keep_their_order():
    lines = [
        line
        for i in range(50)
        for line in (f"train loss={i}.5 step={i}", f"{{'val_loss': {i}.25}}", "a=b", f"x: {i}.0 y: 2.0")
    ]
    assert by_shape(lines) == one_by_one(lines)


def test_what_looks_the_same_and_means_another_thing_is_not_mistaken():
    lines = [f"x=12{i % 10}4" for i in range(20)] + ["x=12,345", "x=12:30", "x=1.2.3", "x=5m3", "x=7/0", "x=-5", "x=+5"]
    assert by_shape(lines) == one_by_one(lines)
    lines = [f'{{"time": {i}.5, "a": 1}}' for i in range(20)] + [
        '{"time": 1718000000.5, "a": 1}',
        '{"time": 007, "a": 1}',
    ]
    assert by_shape(lines) == one_by_one(lines)


def test_lines_that_never_repeat_cost_no_learning():
    chance = random.Random(3)
    words = "alpha beta gamma delta".split()  # noqa: SIM905 - words read better
    lines = [
        f"{''.join(chance.choices('abcdefgh', k=9))} {chance.choice(words)}={chance.random()}" for _ in range(2000)
    ]
    parse = Counting()
    assert by_shape(lines, parse) == one_by_one(lines)
    assert parse.asked == len(lines)


def test_values_that_are_not_numbers_are_kept():
    lines = [f"step={i} loss={value}" for i in range(20) for value in ("nan", "inf", "-inf", "0.5")]
    values = [float(value) for _, _, value, *_ in by_shape(lines)]
    assert sum(map(math.isnan, values)) == 20
    assert values.count(math.inf) == values.count(-math.inf) == 20
