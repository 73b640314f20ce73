"""Which runs there are, where the mirror of each lies, who drives and who owns it: what the backend knows of them."""

from __future__ import annotations

import functools
import json
import os
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jupyter_gpudeploy.backends.base import Glance, RunRef
from jupyter_gpudeploy.backends.kubernetes import marks, places
from jupyter_gpudeploy.backends.kubernetes.api.errors import NotFoundError
from jupyter_gpudeploy.backends.kubernetes.held import Held
from jupyter_gpudeploy.backends.kubernetes.layout import BROKEN, MirrorFolder, Place
from jupyter_gpudeploy.backends.kubernetes.layout import places as known_places
from jupyter_gpudeploy.backends.kubernetes.life import launch
from jupyter_gpudeploy.backends.kubernetes.listing import find, state_of
from jupyter_gpudeploy.backends.kubernetes.sites import Lookup, Sites
from jupyter_gpudeploy.errors import BackendError, RunNotFoundError
from jupyter_gpudeploy.events import history
from jupyter_gpudeploy.events.status import Status
from jupyter_gpudeploy.events.store import JournalReader

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from jupyter_gpudeploy.backends.base import Answer
    from jupyter_gpudeploy.backends.kubernetes.api.client import Cluster
    from jupyter_gpudeploy.backends.kubernetes.listing import Found

_CAUGHT_UP_SECONDS = 5.0


class Runs:
    """The runs of a person's clusters, as this process knows them. What it holds are connections and mirrors."""

    def __init__(self, root: Path | None = None) -> None:
        self._root = root
        self._sites = Sites(root)
        self._lock = threading.Lock()
        self._runs: dict[str, Held] = {}
        self._found: Sequence[Found] = ()

    def find(self, cluster: str | None = None, namespace: str | None = None) -> Sequence[RunRef]:
        """Return the runs of that place; where none is named, of the cluster used by default and of all with a mirror.

        Where a cluster does not answer, its runs are those with a mirror; `troubles` says why.
        """
        places = self._found = find(self._sites, cluster, namespace)
        found = {ref.uid: ref for place in places for ref in place.refs}
        return sorted(found.values(), key=lambda ref: ref.created, reverse=True)

    def troubles(self) -> Sequence[str]:
        """Return which places could not be asked by the last `find`, and why, a sentence each."""
        return tuple(place.trouble for place in self._found if place.trouble)

    def answers(self) -> Sequence[Answer]:
        """Return which places the last `find` asked, and which of them did not answer."""
        return tuple(place.answer for place in self._found)

    def glance(self, ref: RunRef) -> Glance | None:
        """Return what is known without copying anything; None where it is all in its folder."""
        folder = self._place_of(ref).folder_of(ref)
        held = self._runs.get(ref.uid)
        if folder is not None and ((held and held.is_followed) or history.has_final_record(folder.events_file)):
            return None
        try:
            return Glance(folder, *(state_of(self._sites.of(ref), ref) or ()))
        except BackendError:
            return Glance(folder)

    def find_archived(self) -> Sequence[RunRef]:
        """Return the runs whose mirror was moved aside."""
        refs = [ref for place in known_places(self._root) for ref in place.refs(archived=True)]
        return sorted(refs, key=lambda ref: ref.created, reverse=True)

    def folder(self, ref: RunRef) -> MirrorFolder:
        """Return the mirror of a run, made anew from the cluster where there is none. Raises RunNotFoundError."""
        place = self._place_of(ref)
        folder = place.folder_of(ref)
        if folder is None:
            root = launch.read_root(self._cluster_of(ref), ref.name, ref.place)
            if root is None or root.ref.uid != ref.uid:
                hint = "it was removed or replaced"
                raise RunNotFoundError(f"the run {ref.name!r} ({ref.uid}) is not in {ref.place}", hint=hint)
            folder = place.make(root.ref, root.files)
        held = self._held(ref)
        if not held.is_followed and not history.has_final_record(folder.events_file):
            try:
                site = self._sites.of(ref)
            except BackendError:
                return folder  # what was seen of it can be read; `lost` says why there is no more
            held.follow(site.cluster, folder, 0 if site.is_silent else _CAUGHT_UP_SECONDS)
        return folder

    def lost(self, ref: RunRef) -> str | None:
        """Return why the run is no more, although its end was not seen."""
        held = self._runs.get(ref.uid)
        return None if held is None or held.mirror is None else held.mirror.lost

    def stale(self, ref: RunRef) -> str | None:
        """Return since when the cluster tells nothing of the run, and why."""
        held = self._runs.get(ref.uid)
        mirror = held.mirror if held is not None else None
        since = mirror.stale_since if mirror is not None else None
        if mirror is None or since is None:
            return None
        return f"not up to date since {time.strftime('%H:%M:%S', time.localtime(since))}: {mirror.why_stale}"

    def driver(self, ref: RunRef, *, must_know: bool = False) -> str | None:
        """Return which other process launched the run, as far as this machine can tell that it lives.

        `must_know`: raise BackendError where the cluster cannot be asked.
        """
        if self._is_aside(ref):
            return None
        driver = self._held(ref).driver
        try:
            who = json.loads((driver.surely() if must_know else driver.now()) or "")
            host, pid, since = str(who["host"]), int(who["pid"]), time.localtime(float(who["since"]))
        except BROKEN:
            return None
        if host == os.uname().nodename and (pid == os.getpid() or not Path(f"/proc/{pid}").exists()):
            return None
        return f"pid {pid} on {host}, since {time.strftime('%H:%M', since)}"

    def _ask_driver(self, ref: RunRef, *, is_patient: bool) -> str:
        def root(cluster: Cluster) -> Mapping[str, Any]:
            return cluster.get("ConfigMap", places.root_name(ref.name), bare=True)

        site = self._sites.of(ref)
        try:
            found = (root(site.cluster) if is_patient else site.ask(root))["metadata"]
        except NotFoundError:
            return ""
        return str((found.get("annotations") or {}).get(marks.DRIVER, "")) if found["uid"] == ref.uid else ""

    def owner(self, ref: RunRef, *, must_know: bool = False) -> str | None:
        """Return which other person launched the run, as the API server calls that person.

        `must_know`: raise BackendError where the cluster does not tell who we are.
        """
        if not ref.owner or self._is_aside(ref):
            return None  # what was archived is a copy of this machine's
        try:
            user = self._sites.of(ref).user
            me = user.surely() if must_know else user.now()
        except BackendError as error:
            if not must_know:
                return None
            message = f"whether {ref.name} is yours or of {ref.owner} could not be asked: {error.message}"
            raise BackendError(message, hint=error.hint) from error
        if me is None and must_know:
            message = f"{ref.name} belongs to {ref.owner}, and {ref.place} does not say who you are"
            raise BackendError(message, hint="take_over=True, or --take-over, where it is yours")
        return None if me in (None, ref.owner) else ref.owner

    def close(self) -> None:
        """End every thread of this object. The runs go on."""
        for uid in [*self._runs]:
            self._runs.pop(uid).close()
        self._sites.close()

    def _place_of(self, ref: RunRef) -> Place:
        return self._sites.place_of(ref)

    def _cluster_of(self, ref: RunRef) -> Cluster:
        return self._sites.of(ref).cluster

    def _is_aside(self, ref: RunRef) -> bool:
        """Whether its name is free, or another run's."""
        try:
            place = self._place_of(ref)
        except BackendError:
            return False
        folder = place.folder_of(ref)
        return folder is not None and folder.path.parent == place.replaced

    def _held(self, ref: RunRef) -> Held:
        with self._lock:
            if ref.uid not in self._runs:
                ask = functools.partial(self._ask_driver, ref)
                brisk, patient = functools.partial(ask, is_patient=False), functools.partial(ask, is_patient=True)
                self._runs[ref.uid] = Held(ref, Lookup(brisk, patient))
            return self._runs[ref.uid]

    def _release(self, ref: RunRef) -> None:
        if (held := self._runs.pop(ref.uid, None)) is not None:
            held.close()

    def _must_live(self, ref: RunRef) -> None:
        if history.has_final_record(self.folder(ref).events_file):
            raise BackendError(f"{ref.name} has ended", hint="launch it anew, or resume it")

    def _is_search(self, ref: RunRef) -> bool:
        """Whether its points are chosen while it runs."""
        return bool(self.folder(ref).record().get("search"))

    @staticmethod
    def _status(folder: MirrorFolder) -> Status:
        return Status.of((), JournalReader(folder.events_file).poll())
