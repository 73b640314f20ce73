"""The options of typer: the parameters of a function, their annotations and their defaults."""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator

    from jupyter_gpudeploy.plan.option_forms import Option
    from jupyter_gpudeploy.plan.options import Literals

_LISTS = frozenset({"list", "List", "tuple", "Tuple", "set", "Set", "Sequence"})
_UNKNOWN = object()


class _Said(NamedTuple):
    """What `typer.Option(...)` or `typer.Argument(...)` says. `is_argument` None: there is no such call."""

    is_argument: bool | None = None
    default: Any = _UNKNOWN
    flags: tuple[str, ...] = ()
    help: str = ""


def parameters_of(
    function: ast.FunctionDef | ast.AsyncFunctionDef, literals: Literals, command: str
) -> Iterator[Option]:
    """Yield the options that typer makes of the function's parameters."""
    arguments = [*function.args.posonlyargs, *function.args.args]
    missing: list[ast.expr | None] = [None] * (len(arguments) - len(function.args.defaults))
    pairs = [*zip(arguments, [*missing, *function.args.defaults], strict=True)]
    pairs += zip(function.args.kwonlyargs, function.args.kw_defaults, strict=True)
    for argument, default in pairs:
        if "Context" not in ast.dump(argument.annotation or ast.Constant("")):
            yield _option(argument, default, literals)._replace(command=command)


def _option(argument: ast.arg, default: ast.expr | None, literals: Literals) -> Option:
    from jupyter_gpudeploy.plan.option_forms import Option, kind_of, scalar_or_none

    annotation, said = _annotated(argument.annotation, literals)
    if default is not None:
        said = _call(default, literals) if _is_call(default) else said._replace(default=_literal(default, literals))
    base, choices, is_list = _type(annotation, literals)
    known = None if said.default in (_UNKNOWN, ...) else scalar_or_none(said.default)
    is_required = said.default is _UNKNOWN or said.default is ...
    is_argument = said.is_argument if said.is_argument is not None else is_required
    kind = "text" if choices else kind_of(base, known)
    plain = argument.arg.replace("_", "-").strip("-")
    made = Option(plain, "", kind, float(known) if kind == "number" and type(known) is int else known, choices,
                  said.help, is_required, None, "", is_list, "", argument.lineno)  # fmt: skip
    if is_argument:
        return made._replace(name=argument.arg, words=f"{{{argument.arg}}}")
    long = [flag for flag in said.flags if flag.startswith("--")] or [
        flag for flag in said.flags if flag.startswith("-")
    ]
    flag = long[0] if long else f"--{plain}"
    if kind == "switch":
        on, _, off = flag.partition("/")
        off = off.strip() or ("" if said.flags else f"--no-{plain}")
        on = on.strip()
        is_plain = (on, off) == (f"--{plain}", f"--no-{plain}")
        return made._replace(name=on.lstrip("-"), flag=on, flags=None if is_plain else (on, off))
    name = flag.lstrip("-")
    return made._replace(name=name, flag=flag, words="" if flag.startswith("--") else f"{flag} {{{name}}}")


def _annotated(node: ast.expr | None, literals: Literals) -> tuple[ast.expr | None, _Said]:
    if isinstance(node, ast.Subscript) and _name(node.value) == "Annotated" and isinstance(node.slice, ast.Tuple):
        first, *rest = node.slice.elts
        said = next((_call(one, literals, annotated=True) for one in rest if _is_call(one)), _Said())
        return first, said
    return node, _Said()


def _type(node: ast.expr | None, literals: Literals) -> tuple[str, tuple[Any, ...], bool]:
    """Return the name of a type, its choices, and whether it holds several values."""
    if isinstance(node, ast.BinOp):
        sides = [side for side in (node.left, node.right) if not _is_none(side)]
        return _type(sides[0], literals) if sides else ("", (), False)
    if isinstance(node, ast.Subscript):
        name = _name(node.value)
        if name == "Optional":
            return _type(node.slice, literals)
        if name == "Literal":
            items = node.slice.elts if isinstance(node.slice, ast.Tuple) else [node.slice]
            return "str", tuple(item.value for item in items if isinstance(item, ast.Constant)), False
        return name, (), name in _LISTS
    name = _name(node)
    if name in literals.enums:
        return "str", tuple(value for _, value in literals.enums[name]), False
    return name, (), name in _LISTS


def _call(node: ast.expr, literals: Literals, *, annotated: bool = False) -> _Said:
    if not isinstance(node, ast.Call):
        return _Said()
    words = [_literal(word, literals) for word in node.args]
    given = {keyword.arg: _literal(keyword.value, literals) for keyword in node.keywords if keyword.arg}
    default = given.get("default", _UNKNOWN)
    if not annotated and words:
        default, *words = words
    told = given.get("help")
    flags = tuple(word for word in words if isinstance(word, str))
    return _Said(_name(node.func) == "Argument", default, flags, told if isinstance(told, str) else "")


def _literal(node: ast.expr, literals: Literals) -> Any:  # noqa: ANN401 - any literal
    try:
        return literals.value(node)
    except (ValueError, TypeError):
        return None


def _is_call(node: ast.expr) -> bool:
    return isinstance(node, ast.Call) and _name(node.func) in ("Option", "Argument")


def _is_none(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and node.value is None


def _name(node: ast.expr | None) -> str:
    if isinstance(node, ast.Attribute):
        return node.attr
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    return node.id if isinstance(node, ast.Name) else ""
