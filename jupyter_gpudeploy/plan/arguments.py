"""The words of a command, for one point of the search space. Nothing here is ever read by a shell.

`{name}` stands for the parameter; parameters that stand nowhere are appended as `--name value`. `{{name}}` is the
literal `{name}`. `{output}`, `{port}`, `{host}`, `{seed}`, `{trial}` are filled in too.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from jupyter_gpudeploy.errors import PlanError
from jupyter_gpudeploy.patterns import lazy
from jupyter_gpudeploy.plan.types import Slot, Word
from jupyter_gpudeploy.registry import did_you_mean

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from jupyter_gpudeploy.plan.types import Argv
    from jupyter_gpudeploy.samplers.base import Scalar

_PLACE = lazy(r"\{\{[A-Za-z_][\w.-]*\}\}|\{([A-Za-z_][\w.-]*)\}")
_NUMBER = lazy(r"-?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?|-?inf|nan")
_PLAIN_NEGATIVE = lazy(r"-(\d+|\d*\.\d+)")  # what argparse takes for a number; -1e-05 it takes for an option
_SLOTS = {"output": Slot.OUTPUT, "port": Slot.PORT, "host": Slot.HOST, "python": Slot.PYTHON, "code": Slot.CODE}
_SHELLS = frozenset({"sh", "bash", "zsh", "dash", "ksh", "fish", "csh", "tcsh", "busybox"})
_SCRIPT_OPTION = lazy(r"-[a-zA-Z]*c[a-zA-Z]*")
_OPERATORS = frozenset({"&&", "||", "|", ";", ">", ">>", "<", "<<", "&", "2>&1", "|&"})


class Point(NamedTuple):
    """One trial's values.

    `flags` holds what true and false are on a command line, where the cell says so; `options` how the program spells
    the option of a parameter, where that is another way.
    """

    parameters: Mapping[str, Scalar]
    trial: int = 0
    seed: int = 0
    flags: Mapping[str, tuple[str, str]] | None = None
    options: Mapping[str, str] | None = None

    def values(self) -> dict[str, Scalar]:
        """Return what the places of a word can be filled with."""
        return {"trial": self.trial, "seed": self.seed, **self.parameters}


def expand(words: Sequence[str], point: Point, *, append: bool) -> Argv:
    """Return the argv for `point`. Raises PlanError for an unknown place and for a value that would be an option."""
    used: set[str] = set()
    argv = [
        _expand_word(text, point, used, before=words[index - 1] if index else "") for index, text in enumerate(words)
    ]
    if append:
        for name, value in point.parameters.items():
            if name not in used:
                option = (point.options or {}).get(name, name)
                argv += [(text,) for text in _option(option, value, (point.flags or {}).get(name))]
    return tuple(parts for parts in argv if parts)


def expand_text(text: str, point: Point) -> Word:
    """Return one word for `point`."""
    return _expand_word(text, point, set(), before="=")


def places(words: Sequence[str]) -> set[str]:
    """Return the names that stand in braces."""
    return {match[1] for text in words for match in _PLACE.finditer(text) if match[1]}


def check_places(words: Sequence[str], parameters: Sequence[str]) -> None:
    """Raise PlanError for a name in braces that nothing fills."""
    known = [*parameters, "trial", "seed", *_SLOTS]
    for name in sorted(places(words)):
        if name not in known:
            raise PlanError(
                f"{{{name}}} in the arguments is no parameter",
                hint=f"{did_you_mean(name, known)}; write {{{{{name}}}}} for the text itself",
            )


def check_shell(words: Sequence[str]) -> None:
    """Raise PlanError where a shell would be needed, and where a parameter would be read by one."""
    for text in words:
        if text in _OPERATORS:
            raise PlanError(
                f"{text!r} belongs to a shell, and commands are started without one",
                hint="put the line into a script and run that, or run: [bash, -c, '...'] without {parameters}",
            )
    for position, text in enumerate(words):
        if text.rpartition("/")[2] in _SHELLS and (script := _script_of_shell(words[position + 1 :])):
            raise PlanError(
                f"{script!r} would let a shell read a parameter's value",
                hint="""pass it as an argument: run: [bash, -c, 'train --lr "$1"', bash, "{lr}"]""",
            )


def _script_of_shell(words: Sequence[str]) -> str | None:
    """Return the script that a shell with these words is given, when a parameter stands in it."""
    for position, text in enumerate(words):
        if _SCRIPT_OPTION.fullmatch(text):
            script = next((word for word in words[position + 1 :] if not word.startswith("-")), "")
            return script if places([script]) else None
    return None


def as_argument(value: Scalar) -> str:
    """Return a value as a program reads it back exactly: 0.1, 1e-05, true, the text itself."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return repr(value) if isinstance(value, float) else str(value)


def _expand_word(text: str, point: Point, used: set[str], before: str) -> Word:
    values, parts, end = point.values(), [], 0
    flags = point.flags or {}
    for match in _PLACE.finditer(text):
        parts.append(text[end : match.start()])
        end = match.end()
        name = match[1]
        if name is None:
            parts.append(match[0][1:-1])
        elif name in values:
            used.add(name)
            if match[0] == text:
                return _whole_word(name, values[name], flags.get(name), before)
            parts.append(as_argument(values[name]))
        elif name in _SLOTS:
            parts.append(_SLOTS[name])
        else:
            parts.append(match[0])
    parts.append(text[end:])
    return tuple(part for part in parts if part) or ("",)


def _whole_word(name: str, value: Scalar, flags: tuple[str, str] | None, before: str) -> Word:
    """A value that is a word of its own: an option's value, a flag, or left out when it is null."""
    if isinstance(value, bool) and flags is not None:
        flag = flags[0] if value else flags[1]
        return (flag,) if flag else ()
    if value is None:
        return ()
    text = as_argument(value)
    if text.startswith("-") and not _NUMBER.fullmatch(text):
        option = before if before.startswith("-") else f"--{name}"
        raise PlanError(
            f"parameter {name}: {text!r} would be read as an option", hint=f"write {option}={{{name}}} in args"
        )
    return (text,)


def _option(name: str, value: Scalar, flags: tuple[str, str] | None) -> list[str]:
    if value is None:
        return []
    if isinstance(value, bool):
        on, off = flags or (f"--{name}", f"--no-{name}")
        return [text for text in [on if value else off] if text]
    text = as_argument(value)
    joined = text.startswith("-") and not _PLAIN_NEGATIVE.fullmatch(text)
    return [f"--{name}={text}"] if joined else [f"--{name}", text]
