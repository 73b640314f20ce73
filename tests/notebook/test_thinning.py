"""What of a long curve is kept."""

from __future__ import annotations

import math
from array import array

from hypothesis import given
from hypothesis import strategies as st

from jupyter_gpudeploy.notebook.thinning import halved, thinned

VALUES = st.lists(st.floats(-1e9, 1e9, width=32) | st.just(math.nan), min_size=1, max_size=300)


@given(VALUES, st.integers(3, 60))
def test_the_lowest_the_highest_and_the_order_are_kept(values, limit):
    kept = thinned(array("d", values), limit)
    assert kept == sorted(set(kept))
    assert len(kept) <= max(limit, 3)
    known = [value for value in values if not math.isnan(value)]
    left = [values[place] for place in kept if not math.isnan(values[place])]
    assert (min(known), max(known)) == (min(left), max(left)) if known else left == []
    assert len(known) == len(values) or any(math.isnan(values[place]) for place in kept)


@given(VALUES)
def test_the_newer_half_stays_as_it_is(values):
    kept = halved(values)
    half = len(values) // 2
    assert kept[len(kept) - (len(values) - half) :] == list(range(half, len(values)))


def test_a_short_silence_of_long_ago_stays_a_gap_where_it_was():
    values = [float(n % 10) for n in range(4000)]
    values[1234] = math.nan
    kept = thinned(values, 400)
    (gap,) = (place for place in kept if math.isnan(values[place]))
    assert gap == 1234
    near = [place for place in kept if abs(place - gap) < 40]
    assert min(near) < gap < max(near)
