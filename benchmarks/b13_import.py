"""B13: what the extension adds to a kernel that runs already: import, load_ext, the first dry run.

Each is CPU time and new modules inside a fresh ipykernel, medians of several kernels, beside `import kubernetes`.
"""

from __future__ import annotations

import compileall
import json
import statistics
import sys
from pathlib import Path

from jupyter_client.manager import start_new_kernel
from pairs import machine

import jupyter_gpudeploy

KERNELS = 9
PROBE = """
import json, sys, time
def probe(label, text):
    modules, started = len(sys.modules), time.process_time()
    get_ipython().run_cell(text, store_history=False)
    return [label, (time.process_time() - started) * 1000, len(sys.modules) - modules]
cell = "%%deploy b13 --dry-run\\nparameters:\\n  lr: [0.1, 0.01]\\n---\\nprint(lr)\\n"
floor = "import pydantic, yaml\\nclass Model(pydantic.BaseModel):\\n    x: int"
steps = [("warm-up", "1"), ("pydantic with one model, yaml: the floor of a dry run", floor)]
steps = steps if FLOOR else [("warm-up", "1"), ("import jupyter_gpudeploy", "import jupyter_gpudeploy"),
         ("%load_ext", "%load_ext jupyter_gpudeploy"), ("first dry run", cell), ("second dry run", cell),
         ("import kubernetes", "import importlib.util\\nif importlib.util.find_spec('kubernetes'): import kubernetes")]
rows = [probe(*step) for step in steps]
print("ROWS" + json.dumps(rows))
"""
TARGETS = {"import jupyter_gpudeploy": "<= 15 ms", "%load_ext": "<= 25 ms", "first dry run": "<= 150 ms"}


def main() -> None:
    """Print the table."""
    compileall.compile_dir(Path(jupyter_gpudeploy.__file__).parent, quiet=1)  # as pip leaves an installed package
    print(machine("ipykernel", "ipython", "pydantic", "pyyaml", "kubernetes"))
    print("| in a running kernel | CPU, median (range) | new modules | target |\n|---|---|---|---|")
    pairs = [(one_kernel(floor=False), one_kernel(floor=True)) for _ in range(KERNELS)]
    for side in zip(*pairs, strict=True):
        for position, (label, _, modules) in enumerate(side[0][1:], start=1):
            times = [rows[position][1] for rows in side]
            row = f"{statistics.median(times):.1f} ms ({min(times):.1f}-{max(times):.1f})"
            print(f"| {label} | {row} | {modules} | {TARGETS.get(label, '-')} |")


def one_kernel(*, floor: bool) -> list[tuple[str, float, int]]:
    """Return (step, CPU milliseconds, new modules) of a fresh kernel."""
    manager, client = start_new_kernel(kernel_name="python3")
    try:
        printed: list[str] = []
        client.execute_interactive(
            f"FLOOR = {floor}\n{PROBE}",
            timeout=120,
            output_hook=lambda message: printed.append(message["content"].get("text", "")),
        )
        text = "".join(printed)
        return [tuple(row) for row in json.loads(text.split("ROWS")[1].splitlines()[0])]
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)


if __name__ == "__main__":
    sys.exit(main())
