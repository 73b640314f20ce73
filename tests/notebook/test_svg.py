"""Charts as SVG: well-formed and finite whatever comes in, every peak in it, nothing foreign in it but as text."""

from __future__ import annotations

import math
import re
from xml.etree import ElementTree as ET

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from test_displays import PAYLOADS

from jupyter_gpudeploy.notebook import svg, ticks
from jupyter_gpudeploy.notebook.thinning import thinned_along

NUMBER = re.compile(r"-?\d+(?:\.\d+)?(?:e[-+]?\d+)?")
ELEMENTS = {"svg", "title", "desc", "g", "path", "text"}
ATTRIBUTES = {
    "role", "width", "height", "viewBox", "fill", "font-family", "font-size", "font-weight", "transform", "x", "y", "d",
    "text-anchor", "stroke", "stroke-width", "stroke-opacity", "stroke-linejoin", "stroke-linecap", "stroke-dasharray",
}  # fmt: skip
TEXTS = st.text(max_size=30)
VALUES = st.floats(allow_nan=True, allow_infinity=True)
POINTS = st.lists(st.tuples(VALUES, VALUES), max_size=60)


def line(values, x=None, **changes):
    places = [float(place) for place in range(len(values))] if x is None else x
    return svg.Line(**({"label": "a", "x": places, "y": values, "colour": "#3b82f6"} | changes))


def parsed(text):
    """Return the elements of an image, which must be well-formed, of ours only, and finite."""
    root = ET.fromstring(text)  # noqa: S314 - our own
    elements = list(root.iter())
    for element in elements:
        assert element.tag.removeprefix("{http://www.w3.org/2000/svg}") in ELEMENTS
        assert set(element.attrib) <= ATTRIBUTES
        for name in ("d", "x", "y", "width", "height", "viewBox", "transform"):
            said = element.get(name, "")
            assert not re.search("nan|inf", said)
            assert all(abs(float(number)) < 1e5 for number in NUMBER.findall(said))
    return elements


def texts(text):
    return [element.text or "" for element in parsed(text)]


def heights(text):
    """Return where the first curve goes, in halves of a pixel from the top of its axis."""
    path = next(element.get("d") for element in parsed(text) if (element.get("d") or "").startswith("M0 "))
    _, first, *steps = map(int, re.findall(r"-?\d+", path))
    found = [first]
    for down in steps[1::2]:
        found.append(found[-1] + down)
    return found


@settings(max_examples=300, deadline=None)
@given(
    st.lists(st.tuples(POINTS, TEXTS, TEXTS, st.booleans()), max_size=4),
    st.booleans(),
    st.booleans(),
    st.sampled_from([(), (0.0,), (0.0, 100.0)]),
    TEXTS,
)
@example([([(0.0, 1.7e308), (1.0, -1.7e308)], "", "", False)], False, False, (), "")
@example([([(0.0, 5e-324), (5e-324, 1e-323)], "", "", True)], True, True, (), "")
@example([([(-1.7e308, 1.0), (1.7e308, 2.0)], "", "", False)], True, False, (), "")
@example([([(0.0, 1.0), (1.0, 1.0 + 1e-15)], "", "", False)], False, True, (), "")
def test_whatever_the_values_the_image_is_well_formed_and_finite(series, time, log, holds, title):
    lines = [
        line([y for _, y in points], [x for x, _ in points], label=label, note=note, is_bold=bold)
        for points, label, note, bold in series
    ]
    chart = svg.Chart(title, lines, title, time=time, log=log, holds=holds, crosses=log)
    for count in (1, 2, 3):
        parsed(svg.draw([chart] * count, title, title, names=title, points=40))


@settings(max_examples=200, deadline=None)
@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=400), st.integers(2, 30))
def test_thinning_keeps_the_ends_and_the_extremes(values, buckets):
    x = [float(place) for place in range(len(values))]
    kept = thinned_along(x, values, 0, len(values), buckets)
    assert kept == sorted(set(kept))
    assert (kept[0], kept[-1]) == (0, len(values) - 1)
    assert {min(values), max(values)} <= {values[place] for place in kept}
    assert len(kept) <= 2 * buckets + 2 or len(values) <= 2 * buckets


@settings(max_examples=200, deadline=None)
@given(st.floats(allow_nan=False, allow_infinity=False), st.floats(allow_nan=False, allow_infinity=False))
def test_every_axis_has_few_marks_that_lie_on_it(one, other):
    low, high = min(one, other), max(one, other)
    for axis in (ticks.linear(low, high), ticks.linear(low, high, whole=True), ticks.duration(low, high)):
        assert -math.inf < axis.low < axis.high < math.inf
        assert 0 < len(axis.marks) <= 12
        slack = (axis.high - axis.low) * 1e-6
        assert all(axis.low - slack <= at <= axis.high + slack for at, _ in axis.marks)


@pytest.mark.parametrize(
    ("axis", "labels"),
    [
        (ticks.linear(0.08, 0.97), ["0.2", "0.4", "0.6", "0.8"]),
        (ticks.linear(0, 100), ["0", "20", "40", "60", "80", "100"]),
        (ticks.linear(1, 15, whole=True), ["5", "10", "15"]),
        (ticks.linear(1, 2, whole=True), ["1", "2"]),
        (ticks.linear(1.0, 1.0), ["0.96", "0.98", "1.00", "1.02", "1.04"]),
        (ticks.linear(1e12, 3e12), ["1e12", "1.5e12", "2e12", "2.5e12", "3e12"]),
        (ticks.logarithmic(0.0003, 40), ["0.001", "0.01", "0.1", "1", "10"]),
        (ticks.logarithmic(2, 30), ["2", "5", "10", "20"]),
        (ticks.duration(0, 44), ["0", "10 s", "20 s", "30 s", "40 s"]),
        (ticks.duration(0, 600), ["0", "2 min", "4 min", "6 min", "8 min", "10 min"]),
        (ticks.duration(0, 40000), ["0", "2 h", "4 h", "6 h", "8 h", "10 h"]),
    ],
)
def test_marks_are_round_and_few(axis, labels):
    assert [label for _, label in axis.marks] == labels


def test_the_lowest_value_is_at_the_bottom_and_the_highest_at_the_top():
    image = svg.draw([svg.Chart("loss", [line([1.0, 3.0, 2.0])])], "", "")
    low, high, middle = heights(image)
    assert (high, middle) == (0, low / 2)


def test_a_peak_of_a_single_point_survives_any_length():
    values = [0.0] * 100_000
    values[77_777] = 1.0
    assert min(heights(svg.draw([svg.Chart("x", [line(values)])], "", "", points=100))) == 0


def test_points_out_of_order_are_drawn_in_order():
    given_so = svg.Chart("x", [line([3.0, 1.0, 2.0], [3.0, 1.0, 2.0])])
    in_order = svg.Chart("x", [line([1.0, 2.0, 3.0], [1.0, 2.0, 3.0])])
    assert svg.draw([given_so], "", "") == svg.draw([in_order], "", "")


@pytest.mark.fault(54)
def test_nan_is_a_gap_with_a_mark_and_breaks_nothing():
    chart = svg.Chart("loss", [line([3.0, 2.0, math.nan, 1.0, 0.5])], crosses=True)
    paths = [element.get("d") for element in parsed(svg.draw([chart], "", "")) if element.get("d")]
    assert sum(path.count("M") for path in paths if path.startswith("M0 ")) == 2
    assert sum("l10 10m0-10l-10 10" in path for path in paths) == 1


def test_a_value_alone_is_a_dot_and_none_at_all_is_said():
    assert 'stroke-linecap="round"' in svg.draw([svg.Chart("x", [line([1.0])])], "", "")
    assert "no value yet" in texts(svg.draw([svg.Chart("x", [line([math.nan])])], "", ""))
    assert "no value yet" in texts(svg.draw([svg.Chart("x", [])], "", ""))


def test_a_logarithmic_axis_needs_values_above_zero():
    assert "0.01" in texts(svg.draw([svg.Chart("x", [line([0.001, 10.0])], log=True)], "", ""))
    assert "0.01" not in texts(svg.draw([svg.Chart("x", [line([0.0, 10.0])], log=True)], "", ""))


def test_names_stand_below_where_there_are_several():
    lines = [line([1.0, 2.0], label="3"), line([2.0, 1.0], label="7 ★", is_bold=True, note="1")]
    assert {"trial", "3", "7 ★"} <= set(texts(svg.draw([svg.Chart("x", lines)], "", "", names="trial")))
    assert "3" not in texts(svg.draw([svg.Chart("x", lines[:1])], "", "", names="trial"))


@pytest.mark.fault(62)
@pytest.mark.parametrize("payload", PAYLOADS)
def test_nothing_foreign_is_markup_in_an_image(payload):
    lines = [line([1.0, 2.0], label=payload, note=payload), line([1.0, 2.0], label=payload + "2", note=payload)]
    said = texts(svg.draw([svg.Chart(payload, lines, payload)], payload, payload, names=payload))
    assert payload.replace("\x1b", "�").replace("\x07", "�") in said


def test_what_xml_cannot_hold_is_replaced():
    parsed(svg.draw([svg.Chart("\x00\x1b\ud800\ufffe]]>", [line([1.0, 2.0])])], "\x0b", "&"))


def test_long_names_are_cut():
    long = "x" * 5000
    assert len(svg.draw([svg.Chart(long, [line([1.0], label=long), line([1.0], label=long + "y")])], "", "")) < 5000
