"""The axes of a sweep as fields: a list of values, or a range and how it is drawn. No widget is known here."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from jupyter_gpudeploy.errors import SpecError
from jupyter_gpudeploy.spec.written import value_text
from jupyter_gpudeploy.spec.yaml import load

if TYPE_CHECKING:
    from jupyter_gpudeploy.plan.option_forms import Option
    from jupyter_gpudeploy.spec.edit import CellText

ENDS = ("min", "max")


class AxisForm(NamedTuple):
    """What the row of an axis says. `values`: the list as text; a range has `low`, `high`, `distribution`."""

    is_range: bool
    values: str = ""
    low: str = ""
    high: str = ""
    distribution: str = ""


def form_of(value: Any) -> AxisForm:  # noqa: ANN401 - any YAML
    """Return the row of an axis with this value."""
    if isinstance(value, dict) and not ("values" in value or "value" in value):
        low, high = (value_text(value[end]) if value.get(end) is not None else "" for end in ENDS)
        said = value.get("distribution")
        return AxisForm(True, "", low, high, said if isinstance(said, str) else "")
    listed = value.get("values", value.get("value")) if isinstance(value, dict) else value
    return AxisForm(False, value_text(listed if isinstance(listed, list) else [listed])[1:-1])


def value_of(form: AxisForm, before: Any) -> Any:  # noqa: ANN401 - any YAML
    """Return the value that a row means; what else the axis says (`flags`, `q`) stays where it still belongs."""
    kept = before if isinstance(before, dict) else {}
    if not form.is_range:
        listed = _listed(form.values)
        rest = {key: kept[key] for key in ("flags",) if key in kept}
        return {"values": listed, **rest} if rest else listed
    rest = {key: item for key, item in kept.items() if key not in ("values", "value", "flags", *ENDS, "distribution")}
    ends = {end: _scalar(text) for end, text in zip(ENDS, (form.low, form.high), strict=True) if text.strip()}
    drawn = {"distribution": form.distribution} if form.distribution else {}
    return {**ends, **drawn, **rest}


def proposed(option: Option) -> Any:  # noqa: ANN401 - any YAML
    """Return the axis that an option of the script makes: its choices or both ways of a switch, the default first."""
    default = [] if option.default is None else [option.default]
    every = [True, False] if option.kind == "switch" else list(option.choices)
    listed = [*default, *(value for value in every if value not in default)]
    return {"values": listed, "flags": list(option.flags)} if option.flags else listed


def with_axis(cell: CellText, option: Option) -> CellText:
    """Return the cell with the axis of an option, and in `args` what the option needs to be given right."""
    cell = cell.with_value(("parameters", option.name), proposed(option))
    args = cell.value(("args",))
    if not option.words or f"{{{option.name}}}" in str(args or ""):
        return cell
    if isinstance(args, list):
        return cell.with_value(("args",), [*args, *option.words.split()])
    return cell.with_value(("args",), f"{args or ''} {option.words}".strip())


def without_axis(cell: CellText, name: str, option: Option | None) -> CellText:
    """Return the cell without an axis, and without what `args` said for it."""
    cell = cell.with_value(("parameters", name), None)
    args = cell.value(("args",))
    if option is None or not option.words or not isinstance(args, str) or option.words not in args:
        return cell
    return cell.with_value(("args",), " ".join(args.replace(option.words, " ", 1).split()) or None)


def _listed(text: str) -> Any:  # noqa: ANN401 - any YAML
    """Return the values of a list; of one that YAML cannot read, what stands between the commas."""
    try:
        value = load(f"[{text}]").value
    except SpecError:
        value = None
    return value if isinstance(value, list) else [_scalar(part.strip()) for part in text.split(",") if part.strip()]


def _scalar(text: str) -> Any:  # noqa: ANN401 - any YAML
    try:
        return load(text).value
    except SpecError:
        return text
