"""Builds the programs of the cluster from Go modules, once per version of their sources."""

from __future__ import annotations

import hashlib
import shutil
from dataclasses import dataclass
from typing import TYPE_CHECKING

from . import paths
from .system import ClusterError, command, timed

if TYPE_CHECKING:
    from pathlib import Path

_VERSION = "k8s.io/component-base/version"
_MAJOR, _MINOR, _ = paths.KUBERNETES.removeprefix("v").split(".")


@dataclass(frozen=True, slots=True)
class Program:
    """One Go module under programs/ and what it builds. `target` is a package or the word `tool`."""

    module: str
    makes: tuple[str, ...]
    target: str = "."
    link: str = ""

    @property
    def folder(self) -> Path:
        """Where its go.mod lies."""
        return paths.PROGRAMS / self.module

    def fingerprint(self) -> str:
        """Changes whenever a build would give another program."""
        sources = sorted(path for path in self.folder.iterdir() if path.suffix in {".go", ".mod", ".sum"})
        text = b"".join(path.read_bytes() for path in sources)
        return hashlib.sha256(text + self.target.encode() + self.link.encode()).hexdigest()

    def stamp(self) -> Path:
        """Holds the fingerprint of what is built."""
        return paths.cache() / "bin" / f".{self.module}.built"

    def is_built(self) -> bool:
        """Whether the programs are there and of these sources."""
        made = all(paths.program(name).exists() for name in self.makes)
        return made and self.stamp().exists() and self.stamp().read_text() == self.fingerprint()


_KUBE_LINK = (
    f"-X {_VERSION}.gitVersion={paths.KUBERNETES} -X {_VERSION}.gitMajor={_MAJOR} -X {_VERSION}.gitMinor={_MINOR}"
)

NEEDED = (
    Program("kube", ("kube",), link=_KUBE_LINK),
    Program("containerd", ("containerd", "containerd-shim-runc-v2", "ctr"), target="tool"),
    Program("coredns", ("coredns",)),
    Program("pause", ("pause",)),
)
KWOK = Program("kwok", ("kwok",), target="tool")
CONTROLLERS = {name: Program(name, (name,), target="tool") for name in ("kueue", "jobset", "lws")}


def build(*programs: Program) -> None:
    """Build what is not built. Takes minutes once; Go keeps what it compiled."""
    todo = [one for one in programs or NEEDED if not one.is_built()]
    if todo and not shutil.which("go"):
        raise ClusterError(f"not built: {', '.join(one.module for one in todo)}, and there is no `go` here")
    for one in todo:
        with timed(f"built {one.module}"):
            _build(one)


def _build(one: Program) -> None:
    target = paths.cache() / "bin"
    fresh = target / f".{one.module}.new"
    shutil.rmtree(fresh, ignore_errors=True)
    fresh.mkdir(parents=True)
    output = fresh / one.makes[0] if len(one.makes) == 1 else f"{fresh}/"  # the folder of one may be called otherwise
    command(
        ["go", "build", "-trimpath", "-ldflags", f"-s -w {one.link}".strip(), "-o", output, one.target],
        cwd=one.folder,
        env={"CGO_ENABLED": "0", "GOWORK": "off"},
    )
    for name in one.makes:
        (fresh / name).replace(target / name)
    shutil.rmtree(fresh)
    one.stamp().write_text(one.fingerprint())
