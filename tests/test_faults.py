"""Every row of the fault list that this version promises to hold is named by a test."""

import re
from pathlib import Path

HELD = {*range(1, 41), *range(42, 77), *range(78, 83)}


def test_each_fault_has_a_test_that_names_it():
    text = "\n".join(file.read_text("utf-8") for file in Path(__file__).parent.rglob("test_*.py"))
    marks = re.findall(r"mark\.fault\(([\d, ]+)\)", text)
    named = {int(number) for mark in marks for number in mark.split(",")}
    assert HELD - named == set()
