"""B16: a sweep of 10,000 trials, from the cell to the cluster: API calls and seconds.

Needs the cluster of the tests (`make cluster`), or CONTEXT of another one. The run is stopped and removed at once.
"""

from __future__ import annotations

import json
import os
import statistics
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).parent.parent
TRIALS = 10_000
ROUNDS = 5
NAMESPACE = "benchmark-b16"
CELL = """\
parameters:
  lr: {min: 1e-5, max: 1e-1, distribution: log_uniform}
  width: {min: 16, max: 4096}
method: random
max_runs: 10000
parallelism: 1
---
lr, width = 1e-3, 64
print(f"loss={lr * width}")
"""


def main() -> None:
    sys.path.insert(0, str(ROOT))
    from tests.cluster.cluster import Cluster as Machine

    folder = Path(tempfile.mkdtemp())
    kubeconfig = Machine().kubeconfig()
    context = os.environ.get("CONTEXT") or json.loads(kubeconfig.read_text())["current-context"]
    profile = {"context": context, "namespace": NAMESPACE, "image": "localhost/gpudeploy-python:test"}
    profile |= {} if os.environ.get("CONTEXT") else {"kubeconfig": str(kubeconfig)}
    (folder / "config.yaml").write_text(json.dumps({"default_cluster": "here", "clusters": {"here": profile}}))
    os.environ |= {"JUPYTER_GPUDEPLOY_CONFIG": str(folder / "config.yaml"), "JUPYTER_GPUDEPLOY_HOME": str(folder)}
    os.chdir(folder)
    from jupyter_gpudeploy.backends.kubernetes.api.connect import connect
    from jupyter_gpudeploy.backends.kubernetes.api.transport import Transport
    from jupyter_gpudeploy.launching import backend_of, plan

    calls: Counter[str] = Counter()
    send = Transport.json
    Transport.json = lambda self, call: (calls.update([f"{call.method} {call.doing}"]), send(self, call))[1]
    cluster = connect()
    cluster.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}})
    backend = backend_of("kubernetes")
    planned, submitted, counts = [], [], []
    try:
        for number in range(ROUNDS):
            begun = time.perf_counter()
            (made,) = plan(CELL, name=f"b16-{number}", backend="kubernetes")
            rendered = backend.render(made)
            planned.append(time.perf_counter() - begun)
            before, begun = Counter(calls), time.perf_counter()
            ref = backend.launch(rendered)
            submitted.append(time.perf_counter() - begun)
            counts.append(sum(count for what, count in (calls - before).items() if is_of_submission(what)))
            backend.stop(ref, 0)
            backend.close()
    finally:
        cluster.delete("Namespace", NAMESPACE, propagation="Background")
    print(f"{TRIALS:,} trials, {ROUNDS} rounds, Kubernetes {cluster.version()}")
    print(f"plan and render   {statistics.median(planned):.2f} s")
    print(f"submit            {statistics.median(submitted):.2f} s (limit 2 s)")
    print(f"API calls         {max(counts)} (limit 5): create or apply, checks included")
    print("\n".join(f"  {count:3} {what}" for what, count in sorted(calls.items())))


def is_of_submission(what: str) -> bool:
    """Return whether a call is part of submitting, not of following what was submitted."""
    return what.startswith(("POST create", "PATCH apply", "PATCH check", "GET read ConfigMap"))


if __name__ == "__main__":
    main()
