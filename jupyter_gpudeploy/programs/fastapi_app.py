"""`python -m jupyter_gpudeploy.programs.fastapi_app FILE APP HOST PORT`: an ASGI application under uvicorn."""

from __future__ import annotations

import logging
import sys
from typing import Any

from jupyter_gpudeploy.programs._loader import PROBE, application, arguments, leave

_GRACE_SECONDS = 5


def main(words: list[str]) -> None:
    """Serve until SIGTERM; requests that run are answered first, for five seconds at most."""
    file, name, (host, port) = arguments(words, "jupyter_gpudeploy.programs.fastapi_app")
    try:
        import uvicorn
    except ImportError:
        leave("serve: fastapi needs uvicorn: pip install uvicorn")
    app = Quiet(application(file, name, "FastAPI"))
    logging.getLogger("uvicorn.access").addFilter(app.filter)
    uvicorn.run(app, host=host, port=port, timeout_graceful_shutdown=_GRACE_SECONDS)


class Quiet:
    """An ASGI application whose health probes are left out of the access log.

    The log knows a request by its client alone, so the clients of probes are remembered until they are logged.
    """

    def __init__(self, app: Any) -> None:  # noqa: ANN401 - any ASGI application
        self.app = app
        self.probes: set[str] = set()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:  # noqa: ANN401 - as ASGI has it
        """Answer one request."""
        if scope["type"] == "http" and scope.get("client"):
            client = "{}:{}".format(*scope["client"])
            if (b"user-agent", PROBE.encode()) in scope["headers"]:
                self.probes.add(client)
        await self.app(scope, receive, send)

    def filter(self, record: logging.LogRecord) -> bool:
        """Say whether a line of the access log is kept."""
        client = record.args[0] if isinstance(record.args, tuple) and record.args else None
        if client not in self.probes:
            return True
        self.probes.discard(str(client))
        return False


if __name__ == "__main__":
    main(sys.argv[1:])
