"""B15: one look at eight GPUs: through the driver's library, against a spawned nvidia-smi; and what a recorder costs.

No GPU is needed: the library is a stub that is compiled here (tests/sources/nvml_stub.c), and nvidia-smi a C program
that prints eight lines and ends, which is the cheapest that a spawned one can be: a real one takes 7-20 ms.
"""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pairs import machine, measure

if TYPE_CHECKING:
    from collections.abc import Callable

GPUS = 8
RUNS = 20
LOOKS = 400
SPAWNS = 20
SECONDS = 30
STUB = Path(__file__).parent.parent / "tests" / "sources" / "nvml_stub.c"
PROGRAM = r"""
#include <stdio.h>
#include <string.h>
static int asks(int count, char **words, const char *what) {
    while (count--) if (strstr(words[count], what)) return 1;
    return 0;
}
int main(int count, char **words) {
    if (asks(count, words, "compute-apps")) return 0;
    int lists = asks(count, words, "uuid");
    for (int i = 0; i < GPUS; i++)
        if (lists) printf("%d, GPU-%d, H100, 0, 81559, [N/A]\n", i, i);
        else printf("%d, 97, 5120, 81920, 300.50, 61\n", i);
    return 0;
}
"""
TASK = "import time\nwhile True:\n    time.sleep(0.1)"


def main() -> None:
    """Print the tables."""
    if len(sys.argv) > 1:
        compare(Path(sys.argv[1]))
        return
    with tempfile.TemporaryDirectory() as text:
        folder = Path(text)
        build(folder)
        environment = os.environ | {"LD_LIBRARY_PATH": text, "GPUDEPLOY_STUB_GPUS": str(GPUS)}
        environment |= {"PATH": f"{text}{os.pathsep}{os.environ['PATH']}"}
        subprocess.run([sys.executable, __file__, text], env=environment, check=True)


def compare(folder: Path) -> None:
    """Print the tables, in a process that finds the stub first."""
    from jupyter_gpudeploy.sources.nvidia_smi import FIELDS, parse
    from jupyter_gpudeploy.sources.nvml import Nvml

    source = Nvml()
    words = [str(folder / "nvidia-smi"), f"--query-gpu={','.join(FIELDS)}", "--format=csv,noheader,nounits"]
    assert len(source.look()) == GPUS, source.trouble

    def spawned() -> None:
        text = subprocess.run(words, capture_output=True, text=True, check=True).stdout
        assert len(parse(text.splitlines(), time.time())) == GPUS

    print(machine("nvidia-ml-py"))
    print("| a look at 8 GPUs, processor time | ours | peer | ratio (range) | target |\n|---|---|---|---|---|")
    result = measure(lambda: each(source.look, LOOKS), lambda: each(spawned, SPAWNS), pairs=15)
    print(result.line("library, against a spawned nvidia-smi that does nothing", "<= 0.02 (1/50)", 1e6, "us"))
    ratios = sorted(1 / ratio for ratio in result.ratios)
    print(f"\nA look costs 1/{ratios[len(ratios) // 2]:.0f} of a spawn (1/{ratios[0]:.0f} to 1/{ratios[-1]:.0f}).")
    recorder(folder)


def each(call: Callable[[], object], count: int) -> float:
    """Return the seconds of processor time that one call takes, here and in what it starts."""
    begun = used()
    for _ in range(count):
        call()
    return (used() - begun) / count


def used() -> float:
    """Return the processor time of this process, and of the children that it has waited for."""
    usages = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def recorder(folder: Path) -> None:
    """Print how much of a core the recorder takes, with 20 runs and 8 GPUs."""
    os.environ["JUPYTER_GPUDEPLOY_HOME"] = str(folder / "state")
    os.environ["JUPYTER_GPUDEPLOY_SAMPLING"] = "on"
    from jupyter_gpudeploy import launch
    from jupyter_gpudeploy.backends.local.recorders import LOCK

    runs = [launch(f"name: b15-{n}\ngpus: {int(n < GPUS)}\n---\n{TASK}\n") for n in range(RUNS)]
    lock = folder / "state" / LOCK
    try:
        (pid,) = until(lambda: holders(lock))
        until(lambda: all((run.folder / "samples.jsonl").exists() for run in runs))
        before, began = cpu(pid), time.perf_counter()
        sizes = sum((run.folder / "samples.jsonl").stat().st_size for run in runs)
        time.sleep(SECONDS)
        share = (cpu(pid) - before) / (time.perf_counter() - began)
        written = sum((run.folder / "samples.jsonl").stat().st_size for run in runs) - sizes
        print(f"\nThe recorder of {RUNS} runs, {GPUS} of them with a GPU, on a machine with {processes()} processes: "
              f"{100 * share:.2f} % of a core, {written / SECONDS / 1000:.1f} kB/s in all.")  # fmt: skip
        os.kill(pid, 9)
    finally:
        for run in runs:
            run.stop(0)


def until(condition: Callable[[], Any]) -> Any:  # noqa: ANN401 - what is found
    """Wait until something is found."""
    deadline = time.monotonic() + 60
    while not (found := condition()):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    return found


def holders(file: Path) -> list[int]:
    """Return which other processes have a file open."""
    found = []
    for link in Path("/proc").glob("[0-9]*/fd/*"):
        try:
            if link.readlink() == file and int(link.parts[2]) != os.getpid():
                found.append(int(link.parts[2]))
        except OSError:
            continue
    return found


def cpu(pid: int) -> float:
    """Return the seconds of processor time that a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def processes() -> int:
    """Return how many processes this machine has."""
    return sum(path.name.isdigit() for path in Path("/proc").iterdir())


def build(folder: Path) -> None:
    """Compile the library and the program."""
    (folder / "smi.c").write_text(PROGRAM)
    library = str(folder / "libnvidia-ml.so.1")
    subprocess.run(["cc", "-O2", "-shared", "-fPIC", "-o", library, str(STUB)], check=True)
    subprocess.run(["cc", "-O2", f"-DGPUS={GPUS}", "-o", str(folder / "nvidia-smi"), str(folder / "smi.c")], check=True)


if __name__ == "__main__":
    main()
