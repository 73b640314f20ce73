"""A Spec as text: its header as JSON, the canonical cell, and how two cells differ."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

from jupyter_gpudeploy.patterns import lazy
from jupyter_gpudeploy.spec.models import Spec
from jupyter_gpudeploy.spec.yaml import scalar

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_BLOCKS = ("parameters", "env", "secrets")
_PLAIN_IN_LINE = lazy(r"[A-Za-z0-9_./-](?:[\w.,/ +=@~{}()*$%-]|:(?=[^\s,]))*", re.ASCII)
_PLAIN_IN_BRACKETS = lazy(r"[A-Za-z0-9_./][\w./+=@~ -]*", re.ASCII)
_PLAIN_KEY = lazy(r"[A-Za-z_][\w.-]*", re.ASCII)
_SHORT_ESCAPES = {'"': '\\"', "\\": "\\\\", "\n": "\\n", "\t": "\\t", "\r": "\\r"}
_NOT_GIVEN = "not given"


def header(spec: Spec) -> dict[str, Any]:
    """Return what the header said, as JSON values; what it left out is left out. Secrets are references only."""
    said: dict[str, Any] = spec.model_dump(mode="json", exclude_unset=True)
    return said


def write(spec: Spec) -> str:
    """Return the text of the cell below its magic line. `read` makes the same Spec of it."""
    lines = [line for key, value in header(spec).items() for line in entry(key, value)]
    text = "\n".join(lines) + "\n" if lines else "{}\n"
    return text if spec.code is None else f"{text}---\n{spec.code}\n"


def entry(key: str, value: Any) -> list[str]:  # noqa: ANN401 - any JSON value
    """Return the lines of a header that give `key` this value."""
    if key in _BLOCKS and isinstance(value, dict) and value:
        return [f"{key}:", *(f"  {inner_entry(name, item)}" for name, item in value.items())]
    return [inner_entry(key, value)]


def inner_entry(key: str, value: Any) -> str:  # noqa: ANN401 - any JSON value
    """Return the one line that gives `key` this value, without indentation."""
    return f"{_key(key)}: {_value(_short(value))}"


def value_text(value: Any, *, inside: bool = False) -> str:  # noqa: ANN401 - any JSON value
    """Return a value as it stands behind its key, in one line; `inside` brackets, more of it needs quotes."""
    return _value(value, inside=inside)


def differences(
    old: Mapping[str, Any], new: Mapping[str, Any], old_code: str | None = None, new_code: str | None = None
) -> list[str]:
    """Return how two headers (as `header` gives them) and their code differ, one plain line each."""
    before, after = dict(_leaves(_complete(old))), dict(_leaves(_complete(new)))
    lines = []
    for path in dict.fromkeys([*before, *after]):
        one, other = before.get(path, _NOT_GIVEN), after.get(path, _NOT_GIVEN)
        if one != other:
            lines.append(f"{path}: {one} -> {other}")
    return [*lines, *_code_difference(old_code or "", new_code or "")]


def _complete(said: Mapping[str, Any]) -> dict[str, Any]:
    """A key that was left out counts as its plain default, so `gpus: 0` and no gpus: are the same."""
    defaults = {
        name: field.default
        for name, field in Spec.model_fields.items()
        if isinstance(field.default, str | int | float) and name != "code"
    }
    return {**defaults, **said}


def _leaves(value: Any, path: str = "") -> Iterator[tuple[str, str]]:  # noqa: ANN401 - any JSON value
    value = _short(value)
    if isinstance(value, dict) and value:
        for key, item in value.items():
            yield from _leaves(item, f"{path}.{key}" if path else str(key))
    elif value not in (None, {}, []):
        yield path, json.dumps(value, ensure_ascii=False) if isinstance(value, list | bool) else str(value)


def _short(value: Any) -> Any:  # noqa: ANN401 - any JSON value
    """A parameter that is only a list of values is that list."""
    return value["values"] if isinstance(value, dict) and set(value) == {"values"} and value["values"] else value


def _code_difference(old: str, new: str) -> list[str]:
    import difflib

    before, after = old.rstrip().split("\n"), new.rstrip().split("\n")
    matcher = difflib.SequenceMatcher(None, before, after, autojunk=False)
    edits = [edit for edit in matcher.get_opcodes() if edit[0] != "equal"]
    if not edits:
        return []
    count = sum(max(end - start, new_end - new_start) for _, start, end, new_start, new_end in edits)
    said = "1 line differs" if count == 1 else f"{count} lines differ"
    return [f"code: {said} (first at line {edits[0][3] + 1})"]


def _value(value: Any, *, inside: bool = False) -> str:  # noqa: ANN401 - any JSON value
    if isinstance(value, dict):
        return "{" + ", ".join(f"{_key(key)}: {_value(item, inside=True)}" for key, item in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(_value(item, inside=True) for item in value) + "]"
    if isinstance(value, str):
        return _text(value, _PLAIN_IN_BRACKETS if inside else _PLAIN_IN_LINE)
    if isinstance(value, float) and value in (float("inf"), float("-inf")):
        return ".inf" if value > 0 else "-.inf"
    return json.dumps(value)


def _key(key: str) -> str:
    return _text(key, _PLAIN_KEY)


def _text(text: str, plain: re.Pattern[str]) -> str:
    """Text stands without quotes where YAML reads it back as the same text."""
    is_plain = plain.fullmatch(text) and text == text.strip() and isinstance(scalar(text), str)
    if is_plain and not text.startswith(("- ", "---")) and text not in {"-", "..."}:
        return text
    return '"' + "".join(map(_escaped, text)) + '"'


def _escaped(character: str) -> str:
    if character in _SHORT_ESCAPES:
        return _SHORT_ESCAPES[character]
    return character if character.isprintable() else f"\\U{ord(character):08x}"
