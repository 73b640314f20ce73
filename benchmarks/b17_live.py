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

from card_view import Sent, View, busiest
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
while pathlib.Path("stay").exists():
    time.sleep(0.01)
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
    print(
        "| 8 series, 600 points and more | messages/s, most | bytes an update | points that the page has not | kernel |"
    )
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
    """Return messages/s, bytes of the median append, points that the page has not, percent of a core."""
    first = begin(view, every)
    idle = view.cpu()
    view.watch(5)
    idle = (view.cpu() - idle) / 5
    first += view.sent
    view.forget()
    (folder / "stay").touch()  # when a run ends its card goes, and the last points are in the picture that stays
    (folder / "go").touch()
    begun, cpu = time.time(), view.cpu()
    view.watch(SECONDS)
    percent = 100 * ((view.cpu() - cpu) / (time.time() - begun) - idle)
    (folder / "go").unlink()
    view.watch(4)
    appends = [each for each in view.sent if each.content["type"] == "append" and len(each.content["points"]) >= 8]
    lasting, sizes = busiest(view.sent)[0], [each.size for each in appends]
    held = points_held([*first, *view.sent])
    view.run("n = len(__import__('jupyter_gpudeploy').attach('curves').metrics())")
    view.run("open('points', 'w').write(str(n))")
    (folder / "stay").unlink()
    end(view)
    return lasting, statistics.median(sizes), int((folder / "points").read_text()) - held, percent


def points_held(sent: list[Sent]) -> int:
    """Return how many points of metrics a page has after these messages; a snapshot replaces what came before."""
    held: dict[int, int] = {}
    charts: dict[int, str] = {}
    for each in sent:
        if each.content["type"] == "snapshot":
            held, charts = {}, {}
        charts.update({series["id"]: series["chart"] for series in each.content.get("series", ())})
        for number, count in each.content.get("points", ()):
            held[number] = held.get(number, 0) + count
    return sum(count for number, count in held.items() if charts[number].startswith("metric:"))


def begin(view: View, every: float) -> list[Sent]:
    """Show the card of the job, with its first 600 points. Return what its page was sent."""
    view.forget()
    view.run(JOB.replace("EVERY", str(every)))
    view.until("snapshot")
    view.watch(6)
    sent = list(view.sent)
    view.forget()
    return sent


def end(view: View) -> None:
    """End the job."""
    view.run("%deploy stop curves --grace 1")


def memory(view: View, folder: Path) -> tuple[float, float]:
    """Return the kernel's resident memory in MB after half a minute, and LONG seconds later."""
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
