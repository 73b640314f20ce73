"""B12, the page: how long its frames take while the card of a real JupyterLab shows a program's 100,000 lines a second.

Chromium without a screen draws in software, on the same processors on which the program prints and the kernel and the
server work. Before the flood the same page is measured at rest.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from pairs import machine

sys.path.insert(0, str(Path(__file__).parent.parent / "tests" / "browser"))

SECONDS = 10


def main() -> None:
    """Print the table."""
    print(machine("jupyterlab", "ipykernel", "anywidget", "playwright"))
    with tempfile.TemporaryDirectory() as text:
        rest, flood, said = measure(Path(text))
    print(f"| a page with a card, {SECONDS} s | frames/s | a frame, median / p95 / longest |\n|---|---|---|")
    for name, times in (("at rest", rest), ("100,000 lines/s", flood)):
        ordered = sorted(times)
        middle, late = ordered[len(ordered) // 2], ordered[int(0.95 * len(ordered))]
        print(f"| {name} | {len(times) / SECONDS:.0f} | {middle:.0f} / {late:.0f} / {ordered[-1]:.0f} ms |")
    print(f"\nThe program said: {said}")


def measure(folder: Path) -> tuple[list[float], list[float], str]:
    """Return the milliseconds between frames, at rest and in the flood, and how much was printed."""
    from cards import FLOOD, end, frames, opened
    from lab import browser, lab_server

    root, state = folder / "root", folder / "state"
    root.mkdir()
    state.mkdir()
    with lab_server(root, state) as url, browser(folder / "profile") as context:
        page = opened(context, url, root, "flood", FLOOD)
        page.locator(".gd-line").get_by_text("waiting").wait_for()
        page.wait_for_timeout(5000)
        rest = frames(page, SECONDS)
        (root / "go").touch()
        page.locator(".gd-log-foot").get_by_text("lines hidden").wait_for()
        flood = frames(page, SECONDS)
        (root / "go").unlink()
        last = page.locator(".gd-line").get_by_text("done with it")
        last.wait_for()
        said = last.text_content()
        end(page, "flood")
    return rest, flood, said


if __name__ == "__main__":
    sys.exit(main())
