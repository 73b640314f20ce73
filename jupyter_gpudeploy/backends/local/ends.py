"""How a run ends, told by how its tasks ended."""

from __future__ import annotations

from typing import TYPE_CHECKING

from jupyter_gpudeploy.backends.local.attempts import Outcome
from jupyter_gpudeploy.events.types import State

if TYPE_CHECKING:
    from collections.abc import Mapping

_NOUNS = {"sweep": "trials", "server": "replicas"}


def verdict(kind: str, results: Mapping[int, Outcome]) -> Outcome:
    """Return the end of a run whose tasks ended like this: failed if any failed, else stopped if any was stopped."""
    for state in (State.FAILED, State.STOPPED):
        found = [outcome for outcome in results.values() if outcome.state is state]
        if found and len(results) == 1:
            return Outcome(state, found[0].reason)
        if found:
            return Outcome(state, f"{len(found)} of {len(results)} {_NOUNS.get(kind, 'tasks')} {state.value}")
    return Outcome(State.SUCCEEDED)


def over_time(kind: str, limit: float) -> Outcome:
    """Return the end of what took longer than `limit` seconds: a failure, but for what was never to end by itself."""
    from jupyter_gpudeploy.quantities import format_seconds

    if kind in ("server", "manual"):
        return Outcome(State.STOPPED, f"max_hours is over ({format_seconds(limit)})", again=False)
    return Outcome(State.FAILED, f"took longer than max_hours ({format_seconds(limit)})", again=False)
