"""The baseline, then the baseline with one thing changed, for every other value of every axis.

The first value of each axis is the baseline. N booleans make N + 1 trials, not 2 to the N.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from jupyter_gpudeploy.samplers.base import Axis, Params, Told


class Ablation:
    """Each component's importance is the distance of its trial from trial 0."""

    adaptive = False

    def count(self, space: Mapping[str, Axis]) -> int | None:
        """Return one for the baseline and one for each further value."""
        return 1 + sum(len(axis.values) - 1 for axis in space.values())

    def ask(self, space: Mapping[str, Axis], history: Sequence[Told], seed: int) -> Params | None:  # noqa: ARG002 - nothing is drawn
        """Return the baseline, then one change after the other in the order of the axes."""
        baseline: Params = {name: axis.values[0] for name, axis in space.items()}
        number = len(history)
        if number == 0:
            return baseline
        for name, axis in space.items():
            if number < len(axis.values):
                return {**baseline, name: axis.values[number]}
            number -= len(axis.values) - 1
        return None


EXPORT = Ablation()
