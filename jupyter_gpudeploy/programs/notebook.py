"""`python -m jupyter_gpudeploy.programs.notebook NOTEBOOK EXECUTED`: run a notebook from top to bottom.

Parameters (JSON in GPUDEPLOY_PARAMETERS) go into a cell below the one tagged `parameters`, or to the top. What the
cells print is printed as it comes. The executed notebook is written also when a cell fails or the run is stopped.
Its kernel uses this interpreter, whatever the notebook's metadata names.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from types import FrameType

INJECTED = "injected-parameters"


def main(words: list[str]) -> int:
    """Return 0 when every cell ran, 1 when one failed."""
    if len(words) != 2:  # noqa: PLR2004 - NOTEBOOK EXECUTED
        sys.exit("usage: python -m jupyter_gpudeploy.programs.notebook NOTEBOOK EXECUTED")
    try:
        import ipykernel  # noqa: F401 - the kernel that is started needs it
        import nbclient  # noqa: F401 - asked for by name below
        import nbformat
    except ImportError as error:
        sys.exit(f"a notebook needs {error.name}: pip install nbclient ipykernel")
    source, target = map(Path, words)
    try:
        notebook = nbformat.read(source, as_version=4)
    except (OSError, ValueError) as error:
        sys.exit(f"{source} is no notebook that can be read: {error}")
    inject(notebook, json.loads(os.environ.get("GPUDEPLOY_PARAMETERS", "{}")))
    signal.signal(signal.SIGTERM, _leave)
    try:
        return _execute(notebook)
    finally:
        target.parent.mkdir(parents=True, exist_ok=True)
        nbformat.write(notebook, target)


def inject(notebook: Any, parameters: dict[str, Any]) -> None:  # noqa: ANN401 - nbformat ships no types
    """Put the parameters into `notebook`; those of an earlier execution are taken out."""
    from nbformat.v4 import new_code_cell

    notebook.cells = [cell for cell in notebook.cells if INJECTED not in cell.metadata.get("tags", [])]
    if not parameters:
        return
    text = "\n".join(f"{name} = {_literal(value)}" for name, value in parameters.items())
    tagged = [n for n, cell in enumerate(notebook.cells) if "parameters" in cell.metadata.get("tags", [])]
    notebook.cells.insert(tagged[0] + 1 if tagged else 0, new_code_cell(text, metadata={"tags": [INJECTED]}))


def _literal(value: object) -> str:
    return f'float("{value}")' if isinstance(value, float) and repr(value) in ("nan", "inf", "-inf") else repr(value)


def _execute(notebook: Any) -> int:  # noqa: ANN401 - nbformat ships no types
    from jupyter_client.kernelspec import KernelSpec
    from jupyter_client.manager import AsyncKernelManager
    from nbclient import NotebookClient
    from nbclient.exceptions import CellExecutionError, DeadKernelError

    class OurInterpreter(AsyncKernelManager):
        """A kernel of this interpreter; no kernelspec has to be installed."""

        @property
        def kernel_spec(self) -> KernelSpec:
            argv = [
                sys.executable,
                "-m",
                "ipykernel_launcher",
                "-f",
                "{connection_file}",
                "--HistoryManager.enabled=False",
            ]
            return KernelSpec(argv=argv, display_name="Python", language="python")

    class Printing(NotebookClient):
        """Prints what the cells print, as it comes."""

        def process_message(self, message: Any, cell: Any, cell_index: int) -> Any:  # noqa: ANN401 - the base's signature
            if message["msg_type"] == "stream":
                out = sys.stderr if message["content"]["name"] == "stderr" else sys.stdout
                out.write(message["content"]["text"])
                out.flush()
            return super().process_message(message, cell, cell_index)

    client = Printing(
        notebook, timeout=None, kernel_manager_class=OurInterpreter, resources={"metadata": {"path": "."}}
    )
    try:
        client.execute()
    except CellExecutionError as error:
        failed = next((n for n, cell in enumerate(notebook.cells) if _has_error(cell)), -1)
        print(f"cell {failed + 1} failed\n{error}", file=sys.stderr, flush=True)  # noqa: T201 - the job's own log
        return 1
    except DeadKernelError:
        print("the notebook's kernel died", file=sys.stderr, flush=True)  # noqa: T201 - the job's own log
        return 1
    return 0


def _has_error(cell: Any) -> bool:  # noqa: ANN401 - nbformat ships no types
    return any(output.output_type == "error" for output in cell.get("outputs", []))


def _leave(number: int, frame: FrameType | None) -> None:  # noqa: ARG001 - a signal handler's signature
    raise SystemExit(128 + number)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
