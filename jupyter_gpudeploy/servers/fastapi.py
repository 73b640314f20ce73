"""`serve: fastapi`: an application in the cell or in a file, any ASGI application."""

from __future__ import annotations

from jupyter_gpudeploy.servers.base import application_server

EXPORT = application_server("fastapi")
