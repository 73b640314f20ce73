"""Tab completion in every front end: verbs, options and runs on a `%deploy` line, keys and values in a `%%deploy` cell.

The words come from where they are defined: the table of arguments.py, the JSON Schema of a cell, the families.
"""

from __future__ import annotations

import re
from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from IPython.core.interactiveshell import InteractiveShell

IDENTIFIER = "jupyter_gpudeploy"
PRIORITY = 200
_ON_A_LINE = re.compile(r"\s*(?:[\w.,\s]+=\s*)?%deploy\s(?P<rest>.*)", re.DOTALL)
_ON_THE_FIRST = re.compile(r"%%deploy\s(?P<rest>.*)", re.DOTALL)
_KEY = re.compile(r"(?P<indent> *)(?P<fragment>[\w.-]*)")
_VALUE = re.compile(r" *(?P<key>[\w.-]+):\s+(?P<fragment>[\w.-]*)")
_OPENING = re.compile(r"(?P<indent> *)(?P<key>[\w.-]+):\s*(?:#.*)?")


def register(shell: InteractiveShell) -> None:
    """Add our words to what Tab offers in this shell."""
    from IPython.core.completer import context_matcher

    if getattr(shell, "Completer", None) is None:
        return

    @context_matcher(identifier=IDENTIFIER, priority=PRIORITY)  # type: ignore[untyped-decorator, unused-ignore]
    def match(context: Any) -> dict[str, Any]:  # noqa: ANN401 - IPython's CompletionContext
        from IPython.core.completer import SimpleCompletion

        fragment, words = complete(context.full_text, context.cursor_line, context.cursor_position)
        found = [SimpleCompletion(word, type=kind) for word, kind in words]
        return {"completions": found, "matched_fragment": fragment, "ordered": True, "suppress": bool(found)}

    unregister(shell)
    shell.Completer.custom_matchers.append(match)


def unregister(shell: InteractiveShell) -> None:
    """Take our words away again."""
    matchers = getattr(getattr(shell, "Completer", None), "custom_matchers", [])
    matchers[:] = [one for one in matchers if getattr(one, "matcher_identifier", "") != IDENTIFIER]


def complete(text: str, row: int, column: int) -> tuple[str, list[tuple[str, str]]]:
    """Return what stands before the cursor, and the words for it with their kind. `row` and `column` from 0."""
    lines = text.split("\n")
    line = lines[row][:column]
    in_cell = _ON_THE_FIRST.match(lines[0] + " ") is not None
    if in_cell and row:
        fragment, words = ("", []) if "---" in map(str.rstrip, lines[1:row]) else _in_header(lines[1:row], line)
    elif matched := (_ON_THE_FIRST if in_cell else _ON_A_LINE).match(line):
        fragment, words = _on_line(matched["rest"], in_cell=in_cell)
    else:
        return "", []
    return fragment, [(word, kind) for word, kind in words if word.startswith(fragment)]


def _on_line(rest: str, *, in_cell: bool) -> tuple[str, list[tuple[str, str]]]:
    from jupyter_gpudeploy.notebook.arguments import CELL_VERBS, OPTIONS, START, VERBS

    *before, fragment = re.split(r"\s+", rest.lstrip()) or [""]
    verbs = CELL_VERBS if in_cell else VERBS
    verb = (verbs.get(before[0]) if before else None) or (START if in_cell else None)
    if verb is None:
        return fragment, _kinds(verbs, "keyword") if not before else []
    last = next((option for option in OPTIONS.values() if before and before[-1] in option.flags and option.value), None)
    if last is not None:
        return fragment, _kinds(_family("backends"), "value") if last.field == "backend" else []
    flags = [flag for name in (*verb.options, "help") for flag in OPTIONS[name].flags if flag.startswith("--")]
    if fragment.startswith("-"):
        return fragment, _kinds(flags, "option")
    if in_cell:
        return fragment, [*_kinds(verbs if not before else [], "keyword"), *_kinds(flags, "option")]
    if verb.operands.startswith("["):
        return fragment, _kinds(VERBS, "keyword")
    return fragment, _kinds(_run_names() if verb.operands else [], "run")


def _in_header(above: Sequence[str], line: str) -> tuple[str, list[tuple[str, str]]]:
    if value := _VALUE.fullmatch(line):
        path = _parents(above, len(line) - len(line.lstrip()))
        return value["fragment"], _kinds(_values(path, value["key"]), "value")
    if key := _KEY.fullmatch(line):
        properties = _properties(_parents(above, len(key["indent"])))
        return key["fragment"], _kinds((f"{name}:" for name in properties), "property")
    return "", []


def _parents(above: Sequence[str], indent: int) -> list[str]:
    """Return the keys inside which a line with this indentation stands, outermost first."""
    path: list[str] = []
    for line in reversed(above):
        opening = _OPENING.fullmatch(line)
        if opening and len(opening["indent"]) < indent:
            path.insert(0, opening["key"])
            indent = len(opening["indent"])
    return path


def _values(path: Sequence[str], key: str) -> list[str]:
    if not path and key in ("serve", "backend"):
        return _family("servers" if key == "serve" else "backends")
    found = [word for node in _forms(_properties(path).get(key, {})) for word in node.get("enum", [])]
    is_boolean = any(node.get("type") == "boolean" for node in _forms(_properties(path).get(key, {})))
    return [str(word) for word in found] + ["true", "false"] * is_boolean


def _properties(path: Sequence[str]) -> dict[str, Any]:
    """Return the keys that may stand at this place, with the schema of each."""
    nodes = [_schema()]
    for key in path:
        nodes = [
            inner for node in nodes for form in _forms(node) for inner in _inside(form, key) if isinstance(inner, dict)
        ]
    return {
        name: inner for node in nodes for form in _forms(node) for name, inner in form.get("properties", {}).items()
    }


def _inside(form: dict[str, Any], key: str) -> list[Any]:
    properties = form.get("properties", {})
    return [properties[key]] if key in properties else [form.get("additionalProperties")]


def _forms(node: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the node itself and all that it may be instead."""
    if "$ref" in node:
        return _forms(_schema()["$defs"][node["$ref"].rpartition("/")[2]])
    return [node, *(form for other in node.get("anyOf", []) for form in _forms(other))]


@cache
def _schema() -> dict[str, Any]:
    from jupyter_gpudeploy.spec.models import json_schema

    return json_schema()


def _family(name: str) -> list[str]:
    from jupyter_gpudeploy.registry import Family

    return list(Family(f"jupyter_gpudeploy.{name}").names())


def _run_names() -> list[str]:
    from jupyter_gpudeploy.errors import GpuDeployError
    from jupyter_gpudeploy.launching import backend_of

    try:
        return [ref.name for ref in backend_of().find()]
    except (GpuDeployError, OSError):
        return []


def _kinds(words: Iterable[str], kind: str) -> list[tuple[str, str]]:
    return [(word, kind) for word in words]
