"""The shapes of objects: `templates/<shape>.yaml.j2`, filled in and read back.

A template holds no decision. Every `{{ }}` becomes JSON, which is YAML, so nothing that is filled in can change the
shape; a name that is not given is an error; a value None leaves its field out.
"""

from __future__ import annotations

import json
import re
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import jinja2

_FOLDER = Path(__file__).parent / "templates"
_NOT_IN_YAML = re.compile("[\x7f-\x9f\u2028\u2029\ud800-\udfff\ufeff\ufffe\uffff]")


def shape(template: str, /, **values: Any) -> dict[str, Any]:  # noqa: ANN401 - any JSON
    """Return the object that the template of this name makes of `values`."""
    from jupyter_gpudeploy.spec.yaml import load

    filled = _environment().get_template(f"{template}.yaml.j2").render(values)
    built: dict[str, Any] = without_nulls(load(filled).value)
    return built


def without_nulls(value: Any) -> Any:  # noqa: ANN401 - any JSON
    """Return the value without the keys whose value is None."""
    if isinstance(value, dict):
        return {key: without_nulls(part) for key, part in value.items() if part is not None}
    return [without_nulls(part) for part in value] if isinstance(value, list) else value


@cache
def _environment() -> jinja2.Environment:
    import jinja2

    return jinja2.Environment(  # noqa: S701 - this is YAML, and `finalize` quotes everything
        loader=jinja2.FileSystemLoader(_FOLDER), undefined=jinja2.StrictUndefined, finalize=_as_json
    )


def _as_json(value: object) -> str:
    """Return JSON that YAML reads alike: what YAML forbids, or takes for the end of a line, is escaped."""
    import jinja2

    if isinstance(value, jinja2.Undefined):
        return str(value)  # raises: the name is missing
    return _NOT_IN_YAML.sub(lambda match: f"\\u{ord(match[0]):04x}", json.dumps(value, ensure_ascii=False))
