"""The routes below `<base url>gpudeploy/api`: thin, each authenticated, none takes a path or an address.

Beyond what jupyter_server checks (token or cookie, Origin, XSRF of what changes something), what only reads wants the
XSRF token too, or a Referer of this server, as its own files do: no other page may include it.
"""

from __future__ import annotations

import json
import math
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from jupyter_server.auth.decorator import authorized
from jupyter_server.base.handlers import APIHandler
from jupyter_server.utils import url_path_join
from tornado import web
from tornado.iostream import StreamClosedError

from jupyter_gpudeploy.errors import GpuDeployError, NotConfirmedError, RunNotFoundError
from jupyter_gpudeploy.events.text import one_line
from jupyter_gpudeploy.server import doing
from jupyter_gpudeploy.server.looking import Known, Looking
from jupyter_gpudeploy.server.threads import Threads
from jupyter_gpudeploy.server.watching import FullError, Watching

if TYPE_CHECKING:
    from collections.abc import Callable

RESOURCE = "gpudeploy"
_EVERY_SECONDS = 2.0
_QUIET_SECONDS = 15.0
_AT_ONCE = 8
_MOST_IDS = 1000
_ID = r"([A-Za-z0-9-]{1,64})"
_BROKEN = (OSError, ValueError, KeyError, TypeError, AttributeError)
_STATUS: dict[type[Exception], HTTPStatus] = {
    RunNotFoundError: HTTPStatus.NOT_FOUND,
    NotConfirmedError: HTTPStatus.FORBIDDEN,
    doing.HasEndedError: HTTPStatus.CONFLICT,
}


class House:
    """What all routes share."""

    def __init__(self) -> None:
        self.threads = Threads(_AT_ONCE)
        self.looking = Looking()
        self.watching = Watching(self.looking.listing, Threads(1))


class RefusedError(web.HTTPError):
    """What is answered with words for a person."""

    def __init__(self, status: HTTPStatus, message: str, hint: str = "") -> None:
        super().__init__(status, message.replace("%", "%%"))
        self.message = message
        self.hint = hint


class Handler(APIHandler):
    """What every route does."""

    auth_resource = RESOURCE
    _track_activity = False  # a panel that looks is no person who works

    def initialize(self, house: House) -> None:
        """Take what all routes share."""
        self.house = house

    async def prepare(self) -> None:  # type: ignore[override] # as jupyter_server's own
        """Let nobody in who comes from elsewhere."""
        await super().prepare()
        if self.request.method == "GET":
            self.check_xsrf_cookie()

    def write_error(self, status_code: int, **kwargs: Any) -> None:  # noqa: ANN401 - tornado's
        """Answer with `message` and `hint`."""
        error = (kwargs.get("exc_info") or (None, None))[1]
        message = HTTPStatus(status_code).phrase
        if isinstance(error, RefusedError):
            message = error.message
        elif isinstance(error, web.HTTPError) and error.log_message:
            message = error.log_message
        self.finish(json.dumps({"message": message, "hint": getattr(error, "hint", "")}, ensure_ascii=False))

    async def known(self, uid: str) -> Known:
        """Return the run of that id. Raises RefusedError (404)."""
        known = await self.house.threads.do(self.house.looking.known, uid)
        if known is None:
            raise RefusedError(HTTPStatus.NOT_FOUND, "there is no such run", "it was removed or replaced")
        return known

    async def answer(self, call: Callable[..., Any], *args: Any) -> None:  # noqa: ANN401 - those of the call
        """Answer with what the call returns, made in a thread."""
        try:
            value = await self.house.threads.do(call, *args)
        except GpuDeployError as error:
            status = _STATUS.get(type(error), HTTPStatus.BAD_GATEWAY)
            raise RefusedError(status, error.message, error.hint) from error
        except _BROKEN as error:
            message = f"it could not be read: {type(error).__name__}: {one_line(str(error))}"
            raise RefusedError(HTTPStatus.BAD_GATEWAY, message) from error
        self.finish(json.dumps(value, ensure_ascii=False))

    def number(self, name: str) -> int | None:
        """Return a whole number of the query; None where it is not there. Raises RefusedError (400)."""
        text = self.get_query_argument(name, None)
        try:
            return None if text is None else int(text[:20])
        except ValueError:
            raise RefusedError(HTTPStatus.BAD_REQUEST, f"{name} must be a whole number") from None


class RunsHandler(Handler):
    """All runs."""

    @web.authenticated
    @authorized
    async def get(self) -> None:
        """Answer with the listing."""
        await self.answer(self.house.looking.listing)


class RunHandler(Handler):
    """One run."""

    @web.authenticated
    @authorized
    async def get(self, uid: str) -> None:
        """Answer with what is said of it."""
        await self.answer(self.house.looking.describe, await self.known(uid))


class LogHandler(Handler):
    """What a task printed."""

    @web.authenticated
    @authorized
    async def get(self, uid: str) -> None:
        """Answer with a piece of the log."""
        start = self.number("from")
        asked = self.number("task"), -1 if start is None else start, self.number("attempt")
        await self.answer(doing.log, await self.known(uid), *asked)


class ResultsHandler(Handler):
    """The trials."""

    @web.authenticated
    @authorized
    async def get(self, uid: str) -> None:
        """Answer with a table."""
        await self.answer(doing.results, await self.known(uid))


class StopHandler(Handler):
    """The end of a run."""

    _track_activity = True

    @web.authenticated
    @authorized
    async def post(self, uid: str) -> None:
        """Begin to stop it."""
        await self.answer(doing.stop, await self.known(uid))
        self.house.watching.hurry()


class CleanHandler(Handler):
    """The end of what is kept of runs."""

    _track_activity = True

    @web.authenticated
    @authorized
    async def post(self) -> None:
        """Delete them."""
        try:
            body = json.loads(self.request.body)
        except ValueError:  # no UTF-8 either
            body = None
        ids = body.get("ids") if isinstance(body, dict) else None
        if not isinstance(ids, list) or not 0 < len(ids) <= _MOST_IDS or not all(isinstance(one, str) for one in ids):
            raise RefusedError(HTTPStatus.BAD_REQUEST, "which runs?", '{"ids": [..]}')
        await self.answer(doing.clean, self.house.looking, ids)
        self.house.watching.hurry()


class ChangesHandler(Handler):
    """A stream of listings: server-sent events, read by fetch."""

    @web.authenticated
    @authorized
    async def get(self) -> None:
        """Send the listing, and again whenever it has changed, until nobody listens."""
        try:
            self.listener = self.house.watching.join(self._every())
        except FullError:
            raise RefusedError(
                HTTPStatus.SERVICE_UNAVAILABLE, "too many pages watch already", "close some of them"
            ) from None
        self.set_header("Content-Type", "text/event-stream")
        self.set_header("Cache-Control", "no-cache, no-transform")
        self.set_header("X-Accel-Buffering", "no")
        try:
            await self.flush()
            while not self.listener.is_closed:
                text = await self.listener.next(_QUIET_SECONDS)
                self.write(": still here\n\n" if text is None else f"event: listing\ndata: {text}\n\n")
                await self.flush()
        except StreamClosedError:
            pass
        finally:
            self.house.watching.leave(self.listener)

    def on_connection_close(self) -> None:
        """Let the stream end at once."""
        super().on_connection_close()
        if (listener := getattr(self, "listener", None)) is not None:
            listener.close()

    def _every(self) -> float:
        try:
            every = float(self.get_query_argument("every", str(_EVERY_SECONDS)))
        except ValueError:
            every = math.nan
        if not every > 0:
            raise RefusedError(HTTPStatus.BAD_REQUEST, "every must be a number of seconds")
        return every


PATHS: tuple[tuple[str, type[Handler]], ...] = (
    ("runs", RunsHandler),
    (f"runs/{_ID}", RunHandler),
    (f"runs/{_ID}/log", LogHandler),
    (f"runs/{_ID}/results", ResultsHandler),
    (f"runs/{_ID}/stop", StopHandler),
    ("clean", CleanHandler),
    ("changes", ChangesHandler),
)


def routes(base_url: str) -> list[tuple[str, type[Handler], dict[str, House]]]:
    """Return the routes, for `add_handlers`."""
    shared = {"house": House()}
    return [(url_path_join(base_url, "gpudeploy", "api", path), handler, shared) for path, handler in PATHS]
