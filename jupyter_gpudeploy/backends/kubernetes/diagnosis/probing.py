"""What the probes of a server saw, as words; and how long they let it load."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from jupyter_gpudeploy.backends.kubernetes.diagnosis.findings import main_container, quoted, shortened

if TYPE_CHECKING:
    from collections.abc import Mapping


def startup_budget(pod: Mapping[str, Any]) -> float:
    """Return for how many seconds a server may load; 0 where nothing limits it."""
    probe = main_container(pod).get("startupProbe") or {}
    tries = float(probe.get("failureThreshold", 3)) * float(probe.get("periodSeconds", 10))
    return tries + float(probe.get("initialDelaySeconds", 0)) if probe else 0.0


def what_failed(message: str, pod: Mapping[str, Any]) -> str:
    """Return what a probe saw, as words."""
    said = message.partition("probe failed: ")[2] or message
    code = quoted(r"statuscode: (\d+)", said)
    port = quoted(r"dial tcp \S+:(\d+):", said)
    path = next((path for name in ("startupProbe", "readinessProbe") if (path := _path(pod, name))), "/")
    if code:
        return f"{path} answers {code}"
    if "connection refused" in said and port:
        return f"nothing listens on port {port} yet"
    if "deadline exceeded" in said or "timeout" in said.lower():
        return f"{path} does not answer in time"
    return shortened(said, 160)


def _path(pod: Mapping[str, Any], probe: str) -> str:
    return str(((main_container(pod).get(probe) or {}).get("httpGet") or {}).get("path") or "")
