"""Loading an application from the user's file, as `import` would: not as `__main__`, its folder on the path."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import Any

Address = tuple[str, int]


def arguments(words: list[str], program: str) -> tuple[Path, str, Address]:
    """Return (file, name of the variable, (host, port)) of the command line, or leave with how it is used."""
    if len(words) != 4 or not words[3].isdigit():  # noqa: PLR2004 - FILE APP HOST PORT
        sys.exit(f"usage: python -m {program} FILE APP HOST PORT")
    return Path(words[0]), words[1], (words[2], int(words[3]))


def application(file: Path, name: str, kind: str) -> Any:  # noqa: ANN401 - any ASGI or WSGI application
    """Return the variable `name` of the module `file`, or leave saying which variable it may be.

    `kind` is the class that is looked for when the name is wrong, like `FastAPI`.
    """
    sys.path.insert(0, str(file.parent))
    specification = importlib.util.spec_from_file_location(file.stem, file)
    if specification is None or specification.loader is None:
        sys.exit(f"{file.name} is no Python file")
    module = importlib.util.module_from_spec(specification)
    sys.modules[file.stem] = module
    specification.loader.exec_module(module)
    found = getattr(module, name, None)
    if found is None:
        fits = [key for key, value in vars(module).items() if type(value).__name__ == kind]
        way_out = f"found {kind} in {fits[0]!r}: say app: {fits[0]}" if fits else f"assign the {kind} to it"
        sys.exit(f"no variable {name!r} in {file.name}: {way_out}")
    return found
