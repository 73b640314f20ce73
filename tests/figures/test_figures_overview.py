"""The curves of several metrics beside each other."""

from __future__ import annotations

import math

import pytest
from test_figures import history, trials

from jupyter_gpudeploy import figures
from jupyter_gpudeploy.errors import GpuDeployError


def two_metrics():
    import pandas as pd

    loss = history((0, 1, 3.0), (0, 2, 1.0), (1, 1, 5.0), (1, 2, math.nan))
    return pd.concat([loss, loss.assign(metric="<b>acc</b>", value=1 - loss["value"])])


def test_each_metric_has_its_own_axes_and_a_trial_one_colour():
    figure = figures.curves(two_metrics(), None, trials(loss=[1.0, 5.0]))
    assert [note.text for note in figure.layout.annotations[:2]] == ["loss", "&lt;b&gt;acc&lt;/b&gt;"]
    lines = [trace for trace in figure.data if trace.mode != "markers"]
    assert {trace.xaxis for trace in lines} == {"x", "x2"}
    colours = {name: {trace.line.color for trace in lines if trace.name == name} for name in ("lr=0", "lr=1")}
    assert [len(found) for found in colours.values()] == [1, 1]
    assert colours["lr=0"] != colours["lr=1"]
    assert sorted(trace.name for trace in figure.data if trace.showlegend) == ["lr=0", "lr=1"]
    assert figure.layout.showlegend


def test_one_metric_is_shown_alone():
    figure = figures.curves(two_metrics(), "loss", trials(loss=[1.0, 5.0]))
    assert {trace.xaxis for trace in figure.data} == {None}
    assert figure.layout.yaxis.title.text == "loss"


def test_no_metric_at_all_is_said():
    with pytest.raises(GpuDeployError, match="which metric"):
        figures.curves(two_metrics().iloc[:0], None, trials(loss=[]))
