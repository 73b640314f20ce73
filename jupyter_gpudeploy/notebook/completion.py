"""Tab completion in every front end: verbs, options and runs on a `%deploy` line, keys and values in a `%%deploy` cell.

The words come from where they are defined: the table of arguments.py, the JSON Schema of a cell, the families.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable

    from IPython.core.interactiveshell import InteractiveShell

Offer = tuple[str, list[tuple[str, str]]]
IDENTIFIER = "jupyter_gpudeploy"
PRIORITY = 200
_ON_A_LINE = re.compile(r"\s*(?:[\w.,\s]+=\s*)?%deploy\s(?P<rest>.*)", re.DOTALL)
_ON_THE_FIRST = re.compile(r"%%deploy\s(?P<rest>.*)", re.DOTALL)


def register(shell: InteractiveShell) -> None:
    """Add our words to what Tab offers in this shell."""
    from IPython.core.completer import context_matcher

    if getattr(shell, "Completer", None) is None:
        return

    @context_matcher(identifier=IDENTIFIER, priority=PRIORITY)  # type: ignore[untyped-decorator, unused-ignore]
    def match(context: Any) -> dict[str, Any]:  # noqa: ANN401 - IPython's CompletionContext
        from IPython.core.completer import SimpleCompletion

        fragment, words = complete(context.full_text, context.cursor_line, context.cursor_position)
        found = [SimpleCompletion(word, type=kind) for word, kind in words]
        return {"completions": found, "matched_fragment": fragment, "ordered": True, "suppress": bool(found)}

    unregister(shell)
    shell.Completer.custom_matchers.append(match)


def unregister(shell: InteractiveShell) -> None:
    """Take our words away again."""
    matchers = getattr(getattr(shell, "Completer", None), "custom_matchers", [])
    matchers[:] = [one for one in matchers if getattr(one, "matcher_identifier", "") != IDENTIFIER]


def complete(text: str, row: int, column: int) -> Offer:
    """Return what stands before the cursor, and the words for it with their kind. `row` and `column` from 0."""
    lines = text.split("\n")
    line, first = lines[row][:column], _ON_THE_FIRST.match(lines[0] + " ")
    if first and row:
        from jupyter_gpudeploy.notebook.header import offer

        fragment, words = offer(lines[1:row], line)
    elif matched := (_ON_THE_FIRST if first else _ON_A_LINE).match(line):
        fragment, words = _on_line(matched["rest"], in_cell=first is not None)
    else:
        return "", []
    return fragment, [(word, kind) for word, kind in words if word.startswith(fragment)]


def _on_line(rest: str, *, in_cell: bool) -> Offer:
    from jupyter_gpudeploy.notebook.arguments import CELL_VERBS, OPTIONS, START, VERBS
    from jupyter_gpudeploy.notebook.header import family

    *before, fragment = re.split(r"\s+", rest.lstrip())
    verbs = CELL_VERBS if in_cell else VERBS
    verb = (verbs.get(before[0]) if before else None) or (START if in_cell else None)
    if verb is None:
        return fragment, [] if before else _kinds(verbs, "keyword")
    last = next((option for option in OPTIONS.values() if before and before[-1] in option.flags and option.value), None)
    if last is not None:
        return fragment, _kinds(family("backends"), "value") if last.field == "backend" else []
    flags = [flag for name in (*verb.options, "help") for flag in OPTIONS[name].flags if flag.startswith("--")]
    if fragment.startswith("-"):
        return fragment, _kinds(flags, "option")
    if in_cell:
        return fragment, [*_kinds([] if before else verbs, "keyword"), *_kinds(flags, "option")]
    if verb.operands == "[VERB]":
        return fragment, _kinds(VERBS, "keyword")
    return fragment, _kinds(_run_names() if verb.operands else [], "run")


def _run_names() -> list[str]:
    from jupyter_gpudeploy.errors import GpuDeployError
    from jupyter_gpudeploy.launching import backend_of

    try:
        return [ref.name for ref in backend_of().find()]
    except (GpuDeployError, OSError):
        return []


def _kinds(words: Iterable[str], kind: str) -> list[tuple[str, str]]:
    return [(word, kind) for word in words]
