"""A header that is read and not yet checked: values by key, and where in the cell each was written."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence

    from jupyter_gpudeploy.errors import Problem
    from jupyter_gpudeploy.spec.models import Remark
    from jupyter_gpudeploy.spec.yaml import Document, Path


class Source(NamedTuple):
    """Where the value of a key was written: a fixed place, or a path into a document. `label` is its name there."""

    label: str
    line: int = 0
    column: int = 0
    document: Document | None = None
    path: Path = ()

    @classmethod
    def within(cls, document: Document, path: Path) -> Source:
        """Return the source that is `path` in `document`."""
        return cls(dotted(path), *document.where_value(path), document, path)

    def at(self, rest: Sequence[str | int], *, key: bool = False) -> tuple[str, tuple[int, int]]:
        """Return the label and the place of a part of the value (of its key, if `key`).

        `rest` may name steps that the cell does not have, such as the `values` of a short form; they are passed over.
        """
        if self.document is None:
            return dotted((self.label, *rest)), (self.line, self.column)
        value = self.document.value
        for part in self.path:
            value = value[part]
        path = (*self.path, *reachable(value, rest))
        return dotted(path), self.document.where(path) if key else self.document.where_value(path)


class Draft:
    """Values as the schema names them, and what is wrong already. `start` is the line of the cell where this begins."""

    def __init__(
        self, start: int = 1, values: dict[str, Any] | None = None, sources: dict[str, Source] | None = None
    ) -> None:
        self.start = start
        self.values = {} if values is None else values
        self.sources = {} if sources is None else sources
        self.remarks: list[Remark] = []
        self.problems: list[Problem] = []

    def put(self, key: str, value: Any, source: Source) -> None:  # noqa: ANN401 - anything may stand in a cell
        """Set a key."""
        self.values[key] = value
        self.sources[key] = source

    def source(self, key: str) -> Source:
        """Return where `key` was written; the beginning for one that was not."""
        return self.sources.get(key, Source(key, self.start, 1))


def dotted(path: Sequence[str | int]) -> str:
    """Return a path as people write it: `parameters.lr[2]`."""
    text = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path)
    return text.removeprefix(".")


def reachable(value: Any, steps: Sequence[str | int]) -> Path:  # noqa: ANN401 - any YAML
    """Return the steps that lead further into `value`, without those it does not have."""
    path: list[str | int] = []
    for step in steps:
        is_item = isinstance(value, list) and isinstance(step, int) and step < len(value)
        if is_item or (isinstance(value, dict) and step in value):
            value = value[step]
            path.append(step)
    return tuple(path)
