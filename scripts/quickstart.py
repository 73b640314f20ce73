"""Run the quickstart notebook headless, print its tables, say where the executed notebook lies."""

from __future__ import annotations

import os
import shutil
import sys
import time
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError
from nbconvert import HTMLExporter

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"
NOTEBOOK = EXAMPLES / "01_quickstart.ipynb"


def main() -> int:
    """Execute, print what cells tagged `show` put out, write notebook and page."""
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    out = EXAMPLES / "out"
    out.mkdir(exist_ok=True)
    state = out / "state"  # of its own: no earlier run is found again
    shutil.rmtree(state, ignore_errors=True)
    os.environ["JUPYTER_GPUDEPLOY_HOME"] = str(state)
    os.environ.setdefault("PLOTLY_RENDERER", "plotly_mimetype+notebook")  # figures also in the page, offline
    started = time.monotonic()
    try:
        client = NotebookClient(notebook, timeout=600, resources={"metadata": {"path": str(EXAMPLES)}})
        client.extra_arguments = ["--IPKernelApp.log_level=ERROR"]
        client.execute()
    except CellExecutionError as error:
        print(error, file=sys.stderr)
        return 1
    finally:
        nbformat.write(notebook, out / NOTEBOOK.name)
    page, _ = HTMLExporter().from_notebook_node(notebook)
    (out / "01_quickstart.html").write_text(page, "utf-8")
    for cell in notebook.cells:
        if "show" in cell.metadata.get("tags", []):
            print("\n".join(_texts(cell)))
            print()
    print(f"{time.monotonic() - started:.0f} s. The executed notebook: {(out / NOTEBOOK.name).relative_to(Path.cwd())}")
    print(
        f"The same as a page: {(out / '01_quickstart.html').relative_to(Path.cwd())}. `make lab` opens it to play with."
    )
    return 0


def _texts(cell: nbformat.NotebookNode) -> list[str]:
    outputs = cell.get("outputs", [])
    return [output.get("text") or output.get("data", {}).get("text/plain", "") for output in outputs]


if __name__ == "__main__":
    sys.exit(main())
