"""What this process holds of one run: the thread that keeps its mirror, its connections, what is being sent to it."""

from __future__ import annotations

import functools
import threading
from typing import TYPE_CHECKING

from jupyter_gpudeploy.events import history

if TYPE_CHECKING:
    from jupyter_gpudeploy.backends.base import RunRef, Upload
    from jupyter_gpudeploy.backends.kubernetes.api.client import Cluster
    from jupyter_gpudeploy.backends.kubernetes.files.uploading import Uploading
    from jupyter_gpudeploy.backends.kubernetes.layout import MirrorFolder
    from jupyter_gpudeploy.backends.kubernetes.mirror.mirror import Mirror
    from jupyter_gpudeploy.backends.kubernetes.reach import Reach
    from jupyter_gpudeploy.backends.kubernetes.sites import Lookup


class Held:
    """Losing it loses nothing. `numbering`: held while a command executed in the run gets its number."""

    def __init__(self, ref: RunRef, driver: Lookup[str]) -> None:
        self.ref = ref
        self.driver = driver
        self.numbering = threading.Lock()
        self.mirror: Mirror | None = None
        self._lock = threading.Lock()
        self._reach: Reach | None = None
        self._upload: Uploading | None = None

    @property
    def is_followed(self) -> bool:
        """Whether its mirror is kept up to date."""
        return self.mirror is not None and not self.mirror.is_over

    def follow(self, cluster: Cluster, folder: MirrorFolder, patience: float, *, anew: bool = False) -> None:
        """Keep the mirror up to date from now on; return when it has caught up, or could not in `patience`.

        `anew`: also that of a run that has ended, because it goes on.
        """
        from jupyter_gpudeploy.backends.kubernetes.diagnosis.explain import explain
        from jupyter_gpudeploy.backends.kubernetes.mirror.mirror import Mirror

        with self._lock:
            if self.is_followed or (history.has_final_record(folder.events_file) and not anew):
                return
            mirror = self.mirror = Mirror(cluster, folder, self.ref, folder.record(), explain=explain)
            mirror.start()
        mirror.wait_caught_up(patience)

    def reach(self, cluster: Cluster, folder: MirrorFolder) -> Reach:
        """Return the ways into its pods."""
        from jupyter_gpudeploy.backends.kubernetes.reach import Reach

        with self._lock:
            if self._reach is None:
                self._reach = Reach(cluster, self.ref, folder)
            return self._reach

    def send(self, cluster: Cluster, folder: MirrorFolder, upload: Upload) -> None:
        """Bring to its pods what was too large for its objects, from now on."""
        from jupyter_gpudeploy.backends.kubernetes.files.uploading import Uploading

        def tell(message: str, level: str) -> None:
            if (mirror := self.mirror) is not None:
                mirror.note(message, None, level)

        is_over = functools.partial(history.has_final_record, folder.events_file)
        with self._lock:
            if self._upload is not None:
                self._upload.close()
            self._upload = Uploading(cluster, self.ref, upload, tell, is_over)
            self._upload.start()

    def leave(self) -> None:
        """Close the ways into its pods."""
        with self._lock:
            reach, self._reach = self._reach, None
        if reach is not None:
            reach.close()

    def close(self) -> None:
        """End every thread of it. The run goes on."""
        with self._lock:
            mirror, self.mirror, upload, self._upload = self.mirror, None, self._upload, None
        for one in (mirror, upload):
            if one is not None:
                one.close()
        self.leave()
