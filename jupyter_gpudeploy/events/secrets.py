"""Where the value of a secret lies on this machine. It is read when it is needed, and never kept."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from jupyter_gpudeploy.errors import BackendError

if TYPE_CHECKING:
    from collections.abc import Mapping


def secret_value(name: str, where: Mapping[str, str]) -> str:
    """Return the value to which a record refers: {"source", "key"}. Raises BackendError for one that is not here."""
    if where["source"] == "env":
        value = os.environ.get(where["key"])
        if value is None:
            raise BackendError(f"secret {name}: the environment variable {where['key']} is not set")
        return value
    if where["source"] == "file":
        try:
            return Path(where["key"]).expanduser().read_text("utf-8").strip()
        except OSError as error:
            raise BackendError(f"secret {name}: {where['key']}: {error.strerror}") from None
    raise BackendError(f"secret {name}: this machine knows no secrets of a cluster")
