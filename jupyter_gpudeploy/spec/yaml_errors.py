"""PyYAML's words for a mistake become ours: what is wrong, the way out, and where it begins."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import yaml

Explained = tuple[str, str, int]
"""The message, the hint, and the index into the text."""

_QUOTE = "put the whole value in quotes"
_AT_PROBLEM: tuple[tuple[str, str, str], ...] = (
    (r"found character '\\t'", "a tab stands here", "use spaces: two for each level"),
    (r"found character '(.)' that cannot start", r"a value cannot begin with \1", _QUOTE),
    (r"sequence entries are not allowed", "a list item cannot stand behind its key", "each `- item` on its own line"),
    (r"mapping keys are not allowed", "`? ` cannot stand here", _QUOTE),
    (r"found undefined alias '(.*)'", r"*\1 stands for nothing: there is no &\1 above", f"or {_QUOTE}"),
    (r"second occurrence", "the same &name marks two values", "give one of them another name"),
    (r"found undefined tag handle|tag", "tags are not allowed", "delete the word that begins with !"),
    (r"found unknown escape character '(.*)'", r"\\\1 means nothing in double quotes", "use single quotes, or \\\\"),
    (r"but found '<scalar>'", "text stands behind a closed quote or bracket", f"{_QUOTE}, inner quotes doubled"),
    (r"but found '<block (mapping|sequence) start>'", "wrong indentation", "begin it in the column of its neighbours"),
    (r"but found '([\]}])'", r"\1 closes nothing", "delete it, or open it"),
    (r"but found '([-?])'", "list items and keys stand at one level", "indent the list items under their key"),
    (r"but found ','", "a comma stands here", _QUOTE),
    (r"expected a comment or a line break", "text stands behind | or >", "begin it on the next line, indented"),
    (r"single document", "the header ends here", "Python goes below a line ---"),
)  # fmt: skip
_AT_CONTEXT: tuple[tuple[str, str, str], ...] = (
    (r"scanning a simple key", "this line is no `key: value`", "write key: value; Python goes below a line ---"),
    (r"scanning a quoted scalar", "the quote that begins here is not closed", "close it"),
    (r"parsing a flow sequence", "this [ is not closed, or a comma is missing", "close it with ]"),
    (r"parsing a flow mapping", "this { is not closed, or a comma is missing", f"close it with }}, or {_QUOTE}"),
    (r"scanning an (alias|anchor)", "a value cannot begin with * or &", _QUOTE),
    (r"scanning a block scalar", "text stands behind | or >", "begin it on the next line, indented; or " + _QUOTE),
    (r"scanning a directive", "a line that begins with % is no YAML", "Python goes below a line ---"),
    (r"scanning a tag", "tags are not allowed", "delete the word that begins with !"),
)  # fmt: skip


def in_plain_words(error: yaml.MarkedYAMLError, text: str) -> Explained:
    """Return message, hint and place of `error`, which PyYAML raised over `text`."""
    context, problem = error.context or "", error.problem or ""
    at = error.problem_mark.index if error.problem_mark else 0
    begun = error.context_mark.index if error.context_mark else at
    if "expected '<document start>'" in problem:
        return _outside(text, at)
    if "mapping values are not allowed" in problem:
        return _second_colon(text, at)
    for pattern, message, hint in _AT_CONTEXT:
        if re.search(pattern, context) and "unknown escape" not in problem:
            return message, hint, begun
    for pattern, message, hint in _AT_PROBLEM:
        if match := re.search(pattern, problem):
            return match.expand(message), hint, at
    return "this is not valid YAML", "write key: value, one a line", at


def _outside(text: str, at: int) -> Explained:
    if text.lstrip().startswith("%"):
        return "a line that begins with % is no YAML", "Python goes below a line ---", len(text) - len(text.lstrip())
    return "this stands outside the header", "write key: value, one a line; Python goes below a line ---", at


def _second_colon(text: str, at: int) -> Explained:
    """A colon where none may be: a second one in its line, or the line is indented under a finished value."""
    start = text.rfind("\n", 0, at) + 1
    before = text[start:at]
    if re.search(r":\s", before):
        return "a second `: ` in one line", _QUOTE, at
    first = start + len(before) - len(before.lstrip())
    return "wrong indentation: the line above is complete", "begin it in the same column as the line above", first
