"""B17: curves that grow while they are looked at: bytes an update, the kernel's processor time, its memory.

Eight metrics of 600 points each are there; then a point of each comes every second, or a hundred times a second. The
peer is plotly's FigureWidget with the same data, whose every update sends all of it.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from pathlib import Path

from card_view import View, busiest
from pairs import machine

SECONDS = 20
LONG = 300
JOB = """%%deploy --replace
name: curves
---
import pathlib, time
def report(step):
    print(f"step={step} " + " ".join(f"m{n}={n + 1 / (step + 1):.6f}" for n in range(8)), flush=True)
for step in range(600):
    report(step)
while not pathlib.Path("go").exists():
    time.sleep(0.01)
begun = time.time()
while pathlib.Path("go").exists():
    step += 1
    report(step)
    time.sleep(max(0.0, begun + (step - 599) * EVERY - time.time()))
"""
FIGURE = """
import numpy as np, plotly.graph_objects as go, time
from IPython.display import display
figure = go.FigureWidget([go.Scatter(x=np.arange(600.0), y=np.random.rand(600)) for _ in range(8)])
display(figure)
"""
UPDATE = """
with figure.batch_update():
    for trace in figure.data:
        trace.y = np.random.rand(600)
"""


def main() -> None:
    """Print the tables; `--long` also watches memory for five minutes."""
    print(machine("ipykernel", "anywidget", "plotly"))
    print("| 8 series, 600 points and more | messages/s, most | bytes an update | points thinned out | kernel |")
    print("|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as text:
        folder = Path(text)
        view = View(folder)
        try:
            for every, name in ((1.0, "a point of each every second"), (0.01, "100 a second")):
                messages, size, lost, percent = curves(view, folder, every)
                print(f"| {name} | {messages} | {size:.0f} | {lost} | {percent:.1f} % |")
            if "--long" in sys.argv:
                first, last = memory(view, folder)
                print(f"\nresident memory over {LONG} s at one update a second: {first:.1f} -> {last:.1f} MB")
            print(f"\nFigureWidget: {figure(view):.0f} bytes an update")
        finally:
            view.close()


def curves(view: View, folder: Path, every: float) -> tuple[int, float, int, float]:
    """Return messages/s, bytes of the median append, points that were thinned out, percent of a core."""
    heads = begin(view, every)
    idle = view.cpu()
    view.watch(5)
    idle = (view.cpu() - idle) / 5
    view.forget()
    (folder / "go").touch()
    begun, cpu = time.time(), view.cpu()
    view.watch(SECONDS)
    percent = 100 * ((view.cpu() - cpu) / (time.time() - begun) - idle)
    (folder / "go").unlink()
    view.watch(4)
    appends = [each for each in view.sent if each.content["type"] == "append" and len(each.content["points"]) >= 8]
    points = sum(
        number for each in view.sent if each.content["type"] == "append" for _, number in each.content["points"]
    )
    view.run("n = len(__import__('jupyter_gpudeploy').attach('curves').metrics())")
    view.run("open('points', 'w').write(str(n - 4800))")
    expected = int((folder / "points").read_text())
    others = other_points(view, heads)
    end(view)
    return (
        busiest(view.sent)[0],
        statistics.median(each.size for each in appends),
        expected - (points - others),
        percent,
    )


def other_points(view: View, heads: dict[int, str]) -> int:
    """Return how many points came that are of no metric: processes and GPUs."""
    named, total = dict(heads), 0
    for each in view.sent:
        named.update({series["id"]: series["chart"] for series in each.content.get("series", ())})
        if each.content["type"] == "append":
            total += sum(count for number, count in each.content["points"] if not named[number].startswith("metric:"))
    return total


def begin(view: View, every: float) -> dict[int, str]:
    """Show the card of the job, with its first 600 points. Return the chart of each series."""
    view.run(JOB.replace("EVERY", str(every)))
    view.until("snapshot")
    view.watch(6)
    return {one["id"]: one["chart"] for each in view.sent for one in each.content.get("series", ())}


def end(view: View) -> None:
    """End the job."""
    view.run("%deploy stop curves --grace 1")


def memory(view: View, folder: Path) -> tuple[float, float]:
    """Return the kernel's resident memory in MB after half a minute, and LONG seconds later."""
    view.forget()
    begin(view, 1.0)
    (folder / "go").touch()
    view.watch(30)
    first = view.memory()
    view.watch(LONG)
    last = view.memory()
    (folder / "go").unlink()
    end(view)
    return first, last


def figure(view: View) -> float:
    """Return the bytes that one update of a FigureWidget takes."""
    view.run(FIGURE)
    view.watch(1)
    view.forget()
    for _ in range(5):
        view.run(UPDATE)
    return view.bytes.get("comm_msg", 0) / 5


if __name__ == "__main__":
    sys.exit(main())
