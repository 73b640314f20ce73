"""Which lines a filter lets through. A person's pattern runs in a process of its own, which ends a bad one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from jupyter_gpudeploy.notebook.card import lines as looks

if TYPE_CHECKING:
    from collections.abc import Sequence

    from jupyter_gpudeploy.notebook.card.protocol import Filter

_PROGRAM = Path(__file__).with_name("_matching.py")
SLOW = "the pattern takes too long and was given up"


class Match(Protocol):
    """A filter at work. `problem` says why it lets nothing through any more."""

    problem: str

    @property
    def is_open(self) -> bool:
        """Whether everything passes."""

    def select(self, data: bytes, raws: Sequence[bytes]) -> Sequence[int] | None:
        """Return the indices of the lines that pass; `data` is all of them in one piece."""

    def close(self) -> None:
        """Let go of what it holds."""


class Plain:
    """A text, in any case, and a level. Everything passes an empty one."""

    problem = ""

    def __init__(self, text: str = "", level: str | None = None) -> None:
        self._text = text.casefold()
        self._level = level
        self._bytes = self._text.encode() if self._text.isascii() else b""

    @property
    def is_open(self) -> bool:
        """Whether everything passes."""
        return not self._text and self._level is None

    def select(self, data: bytes, raws: Sequence[bytes]) -> Sequence[int] | None:
        """Return the indices of the lines that pass."""
        if self.is_open:
            return range(len(raws))
        if self._bytes and b"\x1b" not in data and b"\b" not in data:
            if self._bytes not in data.lower():
                return None
            chosen = [index for index, raw in enumerate(raws) if self._bytes in raw.lower()]
        else:
            chosen = list(range(len(raws)))
        return [index for index in chosen if self._passes(looks.Seen(raws[index]).bare)]

    def _passes(self, text: str) -> bool:
        if self._text and self._text not in text.casefold():
            return False
        return self._level is None or looks.at_least(looks.level_of(text), self._level)

    def close(self) -> None:
        """Nothing is held."""


class Pattern:
    """A regular expression and a level. A pattern that takes too long kills its process, not the kernel."""

    is_open = False

    def __init__(self, pattern: str, level: str | None = None) -> None:
        self.problem = ""
        self._level = Plain(level=level)
        process = subprocess.Popen(
            [sys.executable, "-I", "-S", str(_PROGRAM), pattern],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, start_new_session=True,
            env={"LC_ALL": "C.UTF-8", "PATH": os.environ.get("PATH", "")},
        )  # fmt: skip
        self._process: subprocess.Popen[bytes] | None = process
        told = _answer(process)
        if isinstance(told, str):
            self.problem = told
            self.close()

    def select(self, data: bytes, raws: Sequence[bytes]) -> Sequence[int] | None:
        """Return the indices of the lines that match."""
        passed = self._level.select(data, raws)
        process = self._process
        if process is None or process.stdin is None or not passed:
            return None
        texts = [looks.Seen(raws[index]).bare for index in passed]
        told: list[int] | str = SLOW
        try:
            process.stdin.write(json.dumps(texts).encode() + b"\n")
            process.stdin.flush()
            told = _answer(process)
        except (OSError, ValueError):
            pass
        if isinstance(told, str):
            self.problem = told
            self.close()
            return None
        return [passed[index] for index in told]

    def close(self) -> None:
        """End the process."""
        process, self._process = self._process, None
        if process is None:
            return
        process.kill()
        with process:
            pass


def _answer(process: subprocess.Popen[bytes]) -> list[int] | str:
    """Return the indices, or why there are none."""
    line = process.stdout.readline() if process.stdout is not None else b""
    told = json.loads(line) if line else SLOW
    return told if isinstance(told, list) else str(told)


def of(wanted: Filter) -> Match:
    """Return the filter at work."""
    if wanted.regex and wanted.text:
        return Pattern(wanted.text, wanted.level)
    return Plain(wanted.text, wanted.level)
