"""Every row of the fault list that this version promises to hold is named by a test."""

import re
from pathlib import Path

HELD = {*range(1, 6), 19, 20, *range(33, 40), *range(42, 58), 59, 60, 67, 68, 69, 78}


def test_each_fault_has_a_test_that_names_it():
    text = "\n".join(file.read_text("utf-8") for file in Path(__file__).parent.rglob("test_*.py"))
    named = {int(number) for number in re.findall(r"mark\.fault\((\d+)\)", text)}
    assert HELD - named == set()
