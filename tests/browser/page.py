"""The card alone in a page: the built module, a model that a test feeds, no kernel."""

import http.server
import threading
from contextlib import contextmanager
from pathlib import Path

import jupyter_gpudeploy

HARNESS = Path(__file__).parent / "harness"
STATIC = Path(jupyter_gpudeploy.__file__).parent / "notebook" / "static"


class _Files(http.server.SimpleHTTPRequestHandler):
    def translate_path(self, path):
        name = path.split("?")[0].strip("/") or "index.html"
        return str((STATIC if name.startswith("card.") else HARNESS) / Path(name).name)

    def log_message(self, *_):
        pass


@contextmanager
def harness():
    """Yield the url of the page."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Files)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
