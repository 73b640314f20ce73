"""The YAML of a header: safe, with the scalars of YAML 1.2, and every value with its place in the cell.

PyYAML reads the text into nodes; the values are made here, from a table of YAML 1.2 core scalars (yaml.org/spec/1.2.2,
section 10.3.2) that differs from PyYAML's 1.1 where people stumble: `1e-3` is a number, `no` and `on` are text, and so
are dates and `12:30:00`; `017` is the number 17, octal is `0o17`. Keys are always text, as they are written.

Refused, before anything is built from it: tags, a key that stands twice, aliases that contain themselves or unfold to
more than MAX_NODES values, and more than MAX_DEPTH levels.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import yaml
from yaml.composer import Composer
from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode
from yaml.parser import Parser
from yaml.reader import Reader, ReaderError
from yaml.resolver import BaseResolver
from yaml.scanner import Scanner

from jupyter_gpudeploy.errors import Problem, SpecError
from jupyter_gpudeploy.patterns import lazy
from jupyter_gpudeploy.spec.lines import Lines
from jupyter_gpudeploy.spec.yaml_errors import in_plain_words

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from yaml.error import Mark

Path = tuple[str | int, ...]
MAX_DEPTH = 50
MAX_NODES = 10_000

_NULL = frozenset({"", "~", "null", "Null", "NULL"})
_BOOLEAN = {"true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False}
_INTEGER = lazy(r"[-+]?[0-9]+")
_OTHER_BASE = lazy(r"0o[0-7]+|0x[0-9a-fA-F]+")
_FLOAT = lazy(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?")
_INFINITE = lazy(r"([-+]?)\.(?:inf|Inf|INF)")
_NAN = frozenset({".nan", ".NaN", ".NAN"})
_LONGEST_NUMBER = 1000


def scalar(text: str) -> str | int | float | bool | None:
    """Return what an unquoted YAML 1.2 scalar means."""
    if text in _NULL:
        return None
    if text in _BOOLEAN:
        return _BOOLEAN[text]
    return text if len(text) > _LONGEST_NUMBER else _number(text)


def _number(text: str) -> str | int | float:
    if _INTEGER.fullmatch(text):
        return int(text)
    if _OTHER_BASE.fullmatch(text):
        return int(text, 0)
    if _FLOAT.fullmatch(text):
        return float(text)
    if match := _INFINITE.fullmatch(text):
        return float(f"{match[1]}inf")
    return float("nan") if text in _NAN else text


class _Place(NamedTuple):
    key: tuple[int, int]
    value: tuple[int, int]
    text: str | None
    span: tuple[int, int, int] = (0, 0, 0)
    is_block: bool = False


class Document:
    """What was read. `value` is plain dicts, lists and scalars; None for an empty text."""

    def __init__(self, value: Any, places: dict[Path, _Place], lines: Lines) -> None:  # noqa: ANN401 - any YAML
        self.value = value
        self.lines = lines
        self._places = places

    def where(self, path: Path) -> tuple[int, int]:
        """Return the line and column of the key (or list item) at `path`, or of the nearest one above it."""
        return self._place(path).key

    def where_value(self, path: Path) -> tuple[int, int]:
        """Return the line and column of the value at `path`, or of the nearest one above it."""
        return self._place(path).value

    def span(self, path: Path) -> tuple[int, int, int]:
        """Return the indices of the text at which the key (or item) at `path`, its value, and its value's end are.

        Behind a block scalar, the end may be that of the empty lines below it. Where an alias stands, the value is
        elsewhere in the text, before its key.
        """
        return self._places[path].span

    def is_block(self, path: Path) -> bool:
        """Return whether what is at `path` is a mapping or a list without brackets, each item on lines of its own."""
        return self._places[path].is_block

    def as_text(self, path: Path) -> Any:  # noqa: ANN401 - any YAML
        """Return the value at `path` with every scalar but null as it is spelled: `1.10` stays `1.10`."""
        value = self.value
        for part in path:
            value = value[part]
        return self._spelled(value, path)

    def _spelled(self, value: Any, path: Path) -> Any:  # noqa: ANN401 - any YAML
        if isinstance(value, dict):
            return {key: self._spelled(item, (*path, key)) for key, item in value.items()}
        if isinstance(value, list):
            return [self._spelled(item, (*path, index)) for index, item in enumerate(value)]
        return None if value is None else self._places[path].text

    def _place(self, path: Path) -> _Place:
        while path not in self._places and path:
            path = path[:-1]
        return self._places.get(path, _Place((self.lines.first, 1), (self.lines.first, 1), None))


def load(text: str, first_line: int = 1) -> Document:
    """Return what `text` says. Its first line is line `first_line` of the cell. Raises SpecError."""
    lines = Lines(text, first_line)
    builder = _Builder(lines)
    problems: list[Problem] = []
    value = None
    try:
        node = _Loader(text).get_single_node()
        if node is not None:
            _measure(node)
            value = builder.build(node, ())
            problems = builder.problems
    except _RefusedError as refused:
        problems = [_problem(lines, refused.message, refused.hint, refused.mark.index)]
    except ReaderError as error:
        message = f"the character {chr(int(error.character))!r} is not allowed"
        problems = [_problem(lines, message, "delete it; in a text write it as \\x.. in double quotes", error.position)]
    except yaml.MarkedYAMLError as error:
        problems = [_problem(lines, *in_plain_words(error, text))]
    if problems:
        raise SpecError(problems)
    return Document(value, builder.places, lines)


def _problem(lines: Lines, message: str, hint: str, index: int) -> Problem:
    line, column = lines.place(index)
    return Problem(message, hint, line, column, excerpt=lines.excerpt(line, column))


class _RefusedError(Exception):
    def __init__(self, message: str, hint: str, mark: Mark) -> None:
        super().__init__(message)
        self.message, self.hint, self.mark = message, hint, mark


class _Loader(Reader, Scanner, Parser, Composer, BaseResolver):
    """PyYAML's composer, stopped before a level too deep (its own recursion would end in RecursionError)."""

    def __init__(self, text: str) -> None:
        Reader.__init__(self, text)
        Scanner.__init__(self)
        Parser.__init__(self)
        Composer.__init__(self)
        BaseResolver.__init__(self)
        self._depth = 0

    def compose_node(self, parent: Node | None, index: int) -> Node | None:
        event = self.peek_event()  # type: ignore[no-untyped-call]
        if getattr(event, "tag", None) is not None:
            raise _RefusedError("tags are not allowed", "delete the word that begins with !", event.start_mark)
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise _RefusedError(f"nested deeper than {MAX_DEPTH} levels", "a header is flat", event.start_mark)
        node: Node | None = super().compose_node(parent, index)
        self._depth -= 1
        return node

    def resolve(self, kind: type[Node], value: Any, implicit: Any) -> str:  # noqa: ANN401, ARG002 - PyYAML's signature
        return ""  # the values are made from the nodes, without tags


def _measure(root: Node) -> None:
    """Raise _RefusedError for what unfolds too far.

    An alias points back, so its node is measured already, or still open when it contains itself.
    """
    measured: dict[int, tuple[int, int] | None] = {}

    def visit(node: Node) -> tuple[int, int]:
        if id(node) in measured:
            known = measured[id(node)]
            if known is None:
                raise _RefusedError("an alias stands inside the value it stands for", "write it out", node.start_mark)
            return known
        measured[id(node)] = None
        inner = [visit(child) for child in _children(node)]
        size = 1 + sum(count for count, _ in inner)
        depth = 1 + max((deep for _, deep in inner), default=0)
        if size > MAX_NODES:
            message = f"aliases expand to more than {MAX_NODES:,} nodes: refused" if size > len(measured) else (
                f"more than {MAX_NODES:,} values: refused"
            )  # fmt: skip
            raise _RefusedError(message, "a header is short: keep data in a file", node.start_mark)
        if depth > MAX_DEPTH:
            raise _RefusedError(f"nested deeper than {MAX_DEPTH} levels", "a header is flat", node.start_mark)
        measured[id(node)] = size, depth
        return size, depth

    visit(root)


def _children(node: Node) -> Iterator[Node]:
    if isinstance(node, SequenceNode):
        yield from node.value
    elif isinstance(node, MappingNode):
        for key, value in node.value:
            yield key
            yield value


def _end(node: Node) -> int:
    """Return the index behind the value; PyYAML ends a block only where something else begins."""
    while isinstance(node, SequenceNode | MappingNode) and not node.flow_style and node.value:
        last = node.value[-1]
        node = last[1] if isinstance(node, MappingNode) else last
    return int(node.end_mark.index)


class _Builder:
    """Makes values from nodes. An alias is built anew wherever it stands, so nothing is shared."""

    def __init__(self, lines: Lines) -> None:
        self.places: dict[Path, _Place] = {}
        self.problems: list[Problem] = []
        self._lines = lines

    def build(self, node: Node, path: Path, key: Node | None = None) -> Any:  # noqa: ANN401 - any YAML
        text = node.value if isinstance(node, ScalarNode) else None
        span = ((key or node).start_mark.index, node.start_mark.index, _end(node))
        is_block = isinstance(node, SequenceNode | MappingNode) and not node.flow_style
        self.places[path] = _Place(self._where(key or node), self._where(node), text, span, is_block)
        if isinstance(node, ScalarNode):
            return scalar(node.value) if node.style is None else node.value
        if isinstance(node, SequenceNode):
            return [self.build(item, (*path, index)) for index, item in enumerate(node.value)]
        return {name: self.build(value, (*path, name), at) for name, (at, value) in self._pairs(node).items()}

    def _pairs(self, node: Node) -> dict[str, tuple[Node, Node]]:
        own: dict[str, tuple[Node, Node]] = {}
        merged: dict[str, tuple[Node, Node]] = {}
        merge: Node | None = None
        for key, value in node.value:
            is_merge = isinstance(key, ScalarNode) and key.style is None and key.value == "<<"
            name = self._name(key)
            first = merge if is_merge else own[name][0] if name in own else None
            if first is not None:
                self._twice(name, key, first)
            elif is_merge:
                merge = key
                for base in self._bases(value):
                    merged = {**self._pairs(base), **merged}
            else:
                own[name] = key, value
        return {**merged, **own}

    def _name(self, key: Node) -> str:
        if isinstance(key, ScalarNode) and key.value:
            return str(key.value)
        self._wrong("a key must be plain text", "write key: value; put text with { or [ in quotes", key)
        return ""

    def _bases(self, value: Node) -> Sequence[MappingNode]:
        bases = value.value if isinstance(value, SequenceNode) else [value]
        if all(isinstance(base, MappingNode) for base in bases):
            return list(bases)
        self._wrong("<<: takes in a mapping, and this is none", "<<: *name, where &name marks a mapping", value)
        return []

    def _twice(self, name: str, key: Node, first: Node) -> None:
        line = self._where(first)[0]
        hint = "<<: [*one, *other]" if name == "<<" else f"keep one of lines {line} and {self._where(key)[0]}"
        self._wrong(f"the key {name!r} stands twice, first on line {line}", hint, key)

    def _wrong(self, message: str, hint: str, node: Node) -> None:
        self.problems.append(_problem(self._lines, message, hint, node.start_mark.index))

    def _where(self, node: Node) -> tuple[int, int]:
        return self._lines.place(node.start_mark.index)
