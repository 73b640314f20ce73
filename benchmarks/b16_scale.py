"""B16, scale: simulated nodes with 8 GPUs each, one sweep over all of them, followed to its end by one process.

`python benchmarks/b16_scale.py [NODES] [TRIALS] [PARALLELISM]`: 1,000 nodes, 10,000 trials, 1,000 at a time by default.
Needs the cluster of the tests (`make cluster`). The pods run nothing, and print what our program does: a metric
and a last word. What is measured is what following them costs.
"""

from __future__ import annotations

import json
import os
import resource
import sys
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).parent.parent
NAMESPACE = "benchmark-scale"
PATIENCE = 1200.0
CELL = """\
parameters:
  lr: {{min: 1e-5, max: 1e-1, distribution: log_uniform}}
method: random
max_runs: {trials}
parallelism: {parallelism}
gpus: 8
tolerations: ["kwok.x-k8s.io/node=fake:NoSchedule"]
node_selector: {{type: kwok}}
---
lr = 1e-3
print(f"loss={{lr}}")
"""


def main(nodes: int = 1000, trials: int = 10_000, parallelism: int = 1000) -> None:
    sys.path.insert(0, str(ROOT))
    from tests.cluster import simulation
    from tests.cluster.cluster import Cluster as Machine

    folder = Path(tempfile.mkdtemp())
    kubeconfig = Machine().kubeconfig()
    context = json.loads(kubeconfig.read_text())["current-context"]
    image = "localhost/gpudeploy-python:test"
    profile = {"kubeconfig": str(kubeconfig), "context": context, "namespace": NAMESPACE, "image": image}
    (folder / "config.yaml").write_text(json.dumps({"default_cluster": "here", "clusters": {"here": profile}}))
    os.environ |= {"JUPYTER_GPUDEPLOY_CONFIG": str(folder / "config.yaml"), "JUPYTER_GPUDEPLOY_HOME": str(folder)}
    os.chdir(folder)
    from jupyter_gpudeploy import launch
    from jupyter_gpudeploy.backends.kubernetes.api.connect import connect
    from jupyter_gpudeploy.backends.kubernetes.api.transport import Transport

    calls: Counter[str] = Counter()
    send = Transport.send
    Transport.send = lambda self, call: (calls.update([what(call)]), send(self, call))[1]
    simulation.up(nodes)
    cluster = connect()
    cluster.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}})
    try:
        before = resource.getrusage(resource.RUSAGE_SELF)
        begun = time.monotonic()
        run = launch(CELL.format(trials=trials, parallelism=parallelism), name="scale", backend="kubernetes")
        simulation.print_as(lines_of(run.ref.uid))
        print(f"launched after {time.monotonic() - begun:.1f} s, {memory():.0f} MB", flush=True)
        follow(run, begun)
        after = resource.getrusage(resource.RUSAGE_SELF)
        spent = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        took = time.monotonic() - begun
        counts = {state.value: count for state, count in run.status().counts().items()}
        print(f"{run.state}: {counts} after {took:.0f} s, on {nodes} nodes, {parallelism} at a time")
        print(f"this process: {spent:.0f} s CPU ({spent / took:.0%} of a processor), peak {memory():.0f} MB")
        print("requests: " + ", ".join(f"{count} {name}" for name, count in sorted(calls.items())))
    finally:
        cluster.delete("Namespace", NAMESPACE, propagation="Background")
        simulation.down()


def lines_of(uid: str) -> list[str]:
    """Return what each pod prints."""
    from jupyter_gpudeploy.events.wire import encode

    rows = [{"time": 1767225600.0, "step": 1, "metrics": {"loss": 0.25}}]
    ended = {"exit_code": 0, "reason": "", "attempt": 1, "time": 1767225601.0}
    records = (encode(uid, "metrics", {"rows": rows}), encode(uid, "ended", ended))
    return [line.decode().rstrip("\n") for record in records for line in record]


def follow(run: object, begun: float) -> None:
    """Print where it stands every 15 s, as a display would ask, until it is over."""
    next_line, most_threads = 0.0, 0
    while True:
        status = run.status()  # type: ignore[attr-defined] # a Run
        most_threads = max(most_threads, threading.active_count())
        over = status.state.is_final
        if over or time.monotonic() >= next_line:
            counts = " ".join(f"{count} {state}" for state, count in status.counts().items())
            used = resource.getrusage(resource.RUSAGE_SELF)
            spent = f"{used.ru_utime + used.ru_stime:.0f} s CPU, {memory():.0f} MB, {most_threads} threads"
            print(f"{time.monotonic() - begun:5.0f} s  {counts}; {spent}", flush=True)
            next_line = time.monotonic() + 15
        if over or time.monotonic() - begun > PATIENCE:
            return
        time.sleep(0.5)


def what(call: object) -> str:
    """Return the kind of a request."""
    doing = str(call.doing)  # type: ignore[attr-defined] # a Call
    return " ".join(doing.split()[:2]) if not doing.startswith("read the log") else "read a log"


def memory() -> float:
    """Return the peak of resident memory, in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


if __name__ == "__main__":
    main(*(int(word) for word in sys.argv[1:]))
