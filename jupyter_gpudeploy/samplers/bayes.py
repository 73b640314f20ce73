"""Bayesian search: Optuna's tree-structured Parzen estimator (TPE), asked anew for each point.

Nothing is kept between two calls: a study is rebuilt from the history, and its chance comes from the seed and the
number of the point. What is still running, and what ended without a value, counts as bad (the constant liar), so that
points asked for at the same time differ, and that what fails is not tried again and again.

Optuna has no bell-shaped axes. A normal axis is searched by its quantiles: evenly over them is normally over the
values, as the cell says.
"""

from __future__ import annotations

import math
import random
import warnings
from contextlib import contextmanager
from importlib.util import find_spec
from statistics import NormalDist
from typing import TYPE_CHECKING, Any, NamedTuple

from jupyter_gpudeploy.errors import PlanError
from jupyter_gpudeploy.samplers.random import EXPORT as RANDOM

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from jupyter_gpudeploy.samplers.base import Axis, Params, Scalar, Told

INSTALL = 'pip install "jupyter-gpudeploy[bayes]"'
_MOST_RANDOM = 10
_TAIL = 1e-4


class Bayes:
    """Random points first, as many as the axes need to be known a little, then what the model thinks best."""

    adaptive = True

    def count(self, space: Mapping[str, Axis]) -> int | None:  # noqa: ARG002 - there is always a further point
        """Return None: there is no end."""
        return None

    def ask(self, space: Mapping[str, Axis], history: Sequence[Told], seed: int) -> Params | None:
        """Return the next point. Raises PlanError where Optuna is not installed."""
        if find_spec("optuna") is None:
            raise PlanError("method: bayes is searched by Optuna, which is not installed", hint=INSTALL)
        known = sum(told.value is not None and math.isfinite(told.value) for told in history)
        if known < startup(space):
            return RANDOM.ask(space, history, seed)
        return _modelled(space, history, seed)


def startup(space: Mapping[str, Axis]) -> int:
    """Return how many values must be known before the model is asked."""
    return min(2 + 2 * len(space), _MOST_RANDOM)


def _modelled(space: Mapping[str, Axis], history: Sequence[Told], seed: int) -> Params:
    import optuna

    codes = {name: _code(axis) for name, axis in space.items()}
    chance = random.Random(f"{seed}:{len(history)}").getrandbits(32)  # noqa: S311 - a search, not a secret
    with _quiet(optuna):
        sampler = optuna.samplers.TPESampler(seed=chance, constant_liar=True, n_startup_trials=0)
        study = optuna.create_study(sampler=sampler)
        axes = {name: code.distribution for name, code in codes.items()}
        for told in history:
            point = {name: code.encode(told.parameters[name]) for name, code in codes.items()}
            is_known = told.value is not None and math.isfinite(told.value)
            state = optuna.trial.TrialState.COMPLETE if is_known else optuna.trial.TrialState.RUNNING
            value = told.value if is_known else None
            study.add_trial(optuna.trial.create_trial(state=state, value=value, params=point, distributions=axes))
        drawn = study.ask(axes).params
    return {name: code.decode(drawn[name]) for name, code in codes.items()}


@contextmanager
def _quiet(optuna: Any) -> Iterator[None]:  # noqa: ANN401 - the module
    """Keep Optuna from telling of each study; what it said to whoever uses it here besides stays as it was."""
    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        with warnings.catch_warnings():  # the constant liar was experimental before Optuna 5
            warnings.simplefilter("ignore")
            yield
    finally:
        optuna.logging.set_verbosity(before)


class _Code(NamedTuple):
    """An axis as Optuna has it: its distribution, and the way from a value of ours to one of its own and back."""

    distribution: Any
    encode: Callable[[Scalar], Any]
    decode: Callable[[Any], Scalar]


def _code(axis: Axis) -> _Code:
    if axis.is_listed:
        return _listed(axis)
    if axis.distribution in ("normal", "log_normal"):
        return _bell(axis)
    if axis.minimum is None or axis.maximum is None:
        raise ValueError("a range has a minimum and a maximum")
    if axis.distribution == "uniform" and (axis.q is not None or axis.integer):
        return _steps(axis, axis.minimum, axis.maximum)
    return _range(axis, axis.minimum, axis.maximum)


def _listed(axis: Axis) -> _Code:
    """Values are known by their places: 1 and true are equal to Python, and two choices here."""
    from optuna.distributions import CategoricalDistribution

    places = {(type(value), value): place for place, value in enumerate(axis.values)}
    return _Code(
        CategoricalDistribution(range(len(axis.values))),
        lambda value: places[type(value), value],
        lambda place: axis.values[place],
    )


def _steps(axis: Axis, minimum: float, maximum: float) -> _Code:
    """Whole multiples of a step: evenly over them."""
    from optuna.distributions import IntDistribution

    step = axis.q if axis.q is not None else 1.0
    low, high = math.ceil(minimum / step - _NOISE), math.floor(maximum / step + _NOISE)
    low, high = min(low, high), max(low, high)

    def decode(count: int) -> Scalar:
        value = min(max(float(f"{count * step:.12g}"), minimum), maximum)
        return round(value) if axis.integer else value

    return _Code(IntDistribution(low, high), lambda value: _within(round(_float(value) / step), low, high), decode)


_NOISE = 1e-9


def _range(axis: Axis, minimum: float, maximum: float) -> _Code:
    from optuna.distributions import FloatDistribution

    return _Code(
        FloatDistribution(minimum, maximum, log=axis.distribution == "log_uniform"),
        lambda value: _within(_float(value), minimum, maximum),
        lambda value: _rounded(value, axis),
    )


def _bell(axis: Axis) -> _Code:
    from optuna.distributions import FloatDistribution

    bell = NormalDist(axis.mean, axis.deviation)
    is_log = axis.distribution == "log_normal"

    def quantile(value: float) -> float:
        if is_log:
            return bell.cdf(math.log(value)) if value > 0 else 0.0
        return bell.cdf(value)

    low = _TAIL if axis.minimum is None else _within(quantile(axis.minimum), _TAIL, 1 - 2 * _TAIL)
    high = 1 - _TAIL if axis.maximum is None else _within(quantile(axis.maximum), low + _TAIL, 1 - _TAIL)

    def decode(share: float) -> Scalar:
        value = bell.inv_cdf(share)
        return _rounded(math.exp(value) if is_log else value, axis)

    return _Code(FloatDistribution(low, high), lambda value: _within(quantile(_float(value)), low, high), decode)


def _rounded(value: float, axis: Axis) -> Scalar:
    if axis.q is not None:
        value = float(f"{round(value / axis.q) * axis.q:.12g}")
    value = min(max(value, -math.inf if axis.minimum is None else axis.minimum),
                math.inf if axis.maximum is None else axis.maximum)  # fmt: skip
    return round(value) if axis.integer else float(value)


def _within(value: Any, low: Any, high: Any) -> Any:  # noqa: ANN401 - numbers of one kind
    return min(max(value, low), high)


def _float(value: Scalar) -> float:
    if not isinstance(value, int | float):
        raise TypeError(f"{value!r} is no number of a range")
    return float(value)


EXPORT = Bayes()
