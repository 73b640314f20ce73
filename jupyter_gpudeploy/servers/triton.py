"""`serve: triton`: `model:` is the model repository. Metrics are on a port of their own, 8002 unless moved."""

from __future__ import annotations

from typing import TYPE_CHECKING

from jupyter_gpudeploy.servers.base import Container, ServerPreset

if TYPE_CHECKING:
    from jupyter_gpudeploy.servers.base import ServeSpec


def _command(spec: ServeSpec) -> tuple[str, ...]:
    place = ("--http-address={host}", "--http-port={port}")
    return ("tritonserver", f"--model-repository={spec.model}", *place, *spec.words)


EXPORT = ServerPreset(
    command=_command,
    health_live="/v2/health/live",
    health_ready="/v2/health/ready",
    startup_seconds=1800,
    metrics_path="/metrics",
    metrics_port=8002,
    metric_names={
        "requests": ("nv_inference_request_success",),
        "errors": ("nv_inference_request_failure",),
        "queue_depth": ("nv_inference_pending_request_count",),
    },
    image="nvcr.io/nvidia/tritonserver:26.07-py3",
    container=Container(),
    needs_command="tritonserver",
)
