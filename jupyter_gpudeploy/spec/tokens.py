"""What looks like a token or a private key, and how it is taken out before anything else reads the cell.

Whoever parses, checks or reports sees the text with each token overwritten, so no message, traceback or note can
repeat one. The overwritten text has the same length: lines and columns stay true.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from jupyter_gpudeploy.errors import Problem
from jupyter_gpudeploy.patterns import lazy

if TYPE_CHECKING:
    from collections.abc import Iterator

    from jupyter_gpudeploy.spec.lines import Lines

HIDDEN = "x"
HINT = "keep it in the environment or a file and name that: secrets: {NAME: env:NAME}"

_TOKEN = lazy(
    r"\b(hf_[A-Za-z0-9]{20,}"  # Hugging Face
    r"|sk-(?=[\w-]{0,200}\d)(?=[\w-]{0,200}(?:[A-Z]|[a-z0-9]{16}))[\w-]{20,}"  # OpenAI and those who follow it
    r"|gh[pousr]_[A-Za-z0-9]{20,}|github_pat_\w{20,}|glpat-[\w-]{16,}"
    r"|AKIA[0-9A-Z]{16}|AIza[\w-]{30,}|xox[abpr]-[A-Za-z0-9-]{10,}|nvapi-[\w-]{20,}|wandb_v\d_\w{20,}"
    r"|eyJ[\w-]{10,2000}\.[\w-]{10,8000}\.[\w-]{5,})"  # JSON web token
    r"|-----BEGIN [A-Z ]*PRIVATE KEY-----(?:[\s\S]*?-----END [A-Z ]*PRIVATE KEY-----)?"
)
_PLACEHOLDER = lazy(r"[A-Za-z]+[_-](?:[xX]+|x*\.\.\.)")
_SECRET_NAME = lazy(r"(?:.*_)?(?:TOKEN|SECRET|PASSWORD|PASSWD|API_?KEY|ACCESS_?KEY|PRIVATE_?KEY)", re.IGNORECASE)
_SHORTEST = 6


def secret_like(text: str) -> re.Match[str] | None:
    """Return where `text` holds what looks like a token or a private key; `hf_xxxxxxxx` is a placeholder, not one."""
    return next(_found(text), None)


def holds_secret(name: str, value: str) -> bool:
    """Return whether an environment variable of that name with that value is a secret, told by its name."""
    return bool(_SECRET_NAME.fullmatch(name)) and len(value) >= _SHORTEST and not value.isdigit()


def names_secret(name: str) -> bool:
    """Return whether a key of that name holds a secret: `hf_token`, `password`."""
    return _SECRET_NAME.fullmatch(name) is not None


def hide(text: str, lines: Lines) -> tuple[str, list[Problem]]:
    """Return `text` with every token overwritten, and a Problem for each."""
    problems = []
    for match in _found(text):
        line, column = lines.place(match.start())
        problems.append(Problem(_MESSAGE, HINT, line, column))
    return _overwritten(text), problems


def hide_in(value: Any, where: str = "") -> tuple[Any, list[Problem]]:  # noqa: ANN401 - any JSON value
    """Return a value of dicts, lists and scalars without tokens, and a Problem for each text that held one."""
    if isinstance(value, str):
        return _overwritten(value), [Problem(_MESSAGE, HINT, field=where) for _ in _found(value)]
    if isinstance(value, list | tuple):
        pairs = [hide_in(item, where) for item in value]
        return [item for item, _ in pairs], [problem for _, problems in pairs for problem in problems]
    if isinstance(value, dict):
        named = {_overwritten(str(key)): hide_in(item, where or _overwritten(str(key))) for key, item in value.items()}
        in_keys = [Problem(_MESSAGE, HINT, field=where) for key in value for _ in _found(str(key))]
        in_values = [problem for _, problems in named.values() for problem in problems]
        return {key: item for key, (item, _) in named.items()}, in_keys + in_values
    return value, []


_MESSAGE = "this looks like a token: a cell is saved, shared and shown, it is no place for one"


def _found(text: str) -> Iterator[re.Match[str]]:
    return (match for match in _TOKEN.finditer(text) if not _PLACEHOLDER.fullmatch(match[0]))


def _overwritten(text: str) -> str:
    return _TOKEN.sub(
        lambda match: match[0] if _PLACEHOLDER.fullmatch(match[0]) else re.sub(r"\S", HIDDEN, match[0]), text
    )
