import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jupyter_gpudeploy.quantities import (
    format_memory,
    format_seconds,
    kubernetes_memory,
    parse_cpu,
    parse_memory,
    parse_seconds,
)


@pytest.mark.fault(48)
@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("16Gi", 16 * 2**30), ("256GB", 256 * 10**9), ("256G", 256 * 10**9), ("256gb", 256 * 10**9), ("1.5Gi", 3 * 2**29),
        ("512Mi", 2**29), ("512 MB", 512 * 10**6), ("1TiB", 2**40), ("100k", 100_000), ("1e3", 1000), (1000, 1000),
        ("0.1G", 10**8), (" 2 Gi ", 2**31), (".5Ki", 512), ("0.3Ti", 329853488332),
    ],
)  # fmt: skip
def test_memory_is_read_as_people_write_it(text, size):
    assert parse_memory(text) == size


@pytest.mark.parametrize(
    "text",
    [
        "",
        "Gi",
        "16Q",
        "16Gi8",
        "-1Gi",
        "lots",
        "1 6Gi",
        "nan",
        "inf",
        -1,
        math.inf,
        math.nan,
        True,
        "1e400Gi",
        10**400,
        "9" * 400,
    ],
)
def test_what_is_no_memory_is_refused_and_named(text):
    with pytest.raises(ValueError, match=r"quantity|memory|finite"):
        parse_memory(text)


@pytest.mark.parametrize(
    ("text", "count"), [("500m", 0.5), ("4", 4.0), (4, 4.0), (0.25, 0.25), ("2.5", 2.5), ("1500m", 1.5)]
)
def test_processors_are_read_as_people_write_them(text, count):
    assert parse_cpu(text) == count


@pytest.mark.parametrize("text", ["4Gi", "500M", "four", False, -1])
def test_what_is_no_number_of_processors_is_refused(text):
    with pytest.raises(ValueError, match=r"processors|quantity|finite"):
        parse_cpu(text)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90s", 90), ("15m", 900), ("2h", 7200), ("1d", 86400), (30, 30), ("0.5h", 1800), ("1H", 3600)],
)
def test_durations_are_read_as_people_write_them(text, seconds):
    assert parse_seconds(text) == seconds


@pytest.mark.parametrize("text", ["soon", "5 weeks", "1:30", "-5s", True])
def test_what_is_no_duration_is_refused(text):
    with pytest.raises(ValueError, match=r"duration|quantity|finite"):
        parse_seconds(text)


@settings(deadline=None)
@given(st.integers(min_value=0, max_value=2**60))
def test_a_kubernetes_quantity_means_exactly_the_same_bytes(size):
    assert parse_memory(kubernetes_memory(size)) == size


@pytest.mark.parametrize(
    ("size", "text"),
    [(16 * 2**30, "16Gi"), (256 * 10**9, "256G"), (1_000_001, "1000001"), (0, "0"), (2**40, "1Ti"), (3 * 2**20, "3Mi")],
)
def test_a_kubernetes_quantity_takes_the_largest_suffix_that_fits(size, text):
    assert kubernetes_memory(size) == text


@pytest.mark.parametrize(
    ("size", "text"),
    [(0, "0 B"), (512, "512 B"), (1000, "1000 B"), (1023, "1023 B"), (1024, "1 KiB"), (1536, "1.5 KiB"), (16 * 2**30, "16 GiB"),
     (1000 * 2**30, "1000 GiB"), (1023 * 2**20, "1023 MiB"), (5 * 2**40, "5 TiB"), (2**31 + 2**29, "2.5 GiB")],
)  # fmt: skip
def test_bytes_are_shown_to_people_without_exponents(size, text):
    assert format_memory(size) == text


@settings(deadline=None)
@given(st.integers(min_value=0, max_value=2**50))
def test_shown_bytes_are_never_in_scientific_notation(size):
    assert "e" not in format_memory(size)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(None, "-"), (math.nan, "-"), (0, "0.0 s"), (4.24, "4.2 s"), (59.94, "59.9 s"), (59.97, "1 min 00 s"), (60, "1 min 00 s"),
     (200, "3 min 20 s"), (3599.7, "1 h 00 min"), (7500, "2 h 05 min"), (math.inf, "∞")],
)  # fmt: skip
def test_durations_are_shown_to_people(seconds, text):
    assert format_seconds(seconds) == text
