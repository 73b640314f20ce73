"""The card in a real browser, fed by a script: what is seen, what is said, and that nothing of it is executed."""

import pytest
from cards import PAYLOADS
from lab import browser
from page import STATIC, harness

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(not (STATIC / "card.js").exists(), reason="the card is not built: make widget"),
]


@pytest.fixture(scope="module")
def url():
    with harness() as at:
        yield at


@pytest.fixture(scope="module")
def context(tmp_path_factory):
    with browser(tmp_path_factory.mktemp("profile")) as made:
        yield made


@pytest.fixture
def page(context, url):
    made = context.new_page()
    made.set_viewport_size({"width": 1000, "height": 900})
    made.set_default_timeout(10_000)
    problems = []
    made.on("pageerror", lambda error: problems.append(str(error)))
    made.on("console", lambda said: problems.append(said.text) if said.type == "error" else None)
    made.goto(url)
    made.wait_for_function("() => window.ready")
    made.evaluate("() => { openModel(); window.closeView = view(); }")
    yield made
    made.close()
    assert problems == []


def show(page, scene):
    page.evaluate("name => snapshot(name)", scene)
    page.locator(".gd-title").wait_for()


def tab(page, name):
    page.get_by_role("tab", name=name).click()


def sent(page, kind):
    return [each for each in page.evaluate("() => sent") if each["type"] == kind]


def middle_of(page, chart, across=0.5):
    box = page.locator(f".gd-chart:has-text('{chart}') .u-over").bounding_box()
    return box["x"] + box["width"] * across, box["y"] + box["height"] / 2


def marked(page, chart):
    """How many points of the marks' canvas are not empty."""
    script = """canvas => { const size = [canvas.width, canvas.height];
        return canvas.getContext('2d').getImageData(0, 0, ...size).data.filter((part, at) => at % 4 === 3 && part).length }"""
    return page.locator(f".gd-chart:has-text('{chart}') .gd-marks").evaluate(script)


def test_it_says_hello_and_shows_the_snapshot_that_comes(page):
    assert [each["type"] for each in page.evaluate("() => sent")] == ["hello"]
    assert page.get_by_text("Waiting for the kernel").is_visible()
    show(page, "sweep")
    assert page.locator(".gd-pill").text_content() == "running"
    assert page.get_by_text("7 of 12 done").first.is_visible()
    rows = page.locator(".gd-sheet tbody tr")
    assert rows.count() == 12
    assert rows.first.inner_text().split()[:2] == ["★", "5"]
    assert page.locator(".gd-line").last.is_visible()


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("scene", ["sweep", "gpu", "large", "server", "waiting"])
@pytest.mark.parametrize("width", [380, 1000])
def test_every_tab_of_every_scene_fits_in_its_width(page, pictures, scene, theme, width):
    page.set_viewport_size({"width": width, "height": 900})
    page.evaluate("theme => { document.body.className = `jupyter-${theme}`; }", theme)
    show(page, scene)
    for name in ("Logs", "GPU", "Metrics", "Events"):
        tab(page, name)
        page.wait_for_timeout(150)
        page.locator(".gd-card").screenshot(path=pictures / f"{scene}-{name.lower()}-{theme}-{width}.png")
        assert page.evaluate("() => document.documentElement.scrollWidth <= innerWidth")
        height = page.locator(".gd-panel:visible").bounding_box()["height"]
        assert height >= 300


@pytest.mark.fault(62)
@pytest.mark.fault(63)
@pytest.mark.fault(64)
def test_hostile_text_is_only_text_wherever_it_stands(page):
    for payload in PAYLOADS:
        page.evaluate(
            """text => { const card = { ...SCENES.sweep().card, title: text, name: text, kind: text, backend: text, facts: [text],
                state: text, reason: text, hint: text, url: text, notices: [text], problem: text, stale: text, failures: [text],
                metric: text, gpu_note: text, progress: { text, total: 3, counts: { [text]: 1 } },
                sheet: { columns: [{ title: text, numeric: true }], rows: [[text]], states: [text], more: 0 },
                tasks: [[0, text, text], [1, text, text]] };
            const series = [{ id: 1, chart: `metric:${text}`, label: text, task: 0, unit: text, x: 'step' },
                { id: 2, chart: text, label: text, task: 1, unit: text, x: 'time', na: text },
                { id: 3, chart: 'cpu', label: text, task: 1, unit: '%', x: 'time', na: text }];
            const [points, buffers] = pack([[1, [[NOW, 1, 2], [NOW + 1, 2, 3]]]]);
            const log = { lines: [[1, 0, 1, NOW, text, text, 9]], before: null, hidden: 3, note: text, files: [[0, text]] };
            tell({ type: 'snapshot', card, series, points, events: [[NOW, 0, text, text]], log }, buffers);
            tell({ type: 'error', message: text });
            tell({ type: 'bye', message: text }); }""",
            payload,
        )
        for name in ("Logs", "GPU", "Metrics", "Events"):
            tab(page, name)
            page.wait_for_timeout(40)
        tab(page, "Metrics")
        page.mouse.move(*middle_of(page, "", 0.9))
    assert page.evaluate("() => window.__pwned") is None
    assert page.locator(".gd-card :is(img, script, iframe, object, svg, style, math, details)").count() == 0
    assert page.locator(".gd-card a[href]").count() == 0
    page.get_by_role("tab", name="Events").click()
    assert page.locator(".gd-happening").last.inner_text().strip() != ""


def test_a_link_is_a_link_only_for_http(page):
    show(page, "server")
    link = page.locator("a.gd-link")
    assert link.get_attribute("href").startswith("http://127.0.0.1:8123")
    assert link.get_attribute("rel") == "noopener noreferrer"


def test_pointing_at_a_chart_marks_the_moment_in_all_of_them(page):
    show(page, "gpu")
    tab(page, "GPU")
    page.locator(".u-over").first.wait_for()
    assert marked(page, "Power") == 0
    page.mouse.move(*middle_of(page, "GPU utilization"))
    page.wait_for_function("() => !document.querySelector('.gd-tip').hidden")
    assert all(marked(page, name) > 50 for name in ("GPU utilization", "GPU memory", "Power", "Temperature"))
    assert "GPU 0" in page.locator(".gd-tip:visible").inner_text()
    page.mouse.move(5, 5)
    page.wait_for_function("() => [...document.querySelectorAll('.gd-tip')].every(tip => tip.hidden)")
    assert marked(page, "Power") == 0


def test_a_click_shows_the_log_of_that_second_and_there_is_a_way_back(page):
    show(page, "gpu")
    tab(page, "GPU")
    page.locator(".u-over").first.wait_for()
    page.mouse.click(*middle_of(page, "Power"))
    asked = sent(page, "jump")[0]
    now = page.evaluate("() => NOW")
    assert abs(asked["time"] - (now - 100)) < 5
    page.evaluate(
        """([request, time]) => tell({ type: 'log', request, log: { lines: [-3, -2, -1, 0, 1, 2].map(
            n => [n + 10, 0, 1, time + n, null, `at ${n}`, 0]), before: null, hidden: 0, note: 'around', files: [] } })""",
        [asked["request"], asked["time"]],
    )
    assert page.locator(".gd-line[data-marked] .gd-text").text_content() == "at 0"
    page.get_by_role("button", name="Back to GPU").click()
    page.get_by_role("tab", name="GPU", selected=True).wait_for()
    tab(page, "Logs")
    page.get_by_role("button", name="Back to live").click()
    page.locator(".gd-line[data-marked]").wait_for(state="detached")


def test_the_moment_can_be_chosen_by_keys_alone(page):
    show(page, "gpu")
    tab(page, "Logs")
    page.keyboard.press("ArrowRight")
    page.get_by_role("tab", name="GPU", selected=True).wait_for()
    page.locator(".gd-chart .gd-plot").first.focus()
    for _ in range(3):
        page.keyboard.press("ArrowLeft")
    page.wait_for_function("() => document.activeElement.getAttribute('aria-valuetext')?.includes('GPU')")
    page.keyboard.press("Enter")
    assert len(sent(page, "jump")) == 1


def test_stopping_is_asked_for_in_its_place_and_the_focus_comes_back(page):
    show(page, "sweep")
    page.get_by_role("button", name="Stop…").click()
    question = page.get_by_role("alertdialog")
    assert "Stop digits?" in question.inner_text()
    assert "not saved is lost" in question.inner_text()
    assert page.evaluate("() => document.activeElement.textContent") == "Keep running"
    page.keyboard.press("Escape")
    assert page.evaluate("() => document.activeElement.textContent") == "Stop…"
    assert sent(page, "stop") == []
    page.keyboard.press("Enter")
    page.get_by_role("button", name="Stop the run").click()
    assert len(sent(page, "stop")) == 1
    assert page.get_by_role("button", name="Stopping…").is_disabled()
    page.evaluate("() => tell({ type: 'error', message: 'may not' })")
    page.get_by_role("alert").get_by_text("may not").wait_for()
    assert page.get_by_role("button", name="Stop…").is_enabled()


def test_the_log_sticks_to_its_end_until_one_scrolls_away(page):
    show(page, "server")
    add = "n => tell({ type: 'lines', lines: [[1000 + n, 0, 1, NOW + n, null, `new ${n}`, 0]], hidden: 0 })"
    for n in range(30):
        page.evaluate(add, n)
    page.get_by_text("new 29", exact=True).wait_for()
    page.locator(".gd-list").hover()
    page.mouse.wheel(0, -300)
    page.get_by_role("button", name="To the end").wait_for()
    top = page.locator(".gd-list").evaluate("list => list.scrollTop")
    for n in range(30, 40):
        page.evaluate(add, n)
    page.get_by_role("button", name="10 new lines").wait_for()
    assert page.locator(".gd-list").evaluate("list => list.scrollTop") == top
    page.get_by_role("button", name="10 new lines").click()
    page.get_by_text("new 39", exact=True).wait_for()


def test_filters_and_older_pages_are_asked_of_the_kernel(page):
    show(page, "sweep")
    page.get_by_label("Only lines with this text").type("loss", delay=20)
    page.wait_for_function("() => sent.some(({ type }) => type === 'filter')")
    page.get_by_label("Level").select_option("error")
    page.wait_for_function("() => sent.filter(({ type }) => type === 'filter').length === 2")
    assert sent(page, "filter")[-1] | {"text": "loss", "level": "error", "task": None} == sent(page, "filter")[-1]
    page.locator(".gd-list").evaluate("list => { list.scrollTop = 40; }")
    page.wait_for_function("() => sent.some(({ type }) => type === 'page')")
    assert sent(page, "page")[0]["before"] == [[0, 1, 100]]


@pytest.mark.fault(57)
def test_a_flood_leaves_few_lines_in_the_page_and_the_page_answering(page):
    show(page, "server")
    frames = page.evaluate(
        """async () => { const times = []; let number = 0; const until = performance.now() + 2000;
            const frame = at => { times.push(at); if (at < until) requestAnimationFrame(frame); }; requestAnimationFrame(frame);
            while (performance.now() < until) {
                tell({ type: 'lines', lines: Array.from({ length: 100 }, () => [++number, 0, 1, NOW, null, 'x'.repeat(200), 0]), hidden: number * 80 });
                await new Promise(done => setTimeout(done, 80)); }
            return { frames: times.length, number }; }"""
    )
    assert frames["frames"] > 5
    assert page.locator(".gd-line").count() < 60
    assert page.get_by_text("lines hidden, full log").is_visible()


def test_what_cannot_be_seen_is_said_and_nothing_is_drawn(page):
    show(page, "gpu")
    page.evaluate("() => { document.getElementById('views').style.marginTop = '4000px'; }")
    page.wait_for_function("() => sent.some(({ type, visible }) => type === 'visible' && visible === false)")
    page.evaluate("() => tell({ type: 'card', card: { ...SCENES.gpu().card, title: 'later' } })")
    page.wait_for_timeout(200)
    assert page.locator(".gd-title").text_content() == "digits"
    page.evaluate("() => { document.getElementById('views').style.marginTop = ''; }")
    page.wait_for_function("() => document.querySelector('.gd-title').textContent === 'later'")
    assert [each["visible"] for each in sent(page, "visible")] == [False, True]


def test_views_of_one_model_share_what_came_and_leave_nothing_behind(page):
    show(page, "gpu")
    page.evaluate("() => { window.closeSecond = view(); }")
    page.locator(".gd-title").nth(1).wait_for()
    assert len(sent(page, "hello")) == 2
    page.evaluate("() => { closeSecond(); closeView(); closeModel(); }")
    assert page.locator(".gd-card").count() == 0
    assert page.evaluate("() => handlers.size") == 0


def test_an_unknown_value_is_a_gap_and_an_unknown_series_says_why(page):
    show(page, "gpu")
    page.evaluate(
        """() => { const series = [{ id: 1, chart: 'gpu.utilization', label: 'GPU 0', task: 0, unit: '%', x: 'time', na: 'N/A (MIG)' }];
            const [points, buffers] = pack([[1, [[NOW, NaN, NaN], [NOW + 1, NaN, NaN]]]]);
            tell({ ...SCENES.gpu(), type: 'snapshot', series, points }, buffers); }"""
    )
    tab(page, "GPU")
    page.get_by_text("N/A (MIG)").wait_for()
    assert page.locator(".gd-chart").count() == 0


def test_a_legend_hides_a_trial_and_shows_one_alone(page):
    show(page, "sweep")
    tab(page, "Metrics")
    page.get_by_role("button", name="trial 3:", pressed=True).click()
    page.get_by_role("button", name="trial 3:", pressed=False).wait_for()
    page.get_by_role("button", name="Log scale", pressed=False).click()
    page.get_by_role("button", name="Log scale", pressed=True).wait_for()
    page.get_by_label("Smoothing").fill("0.9")
    page.locator(".gd-toolbar output:visible").get_by_text("0.90").wait_for()


def test_dragging_over_a_chart_shows_that_range_until_it_is_taken_back(page):
    show(page, "gpu")
    tab(page, "GPU")
    page.locator(".u-over").first.wait_for()
    page.mouse.move(*middle_of(page, "Power", 0.3))
    page.mouse.down()
    page.mouse.move(*middle_of(page, "Power", 0.6), steps=5)
    page.mouse.up()
    page.get_by_role("button", name="Whole range").last.click()
    assert sent(page, "jump") == []
    page.get_by_role("button", name="Whole range").last.wait_for(state="hidden")


def test_the_built_module_needs_nothing_from_anywhere(page, context, url):
    asked = []
    other = context.new_page()
    other.on("request", lambda request: asked.append(request.url))
    other.goto(url)
    other.wait_for_function("() => window.ready")
    other.evaluate("() => { openModel(); view(); snapshot('gpu'); 0 }")
    other.close()
    assert asked
    assert all(each.startswith((url, "data:")) for each in asked)
