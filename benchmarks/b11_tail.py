"""B11: a child prints two million lines; they go to a file and are tailed by the notebook while they come.

The peer is the same child piped into `wc -l`. Ours is measured from the start of the child to its last line in the
reader's hands; the peer from its start to its end.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from pairs import machine, measure

from jupyter_gpudeploy import launch
from jupyter_gpudeploy.events.follow import Tail

LINES = 2_000_000
CHILD = f"""
import sys
write = sys.stdout.write
for n in range({LINES}):
    write(f"step={{n}} loss=0.5\\n")
"""


def main() -> None:
    """Print the table."""
    with tempfile.TemporaryDirectory() as text:
        folder = Path(text)
        os.environ["JUPYTER_GPUDEPLOY_HOME"] = str(folder / "state")
        (folder / "child.py").write_text(CHILD)
        print(machine())
        print("| 2,000,000 lines | ours | peer | ratio (range) | target |\n|---|---|---|---|---|")
        result = measure(lambda: ours(folder), lambda: wc(folder))
        print(result.line("to a file and tailed, against `\\| wc -l`", "<= 2.0 (>= 0.5x its lines/s)"))


def ours(folder: Path) -> float:
    """Return seconds from the child's start to the last line read."""
    run = launch({"name": "b11", "run": "child.py", "env": {"PYTHONUNBUFFERED": ""}}, base_dir=folder)
    tail = Tail(run.folder / "logs" / "0.1.log")
    count = 0
    while count < LINES:
        count += len(tail.lines())
        if count < LINES:
            time.sleep(0.05)
    ended = time.time()
    run.wait()
    started = run.status().tasks[0].started or 0.0
    assert count == LINES
    run.remove(yes=True)
    return ended - started


def wc(folder: Path) -> float:
    """Return seconds of the same child into wc."""
    started = time.perf_counter()
    environment = {**os.environ, "PYTHONUNBUFFERED": ""}
    command = [sys.executable, str(folder / "child.py")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=environment) as child:
        done = subprocess.run(["wc", "-l"], stdin=child.stdout, capture_output=True, text=True, check=True)
    seconds = time.perf_counter() - started
    assert int(done.stdout) == LINES
    return seconds


if __name__ == "__main__":
    main()
