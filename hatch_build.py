"""Puts the live card's front end into wheels and sdists; built by npm where it is older than its sources."""

from __future__ import annotations

import runpy
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class WidgetHook(BuildHookInterface[Any]):
    """Part of every wheel and sdist; an editable install leaves the building to `make widget`."""

    PLUGIN_NAME = "custom"

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Build the front end, unless nothing is packed, and have it packed."""
        script = Path(self.root) / "scripts" / "build_widget.py"
        if version != "editable":
            runpy.run_path(str(script))["build"]()
        build_data["artifacts"].append("/jupyter_gpudeploy/notebook/static/*")
