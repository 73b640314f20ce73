"""Every combination, the last axis turning fastest.

Not Optuna's GridSampler: its ask/tell raises at the last point and then hands out duplicates (Optuna 5.0.0).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from jupyter_gpudeploy.samplers.base import grid_size

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from jupyter_gpudeploy.samplers.base import Axis, Params, Told


class Grid:
    """The n-th point is the number n written in the mixed base of the axes, so a million cost nothing to count."""

    adaptive = False

    def count(self, space: Mapping[str, Axis]) -> int | None:
        """Return the product of the numbers of values."""
        return grid_size(space)

    def ask(self, space: Mapping[str, Axis], history: Sequence[Told], seed: int) -> Params | None:  # noqa: ARG002 - a grid draws nothing
        """Return point number `len(history)`."""
        number = len(history)
        if number >= grid_size(space):
            return None
        point: Params = {}
        for name, axis in reversed(list(space.items())):
            number, index = divmod(number, len(axis.values))
            point[name] = axis.values[index]
        return dict(reversed(list(point.items())))


EXPORT = Grid()
