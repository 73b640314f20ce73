"""`python -m jupyter_gpudeploy.programs.flask_app FILE APP HOST PORT`: a WSGI application under werkzeug's threads."""

from __future__ import annotations

import signal
import sys
import threading

from jupyter_gpudeploy.programs._loader import application, arguments


def main(words: list[str]) -> None:
    """Serve until SIGTERM, one thread a request."""
    file, name, (host, port) = arguments(words, "jupyter_gpudeploy.programs.flask_app")
    try:
        from werkzeug.serving import make_server
    except ImportError:
        sys.exit("serve: flask needs flask: pip install flask")
    server = make_server(host, port, application(file, name, "Flask"), threaded=True)
    # shutdown() waits for the loop to end, so it may not run in the thread of the loop
    signal.signal(signal.SIGTERM, lambda *_: threading.Thread(target=server.shutdown).start())
    print(f"serving on http://{host}:{port}", flush=True)  # noqa: T201 - the server's own log
    server.serve_forever()
    server.server_close()


if __name__ == "__main__":
    main(sys.argv[1:])
