"""What a cell would change of what is on the cluster (`%deploy diff`): only fields that we set are compared."""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING, Any

from jupyter_gpudeploy.backends.kubernetes import marks

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

Body = dict[str, Any]

_OF_A_LAUNCH = frozenset({"ownerReferences", marks.UID})
_OF_A_LIST = ("name", "mountPath", "key", "containerPort", "port", "type")
_DRIVEN = ("suspend",)  # a stop and Kueue set it


def differences(rendered: Sequence[Mapping[str, Any]], live: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """Return a unified diff an object, by `Kind/name`; nothing for an object that is as rendered.

    What the server fills in is not compared: of a live object counts what stands in the rendered one, and what its
    named lists hold besides. Of archives their sizes are compared. An object that is on one side only is shown whole.
    """
    there = {_name(one): one for one in live}
    wanted = {_name(one): one for one in rendered}
    found = {}
    for name in [*wanted, *(name for name in there if name not in wanted)]:
        old = _comparable(there.get(name), wanted.get(name))
        new = _comparable(wanted.get(name), wanted.get(name))
        if old != new:
            found[name] = _diff(name, old, new)
    return found


def _name(one: Mapping[str, Any]) -> str:
    return f"{one['kind']}/{one['metadata']['name']}"


def _diff(name: str, old: Body | None, new: Body | None) -> str:
    from jupyter_gpudeploy.spec.yaml_dump import dump_yaml

    before, after = (dump_yaml(one).splitlines() if one is not None else [] for one in (old, new))
    return "\n".join(difflib.unified_diff(before, after, f"cluster: {name}", f"cell: {name}", lineterm=""))


def _comparable(one: Mapping[str, Any] | None, pattern: Mapping[str, Any] | None) -> Body | None:
    if one is None:
        return None
    kept = _like(one, pattern) if pattern is not None else _bare(one)
    if "binaryData" in kept:
        kept["binaryData"] = {key: f"{len(value) * 3 // 4:,} bytes" for key, value in kept["binaryData"].items()}
    return {key: value for key, value in kept.items() if key != "status"}


def _bare(one: Mapping[str, Any]) -> Body:
    """Return an object of which nothing is rendered without what a server adds to every object."""
    metadata = {key: one["metadata"][key] for key in ("name", "labels", "annotations") if key in one["metadata"]}
    return {**one, "metadata": metadata}


def _like(value: Any, pattern: Any) -> Any:  # noqa: ANN401 - any JSON
    """Return of `value` what `pattern` speaks of, in its order."""
    if isinstance(pattern, dict) and isinstance(value, dict):
        return {
            key: _like(value[key], part)
            for key, part in pattern.items()
            if key in value and key not in _OF_A_LAUNCH and key not in _DRIVEN
        }
    if isinstance(pattern, list) and isinstance(value, list):
        return _items_like(value, pattern)
    return value


def _items_like(value: list[Any], pattern: list[Any]) -> list[Any]:
    key = next((key for key in _OF_A_LIST if _are_named(pattern, key) and _are_named(value, key)), None)
    if key is None:
        rest = value[len(pattern) :]
        return [_like(item, part) for item, part in zip(value, pattern, strict=False)] + rest
    named = {item[key]: item for item in value}
    kept = [_like(named.pop(part[key]), part) for part in pattern if part[key] in named]
    return [*kept, *named.values()]


def _are_named(items: list[Any], key: str) -> bool:
    names = [item.get(key) for item in items if isinstance(item, dict)]
    return len(names) == len(items) == len({str(name) for name in names}) and None not in names
