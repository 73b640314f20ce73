"""`serve: llamacpp`: `model:` is a `.gguf` file or `user/repo:QUANT`.

The port is always passed: the program's own default moved from 8080 to 9931 in October 2026.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from jupyter_gpudeploy.servers.base import Container, ServerPreset

if TYPE_CHECKING:
    from jupyter_gpudeploy.servers.base import ServeSpec


def _command(spec: ServeSpec) -> tuple[str, ...]:
    model = spec.model or ""
    source = ("-m", model) if model.endswith(".gguf") else ("-hf", model)
    return ("llama-server", *source, "--host", "{host}", "--port", "{port}", "--metrics", *spec.words)


EXPORT = ServerPreset(
    command=_command,
    port=8080,
    startup_seconds=1800,
    metrics_path="/metrics",
    metric_names={
        "output_tokens": ("llamacpp:tokens_predicted_total",),
        "prompt_tokens": ("llamacpp:prompt_tokens_total",),
        "queue_depth": ("llamacpp:requests_deferred",),
        "running": ("llamacpp:requests_processing",),
    },
    image="ghcr.io/ggml-org/llama.cpp:server-cuda",
    container=Container(
        entry_point=("llama-server",),
        caches={"LLAMA_CACHE": "llama", "HF_HOME": "hf"},
    ),
    api_key_env="LLAMA_API_KEY",
    needs_command="llama-server",
)
