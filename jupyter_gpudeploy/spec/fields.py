"""The kinds of value a header holds, as annotated types, and the error that carries several mistakes at once."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

from jupyter_gpudeploy.patterns import lazy
from jupyter_gpudeploy.quantities import kubernetes_memory, parse_cpu, parse_memory, parse_seconds

if TYPE_CHECKING:
    from collections.abc import Sequence

Scalar = str | int | float | bool | None
LONGEST_NAME = 200
_LEAST_MEMORY = 2**20
_ENVIRONMENT_NAME = lazy(r"[A-Za-z_][A-Za-z0-9_]*")
_PARAMETER_NAME = lazy(r"[A-Za-z_][\w.-]*", re.ASCII)
_PROGRAM_CHANGING = lazy(r"LD_.*|DYLD_.*|PYTHON(PATH|HOME|STARTUP|INSPECT)|BASH_ENV|ENV|IFS|PATH")
_REFERENCE = lazy(r"env:[A-Za-z_][A-Za-z0-9_]*|file:[^\0]+|[a-z0-9][a-z0-9.-]*/[\w.-]+")


class Mistake(NamedTuple):
    """One thing wrong. `at` leads from the checked value to the part meant; `about` are the keys it is about."""

    message: str
    hint: str = ""
    at: tuple[str | int, ...] = ()
    about: tuple[str, ...] = ()


class MistakesError(ValueError):
    """What a validator raises to report more than one thing, each with its place."""

    def __init__(self, mistakes: Sequence[Mistake]) -> None:
        super().__init__("; ".join(mistake.message for mistake in mistakes))
        self.mistakes = tuple(mistakes)


class Strict(BaseModel):
    """Unknown keys are mistakes; what was read is never changed; an error never repeats a value."""

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        hide_input_in_errors=True,
        ser_json_inf_nan="constants",
        defer_build=True,  # only Spec is ever validated: its parts need no validators of their own
    )


def no_items() -> list[Any]:
    """Return an empty list. As a default instead of `list`, whose signature pydantic must have parsed from text."""
    return []


def offered(intents: str = "", *, section: str = "") -> dict[str, Any]:
    """Return what the JSON Schema says of a key for whoever makes a form of it.

    `intents`: for whom it matters (`cluster`: on a cluster); the others find it further down. `section`: begins one,
    to which the keys below belong as well.
    """
    return {"x-intents": intents.split()} | ({"x-section": section} if section else {})


def _without_nul(text: str) -> str:
    if "\0" in text:
        raise ValueError("must not hold a NUL character: no program can be given one")
    return text


def _one_line(text: str) -> str:
    if not all(character.isprintable() for character in _without_nul(text)):
        raise ValueError("must be one line of printable characters")
    return text


def _as_text(value: object) -> object:
    """A bare number or boolean where text belongs is text."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value) if isinstance(value, int | float) else value


def _memory(value: object) -> object:
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return value
    size = parse_memory(value)
    if size < _LEAST_MEMORY:
        raise ValueError(f"{value} is {size} bytes: write a unit, like 16Gi or 256G")
    return kubernetes_memory(size)


def _cpu(value: object) -> object:
    return value if isinstance(value, bool) or not isinstance(value, str | int | float) else parse_cpu(value)


def _seconds(value: object) -> object:
    return value if isinstance(value, bool) or not isinstance(value, str | int | float) else parse_seconds(value)


def _environment_name(name: str) -> str:
    if not _ENVIRONMENT_NAME.fullmatch(name) or len(name) > LONGEST_NAME:
        raise ValueError("cannot be an environment variable: letters, digits and _ only, no digit first")
    if name.startswith("GPUDEPLOY_"):
        raise ValueError("is one of our own variables: take another name")
    return name


def _parameter_name(name: str) -> str:
    if not _PARAMETER_NAME.fullmatch(name) or len(name) > LONGEST_NAME:
        raise ValueError("cannot be a parameter: begin with a letter, then letters, digits, _ . -")
    if _PROGRAM_CHANGING.fullmatch(name):
        raise ValueError("would change the program that runs: take another name, or put it into env:")
    return name


def _reference(text: str) -> str:
    if not _REFERENCE.fullmatch(text):
        raise ValueError("is no reference: env:NAME or file:PATH; the value itself must not stand here")
    return text


Text = Annotated[str, BeforeValidator(_as_text), AfterValidator(_without_nul)]
Line = Annotated[str, BeforeValidator(_as_text), AfterValidator(_one_line)]
EnvironmentName = Annotated[str, AfterValidator(_environment_name)]
ParameterName = Annotated[str, AfterValidator(_parameter_name)]
Reference = Annotated[str, AfterValidator(_reference)]
Number = Annotated[float, Field(strict=True, allow_inf_nan=False)]
Switch = Annotated[bool, Field(strict=True)]
Whole = Annotated[int, Field(strict=True)]
Count = Annotated[int, Field(strict=True, ge=0)]
AtLeastOne = Annotated[int, Field(strict=True, ge=1)]
Memory = Annotated[str, BeforeValidator(_memory)]
Processors = Annotated[float, BeforeValidator(_cpu), Field(gt=0, strict=True)]
Seconds = Annotated[float, BeforeValidator(_seconds), Field(gt=0, strict=True)]
