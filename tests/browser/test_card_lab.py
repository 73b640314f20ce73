"""The live card in a real JupyterLab and Notebook, on runs of this machine."""

import json

import cards
import pytest
from cards import PAYLOADS, SERVER, SWEEP, click_a_chart, end, opened, ran, written
from lab import open_in_notebook, save

pytestmark = cards.MARKS
TAGS = "img, script, iframe, object, svg, style, math, input, a[href], b"


@pytest.mark.fault(4)
def test_the_card_of_a_sweep_moves_jumps_and_comes_back_after_a_reload(lab, root, context):
    page = opened(context, lab, root, "moves", SWEEP.format(name="moves", epochs=150))
    page.locator(".gd-line").get_by_text("val_acc").first.wait_for()
    first = page.locator(".gd-time").text_content()
    page.wait_for_function("said => document.querySelector('.gd-time').textContent !== said", arg=first)
    page.get_by_role("tab", name="GPU").click()
    page.locator(".gd-panel:visible .u-over").nth(1).wait_for()
    click_a_chart(page)
    page.locator(".gd-banner").get_by_text("Around").wait_for()
    page.locator(".gd-line[data-marked]").wait_for()
    page.get_by_role("button", name="Back to live").click()
    save(page)
    page.reload()
    page.locator(".gd-card .gd-title").wait_for(timeout=90_000)
    page.locator(".gd-line").get_by_text("val_acc").first.wait_for()
    page.get_by_role("tab", name="Metrics").click()
    page.locator(".gd-panel:visible .u-over").first.wait_for()
    page.get_by_role("button", name="Stop…").click()
    page.get_by_role("button", name="Stop the run").click()
    page.locator(".gd-pill[data-state=stopped]").wait_for()
    page.wait_for_timeout(3000)
    assert page.locator(".gd-pill[data-state=stopped]").is_visible()
    page.get_by_role("tab", name="Logs").click()
    page.get_by_role("searchbox", name="Only lines with this text").fill("checkpoint")
    page.locator(".gd-line").get_by_text("written").first.wait_for()


@pytest.mark.fault(62)
@pytest.mark.fault(63)
def test_what_a_program_prints_is_text_in_the_card(lab, root, context):
    code = (
        f"%%deploy hostile\n---\nimport time\nfor text in {PAYLOADS!r}:\n    print(text, flush=True)\ntime.sleep(300)\n"
    )
    page = opened(context, lab, root, "hostile", code)
    page.locator(".gd-line").get_by_text("<object data=javascript").wait_for()
    shown = page.locator(".gd-line .gd-text").all_text_contents()
    assert sum("__pwned" in text for text in shown) == len(PAYLOADS)
    assert page.locator(f".gd-list :is({TAGS})").count() == 0
    assert page.evaluate("() => window.__pwned") is None
    save(page)
    end(page, "hostile")
    page.locator(".gd-card").wait_for(state="detached")
    page.get_by_text("<object data=javascript").first.wait_for()
    assert page.locator(f".jp-OutputArea-output :is({TAGS.replace('img, ', '')})").count() == 0
    assert page.evaluate("() => window.__pwned") is None


def test_the_card_of_a_server_has_its_link(lab, root, context):
    page = opened(context, lab, root, "api", SERVER)
    page.locator(".gd-pill[data-state=ready]").wait_for()
    assert page.locator("a.gd-link").get_attribute("href").startswith("http://127.0.0.1:")
    page.get_by_role("button", name="Full log").click()
    page.get_by_text("the whole log, on the kernel's machine").wait_for()
    end(page, "api")
    page.locator(":text('stopped'):visible").first.wait_for()


def test_what_is_left_of_an_ended_run_needs_no_kernel(lab, root, context):
    page = opened(context, lab, root, "left", SWEEP.format(name="left", epochs=3))
    page.locator(".gd-card").wait_for(state="detached", timeout=60_000)
    page.get_by_text("succeeded").first.wait_for()
    save(page)
    kept = [
        output["data"]
        for cell in json.loads((root / "left.ipynb").read_text())["cells"]
        for output in cell["outputs"]
        if "data" in output
    ]
    assert kept
    assert not any("application/vnd.jupyter.widget-view+json" in data for data in kept)
    assert any("data:image/svg+xml;base64," in "".join(data.get("text/html", "")) for data in kept)


@pytest.mark.parametrize("context", [False, True], ids=["light", "dark"], indirect=True)
def test_the_picture_of_the_documentation(lab, root, context, pictures, request):
    theme = "dark" if request.node.callspec.params["context"] else "light"
    page = opened(context, lab, root, f"digits-{theme}", SWEEP.format(name=f"digits-{theme}", epochs=30))
    if theme == "dark":
        page.evaluate("() => jupyterapp.commands.execute('apputils:change-theme', { theme: 'JupyterLab Dark' })")
        page.locator(".gd-card[data-dark]").wait_for()
    page.get_by_text("succeeded").nth(3).wait_for()
    page.get_by_role("tab", name="Metrics").click()
    page.wait_for_timeout(3000)
    box = page.locator(".gd-panel:visible .u-over").first.bounding_box()
    page.mouse.move(box["x"] + box["width"] * 0.55, box["y"] + box["height"] * 0.6)
    page.wait_for_timeout(800)
    page.locator(".gd-card").screenshot(path=pictures / ("card-dark.png" if theme == "dark" else "card.png"))
    end(page, f"digits-{theme}")


def test_the_card_moves_in_notebook_7_too(lab, root, context, pictures):
    code = SWEEP.format(name="seven", epochs=150)
    page = ran(open_in_notebook(context, lab, written(root, "seven", code)))
    page.locator(".gd-line").get_by_text("val_acc").first.wait_for()
    first = page.locator(".gd-time").text_content()
    page.wait_for_function("said => document.querySelector('.gd-time').textContent !== said", arg=first)
    click_a_chart(page)
    page.locator(".gd-line[data-marked]").wait_for()
    page.screenshot(path=pictures / "card-notebook.png")
    page.get_by_role("button", name="Stop…").click()
    page.get_by_role("button", name="Stop the run").click()
    page.locator(".gd-card").wait_for(state="detached")
    page.locator(":text('stopped'):visible").first.wait_for()
