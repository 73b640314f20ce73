"""`serve: tensorrt_llm`. Prometheus text is at `/prometheus/metrics`; `/metrics` is a queue that reading empties."""

from __future__ import annotations

from typing import TYPE_CHECKING

from jupyter_gpudeploy.servers.base import Container, ServerPreset

if TYPE_CHECKING:
    from jupyter_gpudeploy.servers.base import ServeSpec


def _command(spec: ServeSpec) -> tuple[str, ...]:
    parallel = ("--tp_size", str(spec.gpus)) if spec.gpus > 1 and "--tp_size" not in spec.words else ()
    return ("trtllm-serve", spec.model or "", "--host", "{host}", "--port", "{port}", *parallel, *spec.words)


EXPORT = ServerPreset(
    command=_command,
    startup_seconds=3600,
    metrics_path="/prometheus/metrics",
    metric_names={
        "requests": ("trtllm_request_success_total", "trtllm_num_requests_completed_total"),
        "latency_seconds": ("trtllm_e2e_request_latency_seconds",),
        "ttft_seconds": ("trtllm_time_to_first_token_seconds",),
        "tpot_seconds": ("trtllm_time_per_output_token_seconds",),
        "output_tokens": ("trtllm_generation_tokens_total",),
        "queue_depth": ("trtllm_num_requests_waiting",),
        "kv_cache": ("trtllm_kv_cache_utilization",),
    },
    image="nvcr.io/nvidia/tensorrt-llm/release:1.3.0rc6",
    container=Container(),
    needs_command="trtllm-serve",
)
