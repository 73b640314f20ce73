"""Where this machine keeps what was seen of a cluster: mirrors, one folder a run, as a local run would have it.

::

    <root>/kubernetes/<cluster id>/<namespace>/
      place.json            by which name the cluster was asked for, so that it can be asked again
      runs/<name>/          the folder of a run (events/store.py), and beside what stands there:
        ref.json            name, uid, fingerprint, created
        key                 what opens the run's server, where it has a key (mode 0600)
      replaced/<name>-<uid>/  runs that were archived, or whose name another run has taken

The cluster is the truth. A mirror that is deleted comes back from it, as long as the run is there.
"""

from __future__ import annotations

import json
import os
import shutil
from typing import TYPE_CHECKING, Any, NamedTuple

from jupyter_gpudeploy.backends.base import RunRef
from jupyter_gpudeploy.events.store import RunFolder, state_root, write_atomically

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

BROKEN = (OSError, ValueError, KeyError, TypeError)


class MirrorFolder(RunFolder):
    """The folder of a run's mirror."""

    @property
    def ref_file(self) -> Path:
        """`ref.json`."""
        return self.path / "ref.json"

    @property
    def key_file(self) -> Path:
        """`key`."""
        return self.path / "key"

    def ref(self) -> RunRef:
        """Return whose folder this is. Raises one of BROKEN."""
        content: dict[str, Any] = json.loads(self.ref_file.read_bytes())
        known = {key: content[key] for key in ("name", "uid", "fingerprint", "created", "place")}
        return RunRef("kubernetes", **known, owner=content.get("owner", ""))


class Place(NamedTuple):
    """One namespace of one cluster. `cluster` is the name by which it is connected to; empty for a service account."""

    cluster: str
    namespace: str
    folder: Path

    def __str__(self) -> str:
        return f"{self.cluster}/{self.namespace}"

    @property
    def runs(self) -> Path:
        """The mirrors of runs that have their name."""
        return self.folder / "runs"

    @property
    def replaced(self) -> Path:
        """The mirrors of runs whose name is free."""
        return self.folder / "replaced"

    def folder_of(self, ref: RunRef) -> MirrorFolder | None:
        """Return the mirror of a run, wherever it lies by now; None where there is none."""
        for path in (self.runs / ref.name, self.replaced / f"{ref.name}-{ref.uid}"):
            folder = MirrorFolder(path)
            try:
                if folder.ref().uid == ref.uid:
                    return folder
            except BROKEN:
                continue
        return None

    def refs(self, *, archived: bool = False) -> list[RunRef]:
        """Return the runs that have a mirror here, newest first. A folder that cannot be read is left out."""
        found = []
        for path in sorted((self.replaced if archived else self.runs).glob("[!.]*")):
            try:
                found.append(MirrorFolder(path).ref())
            except BROKEN:
                continue
        return sorted(found, key=lambda ref: ref.created, reverse=True)

    def make(self, ref: RunRef, files: dict[str, str]) -> MirrorFolder:
        """Return the mirror of a run, made of these files; one of another run of that name moves aside.

        Of two processes that make the same one at the same moment, one does, and the other finds it.
        """
        folder = MirrorFolder(self.runs / ref.name)
        draft = self.runs / f".{ref.name}.{ref.uid}.{os.getpid()}"
        draft.mkdir(parents=True, exist_ok=True, mode=0o700)
        for name, text in {**files, "ref.json": json.dumps(ref._asdict())}.items():
            write_atomically(draft / name, text)
        (draft / "logs").mkdir(exist_ok=True)
        self._note()
        while True:
            try:
                draft.rename(folder.path)
            except OSError:
                if (found := self.folder_of(ref)) is not None:
                    shutil.rmtree(draft, ignore_errors=True)
                    return found
                self.set_aside(folder)
            else:
                return folder

    def set_aside(self, folder: MirrorFolder) -> None:
        """Free the name of a mirror; nothing is deleted."""
        try:
            ref = folder.ref()
            name = f"{ref.name}-{ref.uid}"
        except BROKEN:
            name = f"{folder.path.name}-broken-{os.getpid()}"
        self.replaced.mkdir(parents=True, exist_ok=True, mode=0o700)
        folder.path.rename(self.replaced / name)

    def _note(self) -> None:
        file = self.folder / "place.json"
        if not file.exists():
            write_atomically(file, json.dumps({"cluster": self.cluster, "namespace": self.namespace}))


def place_of(cluster: str, namespace: str, cluster_id: str, root: Path | None = None) -> Place:
    """Return the place in which the mirrors of this namespace lie."""
    return Place(cluster, namespace, (root or state_root()) / "kubernetes" / cluster_id / namespace)


def places(root: Path | None = None) -> Iterator[Place]:
    """Yield every place that has a mirror. No cluster is asked."""
    for file in sorted(((root or state_root()) / "kubernetes").glob("*/*/place.json")):
        try:
            content = json.loads(file.read_bytes())
            yield Place(str(content["cluster"]), str(content["namespace"]), file.parent)
        except BROKEN:
            continue
