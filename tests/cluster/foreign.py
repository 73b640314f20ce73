"""Somebody's own cluster, named by its context: what the fixtures need of it, and nothing that would harm it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, NoReturn

import pytest
import yaml

CONTEXT_VARIABLE = "GPUDEPLOY_TEST_CONTEXT"
REGISTRY_VARIABLE = "GPUDEPLOY_TEST_REGISTRY"


class ForeignCluster:
    """A cluster that tests may use but not break: what kills or restarts a part skips the test."""

    def __init__(self, context: str, folder: Path) -> None:
        self.context = context
        self._path = folder / "kubeconfig"
        self._path.touch(mode=0o600)
        self._path.write_text(yaml.safe_dump(only_context(context)))

    def kubeconfig(self, user: str = "admin") -> Path:
        """A kubeconfig with this one context; there are no other users."""
        if user != "admin":
            self._skip()
        return self._path

    def image(self, name: str) -> str:
        """Where somebody has put the images that `python -m tests.cluster images` makes; skips when nowhere."""
        registry = os.environ.get(REGISTRY_VARIABLE)
        if not registry:
            pytest.skip(f"needs the project's images in a registry: {REGISTRY_VARIABLE}=registry.example/me")
        return f"{registry}/{name.rpartition('/')[2]}"

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        return self._skip

    def _skip(self, *_: object, **__: object) -> NoReturn:
        pytest.skip("needs the project's own cluster: make cluster")


def only_context(name: str) -> dict[str, Any]:
    """The kubeconfig content with only context `name`. Raises ValueError when no kubeconfig has it."""
    files = [Path(word) for word in os.environ.get("KUBECONFIG", "").split(os.pathsep) if word]
    found: dict[str, dict[str, Any]] = {"contexts": {}, "clusters": {}, "users": {}}
    for path in files or [Path.home() / ".kube" / "config"]:
        content = (yaml.safe_load(path.read_text()) or {}) if path.exists() else {}
        for kind, entries in found.items():
            for entry in content.get(kind) or []:
                entries.setdefault(entry["name"], _absolute(entry, path.parent))
    if name not in found["contexts"]:
        raise ValueError(f"no kubeconfig has a context {name}; there are {', '.join(found['contexts']) or 'none'}")
    context = found["contexts"][name]
    inner = context["context"]
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": name,
        "contexts": [context],
        "clusters": [found["clusters"][inner["cluster"]]],
        "users": [found["users"][inner["user"]]],
    }


def _absolute(entry: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Paths of files in an entry are relative to the kubeconfig they stand in."""
    for inner in entry.values():
        for key in {"certificate-authority", "client-certificate", "client-key", "tokenFile"} & set(
            inner if isinstance(inner, dict) else ()
        ):
            inner[key] = str(folder / inner[key])
    return entry
