"""When a server counts as started, as ready, and as dead; and how it is let go.

Loading a model may take an hour and a small server is up in a second: the startup probe asks often and gives up late,
and the others begin when it has succeeded once.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from jupyter_gpudeploy.plan.types import Service
    from jupyter_gpudeploy.servers.base import ServerPreset

HTTP = "http"
_QUICK = 600.0  # what may take longer to start is asked every ten seconds
_PROGRESS_SECONDS = 1200  # to get a node and a large image, beside starting
_MARGIN_SECONDS = 45
_READY_SECONDS = 5
_ALIVE_SECONDS = 20
TASK_GRACE_SECONDS = 25
"""How long a task that our program started may take to end."""
_GRACE_SECONDS = TASK_GRACE_SECONDS + 5


class Probes(NamedTuple):
    """The probes of a container."""

    startup: dict[str, Any]
    readiness: dict[str, Any]
    liveness: dict[str, Any]


def probes(service: Service, preset: ServerPreset) -> Probes:
    """Return the probes. A server of whose health nothing is known is asked whether its port listens."""
    ready = _http(service.health.path) if service.health.path and service.health.strict else _listens()
    alive = _http(preset.health_live) if preset.strict_health and preset.health_live else _listens()
    every = 2 if service.health.startup_seconds <= _QUICK else 10
    tries = max(1, math.ceil(service.health.startup_seconds / every))
    return Probes(
        startup={**ready, "periodSeconds": every, "timeoutSeconds": 5, "failureThreshold": tries},
        readiness={**ready, "periodSeconds": _READY_SECONDS, "timeoutSeconds": 5, "failureThreshold": 2},
        liveness={**alive, "periodSeconds": _ALIVE_SECONDS, "timeoutSeconds": 10, "failureThreshold": 6},
    )


def per_second() -> float:
    """Return how many connections the probes of a server that has started make."""
    return 1 / _READY_SECONDS + 1 / _ALIVE_SECONDS


def progress_seconds(service: Service | None) -> int:
    """Return how long a rollout may go without progress before Kubernetes calls it failed: longer than starting may."""
    return _PROGRESS_SECONDS + math.ceil(service.health.startup_seconds if service else 0)


def pause_seconds(preset: ServerPreset | None) -> int:
    """Return how long a server that is to end still takes requests, until nobody sends it any."""
    return 15 if preset is not None and preset.container is not None else 5


def grace_seconds(preset: ServerPreset | None) -> int:
    """Return how long a pod may take to end: the pause, what drains its requests, and a margin."""
    if preset is None:
        return _GRACE_SECONDS
    drain = preset.container.drain_seconds + _MARGIN_SECONDS if preset.container else _GRACE_SECONDS
    return pause_seconds(preset) + drain


def _http(path: str) -> dict[str, Any]:
    return {"httpGet": {"path": path, "port": HTTP}}


def _listens() -> dict[str, Any]:
    return {"tcpSocket": {"port": HTTP}}
