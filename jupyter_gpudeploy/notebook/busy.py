"""Whether a cell is running: most kernels hear nothing from their widgets until it is done."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    from IPython.core.interactiveshell import InteractiveShell


class Busy:
    """Watches one shell. `is_busy`: from any thread. `on_turn` is called as a cell begins and as it ends."""

    def __init__(self, on_turn: Callable[[], object]) -> None:
        self._on_turn = on_turn
        self._shell: InteractiveShell | None = None
        self._runs = False

    def is_busy(self) -> bool:
        """Return whether a cell is running now."""
        return self._runs

    def watch(self, shell: InteractiveShell) -> None:
        """Begin to watch, from within a cell."""
        if self._shell is not shell:
            self.leave()
            self._shell, self._runs = shell, True
            shell.events.register("pre_execute", self._begins)
            shell.events.register("post_execute", self._ends)

    def leave(self) -> None:
        """Watch no more."""
        shell, self._shell, self._runs = self._shell, None, False
        if shell is not None:
            shell.events.unregister("pre_execute", self._begins)
            shell.events.unregister("post_execute", self._ends)

    def _begins(self, *_: Any) -> None:  # noqa: ANN401 - whatever IPython hands over
        self._runs = True
        self._on_turn()

    def _ends(self, *_: Any) -> None:  # noqa: ANN401 - whatever IPython hands over
        self._runs = False
        self._on_turn()
