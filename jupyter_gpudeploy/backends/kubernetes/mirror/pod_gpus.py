"""The GPUs of a pod in which nothing of ours runs: `nvidia-smi` in it, one command that goes on over one websocket.

It is started by a shell that waits for the end of its stdin: when whoever asked is gone, however that came, nothing is
left in the pod. Times are those of this machine.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from jupyter_gpudeploy.backends.kubernetes.api.errors import ApiError, ForbiddenError
from jupyter_gpudeploy.errors import BackendError
from jupyter_gpudeploy.sources.nvidia_smi import QUERY, parse

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from jupyter_gpudeploy.backends.kubernetes.api.channels import CommandStream
    from jupyter_gpudeploy.events.types import GpuSample

_SCRIPT = 'exec 3<&0; nvidia-smi "$@" & n=$!; (read -r _ <&3; kill $n) >/dev/null 2>&1 & wait $n'
COMMAND = ("sh", "-c", _SCRIPT, "sh", *QUERY)
_NOT_THERE = (126, 127)
_NO_SHELL = "executable file not found"
_AGAIN_SECONDS = (5.0, 60.0)
_MOST_HELD = 1 << 16


class PodGpus:
    """A MetricSource. `open_command` starts words in the pod; `is_off`: it has none, or we may not ask it.

    `is_open`: whether its command goes on.
    """

    def __init__(self, open_command: Callable[[Sequence[str]], CommandStream], task: int) -> None:
        self.trouble = ""
        self.is_off = False
        self._open_command = open_command
        self._task = task
        self._stream: CommandStream | None = None
        self._held = b""
        self._again, self._pause = 0.0, _AGAIN_SECONDS[0]

    @property
    def is_open(self) -> bool:
        """Whether a connection is held for it."""
        return self._stream is not None

    def look(self) -> list[GpuSample]:
        """Return the newest sample of each GPU that came since the last look. Waits only for a connection."""
        if self.is_off or (self._stream is None and time.monotonic() < self._again):
            return []
        try:
            if self._stream is None:
                self._stream = self._open_command(COMMAND)
            lines = self._lines(self._stream)
        except ForbiddenError as error:
            self._end(error.message, is_off=True)
            return []
        except BackendError as error:
            self._end(
                error.message, is_off=isinstance(error, ApiError) and "executable file not found" in error.message
            )
            return []
        found = {sample.gpu: sample._replace(task=self._task) for sample in parse(lines, time.time())}
        if found:
            self.trouble, self._pause = "", _AGAIN_SECONDS[0]
        return [*found.values()]

    def close(self) -> None:
        """End the command."""
        self.is_off = True
        self._drop()

    def _lines(self, stream: CommandStream) -> list[str]:
        data = stream.poll()
        if data is None:
            code, said = stream.exit_code, stream.said.decode("utf-8", "replace").strip()
            self._end(f"nvidia-smi ended ({code}): {said[-300:] or 'it said nothing'}", is_off=code in _NOT_THERE)
            return []
        whole, _, self._held = (self._held + data)[-_MOST_HELD:].rpartition(b"\n")
        return whole.decode("utf-8", "replace").splitlines()

    def _end(self, why: str, *, is_off: bool) -> None:
        self.trouble = why
        self.is_off = self.is_off or is_off
        self._drop()
        self._again = time.monotonic() + self._pause
        self._pause = min(self._pause * 2, _AGAIN_SECONDS[1])

    def _drop(self) -> None:
        stream, self._stream, self._held = self._stream, None, b""
        if stream is not None:
            stream.close()
