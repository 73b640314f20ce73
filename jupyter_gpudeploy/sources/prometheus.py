"""A server's own metrics page, in Prometheus' text format: what its preset names of it, under our names.

A gauge (`queue_depth`, `running`, `kv_cache`) is told as it stands. Of a counter its growth is told, by the second, as
`<name>_per_second`; of a histogram or summary the mean of what was added since the last look. Where nothing was added,
nothing is known, and nothing is told.
"""

from __future__ import annotations

import http.client
import math
import re
import time
import urllib.error
import urllib.request
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import urlsplit

from jupyter_gpudeploy.events.types import MetricPoint
from jupyter_gpudeploy.programs._idle import OWN_ADDRESS
from jupyter_gpudeploy.sources.base import TIME_OUT

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

_SHARES = frozenset({"kv_cache"})  # of several engines the mean; of what is counted the sum
_LABEL = re.compile(r'([a-zA-Z_][a-zA-Z0-9_]*)\s*=\s*"((?:[^"\\]|\\.)*)"')
_LINE = r"^({names})(_sum|_count)?(?:\{{(.*)\}})?[ \t]+(\S+)"
_TYPE = re.compile(r"^#[ \t]+TYPE[ \t]+(\S+)[ \t]+(\w+)", re.MULTILINE)
_COUNTERS = ("_total", "_sum", "_count")
_MOST_BYTES = 1 << 24


class Line(NamedTuple):
    """One line of a page. `part` is `_sum`, `_count` or empty."""

    name: str
    part: str
    labels: Mapping[str, str]
    value: float


class Prometheus:
    """One server's page. `names`: ours -> what the server has called it, newest first (ServerPreset.metric_names)."""

    def __init__(
        self,
        fetch: Callable[[], str],
        task: int,
        names: Mapping[str, tuple[str, ...]],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.trouble = ""
        self._fetch: Callable[[], str] | None = fetch
        self._task = task
        self._names = dict(names)
        self._pattern = pattern([name for aliases in names.values() for name in aliases])
        self._clock = clock
        self._last: dict[tuple[str, str], float] = {}
        self._has_names = False
        self._last_at = 0.0

    def look(self) -> list[MetricPoint]:
        """Ask for the page, and return what is known by it."""
        if self._fetch is None or not self._names:
            return []
        try:
            text = self._fetch()
        except (OSError, ValueError) as error:
            self.trouble = f"the metrics page does not answer: {error}"
            self._last = {}
            return []
        values = self._values(text)
        self.trouble = "" if self._has_names else "the metrics page has none of the expected names"
        now = time.time()
        return [MetricPoint(self._task, name, value, time=now, source="server") for name, value in values.items()]

    def close(self) -> None:
        """Ask no more."""
        self._fetch = None

    def _values(self, text: str) -> dict[str, float]:
        types = dict(_TYPE.findall(text))
        sums = _sums(parse(text, self._pattern))
        moment = self._clock()
        seconds, before = moment - self._last_at, self._last
        self._last, self._last_at = {key: value for key, (value, _) in sums.items()}, moment

        def grown(name: str, part: str) -> float | None:
            """Return by how much a counter has grown; None at the first look, and after a restart."""
            key = name, part
            return self._last[key] - before[key] if before.get(key, math.inf) <= self._last[key] else None

        found: dict[str, float | None] = {}
        for ours, aliases in self._names.items():
            for name in aliases:
                if (name, "_sum") in sums and (name, "_count") in sums:
                    count = grown(name, "_count")
                    total = grown(name, "_sum")
                    found[ours] = total / count if count and total is not None else None
                elif (name, "") in sums and _is_counter(name, types):
                    more = grown(name, "")
                    found[f"{ours}_per_second"] = more / seconds if more is not None and seconds > 0 else None
                elif (name, "") in sums:
                    value, lines = sums[name, ""]
                    found[ours] = value / lines if ours in _SHARES else value
                else:
                    continue
                break
        self._has_names = bool(found)
        return {name: value for name, value in found.items() if value is not None and math.isfinite(value)}


class _FromOurAddress(urllib.request.HTTPHandler):
    """Asks from an address by which a reading is told from a request: it does not keep an idle server up."""

    def http_open(self, req: urllib.request.Request) -> http.client.HTTPResponse:
        return self.do_open(http.client.HTTPConnection, req, source_address=(OWN_ADDRESS, 0))


def fetcher(url: str, headers: Mapping[str, str] | None = None, time_out: float = TIME_OUT) -> Callable[[], str]:
    """Return what asks for a page of this machine, past any proxy. Raises OSError or ValueError when it is called."""
    if not url.startswith(("http://", "https://")):
        raise ValueError(f"{url!r:.200} is no address of a page")
    is_here = urlsplit(url).hostname == "127.0.0.1"
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), *([_FromOurAddress()] if is_here else []))
    request = urllib.request.Request(url, headers=dict(headers or {}))  # noqa: S310 - its scheme was looked at

    def fetch() -> str:
        with opener.open(request, timeout=time_out) as answer:
            return str(answer.read(_MOST_BYTES).decode("utf-8", "replace"))

    return fetch


def pattern(names: Sequence[str]) -> re.Pattern[str]:
    """Return what finds the lines of these names in a page; longer names before those that they begin with."""
    ordered = sorted(names, key=len, reverse=True)
    return re.compile(_LINE.format(names="|".join(map(re.escape, ordered)) or "(?!)"), re.MULTILINE)


def parse(text: str, wanted: re.Pattern[str]) -> Iterable[Line]:
    """Yield the lines of a page that `pattern` finds; a value that is no number is left out."""
    for name, part, labels, value in wanted.findall(text):
        try:
            yield Line(name, part, dict(_LABEL.findall(labels)), float(value))
        except ValueError:
            continue


def _sums(lines: Iterable[Line]) -> dict[tuple[str, str], tuple[float, int]]:
    """Return the sum over all labels, and of how many lines, by name and part."""
    found: dict[tuple[str, str], tuple[float, int]] = {}
    for line in lines:
        if math.isfinite(line.value):
            value, count = found.get((line.name, line.part), (0.0, 0))
            found[line.name, line.part] = value + line.value, count + 1
    return found


def _is_counter(name: str, types: Mapping[str, str]) -> bool:
    kind = types.get(name) or types.get(name.removesuffix("_total"))
    return kind == "counter" if kind else name.endswith(_COUNTERS)


EXPORT = Prometheus
