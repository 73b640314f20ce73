"""A sweep whose points are chosen while it runs: what is decided of it beforehand, and a trial made of a point.

Its tasks have their numbers from the beginning, and nothing else; whoever keeps the run asks for one point after the
other (`jupyter_gpudeploy.sweeps`), writes it down (`events/points.py`), and only then starts it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from jupyter_gpudeploy.names import point_name
from jupyter_gpudeploy.plan import arguments
from jupyter_gpudeploy.plan.types import Search, Slot, Task, Template
from jupyter_gpudeploy.samplers.base import Axis

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from jupyter_gpudeploy.plan.program import Program
    from jupyter_gpudeploy.plan.types import Word
    from jupyter_gpudeploy.samplers.base import Params
    from jupyter_gpudeploy.spec.models import Spec

UNCHOSEN = "not chosen yet"


class Planned(NamedTuple):
    """What a search method said of a sweep: how many points, and the first ones, asked for with nothing known."""

    method: str
    space: Mapping[str, Axis]
    trials: int
    first: tuple[Params, ...]


def search_of(planned: Planned, spec: Spec, program: Program, options: Mapping[str, str]) -> Search:
    """Return what is decided of the sweep. Raises PlanError for a listed value that no command can be given."""
    template = Template(
        program.lead,
        tuple(program.words),
        append=program.append,
        flags={name: axis.flags for name, axis in spec.parameters.items() if axis.flags},
        options=dict(options),
        metric_files=tuple(spec.metric_files),
    )
    search = Search(planned.method, planned.space, spec.seed, template, planned.first)
    for name, axis in planned.space.items():
        for value in axis.values:
            task(search, 0, {**planned.first[0], name: value})
    return search


def unchosen(count: int) -> tuple[Task, ...]:
    """Return the tasks of a sweep before any point is chosen."""
    return tuple(Task(number, UNCHOSEN, ()) for number in range(count))


def task(search: Search, number: int, parameters: Params) -> Task:
    """Return the trial of a point."""
    how = search.template
    point = arguments.Point(parameters, number, search.seed, how.flags, how.options)
    return Task(
        number,
        point_name(parameters),
        (*how.lead, *arguments.expand(how.words, point, append=how.append)),
        parameters,
        metric_files=tuple(arguments.expand_text(text, point) for text in how.metric_files),
    )


def search_in(record: Mapping[str, Any]) -> Search | None:
    """Return the search of a record (`record.record_of`); None for a run whose tasks were known beforehand."""
    found = record.get("search")
    if not found:
        return None
    how = found["template"]
    template = Template(
        lead=tuple(_word(parts) for parts in how["lead"]),
        words=tuple(how["words"]),
        append=how["append"],
        flags={name: (pair[0], pair[1]) for name, pair in how["flags"].items()},
        options=how["options"],
        metric_files=tuple(how["metric_files"]),
    )
    space = {name: Axis(**{**axis, "values": tuple(axis["values"])}) for name, axis in found["space"].items()}
    return Search(found["method"], space, found["seed"], template, tuple(found["first"]))


def _word(parts: Sequence[Any]) -> Word:
    return tuple(Slot(part["slot"]) if isinstance(part, dict) else part for part in parts)
