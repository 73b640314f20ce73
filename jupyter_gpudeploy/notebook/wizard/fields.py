"""What the form asks for: one field a key of the JSON Schema, and how its value is shown and read back."""

from __future__ import annotations

import json
from functools import cache
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from jupyter_gpudeploy.errors import SpecError
from jupyter_gpudeploy.spec.written import inner_entry, value_text

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

Kind = Literal["text", "words", "value", "lines", "pairs", "switch", "choice", "parts", "axes"]
Path = tuple[str, ...]


class Field(NamedTuple):
    """One field. `path`: the key, or a key and one inside it. `parts`: the fields of a value that has keys of its own.

    `short`: of a part, that its value may stand alone for the whole: `metric: loss`.
    """

    path: Path
    kind: Kind
    help: str = ""
    section: str = ""
    intents: frozenset[str] = frozenset()
    choices: tuple[str, ...] = ()
    default: str = ""
    example: str = ""
    parts: tuple[Field, ...] = ()
    short: bool = False

    @property
    def name(self) -> str:
        """The key."""
        return self.path[0]

    @property
    def label(self) -> str:
        """What stands beside it."""
        return " ".join(self.path).replace("_", " ")


@cache
def fields() -> tuple[Field, ...]:
    """Return every field, in the order of the schema."""
    from jupyter_gpudeploy.spec.models import json_schema

    schema = json_schema()
    found, section = [], ""
    for name, node in schema["properties"].items():
        section = node.get("x-section", section)
        found.append(_field((name,), node, schema["$defs"], section))
    return tuple(found)


def named(name: str) -> Field:
    """Return the field of a key."""
    return next(field for field in fields() if field.name == name)


def distributions() -> tuple[str, ...]:
    """Return how values of a range can be drawn."""
    from jupyter_gpudeploy.spec.models import json_schema

    forms = list(_forms(json_schema()["$defs"]["Parameter"], json_schema()["$defs"]))
    properties: dict[str, Any] = next(form["properties"] for form in forms if "properties" in form)
    return tuple(word for form in _forms(properties["distribution"], {}) for word in form.get("enum", ()))


def show(field: Field, value: Any) -> str:  # noqa: ANN401 - any YAML
    """Return what the field says for this value: as people write it where that is read back, else as YAML."""
    if value is None or (isinstance(value, str) and not value.strip()):
        return value or ""
    return next((text for text in _spellings(field.kind, value) if same(parse(field, text), value)), value_text(value))


def parse(field: Field, text: str) -> Any:  # noqa: ANN401 - any YAML
    """Return the value that a text in the field means, None for an empty one. What is wrong stays text."""
    if not text.strip():
        return None
    if field.kind in ("text", "choice"):
        return text
    if field.kind == "words":
        value = _yaml(text) if text.lstrip().startswith("[") else text
        return value if isinstance(value, list) else text
    if field.kind == "lines":
        value = _yaml(text) if text.lstrip().startswith("[") else None
        return value if isinstance(value, list) else [line.strip() for line in text.split("\n") if line.strip()]
    if field.kind == "pairs":
        return _pairs(text)
    return _yaml(text)


def read_value(field: Field, value: Any) -> Any:  # noqa: ANN401 - any YAML
    """Return what a part has of its key's value, whichever form that has."""
    if len(field.path) == 1:
        return value
    if isinstance(value, dict):
        return value.get(field.path[1])
    return value if field.short else None


def _spellings(kind: Kind, value: Any) -> Iterator[str]:  # noqa: ANN401 - any YAML
    if isinstance(value, str):
        yield value
    if kind == "lines" and isinstance(value, list):
        yield "\n".join(str(item) for item in value)
    if kind == "pairs" and isinstance(value, dict):
        yield "\n".join(inner_entry(key, item) for key, item in value.items())
    yield value_text(value)


def _pairs(text: str) -> Any:  # noqa: ANN401 - any YAML
    lines = [line.strip() for line in text.split("\n") if line.strip()]
    if all("=" in line and ":" not in line.partition("=")[0] and not line.startswith("{") for line in lines):
        return {name.strip(): value for name, _, value in (line.partition("=") for line in lines)}
    value = _yaml(text, spelled=True)
    return value if isinstance(value, dict | list) else text


def _yaml(text: str, *, spelled: bool = False) -> Any:  # noqa: ANN401 - any YAML
    from jupyter_gpudeploy.spec.yaml import load

    try:
        document = load(text)
        return document.as_text(()) if spelled else document.value
    except SpecError:
        return text


def same(one: Any, other: Any) -> bool:  # noqa: ANN401 - any YAML
    """Return whether two values are one; 1, 1.0 and true are three."""
    return json.dumps(one, sort_keys=True) == json.dumps(other, sort_keys=True)


def _field(
    path: Path, node: Mapping[str, Any], parts: Mapping[str, Any], section: str, *, short: bool = False
) -> Field:
    forms = list(_forms(node, parts))
    kinds = {kind for form in forms for kind in _types(form)}
    examples, default = node.get("examples") or [None], node.get("default")
    inner = next((form["properties"] for form in forms if "properties" in form), None)
    kind = _kind(node, forms, kinds)
    return Field(
        path,
        kind,
        node.get("description", ""),
        section,
        frozenset(node.get("x-intents", ())),
        tuple(word for form in forms for word in form.get("enum", ())),
        "" if default is None or default == "" or default is False else value_text(default),
        "" if examples[0] is None or kind in ("switch", "choice") else value_text(examples[0]),
        tuple(
            _field((*path, name), child, parts, section, short=number == 0 and "string" in kinds)
            for number, (name, child) in enumerate(inner.items())
        )
        if kind == "parts" and inner
        else (),
        short,
    )


def _kind(node: Mapping[str, Any], forms: list[Mapping[str, Any]], kinds: set[str]) -> Kind:
    inner = node.get("additionalProperties")
    if isinstance(inner, dict):
        return "axes" if "$ref" in inner else "pairs"
    if any("properties" in form for form in forms):
        return "parts"
    if any("enum" in form for form in forms):
        return "choice"
    if kinds == {"boolean"}:
        return "switch"
    if kinds == {"array"}:
        return "lines"
    return "words" if kinds == {"string", "array"} else "text" if kinds == {"string"} else "value"


def _forms(node: Mapping[str, Any], parts: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    if "$ref" in node:
        yield from _forms(parts[node["$ref"].rpartition("/")[2]], parts)
        return
    yield node
    for other in node.get("anyOf", ()):
        yield from _forms(other, parts)


def _types(form: Mapping[str, Any]) -> list[str]:
    said = form.get("type", [])
    return [kind for kind in ([said] if isinstance(said, str) else said) if kind != "null"]
