"""The Python of a cell becomes a program: parameters are plain variables, line numbers are those of the cell.

The program file has as many lines above the code as the cell has, so a traceback names the line of the cell. They
hold the prologue that defines the parameters and the header as comments. A top-level assignment to a parameter's
name is its default: its right side becomes the name itself.
"""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING

from jupyter_gpudeploy.errors import PlanError
from jupyter_gpudeploy.plan.types import Note
from jupyter_gpudeploy.registry import did_you_mean

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

PROLOGUE = (
    "import json as _json, os as _os; "
    'globals().update(_json.loads(_os.environ["GPUDEPLOY_PARAMETERS"])); del _json, _os'
)


def program(code: str, parameters: Sequence[str], header: Sequence[str] = ()) -> str:
    """Return the program. `header` are the lines of the cell above the code, its magic line first."""
    tree = ast.parse(code)
    lines = code.encode().split(b"\n")
    future = [node for node in tree.body if isinstance(node, ast.ImportFrom) and node.module == "__future__"]
    for start, end, text in sorted(_edits(tree, set(parameters)), reverse=True):
        _replace(lines, start, end, text)
    first = _prologue(lines, future) if parameters else f"# {header[0] if header else 'the program of the cell'}"
    above = [first, *(f"# {line}".rstrip() for line in header[1:])]
    return "\n".join(above) + "\n" + b"\n".join(lines).decode() + ("" if code.endswith("\n") else "\n")


_Place = tuple[int, int]


def _edits(tree: ast.Module, wanted: set[str]) -> Iterator[tuple[_Place, _Place, str]]:
    """Yield (start, end, name) of each right side that is a parameter's default; places are (line, byte) from 0."""
    for node in tree.body:
        if isinstance(node, ast.AnnAssign) and node.value is not None:
            pairs = list(_defaults([node.target], node.value))
        elif isinstance(node, ast.Assign):
            pairs = list(_defaults(node.targets, node.value))
        else:
            continue
        for name, value in pairs:
            if name in wanted:
                wanted.discard(name)
                yield _start(value), _end(value), name


def _defaults(targets: Iterable[ast.expr], value: ast.expr) -> Iterator[tuple[str, ast.expr]]:
    for target in targets:
        if isinstance(target, ast.Name):
            yield target.id, value
        elif isinstance(target, ast.Tuple | ast.List):
            yield from _unpacked(target, value)


def _unpacked(target: ast.Tuple | ast.List, value: ast.expr) -> Iterator[tuple[str, ast.expr]]:
    names = [element.id if isinstance(element, ast.Name) else None for element in target.elts]
    if isinstance(value, ast.Tuple | ast.List) and len(value.elts) == len(names) and None not in names:
        yield from zip((name for name in names if name), value.elts, strict=True)
    else:
        yield from ((name, value) for name in names if name)


def check_defaults(code: str, parameters: Iterable[str]) -> None:
    """Raise PlanError for a parameter whose default cannot be told from others it is unpacked with."""
    wanted = set(parameters)
    for node in ast.parse(code).body:
        if not isinstance(node, ast.Assign):
            continue
        for target in node.targets:
            if isinstance(target, ast.Tuple | ast.List):
                together = [name for name, value in _unpacked(target, node.value) if value is node.value]
                if clash := wanted.intersection(together):
                    name = min(clash)
                    raise PlanError(
                        f"line {node.lineno} of the code unpacks the parameter {name!r} together with others",
                        hint=f"assign {name} on a line of its own: its right side is the default",
                    )


def unused(code: str, parameters: Sequence[str]) -> list[Note]:
    """Return a warning for each parameter that the code never reads, or sets to something else."""
    tree = ast.parse(code)
    names = [node for node in ast.walk(tree) if isinstance(node, ast.Name)]
    read = {node.id for node in names if isinstance(node.ctx, ast.Load)}
    notes = []
    for name in parameters:
        if name not in read and not _reads_anything(read):
            near = did_you_mean(name, sorted(read))
            hint = near.split("?")[0] + "?" if near.startswith("did you mean") else "use it, or take it out"
            notes.append(Note("warning", f"parameters.{name}", "the code never reads it", hint))
        again = _set_again(tree, name)
        if again:
            message = f"line {again} of the code sets it to something else"
            notes.append(Note("warning", f"parameters.{name}", message, "only its first assignment is its default"))
    return notes


def _reads_anything(read: set[str]) -> bool:
    """Return whether the code looks names up by itself."""
    return bool(read & {"globals", "locals", "vars", "eval", "exec"})


def _set_again(tree: ast.Module, name: str) -> int:
    """Return the line of a second top-level assignment that does not build on the parameter's value; 0 for none."""
    found = []
    for node in tree.body:
        if isinstance(node, ast.Assign | ast.AnnAssign) and node.value is not None:
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            if any(isinstance(target, ast.Name) and target.id == name for target in targets):
                found.append(node)
    for node in found[1:]:
        value = node.value
        if value is not None and not any(isinstance(part, ast.Name) and part.id == name for part in ast.walk(value)):
            return node.lineno
    return 0


def _prologue(lines: list[bytes], future: Sequence[ast.ImportFrom]) -> str:
    """Move `from __future__` to the very top, where Python wants it, and leave its line empty."""
    for node in reversed(future):
        _replace(lines, _start(node), _end(node), "pass")
    features = ", ".join(alias.name for node in future for alias in node.names)
    return f"from __future__ import {features}; {PROLOGUE}" if features else PROLOGUE


def _start(node: ast.stmt | ast.expr) -> _Place:
    return node.lineno - 1, node.col_offset


def _end(node: ast.stmt | ast.expr) -> _Place:
    return (node.end_lineno or node.lineno) - 1, node.end_col_offset or node.col_offset


def _replace(lines: list[bytes], start: _Place, end: _Place, text: str) -> None:
    (first, left), (last, right) = start, end
    merged = lines[first][:left] + text.encode() + lines[last][right:]
    lines[first : last + 1] = [merged, *([b""] * (last - first))]
