"""The form with real widgets: set values, read the text, the mistakes and the plan; through a real kernel as well."""

from __future__ import annotations

import json
import threading

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jupyter_gpudeploy import launch
from jupyter_gpudeploy.errors import GpuDeployError, SpecError
from jupyter_gpudeploy.notebook.wizard import axes, fields, intents, preview
from jupyter_gpudeploy.plan.option_forms import Option
from jupyter_gpudeploy.report import Report, Row, Section
from jupyter_gpudeploy.spec.edit import CellText
from jupyter_gpudeploy.spec.models import Spec

SCRIPT = """\
import argparse
parser = argparse.ArgumentParser()
parser.add_argument("--lr", type=float, default=0.01, help="step")
parser.add_argument("--batch-size", type=int, default=32)
parser.add_argument("--amp", action="store_true")
parser.add_argument("data", choices=["a", "b"])
parser.parse_args()
"""
CELL = "# mine\nrun: train.py  # the script\nparameters:\n  lr: [0.1, 0.2]  # rates\nmetric: loss\nnew_key: 1\n"


@pytest.fixture
def base(home, tmp_path, monkeypatch):
    (tmp_path / "train.py").write_text(SCRIPT)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def opened(base):
    """Open forms; each is closed at the end."""
    from jupyter_gpudeploy.notebook.wizard.form import Wizard

    made = []

    def open_one(cell="", **options):
        made.append(Wizard(cell, **options))
        return made[-1]

    yield open_one
    for form in made:
        form.close()


def put(form, key, value, part=0):
    control = form.controls[key]
    (control.parts[part] if control.parts else control).input.value = value


def test_every_key_of_the_schema_has_one_field_and_every_field_is_some_key():
    assert [field.name for field in fields.fields()] == [name for name in Spec.model_fields if name != "code"]
    assert all(field.section for field in fields.fields())
    known = {intent.name for intent in intents.INTENTS} | {"cluster"}
    assert all(field.intents <= known for field in fields.fields())


scalars = st.text(max_size=8) | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.booleans()
anything = (
    scalars
    | st.lists(scalars, min_size=1, max_size=3)
    | st.dictionaries(st.text("ab", min_size=1), scalars, min_size=1, max_size=2)
)


@settings(deadline=None)
@given(
    st.sampled_from([field for field in fields.fields() if field.kind in ("value", "pairs", "lines", "words")]),
    anything,
)
def test_what_a_field_shows_is_read_back_as_the_same_value(field, value):
    shown = fields.show(field, value)
    read = fields.parse(field, shown)
    if isinstance(
        value, {"lines": list, "words": str | list, "pairs": dict}.get(field.kind, object)
    ) and shown.strip() not in ("", '""'):
        assert fields.same(read, as_written(field, value)) or not isinstance(value, str | list | dict)


def as_written(field, value):
    if field.kind == "pairs":
        return {key: item if isinstance(item, str) else json.dumps(item) for key, item in value.items()}
    return value


def test_a_new_form_says_what_is_missing_without_alarm(opened):
    form = opened()
    assert form.text == "%%deploy\n"
    assert "nothing to run" in form.outcome.mistakes.value
    assert "alert" not in form.outcome.mistakes.value
    assert form.outcome.run.disabled


def test_a_form_that_is_filled_from_a_cell_leaves_it_as_it_is(opened):
    form = opened(CELL)
    assert form.text == "%%deploy\n" + CELL
    assert form.intent.name == "sweep"
    assert form.controls["run"].input.value == "train.py"
    assert form.axes.rows["lr"].values.value == "0.1, 0.2"
    form.sections.more.selected_index = 0
    assert form.settled()
    assert form.text == "%%deploy\n" + CELL


def test_one_field_that_is_changed_changes_its_line_alone(opened):
    form = opened(CELL)
    put(form, "gpus", "2")
    put(form, "metric", "val_acc")
    form.axes.rows["lr"].values.value = "0.3"
    assert form.text == "%%deploy\n" + CELL.replace("[0.1, 0.2]", "[0.3]").replace("loss", "val_acc").replace(
        "new_key", "gpus: 2\nnew_key"
    ) or ("gpus: 2\n" in form.text and "# rates" in form.text and "# the script" in form.text)
    put(form, "gpus", "")
    assert "gpus" not in form.text


def test_a_mistake_is_told_at_its_field_in_the_words_of_the_cell(opened):
    form = opened("run: train.py\n")
    put(form, "gpus", "two")
    (problem,) = preview.mistakes(form.text.partition("\n")[2])
    note = form.controls["gpus"].note.widget.value
    assert 'role="alert"' in note
    assert "gpus must be a whole number" in problem.message
    assert "gpus must be a whole number" in note
    assert form.outcome.run.disabled
    put(form, "gpus", "0")
    assert "alert" not in form.controls["gpus"].note.widget.value


def test_a_mistake_of_an_axis_is_told_at_the_axis(opened):
    form = opened("run: train.py\nparameters: {lr: [1], b: [2, 2]}\n")
    assert "twice" in form.axes.rows["b"].note.widget.value
    assert "alert" not in form.axes.rows["lr"].note.widget.value


def test_a_mistake_of_a_key_that_is_not_shown_is_told_below(opened):
    form = opened(CELL)
    assert "new_key" in form.outcome.mistakes.value


def test_the_options_of_the_script_become_axes_with_what_args_needs(opened):
    form = opened()
    form.choose("sweep")
    put(form, "run", "train.py")
    assert form.settled()
    chips = {chip.option_name: chip for chip in form.axes.chips}
    assert list(chips) == ["lr", "batch_size", "amp", "data"]
    assert "0.01 unless said. step" in chips["lr"].tooltip
    for name in ("lr", "amp", "data"):
        chips[name].click()
    form.axes.rows["lr"].values.value = "0.01, 0.1"
    assert form.values["parameters"] == {
        "lr": [0.01, 0.1],
        "amp": {"values": [False, True], "flags": ["--amp", ""]},
        "data": ["a", "b"],
    }
    assert form.values["args"] == "{data}"
    form.axes.hours.value = "0,5"
    assert form.settled()
    assert "8 runs, 1 at a time, about 4 process hours" in form.axes.cost.value
    (plan,) = form._seen.plans
    assert plan.tasks[0].argv[-4:] == (("a",), ("--lr",), ("0.01",)) or ("--lr",) in plan.tasks[0].argv
    assert "8 trials" in form.outcome.plan.value
    assert "run.json" in form.outcome.files.value
    form.axes.rows["data"].remove.click()
    assert "args" not in form.values


def test_a_list_becomes_a_range_and_says_how_it_is_drawn(opened):
    form = opened("run: train.py\nparameters:\n  lr: [0.1]  # rates\nmethod: random\nmax_runs: 4\n")
    row = form.axes.rows["lr"]
    row.kind.value = "range"
    row.low.value, row.high.value, row.distribution.value = "1e-4", "0.1", "log_uniform"
    assert form.values["parameters"]["lr"] == {"min": 1e-4, "max": 0.1, "distribution": "log_uniform"}
    assert "# rates" in form.text
    assert preview.mistakes(form.text.partition("\n")[2]) == ()


def test_what_a_person_wants_decides_what_is_asked(opened):
    form = opened()
    form.choose("serve")
    assert form.values == {"serve": "fastapi"}
    assert {"serve", "model", "port", "replicas", "health", "route"} <= form.sections.names
    assert "tracking" not in form.sections.names
    form.choose("sweep")
    assert "tracking" in form.sections.names
    assert not {"health", "route"} & form.sections.names
    form.choose("interactive")
    assert form.values == {"mode": "manual"}
    assert "serve" not in form.sections.names
    assert "image" not in form.sections.names
    put(form, "backend", "kubernetes")
    assert {"image", "queue", "storage"} <= form.sections.names


def test_a_script_that_cannot_be_read_is_told_and_a_file_is_offered(opened, base):
    (base / "broken.py").write_text("def (:\n")
    form = opened()
    form.choose("sweep")
    assert form.settled()
    assert form.controls["run"].input.options == ("broken.py", "train.py")
    put(form, "run", "broken.py")
    assert form.settled()
    assert "no Python that can be read: line 1" in form.axes._told.value


def test_text_that_would_be_markup_is_shown_as_text(opened):
    form = opened()
    put(form, "name", "<img src=x onerror=alert(1)>")
    assert form.settled()
    for shown in (form.outcome.cell.value, form.outcome.plan.value, form.outcome.mistakes.value):
        assert "<img" not in shown


def test_the_hours_of_a_cell_that_says_them_are_a_bound():
    from jupyter_gpudeploy.plan.types import Plan, Resources, Task

    plan = Plan(
        "x",
        "x",
        "sweep",
        "local",
        tuple(Task(n, "", ()) for n in range(4)),
        "",
        resources=Resources(2),
        max_seconds=7200,
    )
    assert preview.cost(plan, None) == "4 runs, 1 at a time, at most 16 GPU hours"
    assert preview.cost(plan, 1) == "4 runs, 1 at a time, about 8 GPU hours"
    assert preview.cost(plan, 1, {"local": 2.5}).endswith("about 8 GPU hours, cost 20.00")
    assert preview.cost(plan, 1, {"local": 2.5, "H100": 3}).endswith("cost 20.00")
    assert preview.cost(plan._replace(spec={"gpu_type": "H100"}), 1, {"local": 2.5, "H100": 3}).endswith("cost 24.00")
    assert "cost" not in preview.cost(plan._replace(resources=Resources(0)), 1, {"local": 2.5})


def test_the_form_tells_the_cost_where_prices_are_known(opened, tmp_path, monkeypatch):
    settings = tmp_path / "settings.yaml"
    settings.write_text("prices: {local: 2.5}\n")
    monkeypatch.setenv("JUPYTER_GPUDEPLOY_CONFIG", str(settings))
    form = opened("name: x\ngpus: 1\nmax_hours: 2\nparameters: {lr: [1, 2]}\n---\nlr = 1\n")
    form.settled()
    assert "at most 4 GPU hours, cost 10.00" in form.axes.cost.value


def test_a_silent_place_holds_nothing_up_and_shows_nothing_of_the_one_before(opened, monkeypatch):
    answer = threading.Event()

    def examined(values):
        if values.get("backend") == "kubernetes":
            answer.wait(30)
        title = values.get("backend") or "here"
        return Report(title, (Section("GPUs", (Row("ok", f"GPUs of {title}", "3 of 4 free"),)),))

    monkeypatch.setattr(preview, "examined", examined)
    form = opened("run: train.py\n")
    assert form.settled()
    assert "GPUs of here" in form.place.widget.value
    try:
        put(form, "backend", "kubernetes")
        assert form.text == "%%deploy\nrun: train.py\nbackend: kubernetes\n"
        assert "GPUs of here" not in form.place.widget.value
        assert not form._asking.settled(0)
    finally:
        answer.set()
    assert form.settled()
    assert "GPUs of kubernetes" in form.place.widget.value


def test_only_the_newest_text_is_looked_at():
    done = []
    debounced = preview.Debounced(0.05)
    for number in range(20):
        debounced.call(lambda number=number: number, done.append)
    assert debounced.settled(10)
    assert done == [19]
    debounced.call(lambda: 1, done.append)
    debounced.close()
    assert done == [19]


def test_an_axis_that_is_added_by_name_begins_empty_and_is_told():
    cell = axes.with_axis(CellText("run: x\n"), Option("lr", "--lr"))
    assert cell.values["parameters"] == {"lr": []}
    assert "is empty" in preview.mistakes(cell.text)[0].message


@pytest.mark.parametrize("line", ["wizard", "wizard gone"])
def test_a_terminal_is_told_where_forms_are_shown(shell, line):
    with pytest.raises(GpuDeployError, match=r"terminal|gone"):
        shell.run_line_magic("deploy", line)


def test_a_cell_that_is_no_yaml_is_refused_with_its_place(opened):
    with pytest.raises(SpecError, match="line 2"):
        opened("run: [1\n")


@pytest.mark.kernel
def test_through_a_kernel_a_value_that_is_typed_comes_back_as_the_text_of_the_cell(kernel, tmp_path):
    (tmp_path / "train.py").write_text(SCRIPT)
    reply = kernel.ok("form = %deploy wizard\nform")
    assert "front end that shows widgets" in reply.result["text/plain"]
    assert "application/vnd.jupyter.widget-view+json" in reply.result
    model = kernel.ok("print(form.controls['run'].input.model_id)").stdout.strip()
    content = {"comm_id": model, "data": {"method": "update", "state": {"value": "train.py"}, "buffer_paths": []}}
    kernel.client.shell_channel.send(kernel.client.session.msg("comm_msg", content))
    kernel.client.get_shell_msg  # noqa: B018 - a comm message has no reply
    told = kernel.ok("print(form.settled(), form.text)\nprint(form._seen.plans[0].kind)").stdout
    assert told == "True %%deploy\nrun: train.py\n\njob\n"


@pytest.mark.kernel
def test_through_a_kernel_the_form_of_a_run_and_of_a_cell_are_filled_from_them(kernel, base):
    launch("# why\nrun: 'true'\nname: done\n").wait(60)
    assert (
        kernel.ok("form = %deploy wizard done\nprint(form.text)").stdout
        == "%%deploy\n# why\nrun: 'true'\nname: done\n\n"
    )
    reply = kernel.ok("%%deploy wizard\n# mine\nrun: train.py\n")
    (shown,) = [data for data in kernel.displays.values() if "application/vnd.jupyter.widget-view+json" in data]
    assert "front end that shows widgets" in shown["text/plain"]
    assert reply.stdout == ""
