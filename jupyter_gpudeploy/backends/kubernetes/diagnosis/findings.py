"""What is found about an object that is not where it should be, and what all who look for it need."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any, NamedTuple

from jupyter_gpudeploy.backends.kubernetes.facts import seconds
from jupyter_gpudeploy.quantities import kubernetes_memory, parse_memory

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

_MAIN = "kubectl.kubernetes.io/default-container"
_LONGEST = 300
_MARKED = "\x1e"
_MINUTE, _HOUR = 60, 3600


class Finding(NamedTuple):
    """Why, in one sentence; `hint` is an edit of the cell, or what else helps. `permanent`: waiting does not help."""

    sentence: str
    hint: str = ""
    permanent: bool = False


def main_container(pod: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the specification of the container that runs the task."""
    containers: Sequence[Mapping[str, Any]] = (pod.get("spec") or {}).get("containers") or [{}]
    wanted = ((pod["metadata"]).get("annotations") or {}).get(_MAIN)
    return next((one for one in containers if one.get("name") == wanted), containers[0])


def container(pod: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """Return the specification of a container, an init container or not, empty where there is none of the name."""
    spec = pod.get("spec") or {}
    every = [*(spec.get("initContainers") or ()), *(spec.get("containers") or ())]
    return next((one for one in every if one.get("name") == name), {})


def statuses(pod: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """Yield what is seen of each container, the init containers first."""
    status = pod.get("status") or {}
    yield from status.get("initContainerStatuses") or ()
    yield from status.get("containerStatuses") or ()


def main_status(pod: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return what is seen of the container that runs the task."""
    seen = (pod.get("status") or {}).get("containerStatuses") or ()
    name = main_container(pod).get("name")
    return next((one for one in seen if one.get("name") == name), {})


def condition(item: Mapping[str, Any], kind: str) -> Mapping[str, Any]:
    """Return a condition of an object, empty where it has none."""
    found = (item.get("status") or {}).get("conditions") or ()
    return next((one for one in found if one.get("type") == kind), {})


def request(pod: Mapping[str, Any], resource: str) -> str:
    """Return how much of a resource the task asks for: a quantity, or empty."""
    asked = main_container(pod).get("resources") or {}
    return str((asked.get("requests") or {}).get(resource) or (asked.get("limits") or {}).get(resource) or "")


def event_time(event: Mapping[str, Any]) -> float:
    """Return when an Event was seen last, in seconds since the epoch; 0 where it does not say."""
    series = event.get("series") or {}
    texts = (series.get("lastObservedTime"), event.get("lastTimestamp"), event.get("eventTime"))
    return max((seconds(text) or 0.0 for text in texts), default=0.0)


def first_time(event: Mapping[str, Any]) -> float:
    """Return when an Event was seen first, in seconds since the epoch; 0 where it does not say."""
    return seconds(event.get("eventTime") or event.get("firstTimestamp")) or event_time(event)


def latest(events: Sequence[Mapping[str, Any]], *reasons: str) -> Mapping[str, Any]:
    """Return the newest Event of these reasons, empty where there is none."""
    found = [event for event in events if event.get("reason") in reasons]
    return max(found, key=event_time, default={})


def shortened(text: str, longest: int = _LONGEST) -> str:
    """Return a text on one line, and not too much of it."""
    plain = " ".join(text.split())
    return plain if len(plain) <= longest else plain[: longest - 1] + "…"


def last_word(message: str) -> str:
    """Return the reason that our own program left as its last word; empty where another program ended."""
    try:
        content = json.loads(message)
    except ValueError:
        return ""
    return str(content.get("reason") or "") if isinstance(content, dict) else ""


def last_line(message: str, *beginnings: str) -> str:
    """Return the last line of what a container printed, or the last that begins so; empty for our own last word."""
    if message.startswith("{"):
        return ""
    lines = [line.partition(_MARKED)[0].strip() for line in message.splitlines()]
    chosen = [line for line in lines if line.startswith(beginnings)] if beginnings else []
    said = chosen or [line for line in lines if line]
    return shortened(said[-1]) if said else ""


def doubled(memory: str) -> str:
    """Return twice a quantity of memory, or empty for what is none."""
    try:
        return kubernetes_memory(2 * parse_memory(memory))
    except ValueError:
        return ""


def duration(seconds_: float) -> str:
    """Return a duration without digits that change at every look: `30 s`, `12 min`, `1 h 05 min`."""
    whole = round(seconds_)
    if whole < _MINUTE:
        return f"{whole} s"
    if whole < _HOUR:
        return f"{whole // _MINUTE} min"
    return f"{whole // _HOUR} h {whole % _HOUR // _MINUTE:02d} min"


def quoted(pattern: str, text: str) -> str:
    """Return the first group of a pattern in a text, empty where it is not there."""
    found = re.search(pattern, text)
    return found[1] if found else ""
