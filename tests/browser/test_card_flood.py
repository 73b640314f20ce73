"""A program that prints 100,000 lines a second, and the page that shows it: it goes on answering.

How long its frames take is measured here, and told by benchmarks/b12_page.py; a test asserts no speed.
"""

import cards
import pytest
from cards import FLOOD, end, frames, opened

pytestmark = cards.MARKS
SECONDS = 10


@pytest.mark.fault(57)
def test_the_page_answers_while_a_hundred_thousand_lines_a_second_are_printed(lab, root, context):
    page = opened(context, lab, root, "flood", FLOOD)
    page.locator(".gd-line").get_by_text("waiting").wait_for()
    (root / "go").touch()
    page.locator(".gd-log-foot").get_by_text("lines hidden, full log").wait_for()
    measured = frames(page, SECONDS)
    assert len(measured) > 5 * SECONDS
    assert max(measured) < 2000
    page.get_by_role("tab", name="Events").click()
    page.locator(".gd-panel:visible .gd-happening").first.wait_for()
    page.get_by_role("tab", name="Logs").click()
    page.get_by_label("Only lines with this text").fill("done with it")
    (root / "go").unlink()
    page.locator(".gd-line").get_by_text("done with it").wait_for()
    assert page.locator(".gd-line").count() < 100
    printed = int(page.locator(".gd-line").get_by_text("done with it").text_content().split()[0])
    assert printed > 100_000
    end(page, "flood")
