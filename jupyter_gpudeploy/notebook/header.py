"""Which keys and values may stand at a place of a cell's header, told by its JSON Schema and by the families."""

from __future__ import annotations

import re
from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

_KEY = re.compile(r"(?P<indent> *)(?P<fragment>[\w.-]*)")
_VALUE = re.compile(r" *(?P<key>[\w.-]+):\s+(?P<fragment>[\w.-]*)")
_OPENING = re.compile(r"(?P<indent> *)(?P<key>[\w.-]+):\s*(?:#.*)?")


def offer(above: Sequence[str], line: str) -> tuple[str, list[tuple[str, str]]]:
    """Return what stands before the cursor at the end of `line`, and (word, kind) for what may. None in the code."""
    if "---" in map(str.rstrip, above):
        return "", []
    if value := _VALUE.fullmatch(line):
        path = _parents(above, len(line) - len(line.lstrip()))
        return value["fragment"], [(word, "value") for word in _values(path, value["key"])]
    if key := _KEY.fullmatch(line):
        properties = _properties(_parents(above, len(key["indent"])))
        return key["fragment"], [(f"{name}:", "property") for name in properties]
    return "", []


def described(above: Sequence[str], indent: int, key: str) -> tuple[str, dict[str, Any], list[str]] | None:
    """Return the path of a key that stands below these lines, its schema, and its values; None for an unknown one."""
    path = _parents(above, indent)
    schema = _properties(path).get(key)
    return None if schema is None else (".".join([*path, key]), schema, _values(path, key))


def family(name: str) -> list[str]:
    """Return the members of a family: `servers`, `backends`."""
    from jupyter_gpudeploy.registry import Family

    return list(Family(f"jupyter_gpudeploy.{name}").names())


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
        return family("servers" if key == "serve" else "backends")
    forms = _forms(_properties(path).get(key, {}))
    words = [str(word) for form in forms for word in form.get("enum", [])]
    return words + ["true", "false"] * any(form.get("type") == "boolean" for form in forms)


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
