"""Safe names: always valid, never colliding, the original kept beside them.

A name that is already safe stays as it is. Any other becomes a slug of it plus 8 hex digits of its SHA-256,
because slugs alone collide: `lr=0.1`, `lr=0-1` and `LR=0.1` would all be `lr-0-1`.

The length leaves room for what backends append: Kubernetes allows 63 characters for a Job and a label value,
and 52 for a CronJob (kubernetes #50850).
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from typing import TYPE_CHECKING

from jupyter_gpudeploy.patterns import lazy

if TYPE_CHECKING:
    from collections.abc import Mapping

LIMIT = 40
_SAFE = lazy(r"[a-z](?:[a-z0-9-]*[a-z0-9])?")
_HASHED = lazy(r".*-[0-9a-f]{8}")


def safe_name(original: str, limit: int = LIMIT) -> str:
    """Return a DNS-1035 label of at most `limit` characters that stands for `original` alone."""
    if len(original) <= limit and _SAFE.fullmatch(original) and not _HASHED.fullmatch(original):
        return original
    digest = hashlib.sha256(original.encode("utf-8", "surrogatepass")).hexdigest()[:8]
    ascii_text = unicodedata.normalize("NFKD", original).encode("ascii", "ignore").decode()
    slug = re.sub(r"[^a-z0-9]+", "-", ascii_text.lower()).strip("-")
    slug = slug[: limit - 9].rstrip("-")
    if not slug or not slug[0].isalpha():
        slug = f"x-{slug}".rstrip("-")[: limit - 9].rstrip("-")
    return f"{slug}-{digest}"


def point_name(parameters: Mapping[str, object]) -> str:
    """Return what a person calls a trial: `lr=0.001, hidden=32`; numbers in their shortest form."""
    return ", ".join(f"{key}={shortest(value)}" for key, value in parameters.items())


def shortest(value: object) -> str:
    """Return `value` as text, a float without noise (`0.30000000000000004` is `0.3`)."""
    if isinstance(value, float):
        return f"{value:.12g}"
    return str(value)
