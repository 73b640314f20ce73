"""Places in a cell: an index into the text becomes a line and a column, and a line is drawn with a caret."""

from __future__ import annotations

from bisect import bisect_right

_WIDTH = 100


class Lines:
    """A text that begins at line `first` of its cell. Only a line feed ends a line, as in a notebook."""

    def __init__(self, text: str, first: int = 1) -> None:
        self.text = text
        self.first = first
        self._starts = [0, *(index + 1 for index, character in enumerate(text) if character == "\n")]

    def place(self, index: int) -> tuple[int, int]:
        """Return the line and the column in the cell, both counted from 1."""
        number = bisect_right(self._starts, index) - 1
        return self.first + number, index - self._starts[number] + 1

    def line(self, number: int) -> str:
        """Return a line of the cell without its end; empty for one that is not there."""
        number -= self.first
        if not 0 <= number < len(self._starts):
            return ""
        end = self._starts[number + 1] - 1 if number + 1 < len(self._starts) else len(self.text)
        return self.text[self._starts[number] : end]

    def excerpt(self, line: int, column: int) -> str:
        """Return the line and below it a caret under the column; control characters are drawn as a dot."""
        start = max(0, column - 1 - _WIDTH // 2) if column > _WIDTH else 0
        shown = self.line(line)[start : start + _WIDTH]
        drawn = "".join(
            " " if character == "\t" else character if character.isprintable() else "·" for character in shown
        )
        return f"{drawn}\n{' ' * (column - 1 - start)}^"
