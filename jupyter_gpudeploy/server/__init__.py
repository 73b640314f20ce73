"""The Jupyter server extension: what the side panel of JupyterLab asks.

Installing the package enables it (`jupyter-config/server-config`). Only this floor knows jupyter_server and tornado,
which come with JupyterLab.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from jupyter_server.serverapp import ServerApp

LABEXTENSION = "jupyter-gpudeploy"


def _jupyter_server_extension_points() -> list[dict[str, str]]:
    return [{"module": "jupyter_gpudeploy.server"}]


def _load_jupyter_server_extension(server: ServerApp) -> None:
    """Add the routes. Nothing is looked at before somebody asks."""
    from jupyter_gpudeploy.server.routes import routes

    server.web_app.add_handlers(".*$", routes(server.web_app.settings["base_url"]))  # type: ignore[no-untyped-call] # tornado's
    said = "" if _has_panel() else "; the panel itself is not here: `make labextension` builds it in a checkout"
    server.log.info("jupyter_gpudeploy answers below %sgpudeploy/api%s", server.web_app.settings["base_url"], said)


def _has_panel() -> bool:
    from pathlib import Path

    from jupyter_core.paths import jupyter_path

    return any((Path(path) / LABEXTENSION / "package.json").is_file() for path in jupyter_path("labextensions"))
