"""B6: 200 trivial trials, 2 at a time, two metrics of each collected into a DataFrame.

Ours is everything from `launch` to the table. The peer is `xargs -P2 python trial.py`, which collects nothing.
Packages are imported before the clock starts, on both sides of every pair.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from pairs import machine, measure

from jupyter_gpudeploy import launch

if TYPE_CHECKING:
    from types import ModuleType

TRIALS = 200
SCRIPT = 'import sys\nprint("loss=" + sys.argv[1])\nprint("acc=0.5")\n'


def main() -> None:
    """Print the table."""
    with tempfile.TemporaryDirectory() as text:
        folder = Path(text)
        os.environ["JUPYTER_GPUDEPLOY_HOME"] = str(folder / "state")
        (folder / "trial.py").write_text(SCRIPT)
        os.chdir(folder)
        print(machine("pandas", "joblib", "submitit"))
        print("| 200 trials, 2 at a time | ours | peer | ratio (range) | target |\n|---|---|---|---|---|")
        row = measure(lambda: ours(folder), lambda: xargs(folder))
        print(row.line("spawn, against xargs -P2", "<= 1.05"), flush=True)
        row = measure(lambda: ours(folder, warm=True), lambda: xargs(folder))
        print(row.line("warm start, against xargs -P2", "<= 0.15"), flush=True)
        for name, peer in peers().items():
            print(
                measure(lambda: ours(folder), peer, pairs=1 if "submitit" in name else 3).line(
                    f"spawn, against {name}", "-"
                ),
                flush=True,
            )


def ours(folder: Path, *, warm: bool = False) -> float:
    """Return seconds from launch to the DataFrame."""
    started = time.perf_counter()
    run = launch(
        {"name": "b06", "run": "trial.py", "args": "{x}", "warm": warm, "parallelism": 2}
        | {"parameters": {"x": list(range(TRIALS))}},
        base_dir=folder,
    )
    trials = run.wait().trials()
    seconds = time.perf_counter() - started
    assert len(trials) == TRIALS
    assert set(trials["loss"]) == {float(n) for n in range(TRIALS)}
    run.remove(yes=True)
    return seconds


def xargs(folder: Path) -> float:
    """Return seconds of xargs over the same trials."""
    numbers = "\n".join(map(str, range(TRIALS)))
    started = time.perf_counter()
    command = ["xargs", "-P2", "-n1", sys.executable, str(folder / "trial.py")]
    done = subprocess.run(command, input=numbers, capture_output=True, text=True, check=True)
    seconds = time.perf_counter() - started
    assert done.stdout.count("acc=") == TRIALS
    return seconds


def peers() -> dict[str, object]:
    """Return the peers that are installed."""
    found = {}
    if shutil.which("parallel"):
        found["GNU parallel -j2"] = lambda: _timed(["parallel", "-j2", sys.executable, "trial.py", ":::", *_numbers()])
    try:
        import joblib
    except ImportError:
        pass
    else:
        command = joblib.delayed(
            lambda n: subprocess.run([sys.executable, "trial.py", n], capture_output=True, check=True)
        )
        found["joblib, 2 workers"] = lambda: _clock(lambda: joblib.Parallel(n_jobs=2)(command(n) for n in _numbers()))
    try:
        import submitit
    except ImportError:
        pass
    else:
        found["submitit, 2 at a time (20 trials, x 10)"] = lambda: 10 * _clock(lambda: _submitit(submitit, 20))
    return found


def _submitit(submitit: ModuleType, count: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        executor = submitit.LocalExecutor(folder)
        for first in range(0, count, 2):
            pair = [submitit.helpers.CommandFunction([sys.executable, "trial.py", str(first + n)]) for n in (0, 1)]
            for job in [executor.submit(command) for command in pair]:
                job.result()


def _numbers() -> list[str]:
    return [str(n) for n in range(TRIALS)]


def _timed(command: list[str]) -> float:
    return _clock(lambda: subprocess.run(command, capture_output=True, check=True))


def _clock(call: object) -> float:
    started = time.perf_counter()
    call()
    return time.perf_counter() - started


if __name__ == "__main__":
    main()
