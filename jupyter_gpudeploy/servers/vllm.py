"""`serve: vllm`. Facts read in the vLLM 0.33 wheel.

The socket is bound but does not listen before the model is loaded, so a refused connection means loading.
PROMETHEUS_MULTIPROC_DIR must not be set: vLLM makes a directory of its own and warns of stale files otherwise.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from jupyter_gpudeploy.servers.base import Container, ServerPreset

if TYPE_CHECKING:
    from jupyter_gpudeploy.servers.base import ServeSpec


def _command(spec: ServeSpec) -> tuple[str, ...]:
    own = _sets_parallelism(spec)
    tensor = ("--tensor-parallel-size", str(spec.gpus)) if spec.gpus > 1 and not own else ()
    pipeline = ("--pipeline-parallel-size", str(spec.nodes)) if spec.nodes > 1 and not own else ()
    return ("vllm", "serve", spec.model or "", "--host", "{host}", "--port", "{port}", *tensor, *pipeline, *spec.words)


def _sets_parallelism(spec: ServeSpec) -> bool:
    flags = ("--tensor-parallel-size", "-tp", "--pipeline-parallel-size", "-pp", "--data-parallel-size", "-dp")
    return any(text.split("=")[0] in flags for text in spec.words)


_MEETING = ("--master-addr", "{leader}", "--master-port", "{port}")
EXPORT = ServerPreset(
    command=_command,
    startup_seconds=3600,
    metrics_path="/metrics",
    metric_names={
        "requests": ("vllm:request_success_total",),
        "latency_seconds": ("vllm:e2e_request_latency_seconds",),
        "ttft_seconds": ("vllm:time_to_first_token_seconds",),
        "tpot_seconds": ("vllm:request_time_per_output_token_seconds", "vllm:time_per_output_token_seconds"),
        "output_tokens": ("vllm:generation_tokens_total",),
        "queue_depth": ("vllm:num_requests_waiting",),
        "running": ("vllm:num_requests_running",),
        "kv_cache": ("vllm:kv_cache_usage_perc", "vllm:gpu_cache_usage_perc"),
    },
    image="docker.io/vllm/vllm-openai:v0.33.0",
    container=Container(
        entry_point=("vllm", "serve"),
        user=2000,  # the image's own user, of the group 0
        group=0,
        environment={"VLLM_NO_USAGE_STATS": "1"},
        caches={
            "HF_HOME": "hf",
            "VLLM_CACHE_ROOT": "vllm",
            "TORCHINDUCTOR_CACHE_DIR": "inductor",
            "TRITON_CACHE_DIR": "triton",
        },
        startup_variable="VLLM_ENGINE_READY_TIMEOUT_S",
        drain=("--shutdown-timeout", "90"),  # 0 unless said: requests would be cut off at once
        drain_seconds=90,
        together=("--nnodes", "{nodes}", "--node-rank", "{rank}", *_MEETING),
        worker=("--headless",),
    ),
    api_key_env="VLLM_API_KEY",
    needs_command="vllm",
)
