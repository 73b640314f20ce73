"""How argparse, click and typer say an option, as Python's syntax tree shows it."""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from jupyter_gpudeploy.plan.option_typer import parameters_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from jupyter_gpudeploy.plan.options import Literals
    from jupyter_gpudeploy.samplers.base import Scalar

Kind = Literal["text", "integer", "number", "switch"]
_KINDS: dict[str, Kind] = {
    "int": "integer", "INT": "integer", "IntRange": "integer", "float": "number", "FLOAT": "number",
    "FloatRange": "number", "str": "text", "STRING": "text", "bool": "switch", "BOOL": "switch",
}  # fmt: skip
_NO_VALUE = frozenset({"help", "version", "append_const", "store_const"})


class Option(NamedTuple):
    """One option. `name` is the parameter of the cell that sets it.

    `flag`: as the script spells it, empty for a positional. `flags`: what true and false are on a command line, where
    it is not `--name` and `--no-name`. `words`: what `args:` must say for it; empty where parameters that stand
    nowhere are appended right. `is_list`: takes several values, so no axis can set it. `command`: the subcommand.
    """

    name: str
    flag: str
    kind: Kind = "text"
    default: Scalar = None
    choices: tuple[Scalar, ...] = ()
    help: str = ""
    required: bool = False
    flags: tuple[str, str] | None = None
    words: str = ""
    is_list: bool = False
    command: str = ""
    line: int = 0


class Reader:
    """Finds the options of a module. `notes` say what could not be read."""

    def __init__(self, literals: Literals) -> None:
        self.literals = literals
        self.notes: list[str] = []
        self._commands: dict[str, str] = {}

    def read(self, module: ast.Module) -> list[Option]:
        """Return the options, in the order of their lines."""
        nodes = list(ast.walk(module))
        typer = any(name.partition(".")[0] == "typer" for node in nodes for name in _imported(node))
        self._commands = dict(_subparsers(nodes, self.literals))
        found = [option for node in nodes if isinstance(node, ast.Call) for option in self._of_call(node)]
        functions = [node for node in nodes if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
        commands = [function for function in functions if _decorated(function, "command")]
        for function in functions:
            command = _command_name(function) if len(commands) > 1 and function in commands else ""
            found += self._decorators(function, command)
        if typer:
            run = {name for node in nodes for name in _run_by_typer(node)}
            for function in functions:
                if function.name in run or (function in commands and not _decorated(function, "option")):
                    command = _command_name(function) if len(commands) > 1 else ""
                    found += parameters_of(function, self.literals, command)
        if any(option.command for option in found):
            names = ", ".join(dict.fromkeys(option.command for option in found if option.command))
            self.notes.append(f"it has subcommands ({names}): args: must name the one that runs")
        return sorted(found, key=lambda option: option.line)

    def _of_call(self, call: ast.Call) -> Iterator[Option]:
        if _called(call) != "add_argument":
            return
        owner = (
            call.func.value.id if isinstance(call.func, ast.Attribute) and isinstance(call.func.value, ast.Name) else ""
        )
        option = self._argparse(call, self._commands.get(owner, ""))
        if option is not None:
            yield option

    def _argparse(self, call: ast.Call, command: str) -> Option | None:
        names, given = self._said(call)
        if not names:
            return None
        action = given.get("action", "store")
        action = action if isinstance(action, str) else "store"
        if action in _NO_VALUE:
            return None
        flags = [name for name in names if name.startswith("-")]
        made = _made(flags, names, given, call.lineno)
        is_list = action in ("append", "extend", "count") or given.get("nargs") not in (None, "?")
        made = made._replace(command=command, is_list=is_list, required=bool(given.get("required")) or not flags)
        if action in ("store_true", "store_false"):
            on = (made.flag, "") if action == "store_true" else ("", made.flag)
            return made._replace(kind="switch", default=action == "store_false", flags=on, choices=())
        if action == "BooleanOptionalAction":
            return made._replace(kind="switch", flags=_no_flag(made.flag))
        if made.kind == "switch":  # type=bool takes any text for true, a converter of one's own takes "true"
            return made._replace(kind="text", default=None if made.default is None else str(made.default).lower())
        return made

    def _decorators(self, function: ast.FunctionDef | ast.AsyncFunctionDef, command: str) -> Iterator[Option]:
        for decorator in function.decorator_list:
            if isinstance(decorator, ast.Call) and _called(decorator) in ("option", "argument"):
                option = self._click(decorator, command)
                if option is not None:
                    yield option

    def _click(self, call: ast.Call, command: str) -> Option | None:
        names, given = self._said(call)
        flags = [name for name in names if name.startswith("-")]
        if not names or given.get("count") or "flag_value" in given:
            return None
        made = _made(flags, names, given, call.lineno)
        is_list = bool(given.get("multiple")) or given.get("nargs", 1) != 1
        made = made._replace(command=command, is_list=is_list, required=bool(given.get("required", not flags)))
        pair = next((flag for flag in flags if "/" in flag), "")
        if pair:
            on, off = (part.strip() for part in pair.split("/", 1))
            made = _made([on], [on], given, call.lineno)._replace(
                kind="switch", words="", command=command, flags=(on, off)
            )
            is_plain = (on, off) == (f"--{made.name}", f"--no-{made.name}")
            return made._replace(flags=None if is_plain else (on, off))
        if given.get("is_flag"):
            return made._replace(kind="switch", default=bool(given.get("default")), flags=(made.flag, ""), words="")
        is_bool = made.kind == "switch"
        if is_bool and "type" not in given:
            return made._replace(flags=(made.flag, ""), default=bool(given.get("default")), words="")
        return made._replace(kind="text", default=str(made.default).lower()) if is_bool else made

    def _said(self, call: ast.Call) -> tuple[list[str], dict[str, Any]]:
        """Return the literal names, and what is known of the keywords."""
        names = []
        for node in call.args:
            try:
                name = self.literals.value(node)
            except (ValueError, TypeError):
                self.notes.append(f"line {call.lineno}: an option is made while the script runs")
                return [], {}
            if isinstance(name, str) and name:
                names.append(name)
        given: dict[str, Any] = {}
        for keyword in call.keywords:
            if keyword.arg is not None:
                _keep(given, keyword.arg, keyword.value, self.literals)
        return names, given


def scalar_or_none(value: object) -> Scalar:
    """Return the value where an axis could have it."""
    return value if isinstance(value, str | int | float | bool) else None


def kind_of(name: str, default: object) -> Kind:
    """Return the kind that a type of that name means; without one, the default tells."""
    if name:
        return _KINDS.get(name, "text")
    by_type: dict[type, Kind] = {bool: "switch", int: "integer", float: "number"}
    return by_type.get(type(default), "text")


def _keep(given: dict[str, Any], name: str, node: ast.expr, literals: Literals) -> None:
    """Keep what is known of a keyword: a type by its name, choices of click, an action, any literal."""
    if name == "type":
        given["type"] = _type_name(node)
        if isinstance(node, ast.Call) and _type_name(node) == "Choice" and node.args:
            _keep(given, "choices", node.args[0], literals)
        return
    if name == "action" and isinstance(node, ast.Attribute | ast.Name):
        given["action"] = _type_name(node)
        return
    if name == "choices" and isinstance(node, ast.Name) and node.id in literals.enums:
        given["choices"] = [value for _, value in literals.enums[node.id]]
        return
    try:
        given[name] = literals.value(node)
    except (ValueError, TypeError):
        given.setdefault("unknown", []).append(name)


def _made(flags: Sequence[str], names: Sequence[str], given: dict[str, Any], line: int) -> Option:
    long = next((flag for flag in flags if flag.startswith("--")), "")
    flag = long or (flags[0] if flags else "")
    name = (flag or str(names[0])).lstrip("-").replace(" ", "_")
    default = given.get("default")
    choices = given.get("choices")
    kind = kind_of(given.get("type", ""), default if "type" in given or flags else None)
    words = "" if long else f"{flag} {{{name}}}" if flag else f"{{{name}}}"
    return Option(
        name=name,
        flag=flag,
        kind=kind,
        default=_as_kind(scalar_or_none(default), kind),
        choices=tuple(value for value in choices if scalar_or_none(value) is not None)
        if isinstance(choices, list)
        else (),
        help=str(given["help"]) if isinstance(given.get("help"), str) else "",
        words=words,
        line=line,
    )


def _as_kind(default: Scalar, kind: Kind) -> Scalar:
    """A default of 1 for a float is 1.0: what the program gets is what counts."""
    return float(default) if kind == "number" and type(default) is int else default


def _no_flag(flag: str) -> tuple[str, str] | None:
    return None if flag.startswith("--") and "_" not in flag else (flag, f"--no-{flag.lstrip('-')}")


def _type_name(node: ast.expr) -> str:
    if isinstance(node, ast.Call):
        return _type_name(node.func)
    if isinstance(node, ast.Attribute):
        return node.attr
    return node.id if isinstance(node, ast.Name) else "?"


def _called(call: ast.Call) -> str:
    return _type_name(call.func)


def _decorated(function: ast.FunctionDef | ast.AsyncFunctionDef, name: str) -> bool:
    return any(_type_name(decorator) == name for decorator in function.decorator_list)


def _command_name(function: ast.FunctionDef | ast.AsyncFunctionDef) -> str:
    for decorator in function.decorator_list:
        if isinstance(decorator, ast.Call) and _called(decorator) == "command" and decorator.args:
            first = decorator.args[0]
            if isinstance(first, ast.Constant) and isinstance(first.value, str):
                return first.value
    return function.name.replace("_", "-")


def _imported(node: ast.AST) -> list[str]:
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    return [node.module or ""] if isinstance(node, ast.ImportFrom) else []


def _run_by_typer(node: ast.AST) -> Iterator[str]:
    if isinstance(node, ast.Call) and _called(node) == "run" and node.args and isinstance(node.args[0], ast.Name):
        yield node.args[0].id


def _subparsers(nodes: Sequence[ast.AST], literals: Literals) -> Iterator[tuple[str, str]]:
    """Yield the variables that hold the parser of a subcommand, with its name."""
    for node in nodes:
        if not (isinstance(node, ast.Assign) and isinstance(node.value, ast.Call)):
            continue
        if _called(node.value) == "add_parser" and node.value.args:
            try:
                name = str(literals.value(node.value.args[0]))
            except (ValueError, TypeError):
                continue
            yield from ((target.id, name) for target in node.targets if isinstance(target, ast.Name))
