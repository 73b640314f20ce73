"""Being told at once when a journal is closed. Its writer holds it open while the run lives, so that is the end.

Linux alone tells (inotify), and not for every file system: whoever waits here must look by itself now and then.
"""

from __future__ import annotations

import os
import select
import time
from functools import cache
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from pathlib import Path
    from types import TracebackType

_IN_CLOSE_WRITE = 0x8


class Closing:
    """A watch over the folder of one run, held while a `with` lasts. Costs nothing while the journal is written."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._descriptor = -1

    def __enter__(self) -> Self:
        library = _library()
        if library is not None:
            self._descriptor = library.inotify_init1(os.O_CLOEXEC | os.O_NONBLOCK)
        if self._descriptor >= 0:
            library.inotify_add_watch(self._descriptor, os.fsencode(self._folder), _IN_CLOSE_WRITE)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)

    def wait(self, seconds: float) -> None:
        """Return when a file of the folder was closed by a writer since the last call, else after so many seconds."""
        if self._descriptor < 0:
            time.sleep(seconds)
            return
        poll = select.poll()
        poll.register(self._descriptor, select.POLLIN)
        if poll.poll(seconds * 1000):
            os.read(self._descriptor, 4096)


@cache
def _library() -> Any:  # noqa: ANN401 - a C library
    """Return what has inotify, or None where there is none."""
    try:
        import ctypes

        library = ctypes.CDLL(None)
        _ = library.inotify_init1, library.inotify_add_watch
    except (ImportError, OSError, AttributeError):
        return None
    return library
