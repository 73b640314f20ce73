"""The namespaces of clusters that this process knows: how each is asked, and what is remembered of its silence.

Whoever looks (a list, a display, a plan) asks with little patience, and a cluster that was silent is left alone for a
while; whoever changes something asks with the patience of `transport.Patience`.
"""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from jupyter_gpudeploy.backends.kubernetes.api.errors import UnreachableError
from jupyter_gpudeploy.backends.kubernetes.layout import Place, place_of
from jupyter_gpudeploy.backends.kubernetes.layout import places as known_places
from jupyter_gpudeploy.errors import BackendError, GpuDeployError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from jupyter_gpudeploy.backends.base import RunRef
    from jupyter_gpudeploy.backends.kubernetes.api.client import Cluster
    from jupyter_gpudeploy.backends.kubernetes.files.reader import Readers

SILENCE_SECONDS = 20.0
_ANSWER_SECONDS = 2.5
_DISPLAY_SECONDS = 0.3
T = TypeVar("T")


class Lookup(Generic[T]):
    """Something that is asked once and kept. Displays ask for it twice a second, and never wait for a cluster."""

    def __init__(self, ask: Callable[[], T], ask_patiently: Callable[[], T]) -> None:
        self._ask = ask
        self._ask_patiently = ask_patiently
        self._lock = threading.Lock()
        self._tried = threading.Event()
        self._is_asking = False
        self._ask_at = 0.0
        self._answer: tuple[T] | None = None

    def now(self) -> T | None:
        """Return the answer; None while there is none. It is asked for in a thread, again after a silence."""
        with self._lock:
            if self._answer:
                return self._answer[0]
            if not self._is_asking and time.monotonic() >= self._ask_at:
                self._is_asking = True
                threading.Thread(target=self._look, name="ask a cluster", daemon=True).start()
        self._tried.wait(_DISPLAY_SECONDS)
        return self._known()

    def _known(self) -> T | None:
        return None if self._answer is None else self._answer[0]

    def surely(self) -> T:
        """Return the answer, however long that takes. Raises BackendError."""
        if self._answer is None:
            self._answer = (self._ask_patiently(),)
        return self._answer[0]

    def _look(self) -> None:
        try:
            self._answer = (self._ask(),)
        except GpuDeployError:
            self._ask_at = time.monotonic() + SILENCE_SECONDS
        finally:
            self._is_asking = False
            self._tried.set()


class Site:
    """One namespace of a cluster, under the name by which it was connected to. `cluster` is the patient client."""

    def __init__(self, cluster: Cluster, place: Place) -> None:
        from jupyter_gpudeploy.backends.kubernetes.api.client import Cluster
        from jupyter_gpudeploy.backends.kubernetes.api.transport import Patience

        self.cluster = cluster
        self.place = place
        self._brisk = Cluster(cluster.access, cluster.settings, patience=Patience(total=0.0, silence=_ANSWER_SECONDS))
        self._lock = threading.Lock()
        self._readers: Readers | None = None
        self._silence: tuple[float, UnreachableError] | None = None
        self._kept: dict[str, tuple[float, Any]] = {}
        self.user: Lookup[str | None] = Lookup(lambda: self.ask(lambda cluster: cluster.user), lambda: cluster.user)

    @property
    def is_silent(self) -> bool:
        """Whether it did not answer a moment ago."""
        silence = self._silence
        return silence is not None and time.monotonic() - silence[0] < SILENCE_SECONDS

    def ask(self, question: Callable[[Cluster], T]) -> T:
        """Return the answer, or raise BackendError, in few seconds; while the cluster is silent, at once."""
        silence = self._silence
        if silence is not None and self.is_silent:
            raise UnreachableError(silence[1].message, hint=silence[1].hint)
        try:
            answer = question(self._brisk)
        except UnreachableError as error:
            self._silence = time.monotonic(), error
            raise
        self._silence = None
        return answer

    def keep(self, what: str, seconds: float, question: Callable[[Cluster], T]) -> T:
        """Return the answer as `ask` does, or the one of a few seconds ago."""
        asked, answer = self._kept.get(what, (0.0, None))
        if not asked or time.monotonic() - asked >= seconds:
            answer = self.ask(question)
            self._kept[what] = time.monotonic(), answer
        return answer  # type: ignore[no-any-return] # `what` says which type it is

    def readers(self) -> Readers:
        """Return the pods by which files of volumes are read here."""
        from jupyter_gpudeploy.backends.kubernetes.files.reader import Readers

        with self._lock:
            if self._readers is None:
                self._readers = Readers(self.cluster)
            return self._readers

    def close(self) -> None:
        """Let go of its connections."""
        if self._readers is not None:
            self._readers.close()
        self._brisk.close()
        self.cluster.close()


class Sites:
    """Every site that was asked for. Two names of one namespace are two sites with one folder."""

    def __init__(self, root: Path | None = None) -> None:
        self._root = root
        self._lock = threading.Lock()
        self._sites: dict[tuple[str, str], Site] = {}

    def connect(self, cluster: str | None = None, namespace: str | None = None) -> Site:
        """Return the site; nothing is sent. Raises BackendError for a name that nobody knows."""
        from jupyter_gpudeploy.backends.kubernetes.api.connect import connect, default_name

        name = cluster or default_name()
        with self._lock:
            wanted = name, namespace or ""
            if wanted not in self._sites:
                made = connect(name, namespace)
                place = place_of(name, made.namespace, made.id, self._root)
                self._sites[wanted] = self._sites.setdefault((name, made.namespace), Site(made, place))
            return self._sites[wanted]

    def of(self, ref: RunRef) -> Site:
        """Return where a run lives. Raises BackendError."""
        name, _, namespace = ref.place.rpartition("/")
        return self.connect(name, namespace)

    def place_of(self, ref: RunRef) -> Place:
        """Return where the mirror of a run lies. Raises BackendError where its cluster is not known here any more."""
        for place in known_places(self._root):
            if str(place) == ref.place:
                return place
        return self.of(ref).place

    def places(self, cluster: str | None = None, namespace: str | None = None) -> list[Place]:
        """Return that place; where none is named, that which is used by default, and all that have a mirror here.

        One namespace is there once, under one of its names. Raises BackendError for a name that nobody knows.
        """
        if cluster or namespace:
            return [self.connect(cluster, namespace).place]
        found: dict[Path, Place] = {}
        try:
            place = self.connect().place
            found[place.folder] = place
        except BackendError:  # no cluster is used by default
            pass
        for place in known_places(self._root):
            found.setdefault(place.folder, place)
        return [*found.values()]

    def close(self) -> None:
        """Let go of everything."""
        with self._lock:
            sites = {id(site): site for site in self._sites.values()}
            self._sites.clear()
        for site in sites.values():
            site.close()
