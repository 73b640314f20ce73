"""Where the settings file is. Apart from what reads it, since looking whether there is one must cost nothing."""

from __future__ import annotations

import os
from pathlib import Path

VARIABLE = "JUPYTER_GPUDEPLOY_CONFIG"


def settings_file() -> Path:
    """Return where the settings are, or would be."""
    if given := os.environ.get(VARIABLE):
        return Path(given).expanduser()
    home = os.environ.get("XDG_CONFIG_HOME")
    return (Path(home) if home else Path("~/.config").expanduser()) / "jupyter_gpudeploy" / "config.yaml"
