"""Puts the front ends into wheels and sdists: the live card, and the panel of JupyterLab.

Each is built where node is and it is older than its sources. What could not be built is left out, and said.
"""

from __future__ import annotations

import runpy
import shutil
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

SCRIPTS = ("build_widget.py", "build_labextension.py")
CARD = "/jupyter_gpudeploy/notebook/static/*"
PANEL = "jupyter_gpudeploy/labextension"
PLACE = "share/jupyter/labextensions/jupyter-gpudeploy"


class FrontHook(BuildHookInterface[Any]):
    """Part of every wheel and sdist; an editable install leaves the building to `make widget labextension`."""

    PLUGIN_NAME = "custom"

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Build the front ends, unless nothing is packed, and have them packed."""
        root = Path(self.root)
        if version != "editable":
            for name in SCRIPTS:
                runpy.run_path(str(root / "scripts" / name))["build"]()
        build_data["artifacts"].append(CARD)
        if self.target_name == "sdist":
            build_data["artifacts"].append(f"/{PANEL}/**")
        elif (root / PANEL / "package.json").exists():
            shutil.copy(root / "labextension" / "install.json", root / PANEL)
            build_data["shared_data"][PANEL] = PLACE
