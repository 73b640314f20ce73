"""The seam for search methods.

`ask` is a function of its arguments only, so a sweep that was interrupted resumes with the same points: the history
is the whole memory.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Literal, NamedTuple, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

Scalar = str | int | float | bool | None
Params = dict[str, Scalar]


class Axis(NamedTuple):
    """The values one parameter can take: listed, or a range with a distribution.

    `q` is the step to which a drawn number is rounded; `integer` says that numbers are whole.
    """

    values: tuple[Scalar, ...] = ()
    minimum: float | None = None
    maximum: float | None = None
    distribution: Literal["uniform", "log_uniform", "normal", "log_normal"] = "uniform"
    mean: float = 0.0
    deviation: float = 1.0
    q: float | None = None
    integer: bool = False

    @property
    def is_listed(self) -> bool:
        """Whether the values can be counted."""
        return bool(self.values)


class Told(NamedTuple):
    """A point that was asked for, and what came of it: the smaller, the better.

    `value` is None while it is not known, NaN where it ended without one.
    """

    parameters: Params
    value: float | None = None


class Sampler(Protocol):
    """One search method."""

    adaptive: bool
    """Whether a point depends on what came of the ones before."""

    def count(self, space: Mapping[str, Axis]) -> int | None:
        """Return how many points there are in all, without making them; None = no end."""

    def ask(self, space: Mapping[str, Axis], history: Sequence[Told], seed: int) -> Params | None:
        """Return the next point, or None when there is none. A function of its arguments only."""


def grid_size(space: Mapping[str, Axis]) -> int:
    """Return how many points the grid of a space of listed values has."""
    return math.prod(len(axis.values) for axis in space.values())
