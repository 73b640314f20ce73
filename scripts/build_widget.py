"""Build the live card's front end with npm, where its sources are newer. Without npm displays are static."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
WIDGET = ROOT / "labextension" / "widget"
STATIC = ROOT / "jupyter_gpudeploy" / "notebook" / "static"
SOURCES = ("src", "build.js", "package.json", "package-lock.json")
MADE = ("card.js", "card.css")
SKIP = "GPUDEPLOY_SKIP_NPM"


def build(*, is_asked: bool = False) -> bool:
    """Build what is older than its sources. Return whether all of it is there and new.

    Raises SystemExit if npm fails while it was asked for; else says on stderr what is missing and goes on.
    """
    if not (WIDGET / "build.js").exists() or not is_stale():
        return True  # an sdist carries what was built
    npm = shutil.which("npm")
    if npm is None or os.environ.get(SKIP):
        why = "npm is not here" if npm is None else f"{SKIP} is set"
        _say(f"the live card is not built: {why}; displays are static")
        return False
    modules = WIDGET / "node_modules" / ".package-lock.json"
    commands = [[npm, "run", "--silent", "build:only"]]
    if not modules.exists() or modules.stat().st_mtime < (WIDGET / "package-lock.json").stat().st_mtime:
        commands.insert(0, [npm, "install", "--no-save", "--silent", "--no-audit", "--no-fund"])
    for command in commands:
        done = subprocess.run(command, cwd=WIDGET, check=False, stdin=subprocess.DEVNULL)
        if done.returncode:
            _say(f"the live card is not built: `{' '.join(command)}` failed in {WIDGET}; displays are static")
            if is_asked:
                raise SystemExit(1)
            return False
    return True


def is_stale() -> bool:
    """Return whether something built is missing or older than a source."""
    made = [STATIC / name for name in MADE]
    if not all(file.exists() for file in made):
        return True
    files = [file for name in SOURCES for file in ((WIDGET / name).rglob("*") if name == "src" else [WIDGET / name])]
    return max(file.stat().st_mtime for file in files) > min(file.stat().st_mtime for file in made)


def _say(text: str) -> None:
    sys.stderr.write(f"jupyter_gpudeploy: {text}\n")


if __name__ == "__main__":
    build(is_asked=True)
