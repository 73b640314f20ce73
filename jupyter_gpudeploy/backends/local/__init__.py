"""Runs on this machine: one small supervisor process per run, which outlives the kernel, and a folder that tells all.

`EXPORT` is loaded when it is asked for, because the supervisor imports this package too and needs no backend.
"""

from __future__ import annotations

from typing import Any


def __getattr__(name: str) -> Any:  # noqa: ANN401 - the registry's own signature
    if name == "EXPORT":
        from jupyter_gpudeploy.backends.local.backend import LocalBackend

        return LocalBackend
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
