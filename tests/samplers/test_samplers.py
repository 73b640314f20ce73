import math
from collections import Counter

import pytest

from jupyter_gpudeploy.samplers.ablation import EXPORT as ABLATION
from jupyter_gpudeploy.samplers.base import Axis, Told
from jupyter_gpudeploy.samplers.grid import EXPORT as GRID
from jupyter_gpudeploy.samplers.random import EXPORT as RANDOM
from jupyter_gpudeploy.testing.sampler_contract import SamplerContract


class TestGrid(SamplerContract):
    @pytest.fixture
    def sampler(self):
        return GRID

    def test_the_last_axis_turns_fastest_and_nothing_comes_twice(self):
        space = {"a": Axis(values=(1, 2)), "b": Axis(values=("x", "y", "z"))}
        points, history = [], []
        while (point := GRID.ask(space, history, 0)) is not None:
            points.append(tuple(point.values()))
            history.append(Told(point))
        assert points == [(1, "x"), (1, "y"), (1, "z"), (2, "x"), (2, "y"), (2, "z")]

    def test_a_huge_grid_is_counted_without_being_made(self):
        space = {str(n): Axis(values=tuple(range(1000))) for n in range(10)}
        assert GRID.count(space) == 10**30


class TestAblation(SamplerContract):
    @pytest.fixture
    def sampler(self):
        return ABLATION

    def test_each_trial_changes_one_thing_of_the_baseline(self):
        space = {name: Axis(values=(True, False)) for name in ("attention", "normalization", "residual")}
        history = []
        while (point := ABLATION.ask(space, history, 0)) is not None:
            history.append(Told(point))
        changed = [[name for name, value in told.parameters.items() if not value] for told in history]
        assert changed == [[], ["attention"], ["normalization"], ["residual"]]


class TestRandom(SamplerContract):
    @pytest.fixture
    def sampler(self):
        return RANDOM

    @pytest.fixture
    def space(self):
        return {
            "lr": Axis(minimum=1e-5, maximum=1e-1, distribution="log_uniform"),
            "layers": Axis(minimum=1, maximum=8, integer=True),
            "dropout": Axis(minimum=0.0, maximum=0.5, q=0.1),
            "optimizer": Axis(values=("sgd", "adam")),
        }

    def draws(self, axis, count=400):
        return [RANDOM.ask({"x": axis}, [Told({})] * n, 0)["x"] for n in range(count)]

    def test_log_uniform_draws_each_decade_alike(self):
        decades = Counter(
            math.floor(math.log10(x)) for x in self.draws(Axis(minimum=1e-4, maximum=1, distribution="log_uniform"))
        )
        assert all(60 < decades[n] < 140 for n in (-4, -3, -2, -1))

    def test_whole_numbers_reach_both_ends(self):
        drawn = self.draws(Axis(minimum=1, maximum=3, integer=True))
        assert set(drawn) == {1, 2, 3}
        assert all(type(x) is int for x in drawn)

    def test_steps_carry_no_float_noise(self):
        assert set(self.draws(Axis(minimum=0.0, maximum=0.5, q=0.1))) == {0.0, 0.1, 0.2, 0.3, 0.4, 0.5}

    def test_normal_stays_within_its_bounds_and_around_its_mean(self):
        drawn = self.draws(Axis(distribution="normal", mean=3, deviation=1, minimum=0))
        assert min(drawn) >= 0
        assert 2.8 < sum(drawn) / len(drawn) < 3.2

    def test_another_seed_draws_other_points(self):
        axis = {"x": Axis(minimum=0, maximum=1)}
        assert RANDOM.ask(axis, [], 1) != RANDOM.ask(axis, [], 2)
