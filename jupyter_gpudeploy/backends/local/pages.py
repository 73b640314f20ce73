"""The metrics pages of the servers that run here, each read by a thread of its own, for a page may be slow."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from jupyter_gpudeploy.registry import Family
from jupyter_gpudeploy.sources.prometheus import Prometheus, fetcher

if TYPE_CHECKING:
    from collections.abc import Iterable

    from jupyter_gpudeploy.events.types import MetricPoint
    from jupyter_gpudeploy.servers.base import ServerPreset
    from jupyter_gpudeploy.sources.base import MetricSource

_EVERY_SECONDS = 2.0
_SHARE = 100  # a page is asked for so seldom that making it takes a hundredth of the server's time
_TIME_OUT = 10.0


class Page:
    """One replica's page. What was read last is handed out once."""

    def __init__(self, source: MetricSource) -> None:
        self._source = source
        self._ended = threading.Event()
        self._points: list[MetricPoint] = []
        threading.Thread(target=self._read, name="metrics page", daemon=True).start()

    def take(self) -> list[MetricPoint]:
        """Return what came since this was called last."""
        points, self._points = self._points, []
        return points

    def close(self) -> None:
        """Ask no more."""
        self._ended.set()

    def _read(self) -> None:
        while not self._ended.is_set():
            begun = time.monotonic()
            self._points = list(self._source.look())  # type: ignore[arg-type]  # a page has points alone
            self._ended.wait(max(_EVERY_SECONDS, _SHARE * (time.monotonic() - begun)))


class Pages:
    """The pages that are read now, by the run and its task."""

    def __init__(self) -> None:
        self._servers = Family("jupyter_gpudeploy.servers")
        self._pages: dict[tuple[str, int, str], Page | None] = {}

    def take(self, run: str, task: int, preset: str, url: str) -> list[MetricPoint]:
        """Return what is new of the page of a replica that answers at `url`; nothing where its preset names no page."""
        key = run, task, url
        if key not in self._pages:
            source = self._source(task, preset, url)
            self._pages[key] = None if source is None else Page(source)
        page = self._pages[key]
        return [] if page is None else page.take()

    def keep(self, living: Iterable[tuple[str, int, str]]) -> None:
        """End the reading of all other pages."""
        for key in self._pages.keys() - set(living):
            page = self._pages.pop(key)
            if page is not None:
                page.close()

    def _source(self, task: int, preset: str, url: str) -> Prometheus | None:
        try:
            server: ServerPreset = self._servers.load(preset)
        except Exception:  # noqa: BLE001 - a preset of somebody else's may do anything; other runs go on
            return None
        if not server.metrics_path or not server.metric_names:
            return None
        place = urlsplit(url)
        port = server.metrics_port or place.port
        address = f"http://{place.hostname}:{port}{server.metrics_path}"
        return Prometheus(fetcher(address, time_out=_TIME_OUT), task, server.metric_names)
