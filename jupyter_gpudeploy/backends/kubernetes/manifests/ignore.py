"""Which files of the notebook's folder stay at home: `.gpudeployignore`, in the language of `.gitignore`.

A line is a pattern; `*`, `?`, `[a-z]` stay within a name, `**` crosses folders; a `/` at the end means folders only,
one elsewhere ties the pattern to the notebook's folder; `!` takes back. The last line that matches decides.
"""

from __future__ import annotations

import fnmatch
import re
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable

FILE = ".gpudeployignore"
DEFAULTS = (
    ".git/", ".hg/", ".svn/", "__pycache__/", "*.pyc", "venv/", ".venv/", "env/", ".env/", "site-packages/",
    "node_modules/", ".ipynb_checkpoints/", ".mypy_cache/", ".ruff_cache/", ".pytest_cache/", ".tox/", "*.egg-info/",
    "/out/", "wandb/", "mlruns/", "*.ipynb", FILE,
)  # fmt: skip
"""Notebooks are left out because each change of one would be a change of what runs; `!*.ipynb` takes them in."""

SECRETS = (
    ".env", ".env.*", "id_rsa*", "id_dsa*", "id_ecdsa*", "id_ed25519*", "*.pem", "*.key", "*.p12", "*.pfx", "*.jks",
    "*.kdbx", ".netrc", "_netrc", ".pypirc", ".npmrc", ".pgpass", ".htpasswd", ".git-credentials", ".dockercfg",
    "kubeconfig*", "credentials", "credentials.json", "service-account*.json", ".ssh", ".aws", ".kube", ".docker",
    ".gnupg", ".azure", "gcloud",
)  # fmt: skip
"""Names that hold secrets. They never go along, whatever is asked: `secrets:` is for them."""


class Rule(NamedTuple):
    """One line of an ignore file."""

    pattern: re.Pattern[str]
    takes_back: bool
    folders_only: bool


class Ignore:
    """Says which paths are left out. Paths are relative to the notebook's folder, `/` between their parts."""

    def __init__(self, lines: Iterable[str] = (), *, defaults: bool = True) -> None:
        texts = [*(DEFAULTS if defaults else ()), *lines]
        self._rules = [rule for text in texts if (rule := _rule(text)) is not None]

    def leaves_out(self, path: str, *, is_folder: bool) -> bool:
        """Return whether this stays at home. Of a folder that does, nothing is looked at."""
        found = False
        for rule in self._rules:
            if (is_folder or not rule.folders_only) and rule.pattern.fullmatch(path):
                found = not rule.takes_back
        return found


def is_secret(name: str) -> bool:
    """Return whether a file or folder of this name holds secrets."""
    return name.lower() != ".env.example" and _secret_names().fullmatch(name.lower()) is not None


@lru_cache(maxsize=1)
def _secret_names() -> re.Pattern[str]:
    return re.compile("|".join(f"(?:{fnmatch.translate(pattern)})" for pattern in SECRETS))


def _rule(line: str) -> Rule | None:
    text = line.rstrip("\n").rstrip() if not line.rstrip("\n").endswith("\\ ") else line.rstrip("\n")
    if not text or text.startswith("#"):
        return None
    takes_back = text.startswith("!")
    text = text.removeprefix("!").removeprefix("\\")
    folders_only = text.endswith("/")
    text = text.rstrip("/")
    is_tied = "/" in text
    if not text:
        return None
    pattern = _translate(text.removeprefix("/"))
    return Rule(re.compile(pattern if is_tied else f"(?:.*/)?{pattern}"), takes_back, folders_only)


def _translate(text: str) -> str:
    """Return the regular expression of a pattern. A set that is not closed is text."""
    parts = []
    for piece in re.split(r"(\*\*/|/\*\*|\*\*|\*|\?|\[[!^]?\]?[^]/]*\]|\\.)", text):
        if piece == "**/":
            parts.append("(?:.*/)?")
        elif piece == "/**":
            parts.append("/.*")
        elif piece == "**":
            parts.append(".*")
        elif piece == "*":
            parts.append("[^/]*")
        elif piece == "?":
            parts.append("[^/]")
        elif piece.startswith("[") and piece.endswith("]") and len(piece) > 2:  # noqa: PLR2004 - [x]
            parts.append(_set(piece[1:-1]))
        else:
            parts.append(re.escape(piece.removeprefix("\\")))
    return "".join(parts)


def _set(inner: str) -> str:
    negated = inner[0] in "!^" and len(inner) > 1
    body = (inner[1:] if negated else inner).replace("\\", "\\\\").replace("[", "\\[").replace("]", "\\]")
    try:
        re.compile(found := f"[{'^/' if negated else ''}{body}]")
    except re.error:
        return re.escape(f"[{inner}]")
    return found
