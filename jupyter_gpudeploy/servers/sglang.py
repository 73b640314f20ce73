"""`serve: sglang`. Facts read in the SGLang 0.5.23 wheel.

It binds 127.0.0.1:30000 unless told, has metrics only with `--enable-metrics`, and its `/health` generates a token
unless SGLANG_ENABLE_HEALTH_ENDPOINT_GENERATION is 0.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from jupyter_gpudeploy.servers.base import Container, ServerPreset

if TYPE_CHECKING:
    from jupyter_gpudeploy.servers.base import ServeSpec


def _command(spec: ServeSpec) -> tuple[str, ...]:
    total = max(spec.gpus, 1) * spec.nodes
    parallel = ("--tp-size", str(total)) if total > 1 and not _sets_parallelism(spec) else ()
    model = ("--model-path", spec.model or "", "--host", "{host}", "--port", "{port}", "--enable-metrics")
    return ("sglang", "serve", *model, *parallel, *spec.words)


def _sets_parallelism(spec: ServeSpec) -> bool:
    flags = ("--tp-size", "--tensor-parallel-size", "--tp", "--pp-size", "--dp-size")
    return any(text.split("=")[0] in flags for text in spec.words)


EXPORT = ServerPreset(
    command=_command,
    port=30000,
    health_ready="/ready",
    startup_seconds=3600,
    metrics_path="/metrics",
    metric_names={
        "requests": ("sglang:num_requests_total",),
        "latency_seconds": ("sglang:e2e_request_latency_seconds",),
        "ttft_seconds": ("sglang:time_to_first_token_seconds",),
        "tpot_seconds": ("sglang:request_time_per_output_token_seconds",),
        "output_tokens": ("sglang:generation_tokens_total",),
        "queue_depth": ("sglang:num_queue_reqs",),
        "running": ("sglang:num_running_reqs",),
        "kv_cache": ("sglang:token_usage",),
    },
    environment={"SGLANG_ENABLE_HEALTH_ENDPOINT_GENERATION": "0"},
    image="docker.io/lmsysorg/sglang:v0.5.23",
    container=Container(
        caches={"HF_HOME": "hf", "TORCHINDUCTOR_CACHE_DIR": "inductor", "TRITON_CACHE_DIR": "triton"},
        together=("--nnodes", "{nodes}", "--node-rank", "{rank}", "--dist-init-addr", "{leader}:{port}"),
    ),
    api_key_flag="--api-key",
    needs_command="sglang",
)
