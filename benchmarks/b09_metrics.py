"""B9: a task has printed 400,000 lines with metrics; they become columns.

The peer reads the same file with the shortest loop that one would write for it: `for line in f: re.search`, for one
form of line, into a list of tuples. Ours finds out by itself what the lines mean. Measured in processor time, since
this is work, not waiting. A fresh kernel is a new process; what it reads was read and kept by the one before.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from pairs import machine, measure

from jupyter_gpudeploy.collect import Collector
from jupyter_gpudeploy.events.status import Status
from jupyter_gpudeploy.events.store import RunFolder
from jupyter_gpudeploy.events.types import State, StateChange

if TYPE_CHECKING:
    from collections.abc import Callable

LINES = 400_000
FORMS: dict[str, tuple[Callable[[int], str], str, int]] = {
    "`step=1 loss=0.5`": (lambda n: f"step={n} loss={1 / (n + 1):.6f}", r"step=(\d+) loss=(\S+)", 1),
    "`Epoch 1/9 step 1 - loss: 0.5 - acc: 0.5`": (
        lambda n: f"Epoch {n // 1000}/400 step {n} - loss: {1 / (n + 1):.4f} - acc: {n / LINES:.4f}",
        r"step (\d+) - loss: (\S+) - acc: (\S+)",
        2,
    ),
    "JSON, two metrics": (
        lambda n: json.dumps({"step": n, "loss": 1 / (n + 1), "acc": n / LINES}),
        r'"step": (\d+), "loss": ([^,]+), "acc": ([^}]+)',
        2,
    ),
    "a logger's prefix, `step: 1, loss: 0.5`": (
        lambda n: f"2025-01-02 03:04:{n % 60:02},{n % 1000:03} - train - INFO - step: {n}, loss: {1 / (n + 1):.6f}",
        r"step: (\d+), loss: (\S+)",
        1,
    ),
    "no metric at all": (lambda n: f"worker {n} has the file a/b of shard {n} in its cache", r"loss=(\S+)", 0),
}
DONE = Status.of([0], [StateChange(1.0, State.SUCCEEDED, 0)])
FRESH = """
import sys, time
from jupyter_gpudeploy.collect import Collector
from jupyter_gpudeploy.events.status import Status
from jupyter_gpudeploy.events.store import RunFolder
from jupyter_gpudeploy.events.types import State, StateChange
done = Status.of([0], [StateChange(1.0, State.SUCCEEDED, 0)])
started = time.process_time()
collector = Collector(RunFolder(sys.argv[1]))
collector.poll(done)
latest = collector.latest()
print(time.process_time() - started, len(collector.columns()))
"""


def main() -> None:
    """Print the tables."""
    print(machine())
    print(f"\n| {LINES:,} lines parsed | ours | peer | ratio (range) | lines/s |\n|---|---|---|---|---|")
    for name, (form, pattern, metrics) in FORMS.items():
        with tempfile.TemporaryDirectory() as text:
            folder = made(Path(text), form)
            result = measure(
                lambda f=folder, m=metrics: parsed(f, m), lambda f=folder, p=pattern: searched(f, p), pairs=5
            )
            speed = LINES / sorted(result.ours)[len(result.ours) // 2]
            print(result.line(name, f"{speed:,.0f}"), flush=True)
    print("\n| in a fresh kernel | ours | peer | ratio (range) | target |\n|---|---|---|---|---|")
    for name, (form, pattern, metrics) in list(FORMS.items())[:3]:
        with tempfile.TemporaryDirectory() as text:
            folder = made(Path(text), form)
            parsed(folder, metrics, keep=True)
            size = folder.cache_file(0).stat().st_size / folder.log_file(0).stat().st_size
            result = measure(
                lambda f=folder, m=metrics: fresh(f, m), lambda f=folder, p=pattern: searched(f, p), pairs=5
            )
            print(result.line(f"{name}; the cache has {size:.0%} of the log's bytes", "<< 1 s"), flush=True)


def made(folder: Path, form: Callable[[int], str]) -> RunFolder:
    """Return a run whose one task has printed."""
    run = RunFolder(folder)
    (folder / "logs").mkdir()
    run.record_file.write_text(json.dumps({"tasks": [{"number": 0}]}))
    run.log_file(0).write_text("".join(form(number) + "\n" for number in range(LINES)))
    return run


def parsed(folder: RunFolder, metrics: int, *, keep: bool = False) -> float:
    """Return seconds of reading all, and keeping what was read."""
    started = time.process_time()
    collector = Collector(folder)
    collector.poll(DONE)
    seconds = time.process_time() - started
    assert len(collector.columns()) == metrics * LINES
    if not keep:
        folder.cache_file(0).unlink(missing_ok=True)
    return seconds


def fresh(folder: RunFolder, metrics: int) -> float:
    """Return seconds of the same in a new process, where it was kept."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    command = [sys.executable, "-c", FRESH, str(folder.path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    seconds, count = done.stdout.split()
    assert int(count) == metrics * LINES
    return float(seconds)


def searched(folder: RunFolder, pattern: str) -> float:
    """Return seconds of the plain loop."""
    expression = re.compile(pattern)
    started = time.process_time()
    with folder.log_file(0).open() as stream:
        matches = (expression.search(line) for line in stream)
        _ = [[float(text) for text in match.groups()] for match in matches if match]
    return time.process_time() - started


if __name__ == "__main__":
    main()
