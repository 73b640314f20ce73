"""The supervisor's one loop: descriptors, timers and ended children, each with what is to be done about it."""

from __future__ import annotations

import heapq
import itertools
import os
import select
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

_BLIND_SECONDS = 0.02


class Timer:
    """Something to be done later, unless cancelled."""

    __slots__ = ("action",)

    def __init__(self, action: Callable[[], None]) -> None:
        self.action: Callable[[], None] | None = action

    def cancel(self) -> None:
        """Do nothing when the time comes."""
        self.action = None


class Loop:
    """Waits for everything at once. Everything it calls runs in its one thread and must not block.

    A child's end is seen through a pidfd. Where none can be had (descriptors run out), the loop looks every 20 ms
    instead and calls `on_blind` once.
    """

    def __init__(self, on_blind: Callable[[OSError], None] = lambda _error: None) -> None:
        self._poll = select.epoll()
        self._handlers: dict[int, Callable[[], None]] = {}
        self._timers: list[tuple[float, int, Timer]] = []
        self._order = itertools.count()
        self._children: dict[int, tuple[int, Callable[[int], None]]] = {}
        self._blind: set[int] = set()
        self._on_blind = on_blind
        self._told = False

    def watch(self, descriptor: int, handler: Callable[[], None], *, once: bool = False) -> None:
        """Call `handler` when there is something to read; with `once`, not again before `rearm`."""
        self._handlers[descriptor] = handler
        self._poll.register(descriptor, select.EPOLLIN | (select.EPOLLONESHOT if once else 0))

    def rearm(self, descriptor: int) -> None:
        """Wait again for a descriptor that is watched `once`."""
        self._poll.modify(descriptor, select.EPOLLIN | select.EPOLLONESHOT)

    def unwatch(self, descriptor: int) -> None:
        """Forget a descriptor; before it is closed."""
        if self._handlers.pop(descriptor, None) is not None:
            self._poll.unregister(descriptor)

    def after(self, seconds: float, action: Callable[[], None]) -> Timer:
        """Call `action` in so many seconds."""
        timer = Timer(action)
        heapq.heappush(self._timers, (time.monotonic() + seconds, next(self._order), timer))
        return timer

    def every(self, seconds: float, action: Callable[[], None]) -> None:
        """Call `action` now and every so many seconds."""

        def again() -> None:
            action()
            self.after(seconds, again)

        again()

    def adopt(self, pid: int, ended: Callable[[int], None], *, watch: bool = True) -> None:
        """Call `ended` with the exit code of this child; minus the signal's number where a signal ended it.

        `watch` False: somebody else reports its end through `child_ended`, and it is reaped here only if it becomes
        our child.
        """
        descriptor = -1
        if watch:
            try:
                descriptor = os.pidfd_open(pid)
                self.watch(descriptor, self.reap)
            except OSError as error:
                self._go_blind(pid, error)
        self._children[pid] = (descriptor, ended)

    def disown(self, pid: int) -> None:
        """Forget a child that was adopted without being watched: somebody else has seen its end."""
        self._children.pop(pid, None)

    @property
    def children(self) -> frozenset[int]:
        """The pids that were adopted and have not ended."""
        return frozenset(self._children)

    def child_ended(self, pid: int, code: int) -> None:
        """Take note of the end of a child, whoever reports it."""
        found = self._children.pop(pid, None)
        if found is None:
            return
        descriptor, ended = found
        if descriptor >= 0:
            self.unwatch(descriptor)
            os.close(descriptor)
        self._blind.discard(pid)
        ended(code)

    def reap(self) -> None:
        """Collect every child that has ended; of those that were not adopted, nothing is kept."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            self.child_ended(pid, os.waitstatus_to_exitcode(status))

    def turn(self, longest: float) -> None:
        """Wait until something happens, at most `longest` seconds, and do what is due."""
        wait = min(longest, _BLIND_SECONDS) if self._blind else longest
        while self._timers and self._timers[0][2].action is None:
            heapq.heappop(self._timers)
        if self._timers:
            wait = min(wait, self._timers[0][0] - time.monotonic())
        for descriptor, _ in self._poll.poll(max(wait, 0)):
            handler = self._handlers.get(descriptor)
            if handler is not None:
                handler()
        if self._blind:
            self.reap()
        now = time.monotonic()
        while self._timers and self._timers[0][0] <= now:
            action = heapq.heappop(self._timers)[2].action
            if action is not None:
                action()

    def close(self) -> None:
        """Let go of everything."""
        for descriptor, _ in self._children.values():
            if descriptor >= 0:
                os.close(descriptor)
        self._children.clear()
        self._poll.close()

    def _go_blind(self, pid: int, error: OSError) -> None:
        self._blind.add(pid)
        if not self._told:
            self._told = True
            self._on_blind(error)
