"""From a notebook cell to a running job, sweep or model server, and back to a DataFrame.

`%load_ext jupyter_gpudeploy` brings the `%%deploy` magic; `launch`, `runs`, `attach` and `compare` are the same in
Python. Every name here is loaded when it is first used (PEP 562), so importing the package costs next to nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from jupyter_gpudeploy._version import __version__

if TYPE_CHECKING:
    from IPython.core.interactiveshell import InteractiveShell

    from jupyter_gpudeploy.errors import GpuDeployError as GpuDeployError
    from jupyter_gpudeploy.launching import attach as attach
    from jupyter_gpudeploy.launching import compare as compare
    from jupyter_gpudeploy.launching import launch as launch
    from jupyter_gpudeploy.launching import runs as runs
    from jupyter_gpudeploy.run import Run as Run
    from jupyter_gpudeploy.trackers.log import log as log
    from jupyter_gpudeploy.trackers.log import output_dir as output_dir
    from jupyter_gpudeploy.using import top as top

_HOME = {
    "GpuDeployError": "jupyter_gpudeploy.errors",
    "Run": "jupyter_gpudeploy.run",
    "attach": "jupyter_gpudeploy.launching",
    "compare": "jupyter_gpudeploy.launching",
    "launch": "jupyter_gpudeploy.launching",
    "log": "jupyter_gpudeploy.trackers.log",
    "output_dir": "jupyter_gpudeploy.trackers.log",
    "runs": "jupyter_gpudeploy.launching",
    "top": "jupyter_gpudeploy.using",
}

__all__ = ["__version__", *_HOME]  # noqa: PLE0604 - names of strings, checked by a test


def __getattr__(name: str) -> Any:  # noqa: ANN401 - whatever the name stands for
    if name not in _HOME:
        raise AttributeError(f"module 'jupyter_gpudeploy' has no attribute {name!r}")
    value = getattr(import_module(_HOME[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOME})


def _jupyter_labextension_paths() -> list[dict[str, str]]:
    return [{"src": "labextension", "dest": "jupyter-gpudeploy"}]


def load_ipython_extension(shell: InteractiveShell) -> None:
    """Register the magics (`%load_ext jupyter_gpudeploy`)."""
    import_module("jupyter_gpudeploy.notebook.magics").register(shell)


def unload_ipython_extension(shell: InteractiveShell) -> None:
    """Take the magics, the completion and the displays away again; runs go on."""
    import_module("jupyter_gpudeploy.notebook.magics").unregister(shell)
