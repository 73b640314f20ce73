"""Where measurements of a task on a cluster come from: its log, and a server's own metrics page."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from jupyter_gpudeploy.errors import BackendError
from jupyter_gpudeploy.registry import Family
from jupyter_gpudeploy.sources.prometheus import Prometheus, fetcher
from jupyter_gpudeploy.sources.recorded import Recorded

if TYPE_CHECKING:
    from collections.abc import Callable

    from jupyter_gpudeploy.backends.kubernetes.layout import MirrorFolder
    from jupyter_gpudeploy.servers.base import ServerPreset
    from jupyter_gpudeploy.sources.base import MetricSource


def sources(folder: MirrorFolder, task: int, forward: Callable[[int], str]) -> tuple[MetricSource, ...]:
    """Return the sources of a task. `forward` leads to a port of it; it is called when the page is looked at.

    What a pod measures of itself comes through its log and is in the folder, and so is what its GPUs are seen to do
    where nothing of ours runs in it (mirror/gauges.py). Beside that a server tells of itself, on its page.
    """
    service: dict[str, Any] = folder.record()["service"] or {}
    recorded = Recorded(folder, task)
    if not service:
        return (recorded,)
    preset: ServerPreset = Family("jupyter_gpudeploy.servers").load(str(service["preset"]))
    if not preset.metrics_path or not preset.metric_names:
        return (recorded,)
    port, path = preset.metrics_port or int(service["port"]), preset.metrics_path

    def fetch() -> str:
        try:
            return fetcher(f"{forward(port)}{path}")()
        except BackendError as error:
            raise ConnectionError(error.message) from error

    return recorded, Prometheus(fetch, task, preset.metric_names)
