"""Loading an application from the user's file, as `import` would: not as `__main__`, its folder first on the path."""

from __future__ import annotations

import importlib.util
import sys
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

if TYPE_CHECKING:
    from types import ModuleType

Address = tuple[str, int]

PROBE = "jupyter_gpudeploy"
"""How the health probes name themselves in their User-Agent: access logs leave them out."""

CANNOT_WORK = 78
"""The exit code of what would fail again however often it is started (EX_CONFIG of sysexits.h): nobody tries again."""

_PASSING = (OSError, RuntimeError, MemoryError)
"""What may be better the next time: a file or a server that is not there yet, a GPU that is full."""

_SERVERS = {"FastAPI": "fastapi", "Starlette": "fastapi", "Flask": "flask"}


def arguments(words: list[str], program: str) -> tuple[Path, str, Address]:
    """Return (file, name of the variable, (host, port)) of the command line, or leave with how it is used."""
    if len(words) != 4 or not words[3].isdigit():  # noqa: PLR2004 - FILE APP HOST PORT
        leave(f"usage: python -m {program} FILE APP HOST PORT")
    return Path(words[0]), words[1], (words[2], int(words[3]))


def application(file: Path, name: str, kind: str) -> Any:  # noqa: ANN401 - any ASGI or WSGI application
    """Return the variable `name` of the module `file`, or leave saying which variable it may be.

    `kind` is the class that is looked for when the name is wrong, like `FastAPI`. A file that raises leaves with its
    traceback, which begins in the file.
    """
    module = _load(file)
    if not hasattr(module, name):
        fits = [key for key, value in vars(module).items() if kind in _classes(value)]
        found = f"found: {kind} instance `{fits[0]}`): say app: {fits[0]}" if fits else f"found no {kind} either)"
        leave(f"no variable `{name}` in {file.name} ({found}")
    app = getattr(module, name)
    others = [_SERVERS[known] for known in _classes(app) if known in _SERVERS]
    if others and _SERVERS.get(kind) not in others:
        leave(f"`{name}` in {file.name} is a {type(app).__name__}: say serve: {others[0]}")
    if not callable(app):
        leave(f"`{name}` in {file.name} is a {type(app).__name__}, which cannot be called: it is no application")
    return app


def leave(message: str) -> NoReturn:
    """Say why this can never work, and leave."""
    print(message, file=sys.stderr)  # noqa: T201 - the server's own log
    sys.exit(CANNOT_WORK)


def _classes(value: object) -> list[str]:
    return [cls.__name__ for cls in type(value).__mro__]


def _load(file: Path) -> ModuleType:
    file = file.absolute()
    sys.path.insert(0, str(file.parent))
    # The name of a module that is imported already (code.py, random.py) stays that module's.
    name = file.stem if file.stem not in sys.modules else f"{file.stem}_app"
    specification = importlib.util.spec_from_file_location(name, file)
    if specification is None or specification.loader is None:
        leave(f"{file.name} is no Python file")
    module = importlib.util.module_from_spec(specification)
    sys.modules[name] = module
    try:
        specification.loader.exec_module(module)
    except FileNotFoundError as error:
        if error.filename == str(file):
            leave(f"{file} is not there")
        _leave(error, file)
    except Exception as error:  # noqa: BLE001 - whatever the user's file raises
        _leave(error, file)
    return module


def _leave(error: Exception, file: Path) -> None:
    """Print the traceback from the user's file on, and leave."""
    trace = error.__traceback__
    while trace is not None and trace.tb_frame.f_code.co_filename != str(file):
        trace = trace.tb_next
    traceback.print_exception(type(error), error.with_traceback(trace), trace)
    may_pass = isinstance(error, _PASSING) or type(error).__module__ != "builtins"
    sys.exit(1 if may_pass else CANNOT_WORK)
