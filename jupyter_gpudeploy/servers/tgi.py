"""`serve: tgi`, Hugging Face Text Generation Inference. In maintenance mode since 2025-12-11 (its README)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from jupyter_gpudeploy.servers.base import Container, ServerPreset

if TYPE_CHECKING:
    from jupyter_gpudeploy.servers.base import ServeSpec


def _command(spec: ServeSpec) -> tuple[str, ...]:
    shards = ("--num-shard", str(spec.gpus)) if spec.gpus > 1 and "--num-shard" not in spec.words else ()
    place = ("--hostname", "{host}", "--port", "{port}")
    return ("text-generation-launcher", "--model-id", spec.model or "", *place, *shards, *spec.words)


EXPORT = ServerPreset(
    command=_command,
    port=8080,
    startup_seconds=3600,
    metrics_path="/metrics",
    metric_names={
        "requests": ("tgi_request_count",),
        "latency_seconds": ("tgi_request_duration",),
        "tpot_seconds": ("tgi_request_mean_time_per_token_duration",),
        "output_tokens": ("tgi_request_generated_tokens_sum",),
        "queue_depth": ("tgi_queue_size",),
        "running": ("tgi_batch_current_size",),
    },
    image="ghcr.io/huggingface/text-generation-inference:3.3.7",
    container=Container(
        entry_point=("text-generation-launcher",),
        drain=("--graceful-termination-timeout", "90"),
        drain_seconds=90,
    ),
    needs_command="text-generation-launcher",
    warning="TGI is no longer developed: vllm and sglang serve the same models",
)
