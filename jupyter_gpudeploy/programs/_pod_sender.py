"""The one writer of a pod's stdout besides the program itself. Standard library, Python 3.8."""

from __future__ import annotations

import errno
import os
import select
import time
from typing import TYPE_CHECKING, Any

from jupyter_gpudeploy.events.masking import SHORTEST, Mask
from jupyter_gpudeploy.events.wire import encode

if TYPE_CHECKING:
    from collections.abc import Iterable


class Sender:
    """Writes records and the program's text, without the values of secrets.

    When nobody reads any more, what is written is lost and the work goes on.
    """

    def __init__(self, descriptor: int, token: str, hidden: Iterable[bytes] = ()) -> None:
        self._descriptor = descriptor
        self._token = token
        self._hidden = [value for value in hidden if len(value) >= SHORTEST]

    def mask(self) -> Mask:
        """Return a filter for one stream of text."""
        return Mask(self._hidden)

    def holds_secret(self, data: bytes) -> bool:
        """Return whether some bytes hold a value that must not be sent."""
        return any(value in data for value in self._hidden)

    def longest_secret(self) -> int:
        """Return how many bytes the longest value has; 0 where there is none."""
        return max(map(len, self._hidden), default=0)

    def send(self, kind: str, payload: dict[str, Any]) -> None:
        """Send a record, in which the values of secrets are hidden."""
        self.send_as_is(kind, self._without_secrets(payload))

    def notice(self, message: str, level: str = "warning", **extra: object) -> None:
        """Tell the user something."""
        self.send("notice", {"message": message, "level": level, "time": time.time(), **extra})

    def send_as_is(self, kind: str, payload: dict[str, Any]) -> int:
        """Send a record as it is. Return how many bytes that took."""
        lines = encode(self._token, kind, payload)
        for line in lines:
            self.write(line)
        return sum(map(len, lines))

    def write(self, data: bytes) -> None:
        """Write everything, however long the reader takes."""
        done = 0
        while done < len(data):
            try:
                done += os.write(self._descriptor, data[done:])
            except OSError as error:
                if error.errno != errno.EAGAIN:
                    return
                waiting = select.poll()  # a program may have set the pipe that it shares with us to non-blocking
                waiting.register(self._descriptor, select.POLLOUT)
                waiting.poll(1000)

    def _without_secrets(self, value: Any) -> Any:  # noqa: ANN401 - any JSON
        if not self._hidden:
            return value
        if isinstance(value, str):
            mask = self.mask()
            whole = mask.feed(value.encode("utf-8", "surrogatepass")) + mask.rest()
            return whole.decode("utf-8", "surrogatepass")
        if isinstance(value, dict):
            return {self._without_secrets(name): self._without_secrets(part) for name, part in value.items()}
        return [self._without_secrets(part) for part in value] if isinstance(value, (list, tuple)) else value
