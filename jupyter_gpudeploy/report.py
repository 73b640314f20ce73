"""What `%deploy doctor` finds: rows for a person to read, whatever they are about."""

from __future__ import annotations

from typing import Literal, NamedTuple

Level = Literal["ok", "info", "warning", "error"]
_MARKS = {"ok": "+", "info": " ", "warning": "!", "error": "x"}


class Row(NamedTuple):
    """One finding. `hint`: what follows from it, or the way out."""

    level: Level
    subject: str
    value: str = ""
    hint: str = ""


class Section(NamedTuple):
    """Findings about one thing."""

    title: str
    rows: tuple[Row, ...]


class Report(NamedTuple):
    """All findings. As text it is for a terminal; `sections` is for any other display.

    `is_usable`: whether runs can be started; `role`: the Role to ask for, as YAML, where something is missing.
    """

    title: str
    sections: tuple[Section, ...]
    role: str = ""

    @property
    def is_usable(self) -> bool:
        """Whether nothing that is needed is missing."""
        return not any(row.level == "error" for section in self.sections for row in section.rows)

    def __str__(self) -> str:
        lines = [self.title]
        for section in self.sections:
            lines += ["", section.title]
            width = max((len(row.subject) for row in section.rows), default=0)
            for row in section.rows:
                hint = f"  → {row.hint}" if row.hint else ""
                lines.append(f"  {_MARKS[row.level]} {row.subject:{width}}  {row.value}{hint}".rstrip())
        return "\n".join(lines)
