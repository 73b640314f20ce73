"""Build the panel of JupyterLab, where its sources are newer. Without node there is none; everything else works.

`jlpm` is the yarn of jupyter-builder, `npm_builder` the function of hatch-jupyter-builder that calls it. Run as a
program it also lets the JupyterLab of this environment find the panel, where the package is installed editable.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from urllib.parse import unquote, urlsplit

ROOT = Path(__file__).resolve().parents[1]
NAME = "jupyter-gpudeploy"
SOURCE = ROOT / "labextension"
MADE = ROOT / "jupyter_gpudeploy" / "labextension"
SOURCES = ("src", "schema", "style", "package.json", "yarn.lock", "tsconfig.json")
SKIP = ("GPUDEPLOY_SKIP_NPM", "HATCH_JUPYTER_BUILDER_SKIP_NPM")


def build(*, is_asked: bool = False) -> bool:
    """Build what is older than its sources. Return whether it is there and new.

    Raises SystemExit if building fails while it was asked for; else says on stderr what is missing and goes on.
    """
    if not (SOURCE / "package.json").exists() or not is_stale():
        return (MADE / "package.json").exists()  # an sdist carries what was built
    why = _hindrance()
    if why:
        _say(f"{why}; JupyterLab has no panel of it, magics and cards work")
        return False
    from hatch_jupyter_builder import npm_builder

    try:
        npm_builder("wheel", "standard", path=str(SOURCE), build_cmd="build:prod", npm=["jlpm"])
    except (subprocess.CalledProcessError, OSError, ValueError) as error:
        _say(f"it failed ({error}); JupyterLab has no panel of it, magics and cards work")
        if is_asked:
            raise SystemExit(1) from error
        return False
    return True


def is_stale() -> bool:
    """Return whether nothing is built, or something is older than a source."""
    made = MADE / "package.json"
    if not made.exists():
        return True
    files = [file for name in SOURCES for file in [SOURCE / name, *(SOURCE / name).rglob("*")] if file.is_file()]
    return max(file.stat().st_mtime for file in files) > made.stat().st_mtime


def link() -> bool:
    """Let the JupyterLab of this environment find what is built here; True where it does.

    Where the package is installed as a copy, that copy is left alone.
    """
    if not (MADE / "package.json").exists() or not _is_editable():
        return False
    place = Path(sys.prefix) / "share" / "jupyter" / "labextensions" / NAME
    shutil.copy(SOURCE / "install.json", MADE)  # says who is to be asked to uninstall it
    if place.resolve() == MADE:
        return True
    if place.is_dir() and not place.is_symlink():  # what installing put there
        shutil.rmtree(place)
    place.unlink(missing_ok=True)
    place.parent.mkdir(parents=True, exist_ok=True)
    place.symlink_to(MADE, target_is_directory=True)
    return True


def _hindrance() -> str:
    for name in SKIP:
        if os.environ.get(name):
            return f"{name} is set"
    for program, way in (("node", "Debian: apt-get install nodejs"), ("jlpm", "pip install jupyter-builder")):
        if shutil.which(program) is None:
            return f"{program} is not here ({way})"
    try:
        metadata.version("hatch-jupyter-builder")
    except metadata.PackageNotFoundError:
        return "hatch-jupyter-builder is not here (pip install hatch-jupyter-builder)"
    return ""


def _is_editable() -> bool:
    """Return whether this environment's package is this folder."""
    try:
        text = metadata.distribution(NAME).read_text("direct_url.json")
    except metadata.PackageNotFoundError:
        return False
    told = json.loads(text or "{}")
    is_editable = told.get("dir_info", {}).get("editable", False)
    return bool(is_editable) and Path(unquote(urlsplit(told["url"]).path)).resolve() == ROOT


def _say(text: str) -> None:
    sys.stderr.write(f"jupyter_gpudeploy: the panel of JupyterLab is not built: {text}\n")


if __name__ == "__main__":
    os.environ["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])  # its jlpm
    build(is_asked=True)
    link()
