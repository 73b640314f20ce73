import math
import sys
import warnings

import pytest

from jupyter_gpudeploy.errors import PlanError
from jupyter_gpudeploy.samplers.base import Axis, Told
from jupyter_gpudeploy.samplers.bayes import EXPORT as BAYES
from jupyter_gpudeploy.samplers.bayes import startup
from jupyter_gpudeploy.samplers.random import EXPORT as RANDOM
from jupyter_gpudeploy.testing.sampler_contract import SamplerContract

SPACE = {
    "lr": Axis(minimum=1e-5, maximum=1e-1, distribution="log_uniform"),
    "layers": Axis(minimum=1, maximum=8, integer=True),
    "dropout": Axis(minimum=0.0, maximum=0.5, q=0.1),
    "width": Axis(minimum=10, maximum=100, q=32, integer=True),
    "optimizer": Axis(values=("sgd", 1, True, None)),
    "weight": Axis(distribution="normal", mean=3, deviation=1, minimum=0),
    "scale": Axis(distribution="log_normal", mean=0, deviation=1, q=0.5, maximum=9),
}
LINE = {"x": Axis(minimum=-10.0, maximum=10.0), "y": Axis(minimum=-10.0, maximum=10.0)}


def bowl(point):
    return (point["x"] - 2) ** 2 + (point["y"] + 3) ** 2


def search(sampler, space, seed, count, value=lambda point: point["lr"]):
    """Ask for so many points, each told at once."""
    history = []
    for _ in range(count):
        point = sampler.ask(space, history, seed)
        history.append(Told(point, value(point)))
    return history


class TestBayes(SamplerContract):
    @pytest.fixture
    def sampler(self):
        return BAYES

    @pytest.fixture
    def space(self):
        return SPACE


def test_it_is_adaptive_and_has_no_end():
    assert BAYES.adaptive
    assert BAYES.count(SPACE) is None


def test_every_value_of_the_model_is_one_of_its_axis():
    for told in search(BAYES, SPACE, 5, 25):
        point = told.parameters
        assert 1e-5 <= point["lr"] <= 1e-1
        assert type(point["layers"]) is int
        assert 1 <= point["layers"] <= 8
        assert point["dropout"] in {0.0, 0.1, 0.2, 0.3, 0.4, 0.5}
        assert point["width"] in {10, 32, 64, 96, 100}
        assert any(point["optimizer"] is value for value in SPACE["optimizer"].values)
        assert 0 <= point["weight"] < 3 + 6
        assert 0 <= point["scale"] <= 9
        assert (point["scale"] * 2).is_integer()


def test_the_same_history_gives_the_same_points_after_a_restart():
    whole = search(BAYES, SPACE, 3, 24)
    for count in (0, 5, 17, 23):
        assert BAYES.ask(SPACE, whole[:count], 3) == whole[count].parameters


def test_what_came_of_a_trial_decides_what_is_tried_next():
    start = search(RANDOM, LINE, 0, startup(LINE), bowl)
    turned = [told._replace(value=-told.value) for told in start]
    assert BAYES.ask(LINE, start, 0) != BAYES.ask(LINE, turned, 0)


def test_it_comes_closer_than_random_draws():
    def median(sampler):
        return sorted(min(told.value for told in search(sampler, LINE, seed, 40, bowl)) for seed in range(7))[3]

    assert median(BAYES) < median(RANDOM)


def test_points_asked_for_at_the_same_time_differ():
    history = search(BAYES, LINE, 1, 12, bowl)
    asked = []
    for _ in range(6):
        asked.append(BAYES.ask(LINE, [*history, *(Told(point) for point in asked)], 1))
    assert len({(point["x"], point["y"]) for point in asked}) == 6


@pytest.mark.fault(54)
def test_what_ended_without_a_value_is_avoided_and_never_best():
    def fails(point):
        return point["x"] > 0

    def asked_there(sampler, seed):
        history = []
        for _ in range(60):
            point = sampler.ask(LINE, history, seed)
            history.append(Told(point, math.nan if fails(point) else bowl(point)))
        return sum(fails(told.parameters) for told in history[30:])

    searched, drawn = (sum(asked_there(sampler, seed) for seed in range(5)) for sampler in (BAYES, RANDOM))
    assert searched < 0.8 * drawn


def test_nothing_but_failures_are_searched_at_random():
    history = [Told(RANDOM.ask(LINE, [Told({})] * n, 0), math.nan) for n in range(20)]
    assert BAYES.ask(LINE, history, 0) == RANDOM.ask(LINE, history, 0)


def test_no_warning_and_no_line_comes_out_of_it(capfd):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        search(BAYES, SPACE, 0, 14)
    assert capfd.readouterr() == ("", "")


def test_without_optuna_it_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(PlanError, match="Optuna, which is not installed") as caught:
        BAYES.ask(LINE, [], 0)
    assert caught.value.hint == 'pip install "jupyter-gpudeploy[bayes]"'
