"""What is decided, as frozen values. A backend needs nothing but a Plan to render files and launch.

Words of a command are not plain text: a Word is a tuple of parts, each literal text or a Slot that only the backend
can fill (which python, which port). Text that a user wrote can therefore never be taken for a slot, and nothing is
ever joined into a line that a shell would read.
"""

from __future__ import annotations

import enum
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping

    from jupyter_gpudeploy.samplers.base import Axis, Params, Scalar

Kind = Literal["job", "sweep", "server", "manual"]


class Slot(enum.StrEnum):
    """What a backend fills in when it starts a task."""

    PYTHON = "python"  # the interpreter
    CODE = "code"  # the folder that holds Plan.files
    SOURCES = "sources"  # the notebook's folder, as the task sees it
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


class Note(NamedTuple):
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


class Resources(NamedTuple):
    """What one task asks for. None = whatever there is. `cpu` in processors, `memory` in bytes."""

    gpus: int = 0
    cpu: float | None = None
    memory: int | None = None


class Metric(NamedTuple):
    """What a comparison is about."""

    name: str
    goal: Literal["minimize", "maximize"]


class SecretRef(NamedTuple):
    """Where a secret's value is to be found when a task starts; never the value."""

    source: Literal["env", "file", "cluster"]
    key: str


class Health(NamedTuple):
    """How a server says that it can take requests.

    `path` None: a listening socket of ours is enough. `strict`: only 2xx and 3xx are well, else anything below 500.
    """

    path: str | None = "/"
    strict: bool = False
    startup_seconds: float = 600.0


class Service(NamedTuple):
    """How a server is reached. `port` is the wish; a backend that cannot have it takes another and says why."""

    port: int
    health: Health
    path: str = "/"
    preset: str = "command"


class Task(NamedTuple):
    """One process to run: a trial of a sweep, the one task of a job, a replica of a server."""

    number: int
    name: str
    argv: Argv
    parameters: Mapping[str, Scalar] = MappingProxyType({})
    environment: Mapping[str, str] = MappingProxyType({})
    metric_files: tuple[Word, ...] = ()


class Warm(NamedTuple):
    """Fork each task from a template that has already imported `preload`. `script` is the program, run as __main__."""

    script: Word
    preload: tuple[str, ...] = ()


class Template(NamedTuple):
    """How a point becomes the command of a trial: fixed words, then those in which parameters are placed.

    `append`: parameters that stand nowhere follow as options. `flags` and `options` are spellings of options.
    """

    lead: Argv
    words: tuple[str, ...] = ()
    append: bool = True
    flags: Mapping[str, tuple[str, str]] = MappingProxyType({})
    options: Mapping[str, str] = MappingProxyType({})
    metric_files: tuple[str, ...] = ()


class Search(NamedTuple):
    """How the points of a sweep are chosen while it runs. `first`: those that depend on no trial, to be shown."""

    method: str
    space: Mapping[str, Axis]
    seed: int
    template: Template
    first: tuple[Params, ...] = ()


class Source(NamedTuple):
    """A file of the user's that runs in place. `sha256` is of its bytes when the plan was made."""

    path: str
    sha256: str


class Git(NamedTuple):
    """The commit of a repository whose files stand for the notebook's folder. `ref`: the name that led to it, or ""."""

    url: str
    commit: str
    ref: str = ""
    path: str = ""

    def __str__(self) -> str:
        named = f"{self.ref}, " if self.ref else ""
        return f"{self.url} at {named}commit {self.commit[:12]}" + (f", its folder {self.path}" if self.path else "")


class Target(NamedTuple):
    """What is known of the cluster before anything is sent to it: its profile, and what was found there last time.

    `kinds` are the optional kinds it serves (Route, JobSet, LocalQueue, ...); None = not known yet. `queues` are
    the LocalQueues of the namespace; None = not known. The others are what a cell gets that does not say it itself.
    """

    cluster: str
    namespace: str
    flavour: Literal["kubernetes", "openshift"] = "kubernetes"
    kinds: frozenset[str] | None = None
    image: str = ""
    gpu_resource: str = "nvidia.com/gpu"
    gpu_types: Mapping[str, str] = MappingProxyType({})
    gpu_label: str = "nvidia.com/gpu.product"
    node_selector: Mapping[str, str] = MappingProxyType({})
    tolerations: tuple[str, ...] = ()
    queue: str | None = None
    priority: str | None = None
    storage: str | None = None
    storage_class: str | None = None
    image_pull_secrets: tuple[str, ...] = ()
    service_account: str | None = None
    expose: str | None = None
    gateway: str | None = None
    monitoring: str | None = None
    queues: frozenset[str] | None = None


class ClusterOptions(NamedTuple):
    """What is decided for a cluster alone: the cell's word, else the target's, else a default.

    `storage`: a size ("10Gi": a claim of the run's name, kept after it) or `claim:NAME`. `upload`: patterns below the
    notebook's folder; None = decided by its size; () = nothing. `tolerations`: `key`, `key=value`, `key=value:Effect`.
    `expose`: forward, route, httproute, ingress or loadbalancer. Times in seconds.
    """

    image: str
    gpu_resource: str = "nvidia.com/gpu"
    device_class: str | None = None
    node_selector: Mapping[str, str] = MappingProxyType({})
    tolerations: tuple[str, ...] = ()
    queue: str | None = None
    priority: str | None = None
    storage: str | None = None
    storage_class: str | None = None
    shm: int | None = None
    schedule: str | None = None
    time_zone: str | None = None
    keep_seconds: float = 7 * 86400.0
    expose: str = "forward"
    host: str | None = None
    gateway: str | None = None
    image_pull_secrets: tuple[str, ...] = ()
    service_account: str | None = None
    upload: tuple[str, ...] | None = None
    nodes: int = 1
    replicas: int = 1


class Plan(NamedTuple):
    """Everything that was decided. `fingerprint` is the same exactly when the same would be run.

    `base` is the notebook's folder, `Slot.SOURCES` to a task; with `git`, the folder that holds its files. `target` and
    `cluster` are None on this machine.
    """

    name: str
    title: str
    kind: Kind
    backend: str
    tasks: tuple[Task, ...]
    fingerprint: str
    parallelism: int = 1
    resources: Resources = Resources()
    files: Mapping[str, str] = MappingProxyType({})
    environment: Mapping[str, str] = MappingProxyType({})
    secrets: Mapping[str, SecretRef] = MappingProxyType({})
    requirements: tuple[str, ...] = ()
    working_dir: str = "."
    max_seconds: float | None = None
    idle_seconds: float | None = None
    retries: int = 0
    service: Service | None = None
    metric: Metric | None = None
    warm: Warm | None = None
    sources: tuple[Source, ...] = ()
    notes: tuple[Note, ...] = ()
    cell: str = ""
    spec: Mapping[str, Any] = MappingProxyType({})
    base: str = "."
    target: Target | None = None
    cluster: ClusterOptions | None = None
    search: Search | None = None
    git: Git | None = None

    @property
    def errors(self) -> tuple[Note, ...]:
        """The notes that forbid launching."""
        return tuple(note for note in self.notes if note.level == "error")
