"""How much may be said within any second."""

from __future__ import annotations

from collections import deque

from jupyter_gpudeploy.notebook.card.protocol import BYTES_A_SECOND, MESSAGES_A_SECOND

_SLOW = 4


class Rate:
    """Counts messages and bytes of the last second. `now` is the time of a clock that only goes forward.

    While it is `slow`, a quarter of it all may be said.
    """

    def __init__(self, messages: int = MESSAGES_A_SECOND, size: int = BYTES_A_SECOND) -> None:
        self._messages = messages
        self._size = size
        self.slow = False
        self._spent: deque[tuple[float, int]] = deque()
        self._bytes = 0

    def has_room(self, now: float, size: int = 0) -> bool:
        """Return whether one more message of this size may go out."""
        while self._spent and self._spent[0][0] <= now - 1:
            self._bytes -= self._spent.popleft()[1]
        share = _SLOW if self.slow else 1
        fits = not self._spent or self._bytes + size <= self._size // share
        return len(self._spent) < self._messages // share and fits

    def spend(self, now: float, size: int) -> None:
        """A message has gone out."""
        self._spent.append((now, size))
        self._bytes += size
