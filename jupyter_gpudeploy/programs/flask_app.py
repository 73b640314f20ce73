"""`python -m jupyter_gpudeploy.programs.flask_app FILE APP HOST PORT`: a WSGI application under werkzeug's threads."""

from __future__ import annotations

import signal
import sys
import threading
import time
from typing import TYPE_CHECKING, Any

from jupyter_gpudeploy.programs._loader import PROBE, application, arguments, leave

if TYPE_CHECKING:
    from collections.abc import Iterator

_GRACE_SECONDS = 5.0


def main(words: list[str]) -> None:
    """Serve until SIGTERM, one thread a request; requests that run are answered first, for five seconds at most."""
    file, name, (host, port) = arguments(words, "jupyter_gpudeploy.programs.flask_app")
    try:
        from werkzeug.serving import WSGIRequestHandler, make_server
    except ImportError:
        leave("serve: flask needs flask: pip install flask")

    class Handler(WSGIRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_request(self, *values: Any) -> None:  # noqa: ANN401 - the base's signature
            if self.headers.get("User-Agent") != PROBE:
                super().log_request(*values)

    app = Counting(application(file, name, "Flask"))
    server = make_server(host, port, app, threaded=True, request_handler=Handler)
    # shutdown() waits for the loop to end, so it may not run in the thread of the loop
    signal.signal(signal.SIGTERM, lambda *_: threading.Thread(target=server.shutdown).start())
    print(f"serving {name} of {file.name} on http://{host}:{port}", flush=True)  # noqa: T201 - the server's own log
    server.serve_forever(poll_interval=0.1)
    app.wait(_GRACE_SECONDS)
    server.server_close()


class Counting:
    """A WSGI application that knows how many requests it is answering."""

    def __init__(self, app: Any) -> None:  # noqa: ANN401 - any WSGI application
        self.app = app
        self.running = 0
        self.changed = threading.Condition()

    def __call__(self, environ: Any, start_response: Any) -> Iterator[bytes]:  # noqa: ANN401 - as WSGI has it
        """Answer one request."""
        with self.changed:
            self.running += 1
        answer: Any = ()
        try:
            answer = self.app(environ, start_response)
            yield from answer
        finally:
            if hasattr(answer, "close"):
                answer.close()
            with self.changed:
                self.running -= 1
                self.changed.notify_all()

    def wait(self, seconds: float) -> None:
        """Wait until no request is being answered, so many seconds at most."""
        deadline = time.monotonic() + seconds
        with self.changed:
            while self.running and (left := deadline - time.monotonic()) > 0:
                self.changed.wait(left)


if __name__ == "__main__":
    main(sys.argv[1:])
