"""What one must know of a server to start it, ask whether it is well, and read its metrics."""

from __future__ import annotations

from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, NamedTuple, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence


class ServeSpec(Protocol):
    """What a preset reads of a cell. `words` are the user's own further arguments, already split."""

    @property
    def model(self) -> str | None:
        """What `model:` says."""

    @property
    def app(self) -> str:
        """The attribute that holds an application, `app` unless said otherwise."""

    @property
    def gpus(self) -> int:
        """GPUs of one replica, on each of its machines."""

    @property
    def nodes(self) -> int:
        """Machines of one replica."""

    @property
    def program(self) -> str | None:
        """The module file of the application, relative to the code folder or absolute; None for a command."""

    @property
    def words(self) -> Sequence[str]:
        """Further arguments."""


class Container(NamedTuple):
    """What is to be known of a server's own image, to run the server in it on a cluster.

    `entry_point`: the leading words of `command` that stand for the image's entry point. `user`, `group`: who it runs
    as where the cluster does not choose. `environment`: what is set beside the preset's own. `caches`: variables, each
    with the folder below the cache that it names. `startup_variable`: names the seconds that loading may take. `drain`:
    words that make it finish its requests when it is to end, for `drain_seconds`. `together`: further words of a server
    on several machines, `worker`: of all but the first; in them {nodes}, {rank}, {leader} (its address) and {port} are
    filled in. A server without them runs on one machine.
    """

    entry_point: tuple[str, ...] = ()
    user: int = 1000
    group: int = 1000
    environment: Mapping[str, str] = MappingProxyType({})
    caches: Mapping[str, str] = MappingProxyType({"HF_HOME": "hf"})
    startup_variable: str = ""
    drain: tuple[str, ...] = ()
    drain_seconds: int = 60
    together: tuple[str, ...] = ()
    worker: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ServerPreset:
    """One server. In `command`, `{python}`, `{code}`, `{host}` and `{port}` are filled in by the backend.

    `metric_names` maps our column to the names the server has used for it, newest first. `api_key_env`: the variable
    from which it takes the key that callers must bear; `api_key_flag`: the option, where there is no variable.
    """

    command: Callable[[ServeSpec], tuple[str, ...]]
    port: int = 8000
    health_live: str | None = "/health"
    health_ready: str | None = "/health"
    strict_health: bool = True
    startup_seconds: float = 600.0
    metrics_path: str | None = None
    metrics_port: int | None = None
    metric_names: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    environment: Mapping[str, str] = field(default_factory=dict)
    image: str = ""
    container: Container | None = None
    api_key_env: str = ""
    api_key_flag: str = ""
    needs_module: str | None = None
    """The Python module without which it cannot start on this machine."""
    needs_command: str | None = None
    """The program that must be on PATH."""
    takes_code: bool = False
    """Whether the application may come in the cell or from a file."""
    warning: str = ""


def application_server(framework: str) -> ServerPreset:
    """Return the preset of a Python web framework whose application comes in the cell or in a file.

    Its launcher is `programs/<framework>_app.py`. Such a framework has no health route of its own: any answer below
    500 on `/` counts as well, unless the cell names `health:`.
    """

    def command(spec: ServeSpec) -> tuple[str, ...]:
        launcher = f"jupyter_gpudeploy.programs.{framework}_app"
        return ("{python}", "-m", launcher, spec.program or "", spec.app, "{host}", "{port}", *spec.words)

    return ServerPreset(
        command=command,
        health_live="/",
        health_ready="/",
        strict_health=False,
        startup_seconds=300,
        needs_module=framework,
        takes_code=True,
    )
