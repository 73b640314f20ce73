"""One axis of a sweep."""

import math
from typing import Annotated, Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from jupyter_gpudeploy.names import shortest
from jupyter_gpudeploy.spec.fields import Mistake, MistakesError, Number, Scalar, Strict, Switch, Text

Distribution = Literal["uniform", "log_uniform", "normal", "log_normal"]
_DISTRIBUTION_ALIASES = {
    "int_uniform": "uniform",
    "q_uniform": "uniform",
    "log_uniform_values": "log_uniform",
    "q_log_uniform_values": "log_uniform",
    "loguniform": "log_uniform",
}
_EXACT = 2**53  # up to here a float holds every whole number


class Parameter(Strict):
    """One axis: `[a, b]`, one value, or `{values}` / `{min, max, distribution}`.

    A boolean value becomes `--name` or `--no-name` on a command line, or what `flags: [on, off]` says.
    """

    values: list[Scalar] | None = Field(None, description="the values to try, in order; the first is the baseline")
    min: Number | None = Field(None, description="the smallest value of a range")
    max: Number | None = Field(None, description="the largest value of a range")
    distribution: Distribution | None = Field(None, description="how values of a range are drawn")
    mu: Number = Field(0.0, description="the mean, for normal and log_normal")
    sigma: Annotated[Number, Field(gt=0)] = Field(1.0, description="the standard deviation, for normal and log_normal")
    q: Annotated[Number, Field(gt=0)] | None = Field(None, description="round drawn values to this step")
    integer: Switch = Field(False, description="draw whole numbers; so do whole bounds without a distribution")
    flags: tuple[Text, Text] | None = Field(
        None, description="what true and false are on the command line", examples=[["--use-x", "--no-x"]]
    )

    @model_validator(mode="before")
    @classmethod
    def _from_short_form(cls, value: Any) -> Any:  # noqa: ANN401 - anything may stand in a cell
        if isinstance(value, list):
            return {"values": value}
        if not isinstance(value, dict):
            return value if isinstance(value, cls) else {"values": [value]}
        value = dict(value)
        if "value" in value and "values" not in value:
            value["values"] = [value.pop("value")]
        name = value.get("distribution")
        if isinstance(name, str):
            value["distribution"] = _DISTRIBUTION_ALIASES.get(name, name)
            if name in {"categorical", "constant"}:
                del value["distribution"]
        is_even = name in (None, "uniform", "int_uniform")
        if is_even and value.get("q") is None and all(type(value.get(end)) is int for end in ("min", "max")):
            value.setdefault("integer", True)  # {min: 1, max: 8} draws layers, {min: 0.0, max: 1.0} a dropout
        return value

    @field_validator("values")
    @classmethod
    def _some_different_values(cls, values: list[Scalar] | None) -> list[Scalar] | None:
        if values is not None and not values:
            raise ValueError("is empty: there is nothing to try")
        if mistakes := _wrong_values(values or []):
            raise MistakesError(mistakes)
        return values

    @model_validator(mode="after")
    def _one_form(self) -> Self:
        is_bell = self.distribution in {"normal", "log_normal"}
        if (self.values is not None) == (self.min is not None or self.max is not None or is_bell):
            raise ValueError("takes either values: [..] or min: and max:")
        if self.values is not None:
            self._check_flags(self.values)
        elif not is_bell:
            self._check_range()
        return self

    def _check_flags(self, values: list[Scalar]) -> None:
        if self.flags is not None and not all(isinstance(value, bool) for value in values):
            raise ValueError("has flags:, which are for the values true and false only")

    def _check_range(self) -> None:
        if self.min is None or self.max is None:
            raise ValueError("is a range and needs both min: and max:")
        if self.min >= self.max:
            raise ValueError(f"has min {self.min:g}, which must be below max {self.max:g}")
        if self.distribution == "log_uniform" and self.min <= 0:
            raise ValueError("is log_uniform and needs a min above 0")


def _wrong_values(values: list[Scalar]) -> list[Mistake]:
    mistakes = []
    seen: dict[object, Scalar] = {}
    for index, value in enumerate(values):
        if isinstance(value, float) and math.isnan(value):
            message, hint = "nan is no value to try: it is not even equal to itself", "null leaves it out"
        elif isinstance(value, str) and "\0" in value:
            message, hint = "a value must not hold a NUL character: no program can be given one", ""
        elif _identity(value) in seen:
            message, hint = f"{_twice(seen[_identity(value)], value)} in the list of values", "keep one of them"
        else:
            seen[_identity(value)] = value
            continue
        mistakes.append(Mistake(message, hint, at=(index,)))
    return mistakes


def _identity(value: Scalar) -> object:
    """What is the same for values that would be one trial: 1 and 1.0 are, 1 and true are not; no float noise."""
    if isinstance(value, float):
        text = shortest(value)
        plain = float(text)
        return int(plain) if plain.is_integer() and abs(plain) < _EXACT else text
    return (type(value), value) if isinstance(value, bool | str) else value


def _twice(earlier: Scalar, value: Scalar) -> str:
    if repr(earlier) == repr(value):
        return f"{value!r} stands twice"
    return f"{earlier!r} and {value!r} are the same number: it stands twice"
