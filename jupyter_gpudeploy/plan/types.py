"""What is decided, as frozen values. A backend needs nothing but a Plan to render files and launch.

Words of a command are not plain text: a Word is a tuple of parts, each literal text or a Slot that only the backend
can fill (which python, which port). Text that a user wrote can therefore never be taken for a slot, and nothing is
ever joined into a line that a shell would read.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from collections.abc import Mapping

    from jupyter_gpudeploy.samplers.base import Scalar

Kind = Literal["job", "sweep", "server", "manual"]


class Slot(enum.StrEnum):
    """What a backend fills in when it starts a task."""

    PYTHON = "python"  # the interpreter
    CODE = "code"  # the folder that holds Plan.files
    OUTPUT = "output"  # the folder in which this task may leave files
    HOST = "host"  # the address a server binds to
    PORT = "port"  # the port a server binds to


Word = tuple[str | Slot, ...]
Argv = tuple[Word, ...]


def word(*parts: str | Slot) -> Word:
    """Return a Word of these parts."""
    return parts


def fill(argv: Argv, values: Mapping[Slot, str]) -> list[str]:
    """Return the argv with every slot filled. Raises KeyError for a slot without a value."""
    return ["".join(values[part] if isinstance(part, Slot) else part for part in parts) for parts in argv]


@dataclass(frozen=True, slots=True)
class Note:
    """A decision or a warning that a person should read before anything starts.

    `error`: it cannot be done here, and launching refuses. `warning`: it is done otherwise than asked.
    `info`: a default was chosen.
    """

    level: Literal["info", "warning", "error"]
    field: str
    message: str
    hint: str = ""

    def __str__(self) -> str:
        return f"{self.field}: {self.message}" + (f"  → {self.hint}" if self.hint else "")


@dataclass(frozen=True, slots=True)
class Resources:
    """What one task asks for. None = whatever there is. `cpu` in processors, `memory` in bytes."""

    gpus: int = 0
    cpu: float | None = None
    memory: int | None = None


@dataclass(frozen=True, slots=True)
class Metric:
    """What a comparison is about."""

    name: str
    goal: Literal["minimize", "maximize"]


@dataclass(frozen=True, slots=True)
class SecretRef:
    """Where a secret's value is to be found when a task starts; never the value."""

    source: Literal["env", "file", "cluster"]
    key: str


@dataclass(frozen=True, slots=True)
class Health:
    """How a server says that it can take requests.

    `path` None: a listening socket of ours is enough. `strict`: only 2xx and 3xx are well, else anything below 500.
    """

    path: str | None = "/"
    strict: bool = False
    startup_seconds: float = 600.0


@dataclass(frozen=True, slots=True)
class Service:
    """How a server is reached. `port` is the wish; a backend that cannot have it takes another and says why."""

    port: int
    health: Health
    path: str = "/"
    preset: str = "command"


@dataclass(frozen=True, slots=True)
class Task:
    """One process to run: a trial of a sweep, the one task of a job, a replica of a server."""

    number: int
    name: str
    argv: Argv
    parameters: Mapping[str, Scalar] = field(default_factory=dict)
    environment: Mapping[str, str] = field(default_factory=dict)
    metric_files: tuple[Word, ...] = ()


@dataclass(frozen=True, slots=True)
class Warm:
    """Fork each task from a template that has already imported `preload`. `script` is the program, run as __main__."""

    script: Word
    preload: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Source:
    """A file of the user's that runs in place. `sha256` is of its bytes when the plan was made."""

    path: str
    sha256: str


@dataclass(frozen=True, slots=True)
class Plan:
    """Everything that was decided. `fingerprint` is the same exactly when the same would be run."""

    name: str
    title: str
    kind: Kind
    backend: str
    tasks: tuple[Task, ...]
    fingerprint: str
    parallelism: int = 1
    resources: Resources = Resources()
    files: Mapping[str, str] = field(default_factory=dict)
    environment: Mapping[str, str] = field(default_factory=dict)
    secrets: Mapping[str, SecretRef] = field(default_factory=dict)
    requirements: tuple[str, ...] = ()
    working_dir: str = "."
    max_seconds: float | None = None
    retries: int = 0
    service: Service | None = None
    metric: Metric | None = None
    warm: Warm | None = None
    sources: tuple[Source, ...] = ()
    notes: tuple[Note, ...] = ()
    cell: str = ""
    spec: Mapping[str, Any] = field(default_factory=dict)

    @property
    def errors(self) -> tuple[Note, ...]:
        """The notes that forbid launching."""
        return tuple(note for note in self.notes if note.level == "error")
