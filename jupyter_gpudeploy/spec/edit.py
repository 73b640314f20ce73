"""The text of a cell with one key changed, and nothing else: comments, order and spelling of the rest stay.

An edit touches the lines of its key alone. What it made is read back; where that does not say exactly what was meant
(anchors, merges, a header in braces), the header is written anew, with the same values.
"""

from __future__ import annotations

import json
from copy import deepcopy
from functools import cached_property
from typing import TYPE_CHECKING, Any

from jupyter_gpudeploy.errors import Problem, SpecError
from jupyter_gpudeploy.spec import cell as cells
from jupyter_gpudeploy.spec.models import TEXT_FIELDS, Spec
from jupyter_gpudeploy.spec.written import entry, inner_entry, value_text
from jupyter_gpudeploy.spec.yaml import load

if TYPE_CHECKING:
    from collections.abc import Iterator

    from jupyter_gpudeploy.spec.yaml import Document

Path = tuple[str, ...]
KEYS = tuple(name for name in Spec.model_fields if name != "code")
_MARK = "---"
_MOST_STEPS = 2


class CellText:
    """A cell below its magic line, and what its header says key by key. Never changes: an edit returns another."""

    def __init__(self, text: str) -> None:
        self.text = text
        self._header, self._begun = cells.parts(text)

    @cached_property
    def _document(self) -> Document:
        return load(self._header, 2)

    @cached_property
    def values(self) -> dict[str, Any]:
        """The keys with their values as written, right or wrong; do not change it. Raises SpecError for no header."""
        value = self._document.value
        if value is None:
            return {}
        if not isinstance(value, dict):
            raise SpecError([Problem("the header must be lines of `key: value`", "for example run: train.py", 2, 1)])
        return {key: self._document.as_text((key,)) if key in TEXT_FIELDS else value[key] for key in value}

    @property
    def code(self) -> str | None:
        """The Python below the `---` as it stands; None for a cell without."""
        return None if self._begun is None else self.text[self._begun :]

    def value(self, path: Path) -> Any:  # noqa: ANN401 - any YAML
        """Return what stands at `path`, None for nothing."""
        found: Any = self.values
        for step in path:
            found = found.get(step) if isinstance(found, dict) else None
        return found

    def with_value(self, path: Path, value: Any) -> CellText:  # noqa: ANN401 - any YAML
        """Return the cell in which `path`, a key or a key and one inside it, has this value; None takes it out."""
        expected = _changed(self.values, path, value)
        if _same(expected, self.values):
            return self
        if len(path) == _MOST_STEPS and not expected.get(path[0]):
            return self.with_value(path[:1], None)
        for text in self._attempts(path, expected):
            made = CellText(text)
            if made.says(expected, self.code):
                return made
        made = CellText(self._anew(expected))
        if not made.says(expected, self.code):
            raise ValueError(f"{'.'.join(path)} cannot be written into this cell")
        return made

    def with_code(self, code: str | None) -> CellText:
        """Return the cell with this Python below its header; the header stays as it is."""
        head = self.text[: self._end_of_header]
        if not (code or "").strip():
            return CellText(head)
        line = self._break if head and not head.endswith("\n") else ""
        return CellText(f"{head}{line}{_MARK}{self._break}{(code or '').rstrip()}{self._break}")

    def says(self, values: dict[str, Any], code: str | None) -> bool:
        """Return whether this is what the cell says."""
        try:
            return _same(self.values, values) and (self.code or "").strip() == (code or "").strip()
        except SpecError:
            return False

    @property
    def _break(self) -> str:
        return "\r\n" if "\r\n" in self.text else "\n"

    @property
    def _end_of_header(self) -> int:
        return len(self._header) if self._begun != 0 else 0

    def _attempts(self, path: Path, expected: dict[str, Any]) -> Iterator[str]:
        """Yield texts, the smallest change first."""
        for depth in range(len(path), 0, -1):
            inner = path[:depth]
            wanted: Any = expected
            for step in inner:
                wanted = wanted.get(step) if isinstance(wanted, dict) else None
            if not self._is_editable(inner[:-1]):
                continue
            if self._has(inner):
                yield from self._replaced(inner, wanted)
            elif wanted is not None:
                yield self._added(inner, wanted)

    def _is_editable(self, parent: Path) -> bool:
        if not parent:
            return self._document.value is None or self._document.is_block(())
        return self._has(parent) and isinstance(self.value(parent), dict) and self._document.is_block(parent)

    def _has(self, path: Path) -> bool:
        found: Any = self._document.value
        for step in path:
            if not isinstance(found, dict) or step not in found:
                return False
            found = found[step]
        return True

    def _replaced(self, path: Path, value: Any) -> Iterator[str]:  # noqa: ANN401 - any YAML
        key, begin, end = self._document.span(path)
        if end < key:
            return  # an alias: its value stands elsewhere
        if value is None:
            first, last = self._lines(path)
            yield self.text[:first] + self.text[last:]
            return
        is_line = "\n" not in self.text[key:end] and not (isinstance(value, dict) and self._document.is_block(path))
        if is_line:
            space = "" if self.text[begin - 1 : begin] in (" ", "\t") else " "
            yield f"{self.text[:begin]}{space}{value_text(_plain(path, value))}{self.text[end:]}"
        first, last = self._lines(path)
        yield self.text[:first] + self._written(path, value, self._indent(path)) + self.text[last:]

    def _added(self, path: Path, value: Any) -> str:  # noqa: ANN401 - any YAML
        parent = path[:-1]
        siblings = list(self.value(parent) or {}) if parent else list(self.values)
        indent = self._indent((*parent, siblings[0])) if siblings else ""
        written = self._written(path, value, indent)
        if not siblings:
            return self._on_top(written)
        after = [name for name in siblings if parent or _place(name) < _place(path[0])]
        if not after:
            first, _ = self._lines((*parent, siblings[0]))
            return self.text[:first] + written + self.text[first:]
        near = after[-1] if parent else max(after, key=_place)
        _, last = self._lines((*parent, near))
        gap = "" if self.text[:last].endswith("\n") else self._break
        return self.text[:last] + gap + written + self.text[last:]

    def _on_top(self, written: str) -> str:
        """Return the cell with the first key of its header."""
        if self._begun == 0:
            return f"{written}{_MARK}{self._break}{self.text}"
        head = self.text[: self._end_of_header]
        gap = self._break if head.strip() and not head.endswith("\n") else ""
        return f"{head}{gap}{written}{self.text[len(head) :]}"

    def _lines(self, path: Path) -> tuple[int, int]:
        """Return where the lines of a key begin and end, the line break included."""
        key, _, end = self._document.span(path)
        first = self.text.rfind("\n", 0, key) + 1
        stop = key + len(self.text[key:end].rstrip())
        following = self.text.find("\n", stop)
        return first, len(self.text) if following < 0 else following + 1

    def _indent(self, path: Path) -> str:
        key = self._document.span(path)[0]
        return self.text[self.text.rfind("\n", 0, key) + 1 : key]

    def _written(self, path: Path, value: Any, indent: str) -> str:  # noqa: ANN401 - any YAML
        value = _plain(path, value)
        lines = entry(path[0], value) if len(path) == 1 else [inner_entry(path[-1], value)]
        return "".join(f"{indent}{line}{self._break}" for line in lines)

    def _anew(self, values: dict[str, Any]) -> str:
        lines = [line for key, value in values.items() for line in entry(key, _plain((key,), value))]
        header = "".join(f"{line}{self._break}" for line in lines) or "{}" + self._break
        return header if self.code is None else f"{header}{_MARK}{self._break}{self.code}"


def opened(text: str) -> CellText:
    """Return the cell for editing; of an older form (`spec.cell`), the same in today's keys. Raises SpecError."""
    made = CellText(text)
    if not text.lstrip().startswith("```") and not cells.is_older(text):
        _ = made.values
        return made
    asked = cells.read(text)
    if len(asked) > 1:
        raise SpecError([Problem("the cell asks for several runs", "paste one of them alone")])
    return CellText(cells.write(asked[0].spec))


def _place(key: str) -> int:
    return KEYS.index(key) if key in KEYS else -1


def _changed(values: dict[str, Any], path: Path, value: Any) -> dict[str, Any]:  # noqa: ANN401 - any YAML
    made = deepcopy(values)
    inner = made
    for step in path[:-1]:
        if not isinstance(inner.get(step), dict):
            inner[step] = {}
        inner = inner[step]
    if value is None:
        inner.pop(path[-1], None)
    else:
        inner[path[-1]] = _spelled(value) if path[0] in TEXT_FIELDS else value
    return made


def _spelled(value: Any) -> Any:  # noqa: ANN401 - any YAML
    """Return a value of a key whose values are text, as it is read back."""
    if isinstance(value, dict):
        return {key: _spelled(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_spelled(item) for item in value]
    return value if isinstance(value, str) or value is None else json.dumps(value)


def _plain(path: Path, value: Any) -> Any:  # noqa: ANN401 - any YAML
    return _spelled(value) if path[0] in TEXT_FIELDS else value


def _same(one: Any, other: Any) -> bool:  # noqa: ANN401 - any YAML
    """1, 1.0 and true are three values here; the order of keys says nothing."""
    return json.dumps(one, sort_keys=True) == json.dumps(other, sort_keys=True)
