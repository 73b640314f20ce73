"""The cells of the golden files: those of the examples, and one for each feature. (cell, what is known of the cluster)"""

import json
from pathlib import Path

EXAMPLES = Path(__file__).parents[3] / "examples"

FEATURES = {
    "job": ("name: job\nrun: jobs/train.py\nmax_hours: 2\nretries: 2", {}),
    "sweep-gpu": (
        ("name: sweep-gpu\nparameters: {lr: [0.1, 0.2, 0.3]}\nparallelism: 2\ngpus: 1\ncpu: 2.5\nmemory: 16Gi\n"
        "shm: 4Gi\ngpu_type: H100\ntolerations: [team=a:NoSchedule]\nnode_selector: {pool: gpu}\npriority: low\n"
        "image_pull_secrets: [registry]\nservice_account: trainer\nupload: false\n---\nprint(lr)"),
        {"gpu_types": {"H100": "NVIDIA-H100-80GB-HBM3"}},
    ),
    "openshift": ("name: openshift\nupload: false\n---\nprint(1)", {"flavour": "openshift"}),
    "secrets": (
        "name: secrets\nupload: false\nsecrets: {HF_TOKEN: hf-token/token, WANDB_API_KEY: env:WANDB_API_KEY}\n---\nprint(1)",
        {},
    ),
    "requirements": ("name: requirements\nupload: false\nrequirements: [scikit-learn>=1.4, numpy]\n---\nprint(1)", {}),
    "storage": ("name: storage\nupload: false\nstorage: 20Gi\n---\nprint(1)", {"storage_class": "fast"}),
    "storage-claim": ("name: storage-claim\nupload: false\nstorage: claim:models\n---\nprint(1)", {}),
    "nodes": ("name: nodes\nrun: torchrun jobs/train.py\nnodes: 2\ngpus: 8\nupload: false", {}),
    "nodes-jobset": (
        "name: nodes-jobset\nrun: torchrun jobs/train.py\nnodes: 2\ngpus: 8\nupload: false\nretries: 3",
        {"kinds": frozenset({"JobSet"})},
    ),
    "queue": (
        "name: queue\nqueue: team-a\nupload: false\n---\nprint(1)",
        {"kinds": frozenset({"LocalQueue"})},
    ),
    "cron": (
        "name: cron\nschedule: 0 6 * * *\ntime_zone: Europe/Madrid\nupload: false\nkeep_hours: 24\n---\nprint(1)",
        {},
    ),
    "search": (
        ("name: search\nparameters: {lr: {min: 0.1, max: 0.9}}\nmethod: bayes\nmetric: loss\nmax_runs: 8\nparallelism: 2\n"
        "retries: 1\nmax_hours: 1\nupload: false\n---\nprint(lr)"),
        {},
    ),
    "device-claims": (
        "name: device-claims\ngpus: 2\ngpu_resource: device-class:gpu.nvidia.com\nupload: false\n---\nprint(1)",
        {},
    ),
    "mig": ("name: mig\ngpus: 1\ngpu_resource: nvidia.com/mig-1g.10gb\nupload: false\n---\nprint(1)", {}),
    "amd": ("name: amd\ngpus: 1\nupload: false\n---\nprint(1)", {"gpu_resource": "amd.com/gpu"}),
    "vllm-route": (
        ("name: chat\nserve: vllm\nmodel: Qwen/Qwen3-0.6B\ngpus: 2\nmemory: 64Gi\nreplicas: 2\nroute: true\nstorage: 100Gi\n"
        "secrets: {HF_TOKEN: hf-token/token}"),
        {"kinds": frozenset({"Route"}), "flavour": "openshift"},
    ),
    "vllm-own-image": ("name: vllm\nserve: vllm\nmodel: Qwen/Qwen3-0.6B\ngpus: 1\nimage: registry.example/vllm:1", {}),
    "vllm-nodes": (
        "name: vllm-nodes\nserve: vllm\nmodel: Qwen/Qwen3-0.6B\ngpus: 8\nnodes: 2\nqueue: team-a",
        {"kinds": frozenset({"LeaderWorkerSet", "LocalQueue"})},
    ),
    "sglang-httproute": (
        "name: sglang-httproute\nserve: sglang\nmodel: Qwen/Qwen3-0.6B\ngpus: 1\nexpose: httproute\nhost: chat.example.org",
        {"gateway": "gateways/gw"},
    ),
    "tgi": ("name: tgi\nserve: tgi\nmodel: Qwen/Qwen3-0.6B\ngpus: 1", {}),
    "tensorrt": ("name: tensorrt\nserve: tensorrt_llm\nmodel: Qwen/Qwen3-0.6B\ngpus: 2", {}),
    "triton-monitored": (
        "name: triton-monitored\nserve: triton\nmodel: /gpudeploy/storage/models\ngpus: 1\nstorage: claim:models",
        {"monitoring": "podmonitor"},
    ),
    "llamacpp": ("name: llamacpp\nserve: llamacpp\nmodel: Qwen/Qwen3-0.6B-GGUF:Q8_0\nargs: --alias $(HOME)", {}),
    "api-ingress": (
        "name: api-ingress\nserve: flask\nrun: jobs/sum_app.py\nhealth: /health\nexpose: ingress\nhost: sum.example.org",
        {},
    ),
    "api-loadbalancer": ("name: api-loadbalancer\nserve: flask\nrun: jobs/sum_app.py\nexpose: loadbalancer", {}),
    "manual": ("name: manual\nmode: manual\ngpus: 1\nupload: false", {}),
    "manual-idle": ("name: manual-idle\nmode: manual\ngpus: 1\nidle_minutes: 30\nupload: false", {}),
    "api-idle": ("name: api-idle\nserve: flask\nrun: jobs/sum_app.py\nidle_minutes: 30\nmax_hours: 12", {}),
}  # fmt: skip


def _examples():
    """Yield the cells of the example notebooks, each under the name of its run."""
    for notebook in sorted(EXAMPLES.glob("*.ipynb")):
        for cell in json.loads(notebook.read_text("utf-8"))["cells"]:
            text = "".join(cell["source"])
            if cell["cell_type"] == "code" and text.startswith("%%deploy"):
                line, _, body = text.partition("\n")
                yield f"example-{notebook.stem[:2]}-{line.split()[1]}", (f"name: {line.split()[1]}\n{body}", {})


ALL = {**dict(_examples()), **FEATURES}
