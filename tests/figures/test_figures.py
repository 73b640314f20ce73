from __future__ import annotations

import math

import pandas as pd
import pytest

from jupyter_gpudeploy import figures
from jupyter_gpudeploy.errors import GpuDeployError
from jupyter_gpudeploy.figures.steps import one


def trials(**columns):
    frame = pd.DataFrame(columns)
    frame.index.name = "trial"
    return frame


def history(*rows):
    """Return a history of (trial, step, value), in the columns of frames.metrics."""
    frame = pd.DataFrame(rows, columns=["trial", "step", "value"])
    return frame.assign(name=[f"lr={trial}" for trial in frame["trial"]], metric="loss", epoch=math.nan, attempt=1)


def test_one_parameter_is_a_line_over_its_values():
    figure = figures.compare(trials(lr=[0.3, 0.1, 0.2], loss=[3.0, 1.0, 2.0]), "loss", ["lr"])
    line, marks = figure.data
    assert list(line.x) == [0.1, 0.2, 0.3]
    assert list(line.y) == [1.0, 2.0, 3.0]
    assert list(marks.x) == [0.3, 0.1, 0.2]
    assert (figure.layout.xaxis.title.text, figure.layout.yaxis.title.text) == ("lr", "loss")
    assert figure.layout.xaxis.type == "linear"


def test_values_that_span_decades_have_a_logarithmic_axis():
    figure = figures.compare(trials(lr=[1e-4, 1e-3, 1e-2], loss=[1.0, 2.0, 3.0]), "loss", ["lr"])
    assert (figure.layout.xaxis.type, figure.layout.yaxis.type) == ("log", "linear")
    assert figures.compare(trials(lr=[-1e-4, 1e-3, 1e-2], loss=[1, 2, 3]), "loss", ["lr"]).layout.xaxis.type == "linear"


def test_equal_values_are_drawn_each_with_a_line_through_their_mean():
    line, marks = figures.compare(trials(lr=[1, 1, 2], loss=[1.0, 3.0, 5.0]), "loss", ["lr"]).data
    assert list(line.y) == [2.0, 5.0]
    assert len(marks.x) == 3


@pytest.mark.parametrize("values", [["adam", "sgd", "rms"], [True, False, True], [1, None, 3]])
def test_words_booleans_and_missing_values_are_categories(values):
    figure = figures.compare(trials(kind=values, loss=[1.0, 2.0, 3.0]), "loss", ["kind"])
    assert figure.layout.xaxis.type == ("category")


def test_two_parameters_of_a_full_grid_are_a_heat_map():
    frame = trials(lr=[0.1, 0.1, 0.2, 0.2], depth=[3, 2, 3, 2], loss=[1.0, 2.0, 3.0, 4.0])
    (heat,) = figures.compare(frame, "loss", ["lr", "depth"]).data
    assert heat.type == "heatmap"
    assert (list(heat.x), list(heat.y)) == (["0.1", "0.2"], ["2", "3"])
    assert [list(row) for row in heat.z] == [[2.0, 4.0], [1.0, 3.0]]


def test_two_parameters_that_are_no_grid_are_coloured_points():
    frame = trials(lr=[0.1, 0.15, 0.2], depth=[1.5, 2.5, 3.5], loss=[1.0, 2.0, 3.0])
    (marks,) = figures.compare(frame, "loss", ["lr", "depth"]).data
    assert marks.type == "scatter"
    assert list(marks.marker.color) == [1.0, 2.0, 3.0]


def test_three_parameters_are_parallel_coordinates():
    frame = trials(lr=[1e-4, 1e-2, 1e-1], kind=["a", "b", "a"], depth=[1, 2, 3], loss=[1.0, 2.0, 3.0])
    (lines,) = figures.compare(frame, "loss", ["lr", "kind", "depth"]).data
    assert lines.type == "parcoords"
    assert [dimension.label for dimension in lines.dimensions] == ["lr", "kind", "depth", "loss"]
    assert list(lines.dimensions[0]["values"]) == pytest.approx([-4, -2, -1])
    assert list(lines.dimensions[0].ticktext) == ["0.0001", "0.01", "0.1"]
    assert list(lines.dimensions[1].ticktext) == ["a", "b"]


def test_a_parameter_that_never_differs_is_no_axis():
    frame = trials(lr=[1, 2], seed=[0, 0], loss=[1.0, 2.0])
    assert figures.compare(frame, "loss", ["lr", "seed"]).layout.xaxis.title.text == "lr"


def test_without_parameters_each_trial_is_a_bar():
    (bar,) = figures.compare(trials(loss=[1.0, 2.0]), "loss").data
    assert (bar.type, list(bar.x), list(bar.y)) == ("bar", ["trial 0", "trial 1"], [1.0, 2.0])


@pytest.mark.fault(54)
def test_trials_without_a_finite_value_are_left_out_and_counted():
    figure = figures.compare(trials(lr=[1, 2, 3], loss=[math.nan, 1.0, math.inf]), "loss", ["lr"])
    assert list(figure.data[1].y) == [1.0]
    assert [note.text for note in figure.layout.annotations] == ["2 of 3 trials have no finite value"]


@pytest.mark.parametrize("parameters", [[], ["lr"], ["lr", "kind"], ["lr", "kind", "n"]])
def test_trials_that_all_failed_are_an_empty_picture(parameters):
    frame = trials(lr=[1, 2], kind=["a", "b"], n=[1, 2], loss=[math.nan, math.nan])
    assert figures.compare(frame, "loss", parameters).layout.annotations[0].text == "2 of 2 trials have no finite value"


@pytest.mark.fault(53)
def test_a_metric_that_is_not_there_is_told_with_the_nearest():
    with pytest.raises(GpuDeployError, match=r"no column 'los'.*\n.*did you mean 'loss'"):
        figures.compare(trials(loss=[1.0]), "los")
    with pytest.raises(GpuDeployError, match="never printed; seen: loss"):
        one(history((0, 1, 1.0)), "acc")
    with pytest.raises(GpuDeployError, match="which metric"):
        figures.compare(trials(loss=[1.0]), None)
    two = history((0, 1, 1.0))
    with pytest.raises(GpuDeployError, match="which metric"):
        one(pd.concat([two, two.assign(metric="acc")]), None)


def test_the_only_metric_need_not_be_named():
    figure = one(history((0, 1, 1.0), (0, 2, 0.5)), None)
    assert figure.layout.yaxis.title.text == "loss"
    assert figure.data[0].y == (1.0, 0.5)


def test_curves_are_named_by_their_trial_and_the_best_is_on_top():
    rows = history((0, 1, 3.0), (0, 2, 2.0), (1, 1, 2.5), (1, 2, 1.0), (2, 1, math.nan))
    figure = one(rows, "loss")
    named = [trace.name for trace in figure.data if trace.showlegend is not False]
    assert named == ["lr=2", "lr=0", "lr=1"], "what is drawn last is on top"
    assert figure.layout.legend.traceorder == "reversed"
    assert [trace.name for trace in one(rows, "loss", goal="maximize").data if trace.showlegend is not False][
        -1
    ] == "lr=0"
    assert (figure.layout.xaxis.title.text, figure.layout.yaxis.title.text) == ("step", "loss")


def test_the_goal_is_told_by_the_trials():
    rows = history((0, 1, 0.2), (0, 2, 0.9), (1, 1, 0.1), (1, 2, 0.5))
    told = trials(best_loss=[0.9, 0.5])
    assert one(rows, "loss", told).data[-1].name == "lr=0"
    assert one(rows, "loss", trials(best_loss=[0.2, 0.1])).data[-1].name == "lr=1"


@pytest.mark.fault(54)
def test_nan_is_a_gap_with_a_mark_that_says_where():
    figure = one(history((0, 1, 0.5), (0, 3010, math.nan), (0, 3020, math.inf), (0, 3030, 0.25)), "loss")
    line, marks = figure.data
    assert list(line.y) == [0.5, None, None, 0.25]
    assert line.connectgaps is False
    assert list(marks.x) == [3010.0, 3020.0]
    assert list(marks.y) == [0.5, 0.5]
    assert [shown.partition("<br>")[2] for shown in marks.hovertext] == ["NaN at 3010", "inf at 3020"]


def test_without_steps_the_reports_are_counted_and_of_attempts_the_last_is_shown():
    rows = history((0, math.nan, 1.0), (0, math.nan, 2.0), (0, math.nan, 3.0))
    rows["attempt"] = [1, 2, 2]
    (line,) = one(rows, "loss").data
    assert (list(line.x), list(line.y)) == ([1.0, 2.0], [2.0, 3.0])


def test_many_curves_have_no_legend():
    rows = history(*[(trial, step, float(trial)) for trial in range(40) for step in range(2)])
    assert one(rows, "loss").layout.showlegend is False


NASTY = "<b>x</b><a href='javascript:1'>%{x}$\\frac{1}{2}$"


@pytest.mark.fault(62)
@pytest.mark.parametrize("parameters", [1, 2, 3])
def test_names_are_text_whatever_they_hold(parameters):
    names = [f"{NASTY}{number}" for number in range(parameters)]
    frame = trials(
        **{name: [f"<i>{number}</i>", "b", "$c$"] for number, name in enumerate(names)}, **{NASTY: [1.0, 2.0, 3.0]}
    )
    figure = figures.compare(frame, NASTY, names)
    for dimension in figure.data[0].dimensions if parameters == 3 else ():
        dimension.ticktext = ()  # the one text that plotly takes as it is
    shown = figure.to_json()
    rows = history((0, 1, 1.0), (0, 2, math.nan)).assign(name=NASTY, metric=NASTY)
    shown += one(rows, NASTY).to_json()
    decoded = shown.encode().decode("unicode_escape").replace("<br>", "")
    assert "&lt;b&gt;" in decoded
    assert "<" not in decoded
    assert "$" not in decoded
    assert "template" not in shown.replace('"template":', "").replace("%{z:.4g}", "").replace('"texttemplate"', ""), (
        "no hovertemplate takes a name"
    )


def test_figures_suit_light_and_dark_pages():
    for figure in (
        figures.compare(trials(lr=[1, 2], loss=[1.0, 2.0]), "loss", ["lr"]),
        one(history((0, 1, 1.0)), "loss"),
    ):
        assert figure.layout.paper_bgcolor == figure.layout.plot_bgcolor == "rgba(0,0,0,0)"
        assert figure.layout.font.color not in (None, "black", "white", "#000", "#fff")
