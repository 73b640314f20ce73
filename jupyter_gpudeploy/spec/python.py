"""The Python below the `---`: whether a text is a program, and where it is not one."""

from __future__ import annotations

import ast
import warnings
from typing import TYPE_CHECKING

from jupyter_gpudeploy.errors import Problem
from jupyter_gpudeploy.patterns import lazy

if TYPE_CHECKING:
    from jupyter_gpudeploy.spec.lines import Lines

_BEGINS_LIKE_PYTHON = lazy(
    r"(?:import|from|def|class|for|while|if|with|try|async|return|global|assert|raise|del|print)\b(?!\s*:)"
    r"|[@%!]|\w+(?:\.\w+)*(?:\s*[-+*/]?=[^=]|\()|\"\"\"|'''"
)


def is_program(code: str) -> bool:
    """Return whether `code` is Python that does something: `train.py` and `gpus: 1` parse as Python and do nothing."""
    try:
        tree = _parse(code)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    return any(not _does_nothing(statement) for statement in tree.body)


def begins_like_python(text: str) -> bool:
    """Return whether the first line that says something looks like Python, right or wrong."""
    said = (line for line in text.split("\n") if line.strip() and not line.lstrip().startswith("#"))
    return bool(_BEGINS_LIKE_PYTHON.match(next(said, "")))


def syntax_problem(code: str, lines: Lines) -> Problem | None:
    """Return what Python cannot read in `code`, whose place in the cell `lines` knows."""
    try:
        _compile(code)
    except SyntaxError as error:
        line, column = lines.first + (error.lineno or 1) - 1, max(error.offset or 1, 1)
        at, excerpt = lines.line(line).lstrip(), lines.excerpt(line, column)
        if at.startswith(("%", "!")):
            return Problem(
                "the code runs as a plain Python file, and this is IPython",
                "delete the line; packages go into requirements:",
                line,
                column,
                "code",
                excerpt,
            )
        return Problem(f"Python cannot read this: {error.msg}", "", line, column, "code", excerpt)
    except (ValueError, RecursionError, MemoryError) as error:
        return Problem(f"Python cannot read the code: {error}", "", lines.first, 1, "code")
    return None


def _parse(code: str) -> ast.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return ast.parse(code)


def _compile(code: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        compile(code, "<cell>", "exec", dont_inherit=True)


def _does_nothing(statement: ast.stmt) -> bool:
    if isinstance(statement, ast.AnnAssign):
        return statement.value is None
    acts = ast.Call | ast.Await | ast.NamedExpr
    return isinstance(statement, ast.Expr) and not any(isinstance(node, acts) for node in ast.walk(statement))
