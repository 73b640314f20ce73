"""Independent draws. The n-th point depends on the seed and n alone, so a sweep can be made longer later."""

from __future__ import annotations

import math
import random
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from jupyter_gpudeploy.samplers.base import Axis, Params, Scalar, Told


class Random:
    """Listed values are drawn evenly; ranges by their distribution; rounding keeps within the range."""

    adaptive = False

    def count(self, space: Mapping[str, Axis]) -> int | None:  # noqa: ARG002 - there is always another draw
        """Return None: there is no end."""
        return None

    def ask(self, space: Mapping[str, Axis], history: Sequence[Told], seed: int) -> Params | None:
        """Return the draw that follows the history."""
        generator = random.Random(f"{seed}:{len(history)}")  # noqa: S311 - a search, not a secret
        return {name: _draw(axis, generator) for name, axis in space.items()}


def _draw(axis: Axis, generator: random.Random) -> Scalar:
    if axis.is_listed:
        return generator.choice(axis.values)
    if axis.distribution in {"normal", "log_normal"}:
        value = generator.gauss(axis.mean, axis.deviation)
        value = math.exp(value) if axis.distribution == "log_normal" else value
        value = _within(value, axis)
    elif axis.minimum is None or axis.maximum is None:
        raise ValueError("a range has a minimum and a maximum")
    elif axis.distribution == "log_uniform":
        value = math.exp(generator.uniform(math.log(axis.minimum), math.log(axis.maximum)))
    elif axis.integer and axis.q is None:
        return generator.randint(math.ceil(axis.minimum), math.floor(axis.maximum))
    else:
        value = generator.uniform(axis.minimum, axis.maximum)
    return _rounded(value, axis)


def _rounded(value: float, axis: Axis) -> float:
    if axis.q is not None:
        value = _within(round(value / axis.q) * axis.q, axis)
        value = float(f"{value:.12g}")
    return round(value) if axis.integer else value


def _within(value: float, axis: Axis) -> float:
    low = -math.inf if axis.minimum is None else axis.minimum
    high = math.inf if axis.maximum is None else axis.maximum
    return min(max(value, low), high)


EXPORT = Random()
