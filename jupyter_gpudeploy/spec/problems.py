"""pydantic's errors become Problems: our words, the place, the allowed values, the nearest name, an example."""

from __future__ import annotations

import difflib
import json
import re
from typing import TYPE_CHECKING, Any

from jupyter_gpudeploy.errors import Problem
from jupyter_gpudeploy.registry import did_you_mean
from jupyter_gpudeploy.spec.draft import reachable
from jupyter_gpudeploy.spec.fields import MistakesError
from jupyter_gpudeploy.spec.models import HealthSpec, MetricSpec, Parameter, Spec, TrackingSpec
from jupyter_gpudeploy.spec.tokens import HIDDEN, names_secret

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from pydantic import BaseModel, ValidationError
    from pydantic_core import ErrorDetails

    from jupyter_gpudeploy.spec.draft import Draft, Source

KEYS = tuple(name for name in Spec.model_fields if name != "code")
_INNER: dict[str, type[BaseModel]] = {
    "parameters": Parameter, "metric": MetricSpec, "tracking": TrackingSpec, "health": HealthSpec
}  # fmt: skip
_NEVER_SHOWN = ("secrets", "env")
_MEANT = {
    "command": "run", "script": "run", "file": "run", "source": "run", "params": "parameters", "sweep": "parameters",
    "timeout": "max_hours", "workers": "parallelism", "environment": "env", "packages": "requirements",
    "pip": "requirements", "cwd": "working_dir", "objective": "metric", "arguments": "args", "title": "name",
    "tracker": "tracking", "ram": "memory", "cpus": "cpu", "trials": "max_runs", "server": "serve",
}  # fmt: skip
_KIND = {
    "string_type": "text", "int_type": "a whole number", "int_from_float": "a whole number", "float_type": "a number",
    "bool_type": "true or false", "list_type": "a list", "dict_type": "lines of `key: value`",
    "model_type": "lines of `key: value`", "tuple_type": "a list of two texts",
}  # fmt: skip
_LIMIT = {
    "greater_than": ("gt", "above {:g}"), "less_than": ("lt", "below {:g}"),
    "greater_than_equal": ("ge", "{:g} or more"), "less_than_equal": ("le", "{:g} or less"),
}  # fmt: skip
_ANY_SCALAR = frozenset({"text", "a number", "true or false"})
_LONGEST_SHOWN = 40
_LONGEST_LIST = 12
_SHORTEST_TOKEN = 8


def explain(error: ValidationError, draft: Draft) -> list[Problem]:
    """Return what pydantic found, as Problems. Nothing of `error` is kept."""
    groups: dict[tuple[str | int, ...], list[ErrorDetails]] = {}
    for details in error.errors(include_url=False):
        groups.setdefault(_path(details["loc"], draft), []).append(details)
    problems = [
        problem
        for path, details in groups.items()
        if not _is_other_branch(path, details, groups)
        for problem in _problems(path, details, draft)
    ]
    return _listed_once(problems)


def _listed_once(problems: list[Problem]) -> list[Problem]:
    """Return the problems; a long list of what is known stands at the first of them alone."""
    told: set[str] = set()
    found = []
    for problem in problems:
        is_again = problem.hint in told and problem.hint.startswith("known: ")
        told.add(problem.hint)
        found.append(problem._replace(hint="known: see above") if is_again else problem)
    return found


def unknown_key(key: str, known: Sequence[str], source: Source, rest: Sequence[str] = ()) -> Problem:
    """Return the Problem of a key that is not there to be given."""
    label, (line, column) = source.at(rest, key=True)
    inside = label.rpartition(".")[0]
    meant = None if inside else _MEANT.get(key)
    hint = f"did you mean {meant!r}?" if meant else did_you_mean(key, known)
    if not inside and hint.startswith("known:") and names_secret(key):
        hint = f"for what no cell should hold: secrets: {{{key.upper()}: env:{key.upper()}}}"
    if len(known) > _LONGEST_LIST:
        hint = re.sub(r"(did you mean .*\?) known:.*", r"\1", hint)
    return Problem(f"there is no key {key!r}{f' in {inside}:' if inside else ''}", hint, line, column, label)


def meant_by(key: str) -> str | None:
    """Return the key that an unknown one was probably meant to be."""
    return _MEANT.get(key) or next(iter(difflib.get_close_matches(key, KEYS, n=1, cutoff=0.6)), None)


def _path(location: Sequence[str | int], draft: Draft) -> tuple[str | int, ...]:
    """Return the part of pydantic's location that the cell has; the names of union branches go."""
    if not location:
        return ()
    return (location[0], *reachable(draft.values.get(str(location[0])), location[1:]))


def _is_other_branch(path: Sequence[str | int], details: Sequence[ErrorDetails], groups: dict[Any, Any]) -> bool:
    """Whether `text or a list` failed deeper, inside the list: then "must be text" is not what is meant."""
    only_kinds = all(detail["type"] in _KIND for detail in details)
    return only_kinds and any(len(other) > len(path) and other[: len(path)] == path for other in groups)


def _problems(path: tuple[str | int, ...], details: Sequence[ErrorDetails], draft: Draft) -> Iterator[Problem]:
    kinds = [_KIND[detail["type"]] for detail in details if detail["type"] in _KIND]
    others = [detail for detail in details if detail["type"] not in _KIND]
    for detail in others or details[:1]:
        cause = detail.get("ctx", {}).get("error")
        if isinstance(cause, MistakesError):
            yield from _mistakes(path, cause, draft)
        elif detail["type"] == "extra_forbidden":
            *above, key = path
            if set(str(key)) == {HIDDEN} and len(str(key)) > _SHORTEST_TOKEN:
                continue  # it was a token: that is said already
            known = list(_INNER[str(above[0])].model_fields) if above else KEYS
            yield unknown_key(str(key), known, draft.source(str(path[0])), [str(part) for part in path[1:]])
        else:
            is_key = detail["loc"][-1] == "[key]"
            label, (line, column) = draft.source(str(path[0])).at(path[1:], key=is_key)
            said, hint = _words(detail, kinds, str(path[0]), label)
            yield Problem(f"{label}{said}", hint, line, column, label)


def _mistakes(path: tuple[str | int, ...], error: MistakesError, draft: Draft) -> Iterator[Problem]:
    for mistake in error.mistakes:
        at = (*path, *mistake.at)
        if not at:
            given = [key for key in mistake.about if key in draft.sources]
            at = (given[0],) if given else ()
        if not at:
            yield Problem(mistake.message, mistake.hint, draft.start, 1)
            continue
        label, (line, column) = draft.source(str(at[0])).at(at[1:])
        message = mistake.message if not path else f"{label}: {mistake.message}"
        yield Problem(message, mistake.hint, line, column, label)


def _words(detail: ErrorDetails, kinds: list[str], key: str, label: str) -> tuple[str, str]:
    """Return what goes behind the key's name, and the hint."""
    kind, context = detail["type"], detail.get("ctx", {})
    got = "" if key in _NEVER_SHOWN else f", not {shown(detail['input'])}"
    example = _example(key, label)
    if kind in _KIND:
        wanted = "a number, text, true or false" if set(kinds) >= _ANY_SCALAR else " or ".join(dict.fromkeys(kinds))
        return f" must be {wanted}{got}", _braces(detail["input"]) or example
    if kind in _LIMIT:
        name, form = _LIMIT[kind]
        return f" must be {form.format(context[name])}{got}", example
    if kind == "literal_error":
        allowed = re.findall(r"'([^']*)'", str(context["expected"]))
        return f" must be one of {', '.join(allowed)}{got}", did_you_mean(str(detail["input"]), allowed)
    if kind == "missing" and isinstance(detail["loc"][-1], str):
        return f" needs {detail['loc'][-1]}:", example
    if kind == "value_error":
        text = str(context["error"])
        return f" {text}" if text.startswith(
            ("must ", "is ", "has ", "takes ", "cannot ", "would ")
        ) else f": {text}", example
    return f" {_rest(detail)}", example


def _rest(detail: ErrorDetails) -> str:
    kind, context = detail["type"], detail.get("ctx", {})
    if kind in {"missing", "too_short", "too_long"} and not isinstance(detail["input"], str):
        return "must be a list of two texts"
    if kind in {"string_too_short", "too_short"}:
        return "is empty"
    if kind in {"string_too_long", "too_long"}:
        return f"is longer than {context['max_length']} characters"
    return "must be a finite number" if kind == "finite_number" else "is not understood"


def _example(key: str, label: str) -> str:
    given = Spec.model_fields[key].examples if key in Spec.model_fields else None
    if not given or "." in label or "[" in label:
        return ""
    value = given[0] if isinstance(given[0], str) else json.dumps(given[0])
    return f"for example {label}: {value}"


def _braces(value: object) -> str:
    """A bare {lr} is a mapping to YAML."""
    is_place = isinstance(value, dict) and all(item is None for item in value.values())
    return "a text that begins with { must stand in quotes" if is_place and value else ""


def shown(value: object) -> str:
    """Return a value as the cell has it, shortened; what holds others is only named."""
    if isinstance(value, dict):
        return "lines of `key: value`" if value else "{}"
    if isinstance(value, list):
        return "a list"
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return "true" if value else "false"
    text = f"'{value}'" if isinstance(value, str) else str(value)
    return text if len(text) <= _LONGEST_SHOWN else f"{text[: _LONGEST_SHOWN - 3]}..."
