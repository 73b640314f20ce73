"""B12: a flood of lines on its way into a notebook: messages, bytes, what gets lost, processor time, latency.

A real kernel shows the card of a job that prints, and a view receives it on the kernel's own wire. The peers are what
a notebook offers otherwise: an Output widget, which sends all of its text with every line, and `print`.
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path

from card_view import View, busiest, share
from pairs import machine

SECONDS = 10
PEER_LINES = 2000
FLOOD = """%%deploy --replace
name: flood
env: {PYTHONUNBUFFERED: ""}
---
import pathlib, sys, time
while not pathlib.Path("go").exists():
    time.sleep(0.01)
begun, printed = time.time(), 0
while printed < LINES:
    due = min(LINES, int((time.time() - begun) * RATE))
    text = "of a program that prints a very great many lines\\n"
    sys.stdout.write("".join(f"{time.time():.4f} line {n} {text}" for n in range(printed, due)))
    sys.stdout.flush()
    printed = max(printed, due)
    time.sleep(0.005)
time.sleep(1)
while pathlib.Path("go").exists():
    time.sleep(0.01)
"""
OUTPUT = f"""
import ipywidgets, IPython.display
out = ipywidgets.Output()
IPython.display.display(out)
for n in range({PEER_LINES}):
    out.append_stdout(f"1795469371.3920 line {{n}} of a program that prints a very great many lines\\n")
"""


def main() -> None:
    """Print the tables."""
    print(machine("ipykernel", "anywidget", "ipywidgets"))
    with tempfile.TemporaryDirectory() as text:
        folder = Path(text)
        view = View(folder)
        try:
            few = flood(view, folder, 50_000, 1e9)
            many = flood(view, folder, SECONDS * 100_000, 100_000)
            slow = flood(view, folder, SECONDS * 50, 50)
            peer = output(view)
        finally:
            view.close()
    print("| a job prints | messages/s, most | kB/s, most | lines not accounted for | latency p50 / p95 | kernel |")
    print("|---|---|---|---|---|---|")
    rows = (("50,000 lines at once", few), ("100,000 lines/s for 10 s", many), ("50 lines/s for 10 s", slow))
    for name, row in rows:
        print(
            f"| {name} | {row[0]} | {row[1] / 1000:.0f} | {row[2]} | {row[3]:.0f} / {row[4]:.0f} ms | {row[5]:.1f} % |"
        )
    each = peer / (PEER_LINES * (PEER_LINES + 1) / 2)  # every line sends all lines before it
    whole = each * 50_000 * 50_001 / 2
    print(f"\n50,000 lines: ours {few[6] / 1e6:.2f} MB; an Output widget {peer / 1e6:.0f} MB for {PEER_LINES} lines,")
    print(f"so {whole / 1e9:.0f} GB for 50,000: {whole / few[6]:,.0f} times as much (target: >= 100)")


def flood(view: View, folder: Path, lines: int, rate: float) -> tuple[int, int, int, float, float, float, int]:
    """Return messages/s, bytes/s, lines lost, latency p50 and p95 (ms), percent of a core, bytes."""
    view.run(FLOOD.replace("LINES", str(lines)).replace("RATE", str(rate)))
    view.until("snapshot")
    view.watch(4)
    idle = view.cpu()
    view.watch(4)
    idle = (view.cpu() - idle) / 4
    view.forget()
    (folder / "go").touch()
    begun, cpu = time.time(), view.cpu()
    view.watch(max(lines / rate, 0.5) + 0.5)
    took = time.time() - begun
    percent = 100 * ((view.cpu() - cpu) / took - idle)
    view.watch(3)
    sent = [each for each in view.sent if each.content["type"] == "lines"]
    shown = len({line[0] for each in sent for line in each.content["lines"]})  # one without an end comes again
    hidden = sent[-1].content["hidden"]
    late = [1000 * (each.when - float(line[5].split()[0])) for each in sent for line in each.content["lines"]]
    most = busiest(view.sent)
    size = sum(each.size for each in view.sent)
    (folder / "go").unlink()
    view.run("%deploy wait flood")
    view.forget()
    return (*most, max(0, lines - shown - hidden), share(late, 0.5), share(late, 0.95), percent, size)


def output(view: View) -> int:
    """Return the bytes that an Output widget sends for PEER_LINES lines."""
    view.forget()
    view.run(OUTPUT)
    return sum(view.bytes.values())


if __name__ == "__main__":
    sys.exit(main())
