"""`serve: command`: any program that takes a port, `run: python -m http.server {port}`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from jupyter_gpudeploy.servers.base import ServerPreset

if TYPE_CHECKING:
    from jupyter_gpudeploy.servers.base import ServeSpec


def _command(spec: ServeSpec) -> tuple[str, ...]:
    return tuple(spec.words)


EXPORT = ServerPreset(
    command=_command,
    health_live=None,
    health_ready=None,
    strict_health=False,
    startup_seconds=300,
)
