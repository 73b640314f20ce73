"""The bundles: what is said, that it fits, and that nothing foreign is ever markup."""

from __future__ import annotations

import math
from html.parser import HTMLParser

import pytest

from jupyter_gpudeploy.events.types import State
from jupyter_gpudeploy.notebook.reprs import Text, bundle, list_bundle, plan_bundle
from jupyter_gpudeploy.notebook.sheet import rounded
from jupyter_gpudeploy.plan.types import Health, Metric, Note, Plan, Resources, SecretRef, Service, Slot, Task
from jupyter_gpudeploy.run import RunList
from jupyter_gpudeploy.summary import Row, Summary


def row(task, state=State.SUCCEEDED, **changes):
    values = {
        "task": task,
        "name": f"lr={task}",
        "parameters": {"lr": task / 10, "epochs": 20},
        "state": state,
        "seconds": 12.3,
        "exit_code": None,
        "attempt": 1,
        "reason": "",
        "metrics": {} if state is State.WAITING else {"loss": 1 / (task + 1)},
    }
    return Row(**(values | changes))


def summary(rows, **changes):
    counts = {state: sum(one.state is state for one in rows) for state in State}
    values = {
        "name": "sweep-1",
        "title": "sweep-1",
        "uid": "u",
        "kind": "sweep",
        "backend": "local",
        "state": State.RUNNING,
        "reason": "",
        "seconds": 83.0,
        "gpu_hours": 0.0,
        "url": None,
        "counts": {state: count for state, count in counts.items() if count},
        "rows": rows,
        "notices": [],
        "log": [],
        "metric": "loss",
        "goal": "minimize",
        "best": None,
    }
    return Summary(**(values | changes))


class Page(HTMLParser):
    """What a browser would make of a bundle: its elements, their attributes, its text."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.open: list[str] = []
        self.feed(html)
        assert self.open == [], "unclosed elements"

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag != "img":  # which has no end
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data


PAYLOADS = [
    "<script>window.__pwned=1</script>",
    "<img src=x onerror=window.__pwned=1>",
    "<svg onload=window.__pwned=1>",
    "<svg><script>window.__pwned=1</script></svg>",
    '"><script>window.__pwned=1</script>',
    "'><img src=x onerror=window.__pwned=1>",
    "</pre><script>window.__pwned=1</script>",
    "</td></tr></table><iframe srcdoc='<script>parent.__pwned=1</script>'>",
    "</style><script>window.__pwned=1</script>",
    "<a href='javascript:window.__pwned=1'>x</a>",
    "javascript:window.__pwned=1",
    "data:text/html,<script>window.__pwned=1</script>",
    '" onmouseover="window.__pwned=1',
    "' style='background:url(javascript:window.__pwned=1)",
    "<style>@import 'http://evil.example/x.css'</style>",
    "<base href='http://evil.example/'>",
    "<meta http-equiv=refresh content='0;url=http://evil.example'>",
    "<!--<img src=--><img src=x onerror=window.__pwned=1>//-->",
    "<math><mtext><table><mglyph><style><img src=x onerror=window.__pwned=1>",
    "&lt;script&gt;window.__pwned=1&lt;/script&gt;<b>",
    "\x1b]8;;javascript:window.__pwned=1\x07click\x1b]8;;\x07<i>",
    "\u202etpircs<script>window.__pwned=1</script>",
]
HARMLESS = {"div", "span", "table", "thead", "tbody", "tr", "th", "td", "pre", "a"}


def assert_harmless(html):
    for tag, attributes in Page(html).elements:
        assert tag in HARMLESS
        assert set(attributes) <= {"style", "href", "target", "rel"}
        assert (attributes.get("href") or "http://").startswith(("http://", "https://"))
        style = attributes.get("style") or ""
        assert "url(" not in style
        assert "javascript" not in style
    assert "\u202e" not in html
    assert "\x1b" not in html


@pytest.mark.fault(62)
@pytest.mark.parametrize("payload", PAYLOADS)
def test_nothing_foreign_is_markup_on_any_surface_of_a_run(payload):
    bad = row(1, State.FAILED, name=payload, reason=payload, parameters={payload: payload}, metrics={payload: math.nan})
    for kind in ("sweep", "job", "server"):
        one = summary(
            [bad] if kind != "sweep" else [bad, row(2)],
            name=payload, title=payload, kind=kind, backend=payload, reason=payload, url=payload,
            notices=[payload], log=[payload], metric=payload, state=State.FAILED,
        )  # fmt: skip
        note = Note("warning", payload, payload, payload)
        assert_harmless(bundle(one, notes=[note], problem=payload)["text/html"])


@pytest.mark.fault(62)
@pytest.mark.parametrize("payload", PAYLOADS)
def test_nothing_foreign_is_markup_on_any_surface_of_a_plan_or_a_list(payload):
    task = Task(0, payload, ((Slot.PYTHON,), (payload,)), {payload: payload, "x": 1})
    plan = Plan(
        name=payload, title=payload, kind="sweep", backend=payload, tasks=(task, Task(1, "b", (), {payload: "other"})),
        fingerprint="", requirements=(payload,), working_dir=payload, metric=Metric(payload, "minimize"),
        service=Service(80, Health(payload)), secrets={payload: SecretRef("env", payload)},
        notes=(Note("error", payload, payload, payload),),
    )  # fmt: skip
    assert_harmless(plan_bundle(plan)["text/html"])
    one = summary([row(1)], name=payload, kind=payload, backend=payload, url=payload)
    assert_harmless(list_bundle(RunList([Seen(one)], [payload]))["text/html"])


class Seen:
    """A run of which only a glance is taken."""

    def __init__(self, value):
        self.value = value

    def glance(self):
        return self.value


@pytest.mark.fault(62)
def test_what_was_printed_is_shown_letter_by_letter():
    html = bundle(summary([row(1)], kind="job", log=["<b>bold</b> & 'more'"]))["text/html"]
    assert "<b>bold</b> & 'more'" in Page(html).text


def test_only_web_addresses_become_links():
    safe = bundle(summary([row(1)], kind="server", url="http://127.0.0.1:8001"))
    assert ("a", "http://127.0.0.1:8001") in [(tag, at.get("href")) for tag, at in Page(safe["text/html"]).elements]
    assert "http://127.0.0.1:8001" in safe["text/plain"]
    assert "file:" not in "".join(bundle(summary([row(1)], kind="server", url="file:///etc/passwd")).values())


def test_a_sweep_says_how_far_it_is_and_marks_the_best():
    rows = [row(1), row(2), row(3, State.FAILED, reason="exit code 1: ValueError: x"), row(4, State.WAITING)]
    made = bundle(summary(rows, best=2, log=["ValueError: x at line 3"]))
    for text in (made["text/plain"], Page(made["text/html"]).text):
        assert "3 of 4 done, 1 waiting, 1 failed" in text
        assert "trial 3: exit code 1: ValueError: x" in text
        assert "%deploy logs sweep-1 --trial 3" in text
        assert "epochs=20" in text
        assert "the last lines of a failed trial" in text
        assert "ValueError: x at line 3" in text
    marked = [line for line in made["text/plain"].splitlines() if line.startswith("★")]
    assert len(marked) == 1
    assert "0.2" in marked[0]
    assert "0.3333" in marked[0]


def test_a_single_job_shows_its_values_and_its_last_lines():
    one = row(0, State.FAILED, reason="exit code 1", metrics={"loss": 0.41})
    text = bundle(summary([one], kind="job", state=State.FAILED, reason="exit code 1", log=["Traceback", "KeyError"]))
    assert "exit code 1" in text["text/plain"]
    assert "| KeyError" in text["text/plain"]
    assert "loss    0.41" in text["text/plain"]


@pytest.mark.parametrize(("kind", "option"), [("sweep", "--trial"), ("manual", "--task"), ("server", "--task")])
def test_the_way_to_a_log_is_told_in_the_words_of_the_run(kind, option):
    rows = [row(1000), row(1001, State.FAILED, exit_code=4)]
    shown = bundle(summary(rows, name="env", kind=kind, state=State.READY))["text/plain"]
    assert f"%deploy logs env {option} 1001" in shown


def test_a_server_that_is_tried_again_says_which_attempt_it_is_and_why():
    waits = row(0, State.WAITING, attempt=3, reason="exit code 1; attempt 3 in 4 s", parameters={}, metrics={})
    told = summary([waits], kind="server", state=State.STARTING, reason="exit code 1", tries=6, log=["ValueError: x"])
    shown = bundle(told)["text/plain"]
    assert "exit code 1; attempt 3 in 4 s" in shown
    assert "attempt  3 of 6" in shown
    assert "| ValueError: x" in shown
    assert "attempt" not in bundle(summary([row(0, State.RUNNING)], kind="job", tries=6))["text/plain"]


@pytest.mark.fault(54)
def test_nan_and_infinity_are_shown_by_name():
    rows = [row(1, metrics={"loss": math.nan}), row(2, metrics={"loss": math.inf}), row(3, metrics={"loss": 0.25})]
    text = bundle(summary(rows))["text/plain"]
    assert "NaN" in text
    assert "inf" in text
    assert "0.25" in text


def test_of_many_trials_the_ones_that_matter_are_shown():
    rows = [row(task, State.SUCCEEDED, metrics={"loss": abs(task - 50)}) for task in range(100)]
    rows += [row(task, State.FAILED, reason="exit code 2") for task in range(100, 110)]
    rows += [row(task, State.RUNNING) for task in range(110, 112)]
    rows += [row(task, State.WAITING) for task in range(112, 200)]
    text = bundle(summary(rows, best=50))["text/plain"]
    table = [line.removeprefix("★").split() for line in text.split("\n\n")[1].splitlines()[1:21]]
    numbers = [int(words[0]) for words in table]
    assert len(numbers) == 20
    assert numbers[:3] == [110, 111, 50]
    assert {100, 101, 102, 103, 104} <= set(numbers)
    assert "and 180 more trials" in text
    assert "trials 100, 101, 102, 103, 104 and 5 more: exit code 2" in text


@pytest.mark.parametrize("columns", [1, 6, 30])
def test_text_is_at_most_a_hundred_columns_wide(columns):
    parameters = {f"parameter_number_{index}": "v" * index for index in range(columns)}
    rows = [row(task, parameters=parameters | {"n": task}, metrics=dict.fromkeys(parameters, 1.5)) for task in range(3)]
    made = bundle(summary(rows, reason="w " * 200, notices=["long " * 60], log=["x" * 500]), problem="p " * 100)
    assert max(map(len, made["text/plain"].splitlines())) <= 100


def test_wide_characters_do_not_break_the_columns():
    rows = [row(1, parameters={"name": "日本語"}), row(2, parameters={"name": "abc"})]
    lines = bundle(summary(rows))["text/plain"].splitlines()
    first, second = (next(line for line in lines if word in line) for word in ("日本語", "abc"))
    assert first.index("0.5") + 3 == second.index("0.3")


def test_a_plan_says_what_starts_where_and_every_note_with_its_way_out():
    tasks = tuple(Task(n, "", ((Slot.PYTHON,), (Slot.CODE, "/a b.py"), (f"{n} x",)), {"lr": n}) for n in range(30))
    notes = (Note("info", "port", "any"), Note("error", "gpus", "8 asked, 0 here", "gpus: 0"))
    plan = Plan("a", "A", "sweep", "local", tasks, "f", parallelism=2, resources=Resources(8, 4, 2**34), notes=notes)
    made = plan_bundle(plan)
    for text in (made["text/plain"], Page(made["text/html"]).text):
        assert "nothing started" in text
        assert "30 trials, 2 at a time" in text
        assert "8 GPUs, 4 processors, 16 GiB of memory" in text
        assert "{python} {code}/a b.py '0 x'" in text
        assert "and 18 more trials" in text
        assert "gpus: 8 asked, 0 here → gpus: 0" in text
    assert made["text/plain"].index("error: gpus") < made["text/plain"].index("info: port")


def test_a_live_time_moves_in_steps_that_grow():
    assert [rounded(seconds, live=True) for seconds in (0.4, 1.2, 59.9, 64.9, 65.1)] == [
        "0 s", "1 s", "59 s", "1 min 00 s", "1 min 05 s",
    ]  # fmt: skip
    assert rounded(3700.0, live=True) == rounded(3660.0, live=True)
    assert rounded(None, live=True) == ""
    assert rounded(1.25, live=False) == "1.2 s"


def test_text_is_shown_as_it_is(shell, capsys):
    shell.run_cell("from jupyter_gpudeploy.notebook.reprs import Text\nText('a\\nb')")
    assert "a\nb" in capsys.readouterr().out
    assert Text("x") == "x"
