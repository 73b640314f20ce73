"""The options of a script, read from its text: argparse, click and typer. Nothing of it is ever run.

What is written as it stands is read: literals, and names that the module sets once to a literal. An option that is
made while the script runs (a name from a loop, `**settings`) is not seen, and `notes` says so.
"""

from __future__ import annotations

import ast
import warnings
from typing import TYPE_CHECKING, Any, NamedTuple

from jupyter_gpudeploy.errors import PlanError
from jupyter_gpudeploy.plan.sources import locate
from jupyter_gpudeploy.plan.spelling import spelled_in

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from jupyter_gpudeploy.plan.option_forms import Option

LONGEST = 1 << 20


class Options(NamedTuple):
    """What a script takes. `notes`: what could not be read of it, as sentences."""

    options: tuple[Option, ...] = ()
    notes: tuple[str, ...] = ()

    def named(self, name: str) -> Option | None:
        """Return the option of that parameter."""
        return next((option for option in self.options if option.name == name), None)


def read_options(text: str, base: Path, *, allow_outside: bool = False) -> Options:
    """Return the options of the script `text`, a path in `base`. Raises PlanError for what is no readable Python."""
    file = locate(text, base, allow_outside=allow_outside)
    if not file.is_file() or file.suffix != ".py":
        raise PlanError(f"{text!r} is no Python file", hint="options are read from files that end in .py")
    try:
        with file.open("rb") as stream:
            content = stream.read(LONGEST + 1)
    except OSError as error:
        raise PlanError(f"{text!r} cannot be read: {error.strerror}") from None
    if len(content) > LONGEST:
        raise PlanError(
            f"{text!r} is longer than 1 MiB: its options are not looked for", hint="write the axes yourself"
        )
    return options_of(content, text)


def options_of(code: str | bytes, where: str = "the script") -> Options:
    """Return the options of a program's text. Raises PlanError for what is no Python."""
    from jupyter_gpudeploy.plan import option_forms

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            module = ast.parse(code)
        reader = option_forms.Reader(Literals(module))
        found = reader.read(module)
    except SyntaxError as error:
        raise PlanError(f"{where} is no Python that can be read: line {error.lineno}: {error.msg}") from None
    except (ValueError, RecursionError, MemoryError) as error:
        raise PlanError(f"{where} is no Python that can be read: {error}") from None
    source = code if isinstance(code, str) else code.decode("utf-8", "replace")
    return Options(tuple(_in_our_words(found, source)), tuple(reader.notes))


def _in_our_words(found: Sequence[Option], source: str) -> list[Option]:
    """Return the options under the names by which a command will spell them right; the first of a name counts."""
    own: dict[str, Option] = {}
    for option in found:
        plain = option.name.replace("-", "_")
        name = option.name
        if not option.words and plain != name and plain in spelled_in(source, [plain]):
            name = plain
        own.setdefault(name, option._replace(name=name))
    return list(own.values())


class Literals:
    """What expressions mean that need not be run. `value` raises ValueError for any other."""

    def __init__(self, module: ast.Module) -> None:
        self._names: dict[str, ast.expr | None] = {}
        self.enums: Mapping[str, list[Any]] = {}
        classes = [node for node in module.body if isinstance(node, ast.ClassDef)]
        for target, value in (pair for node in module.body for pair in _assigned(node)):
            self._names[target] = None if target in self._names else value
        self.enums = {node.name: self._members(node) for node in classes if _is_enum(node)}

    def value(self, node: ast.expr, *, depth: int = 3) -> Any:  # noqa: ANN401 - any literal
        """Return what the expression means."""
        if isinstance(node, ast.Name) and depth and (known := self._names.get(node.id)) is not None:
            return self.value(known, depth=depth - 1)
        if isinstance(node, ast.List | ast.Tuple | ast.Set):
            return [self.value(item, depth=depth) for item in node.elts]
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            return self._member(node.value.id, node.attr)
        if (
            isinstance(node, ast.Call)
            and isinstance(node.func, ast.Name)
            and node.func.id in ("list", "tuple", "sorted")
        ):
            return self.value(node.args[0], depth=depth) if node.args else []
        return ast.literal_eval(node)

    def _member(self, name: str, attribute: str) -> Any:  # noqa: ANN401 - any literal
        for member, value in self.enums.get(name, []):
            if member == attribute:
                return value
        raise ValueError(f"{name}.{attribute} is known only while it runs")

    def _members(self, node: ast.ClassDef) -> list[tuple[str, Any]]:
        found = []
        for target, value in (pair for statement in node.body for pair in _assigned(statement)):
            try:
                found.append((target, self.value(value)))
            except (ValueError, TypeError):
                continue
        return found


def _assigned(node: ast.stmt) -> list[tuple[str, ast.expr]]:
    if isinstance(node, ast.Assign):
        return [(target.id, node.value) for target in node.targets if isinstance(target, ast.Name)]
    if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and node.value is not None:
        return [(node.target.id, node.value)]
    return []


def _is_enum(node: ast.ClassDef) -> bool:
    bases = [base.attr if isinstance(base, ast.Attribute) else getattr(base, "id", "") for base in node.bases]
    return any(base.endswith("Enum") for base in bases)
