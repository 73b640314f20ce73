"""Regular expressions that cost nothing until they are used: compiling one takes up to a millisecond."""

from __future__ import annotations

import functools
import re
from typing import Any, cast


def lazy(pattern: str, flags: int = 0) -> re.Pattern[str]:
    """Return what `re.compile` returns for the same arguments, compiled at its first use."""
    return cast("re.Pattern[str]", _Lazy(pattern, flags))


class _Lazy:
    def __init__(self, pattern: str, flags: int) -> None:
        self._compile = functools.partial(re.compile, pattern, flags)

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - whatever a Pattern has
        value = getattr(self._compile(), name)
        setattr(self, name, value)  # the next use finds it without this method
        return value
