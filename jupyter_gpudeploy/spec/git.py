"""The key `git:`: a repository whose files stand for the notebook's folder, at one commit of it."""

import posixpath
import re
from typing import Any
from urllib.parse import urlsplit

from pydantic import Field, field_validator, model_validator

from jupyter_gpudeploy.patterns import lazy
from jupyter_gpudeploy.spec.fields import Line, Strict

SCHEMES = ("https", "http", "ssh", "git", "file")
_SHORT = lazy(r"(?P<user>[A-Za-z0-9_][\w.-]*)@(?P<host>[A-Za-z0-9][\w.-]*):(?P<path>[^:-][^:]*)", re.ASCII)
_NO_REF = lazy(r"^[-./]|[\x00-\x20~^:?*\[\\\x7f]|\.\.|//|@\{|/\.|[./]$|\.lock$")
_OWN = "git's credential helper or ssh (git@host:org/repo) signs in, as git clone does in a terminal"


class GitSpec(Strict):
    """`https://host/org/repo@ref`, or its parts. `ref`: a branch, a tag, or a full commit hash."""

    url: Line = Field(min_length=1, description="the repository: https://, ssh://, file://, or git@host:org/repo")
    ref: Line | None = Field(None, description="a branch, a tag or a full commit hash; else the default branch")
    path: Line | None = Field(None, description="this folder of the repository alone")

    @model_validator(mode="before")
    @classmethod
    def _from_text(cls, value: Any) -> Any:  # noqa: ANN401 - anything may stand in a cell
        if not isinstance(value, str):
            return value
        url, ref = _split(value)
        return {"url": url, "ref": ref} if ref else {"url": url}

    @field_validator("url")
    @classmethod
    def _known_url(cls, url: str) -> str:
        if _SHORT.fullmatch(url):
            return url
        try:
            parts = urlsplit(url)
            host, secret, user = parts.hostname or "", parts.password, parts.username
            _ = parts.port
        except ValueError:
            raise ValueError("is no address of a repository") from None
        if parts.scheme not in SCHEMES or "://" not in url:
            raise ValueError(f"must begin with {', '.join(f'{name}://' for name in SCHEMES)}, or be git@host:org/repo")
        if secret is not None or (user is not None and parts.scheme != "ssh"):
            raise ValueError(f"must not hold a user or a password: {_OWN}")
        if parts.query or parts.fragment:
            raise ValueError(f"must end with its path, without ? and #: {_OWN}")
        if not parts.path.strip("/") or host.startswith("-") or (user or "").startswith("-"):
            raise ValueError("is no address of a repository")
        if (parts.scheme == "file") == bool(host):
            raise ValueError("has a host, which file:// has not" if host else "has no host")
        return url

    @field_validator("ref")
    @classmethod
    def _known_ref(cls, ref: str | None) -> str | None:
        if ref is not None and _NO_REF.search(ref):
            raise ValueError("is no name of a branch or a tag, and no commit hash")
        return ref

    @field_validator("path")
    @classmethod
    def _inside(cls, path: str | None) -> str | None:
        if path is None:
            return None
        plain = posixpath.normpath(path)
        if plain.startswith(("/", "~", "../")) or plain == "..":
            raise ValueError("must lie in the repository")
        return None if plain == "." else plain


def _split(text: str) -> tuple[str, str]:
    """Return the address and the ref of `address@ref`. The `@` of a user is before the path."""
    lead, separator, path = text.partition(":" if _SHORT.match(text) else "://")
    if not separator:
        return text, ""
    if separator == "://":
        host, slash, path = path.partition("/")
        lead, separator = f"{lead}{separator}{host}", slash
    found, _, ref = path.rpartition("@")
    return (f"{lead}{separator}{found}", ref) if found and ref else (text, "")
