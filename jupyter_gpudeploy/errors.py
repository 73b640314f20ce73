"""Every error this package raises, in one tree.

::

    GpuDeployError            message + hint (the way out)
    ├── SpecError             the cell is wrong; carries every Problem with its line and column
    ├── PlanError             the cell is right and cannot be done here; carries the plan's error notes
    ├── RunNotFoundError      no run of that name
    ├── RunExistsError        a run of that name is there and differs; carries what differs
    ├── RunFailedError        a run that was waited for ended badly
    ├── WaitTimeoutError      a run that was waited for is still alive
    ├── NotConfirmedError     a destructive verb without its confirmation
    └── BackendError          the backend could not do it

In a notebook each renders as its message and its way out, not as a traceback: `_render_traceback_` is
IPython's own hook (IPython.core.interactiveshell, `showtraceback`). It stays an exception, so nbval,
nbclient and papermill see the cell fail.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence


class GpuDeployError(Exception):
    """The root: `message` says what and where, `hint` the way out."""

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message}\n  → {self.hint}" if self.hint else self.message

    def _render_traceback_(self) -> list[str]:
        first, *rest = str(self).splitlines()
        return [f"\x1b[31m{type(self).__name__}\x1b[0m: {first}", *rest]


class Problem(NamedTuple):
    """One mistake in a cell. `line` and `column` count from 1 in the whole cell; 0 = no place known.

    `excerpt` is the offending line and, below it, a caret under the column; empty where the line says nothing.
    """

    message: str
    hint: str = ""
    line: int = 0
    column: int = 0
    field: str = ""
    excerpt: str = ""

    @property
    def located(self) -> str:
        """The message behind its place: `line 3:7: gpus must be 0 or more, not -1`."""
        return f"line {self.line}:{self.column}: {self.message}" if self.line else self.message

    def __str__(self) -> str:
        return f"{self.located}  → {self.hint}" if self.hint else self.located


class SpecError(GpuDeployError):
    """The text of the cell is wrong. All mistakes at once, in the order of their lines."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        self.problems = tuple(sorted(problems, key=lambda problem: (problem.line, problem.column)))
        if len(self.problems) == 1:
            only = self.problems[0]
            drawn = "".join(f"\n    {line}" for line in only.excerpt.splitlines())
            super().__init__(only.located + drawn, hint=only.hint)
        else:
            lines = "\n".join(f"  {problem}" for problem in self.problems)
            super().__init__(f"{len(self.problems)} mistakes in the cell\n{lines}")

    def __reduce__(self) -> tuple[type[SpecError], tuple[tuple[Problem, ...]]]:
        return type(self), (self.problems,)


class PlanError(GpuDeployError):
    """The cell is understood and cannot be carried out here."""


class RunNotFoundError(GpuDeployError):
    """No run of that name is known to the backend."""


class RunExistsError(GpuDeployError):
    """A run of that name exists and is not the one asked for."""


class RunFailedError(GpuDeployError):
    """A run that was waited for did not succeed."""


class WaitTimeoutError(GpuDeployError, TimeoutError):
    """The time given to `wait` is over; the run goes on."""


class NotConfirmedError(GpuDeployError):
    """Something would be deleted or ended, and nobody said yes."""


class BackendError(GpuDeployError):
    """The backend was asked for something and could not do it."""
