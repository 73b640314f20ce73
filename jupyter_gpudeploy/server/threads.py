"""Slow work beside the server's loop, in threads that do not keep the server from ending."""

from __future__ import annotations

import asyncio
import threading
from contextlib import suppress
from typing import TYPE_CHECKING, ParamSpec, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

P = ParamSpec("P")
T = TypeVar("T")


class Threads:
    """At most so many at once; who comes later waits. An executor's threads would be waited for at the end."""

    def __init__(self, count: int) -> None:
        self._room = asyncio.Semaphore(count)

    async def do(self, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Return what the call returns, or raise what it raises."""
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[T] = loop.create_future()

        def work() -> None:
            try:
                value = call(*args, **kwargs)
            except Exception as error:  # noqa: BLE001 - raised where it is awaited
                _tell(loop, answer, error)
            else:
                _tell(loop, answer, None, value)

        async with self._room:
            threading.Thread(target=work, name="jupyter_gpudeploy work", daemon=True).start()
            return await answer


def _tell(
    loop: asyncio.AbstractEventLoop, answer: asyncio.Future[T], error: Exception | None, value: T | None = None
) -> None:
    def tell() -> None:
        if answer.done():  # nobody waits any more
            return
        if error is not None:
            answer.set_exception(error)
        else:
            answer.set_result(value)  # type: ignore[arg-type] # None only where T is

    with suppress(RuntimeError):  # the loop has ended meanwhile
        loop.call_soon_threadsafe(tell)
