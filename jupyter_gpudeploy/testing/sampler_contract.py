"""What every search method promises. Subclass, give the fixtures `sampler` and `space`, and pytest does the rest."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from jupyter_gpudeploy.samplers.base import Axis, Sampler, Told

if TYPE_CHECKING:
    from collections.abc import Mapping

    from jupyter_gpudeploy.samplers.base import Params

_MANY = 50


class SamplerContract:
    """Subclass it as `class TestGrid(SamplerContract)`; override the two fixtures."""

    @pytest.fixture
    def sampler(self) -> Sampler:
        raise NotImplementedError("return the sampler to be tested")

    @pytest.fixture
    def space(self) -> Mapping[str, Axis]:
        return {"lr": Axis(values=(0.1, 0.01, 0.001)), "flag": Axis(values=(True, False)), "name": Axis(values=("a",))}

    def test_it_hands_out_as_many_points_as_it_counts(self, sampler: Sampler, space: Mapping[str, Axis]) -> None:
        count = sampler.count(space)
        points = _ask_all(sampler, space, seed=0)
        assert len(points) == (_MANY if count is None else count)

    def test_every_point_has_every_axis_and_a_value_of_it(self, sampler: Sampler, space: Mapping[str, Axis]) -> None:
        for point in _ask_all(sampler, space, seed=1):
            assert list(point) == list(space)
            for name, value in point.items():
                assert _belongs(value, space[name])

    def test_the_same_history_and_seed_give_the_same_point(self, sampler: Sampler, space: Mapping[str, Axis]) -> None:
        assert _ask_all(sampler, space, seed=7) == _ask_all(sampler, space, seed=7)

    def test_a_sweep_resumes_where_it_was(self, sampler: Sampler, space: Mapping[str, Axis]) -> None:
        whole = _ask_all(sampler, space, seed=3)
        half = [Told(point, value=0.5) for point in whole[: len(whole) // 2]]
        if not sampler.adaptive:
            assert sampler.ask(space, half, 3) == whole[len(half)]


def _ask_all(sampler: Sampler, space: Mapping[str, Axis], seed: int) -> list[Params]:
    history: list[Told] = []
    while len(history) < _MANY and (point := sampler.ask(space, history, seed)) is not None:
        history.append(Told(point))
    return [told.parameters for told in history]


def _belongs(value: object, axis: Axis) -> bool:
    if axis.is_listed:
        return value in axis.values
    low, high = axis.minimum, axis.maximum
    return isinstance(value, int | float) and (low is None or value >= low) and (high is None or value <= high)
