"""`python -m jupyter_gpudeploy.programs.fastapi_app FILE APP HOST PORT`: an ASGI application under uvicorn."""

from __future__ import annotations

import sys

from jupyter_gpudeploy.programs._loader import application, arguments


def main(words: list[str]) -> None:
    """Serve until SIGTERM; requests that run are answered first."""
    file, name, (host, port) = arguments(words, "jupyter_gpudeploy.programs.fastapi_app")
    try:
        import uvicorn
    except ImportError:
        sys.exit("serve: fastapi needs uvicorn: pip install uvicorn")
    uvicorn.run(application(file, name, "FastAPI"), host=host, port=port, timeout_graceful_shutdown=5)


if __name__ == "__main__":
    main(sys.argv[1:])
