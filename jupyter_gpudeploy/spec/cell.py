"""The text of a cell becomes a Spec, and a Spec the text of a cell.

A cell is a header of `key: value` lines, a line that is exactly `---`, and Python. Either may be missing: a cell
without the line is all header, or all Python where it can only be that. Instead of a header stands, as well, what the
guide shows: its config.yaml, or a wizard's transcript, which may ask for several runs.

Tokens are overwritten before anything reads the text (`spec.tokens`), and no error of pydantic stays chained to ours,
so nothing of a secret is in the exception, its cause or its context.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from pydantic import ValidationError

from jupyter_gpudeploy.errors import Problem, SpecError
from jupyter_gpudeploy.patterns import lazy
from jupyter_gpudeploy.spec.draft import Draft, Source
from jupyter_gpudeploy.spec.fields import MistakesError
from jupyter_gpudeploy.spec.lines import Lines
from jupyter_gpudeploy.spec.models import TEXT_FIELDS, Remark, Spec
from jupyter_gpudeploy.spec.python import begins_like_python, is_program, syntax_problem
from jupyter_gpudeploy.spec.tokens import hide, hide_in
from jupyter_gpudeploy.spec.written import differences, header, write
from jupyter_gpudeploy.spec.yaml import load, scalar

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

__all__ = ["Asked", "check", "code_of", "differences", "header", "read", "write"]

KEYS = frozenset(Spec.model_fields) - {"code"}
GUIDE_SECTIONS = frozenset(
    {"deployment", "application", "inference", "resources", "monitoring", "experiment", "experiment_tracking"}
)
_KEY = lazy(r"([\"']?)([\w-]+)\1\s*:(?:\s|$)")
_WIZARD = lazy(r"^[ \t]*(?:\$ )?make wizard\b.*\bPROJECT=", re.MULTILINE)
_FENCE = lazy(r"^[ \t]*```.*$", re.MULTILINE)
_SWITCH_WORDS = frozenset({"yes", "no", "on", "off", "Yes", "No", "On", "Off", "YES", "NO", "ON", "OFF"})

Result = TypeVar("Result")


class Asked(NamedTuple):
    """What a cell asks for, and what of it was understood otherwise than written."""

    spec: Spec
    remarks: tuple[Remark, ...] = ()


def read(
    text: str, *, name: str | None = None, overrides: Mapping[str, Any] | None = None, first_line: int = 2
) -> tuple[Asked, ...]:
    """Return what the cell asks for: one Asked, or several for a transcript of the guide.

    `text` is the cell below its magic line; its first line is line `first_line` of the cell. `name` and `overrides`
    come from the magic line and win over the header; None leaves a key alone. Raises SpecError, all mistakes at once.
    """
    text = text.replace("\r\n", "\n")
    clean, problems = hide(text, Lines(text, first_line))
    settings, in_settings = hide_in({**(overrides or {}), **({} if name is None else {"name": name})})
    problems += in_settings
    drafts = _tried(problems, _drafts, _without_fences(clean), first_line) or []
    asked = []
    for draft in drafts:
        _apply(settings, draft, first_line - 1, several=len(drafts) > 1)
        asked.append(_tried(problems, _checked, draft))
    if problems:
        raise SpecError(problems)
    return tuple(one for one in asked if one is not None)


def check(values: Mapping[str, Any], *, code: str | None = None) -> Asked:
    """Return the same for keys and values given in Python. Raises SpecError."""
    clean, problems = hide_in(dict(values))
    hidden_code, in_code = hide(code or "", Lines(code or ""))
    problems += in_code
    draft = Draft(start=0)
    for key, value in clean.items():
        draft.put(key, value, Source(key))
    if code is not None:
        _put_code(draft, hidden_code, Lines(hidden_code))
    asked = _tried(problems, _checked, draft)
    if problems or asked is None:
        raise SpecError(problems)
    return asked


def code_of(text: str) -> str | None:
    """Return the Python of a cell, as `read` finds it; None for a cell without."""
    text = text.replace("\r\n", "\n")
    if _is_transcript(text):
        return None
    _, begun = _split(_without_fences(text))
    return None if begun is None else text[begun:].rstrip() or None


def parts(text: str) -> tuple[str, int | None]:
    """Return the header of a cell and the index of `text` at which its Python begins, None for a cell without.

    Every index of the header is one of `text`. Not for the older forms.
    """
    header, begun = _split(text)
    return header, begun


def is_older(text: str) -> bool:
    """Return whether the cell is one of the older forms: a sectioned config.yaml, or a wizard's transcript."""
    if _is_transcript(text):
        return True
    value = load(_split(text)[0], 2).value
    return isinstance(value, dict) and bool(GUIDE_SECTIONS.intersection(value))


def _tried(problems: list[Problem], work: Callable[..., Result], *arguments: Any) -> Result | None:  # noqa: ANN401
    """Return what `work` does, or None and its problems added to the others; its exception is gone by then."""
    try:
        return work(*arguments)
    except SpecError as error:
        problems.extend(error.problems)
    return None


def _drafts(text: str, first_line: int) -> list[Draft]:
    if _is_transcript(text):
        from jupyter_gpudeploy.spec import guide_transcript

        return guide_transcript.drafts(text, first_line)
    head, body = _split(text)
    draft = Draft(start=first_line)
    if body is not None:
        code_line = first_line + text.count("\n", 0, body)
        _put_code(draft, text[body:], Lines(text[body:], code_line))
    if _tried(draft.problems, _put_header, draft, head, first_line) is None:
        raise SpecError(draft.problems)
    return [draft]


def _put_header(draft: Draft, text: str, first_line: int) -> Draft:
    document = load(text, first_line)
    if document.value is None:
        return draft
    if not isinstance(document.value, dict):
        line, column = document.where_value(())
        problem = Problem("the header must be lines of `key: value`", "for example run: train.py", line, column)
        raise SpecError([problem])
    if GUIDE_SECTIONS.intersection(document.value):
        from jupyter_gpudeploy.spec import guide_config

        guide_config.fill(draft, document)
        return draft
    for key, value in document.value.items():
        draft.put(key, document.as_text((key,)) if key in TEXT_FIELDS else value, Source.within(document, (key,)))
    return draft


def _put_code(draft: Draft, code: str, lines: Lines) -> None:
    if not code.strip():
        return
    draft.put("code", code, Source("code", lines.first, 1))
    if problem := syntax_problem(code, lines):
        draft.problems.append(problem)


def _apply(settings: Mapping[str, Any], draft: Draft, line: int, *, several: bool) -> None:
    for key, value in settings.items():
        if value is None:
            continue
        if key == "name" and several:
            message = "the cell asks for several runs: each keeps its own name"
            draft.remarks.append(Remark("name", message, "paste one of them alone to name it"))
            continue
        plain = scalar(value) if isinstance(value, str) and key not in TEXT_FIELDS else value
        label = "the name on the magic line" if key == "name" else f"--{key.replace('_', '-')}"
        draft.put(key, plain, Source(label, max(line, 0), 1))


def _checked(draft: Draft) -> Asked:
    problems: list[Problem] = []
    wrong: set[str] = set()
    spec = None
    try:
        spec = Spec.model_validate(draft.values)
    except ValidationError as error:
        from jupyter_gpudeploy.spec.problems import explain

        problems = explain(error, draft)
        wrong = {str(details["loc"][0]) for details in error.errors(include_url=False) if details["loc"]}
    if wrong:
        problems += _contradictions_besides(wrong, draft)
    if spec is None or draft.problems:
        raise SpecError([*draft.problems, *problems])
    return Asked(spec, (*draft.remarks, *_words_for_switches(spec)))


def _contradictions_besides(wrong: set[str], draft: Draft) -> list[Problem]:
    """Return the contradictions among the keys that are right; those that a wrong key may be part of are left out."""
    from jupyter_gpudeploy.spec.problems import explain, meant_by

    touched = wrong | {meant_by(key) or key for key in wrong - KEYS}
    rest = {key: value for key, value in draft.values.items() if key not in wrong}
    try:
        Spec.model_validate(rest)
    except ValidationError as error:
        causes = [details.get("ctx", {}).get("error") for details in error.errors(include_url=False)]
        for cause in causes:
            if isinstance(cause, MistakesError):
                cause.mistakes = tuple(one for one in cause.mistakes if not touched.intersection(one.about))
        return explain(error, Draft(draft.start, rest, draft.sources))
    return []


def _words_for_switches(spec: Spec) -> list[Remark]:
    return [
        Remark(f"parameters.{name}", f"{', '.join(words)} stay text", "true and false are the switches", "info")
        for name, axis in spec.parameters.items()
        if (words := [value for value in axis.values or [] if isinstance(value, str) and value in _SWITCH_WORDS])
    ]


def _split(text: str) -> tuple[str, int | None]:
    """Return the header, whose every index is one of `text`, and the index at which the Python begins."""
    lines = text.split("\n")
    marks = [number for number, line in enumerate(lines) if line.rstrip() == "---"]
    if not marks:
        return ("", 0) if _is_all_python(text) else (text, None)
    begun = next((number for number, line in enumerate(lines) if line.strip()), 0)
    if marks[0] == begun and _begins_with_key(lines[begun + 1 :]):
        lines[begun] = " " * len(lines[begun])  # a document marker on top of the header
        marks = marks[1:]
        if not marks:
            return "\n".join(lines), None
    elif is_program(text):
        return "", 0  # the line stands inside a string of the program
    return "\n".join(lines[: marks[0]]), sum(len(line) + 1 for line in text.split("\n")[: marks[0] + 1])


def _is_all_python(text: str) -> bool:
    return not _begins_with_key(text.split("\n")) and (is_program(text) or begins_like_python(text))


def _begins_with_key(lines: Sequence[str]) -> bool:
    said = (line for line in lines if line.strip() and not line.lstrip().startswith("#"))
    match = _KEY.match(next(said, ""))
    return bool(match and (match[2] in KEYS or match[2] in GUIDE_SECTIONS))


def _is_transcript(text: str) -> bool:
    """Return whether `text` is a transcript of the guide's wizard (`spec.guide_transcript`)."""
    return _WIZARD.search(text) is not None and not _begins_with_key(text.split("\n"))


def _without_fences(text: str) -> str:
    """Blank the ``` lines of a block pasted from Markdown."""
    return _FENCE.sub("", text) if text.lstrip().startswith("```") or _is_transcript(text) else text
