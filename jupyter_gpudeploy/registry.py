"""Families of interchangeable parts. The file name is the registration.

`servers/vllm.py` is the server `vllm`: its module-level `EXPORT` is the member. A package from outside joins by an
entry point in the group of the same dotted name, for example::

    [project.entry-points."jupyter_gpudeploy.servers"]
    myserver = "mypackage.myserver:EXPORT"

Our own files win over entry points, so that installing a package never changes what a cell means.
"""

from __future__ import annotations

import importlib
import importlib.util
from typing import TYPE_CHECKING, Any

from jupyter_gpudeploy.errors import GpuDeployError

if TYPE_CHECKING:
    from collections.abc import Iterable


class Family:
    """The members of one package, by name. Nothing is imported before it is asked for."""

    def __init__(self, package: str) -> None:
        self.package = package

    def names(self) -> tuple[str, ...]:
        """Return every member's name, sorted."""
        return tuple(sorted({*self._own(), *(entry.name for entry in self._foreign())}))

    def load(self, name: str) -> Any:  # noqa: ANN401 - each family states its own type where it calls this
        """Return the member called `name`. Raises GpuDeployError that names the known ones and the nearest."""
        if self._owns(name):
            return importlib.import_module(f"{self.package}.{name}").EXPORT
        for entry in self._foreign():
            if entry.name == name:
                return entry.load()
        known = self.names()
        kind = self.package.rpartition(".")[2].removesuffix("s")
        raise GpuDeployError(f"no {kind} is called {name!r}", hint=did_you_mean(name, known))

    def _owns(self, name: str) -> bool:
        return _is_member(name) and importlib.util.find_spec(f"{self.package}.{name}") is not None

    def _own(self) -> tuple[str, ...]:
        import pkgutil

        path = importlib.import_module(self.package).__path__
        return tuple(module.name for module in pkgutil.iter_modules(path) if _is_member(module.name))

    def _foreign(self) -> Iterable[Any]:
        from importlib.metadata import entry_points

        return entry_points(group=self.package)


def _is_member(name: str) -> bool:
    return name.isidentifier() and name != "base" and not name.startswith("_")


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return the way out for an unknown name: the nearest known one first, then all of them."""
    import difflib

    known = list(known)
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.6)
    listed = "known: " + ", ".join(known) if known else "none is known"
    return f"did you mean {near[0]!r}? {listed}" if near else listed
