"""`serve: flask`: an application in the cell or in a file, any WSGI application.

Flask has no health route of its own: any answer below 500 on `/` counts as well, unless the cell names `health:`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from jupyter_gpudeploy.servers.base import ServerPreset

if TYPE_CHECKING:
    from jupyter_gpudeploy.servers.base import ServeSpec


def _command(spec: ServeSpec) -> tuple[str, ...]:
    launcher = "jupyter_gpudeploy.programs.flask_app"
    return ("{python}", "-m", launcher, spec.program or "", spec.app, "{host}", "{port}", *spec.words)


EXPORT = ServerPreset(
    command=_command,
    health_live="/",
    health_ready="/",
    strict_health=False,
    startup_seconds=300,
    needs_module="flask",
    takes_code=True,
)
