"""Sending an upload to the pods of a run that wait for it (`manifests/uploads.py` says what it is)."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any

from jupyter_gpudeploy.backends.kubernetes import marks, places
from jupyter_gpudeploy.backends.kubernetes.api.errors import ApiError, UnreachableError
from jupyter_gpudeploy.errors import BackendError, GpuDeployError
from jupyter_gpudeploy.quantities import format_memory, format_seconds

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from jupyter_gpudeploy.backends.base import RunRef, Upload
    from jupyter_gpudeploy.backends.kubernetes.api.client import Cluster

_LOOK_SECONDS = 0.5
_LATER_SECONDS = 5.0
_BUSY = 17  # programs/receive.py
_HOURS = 12 * 3600.0
_PIECE = 1 << 18


def framed(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """Yield the pieces, each behind its length, and the end: not every server tells a program that its input ended."""
    waiting = bytearray()
    for piece in pieces:
        waiting += piece
        if len(waiting) >= _PIECE:
            yield len(waiting).to_bytes(4, "big") + waiting
            waiting = bytearray()
    yield (len(waiting).to_bytes(4, "big") + waiting if waiting else b"") + bytes(4)


class Uploading:
    """Sends an upload to every pod of a run that waits for it, in a thread, until the run is over or `close`.

    `tell(message, level)` gets what a person should know. `is_over()`: whether the run has ended.
    """

    def __init__(
        self,
        cluster: Cluster,
        ref: RunRef,
        upload: Upload,
        tell: Callable[[str, str], None],
        is_over: Callable[[], bool],
    ) -> None:
        self._cluster = cluster
        self._ref = ref
        self._upload = upload
        self._tell = tell
        self._is_over = is_over
        self._stop = threading.Event()
        self._served: set[str] = set()
        self._thread = threading.Thread(target=self._run, name=f"upload {ref.name}", daemon=True)

    def start(self) -> None:
        """Begin. Returns at once."""
        self._thread.start()

    def close(self) -> None:
        """End. What is half sent is thrown away by the pod, which goes on waiting."""
        self._stop.set()

    def _run(self) -> None:
        told = ""
        while not self._stop.is_set() and not self._is_over():
            try:
                if self._look():
                    return
                told = ""
            except GpuDeployError as error:
                is_final = not isinstance(error, (ApiError, UnreachableError))
                if error.message != told:
                    way_out = error.hint if is_final else "it is tried again"
                    self._tell(f"the upload did not succeed: {error.message}; {way_out}", "warning")
                    told = error.message
                if is_final:
                    return
            self._stop.wait(_LATER_SECONDS if self._served or told else _LOOK_SECONDS)

    def _look(self) -> bool:
        """Send it to the pods that wait. Return whether it is kept where all others find it."""
        for pod in self._cluster.list("Pod", labels=marks.selector(uid=self._ref.uid)).items:
            seen, uid = _receiver(pod), pod["metadata"]["uid"]
            if seen is None or uid in self._served:
                continue
            digest, folder = _asked(pod)
            has_it = "terminated" in seen and seen["terminated"].get("exitCode") == 0
            if has_it or ("running" in seen and self._send(pod["metadata"]["name"], digest, folder)):
                self._served.add(uid)
                if folder.startswith(places.STORAGE):
                    return True
        return False

    def _send(self, pod: str, digest: str, folder: str) -> bool:
        """Send it to a pod. Return whether the pod has it. Raises BackendError where trying again does not help."""
        if digest != self._upload.digest:
            raise BackendError("the files have changed since the run was launched", hint="--replace starts it anew")
        begun = time.monotonic()
        argv = ["python3", places.RECEIVE, "put", digest, folder]
        done = self._cluster.execute(
            pod, places.RECEIVER, argv, stdin=framed(self._upload.pieces()), timeout=_HOURS, stop=self._stop
        )
        if done.exit_code in (None, _BUSY):
            return False
        if done.exit_code:
            said = done.stderr.decode("utf-8", "replace").strip().splitlines() or [f"exit code {done.exit_code}"]
            raise BackendError(f"{pod}: {said[-1]}", hint="run the cell again")
        seconds = format_seconds(time.monotonic() - begun)
        amount = f"{self._upload.files:,} file{'s' * (self._upload.files != 1)}, {format_memory(self._upload.size)}"
        self._tell(f"uploaded {amount}, in {seconds}", "info")
        return True


def _receiver(pod: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """Return the state of the container that waits; None for a pod without one, or one that is going."""
    if "deletionTimestamp" in pod["metadata"]:
        return None
    seen = pod.get("status", {}).get("initContainerStatuses") or ()
    return next((one.get("state") or {} for one in seen if one["name"] == places.RECEIVER), None)


def _asked(pod: Mapping[str, Any]) -> tuple[str, str]:
    """Return the digest of what a pod waits for, and where it wants it."""
    command = next(one["command"] for one in pod["spec"]["initContainers"] if one["name"] == places.RECEIVER)
    at = command.index("wait")
    return str(command[at + 1]), str(command[at + 2])
