"""`python -m jupyter_gpudeploy.programs.notebook NOTEBOOK EXECUTED`: run a notebook from top to bottom.

Parameters (JSON in GPUDEPLOY_PARAMETERS) are put in as papermill does: in place of an earlier injected cell, else below
the cell tagged `parameters`, else at the top. What the cells print is printed as it comes. EXECUTED is written while
the notebook runs and in the end, whatever the end is. The kernel is this interpreter's own, whatever the notebook's
metadata names; it ends with this process. Exit code: 0, 1 when a cell failed, 143 when it was told to stop.
"""

from __future__ import annotations

import asyncio
import json
import math
import os
import re
import signal
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

INJECTED = "injected-parameters"
_STOPPED = 128 + signal.SIGTERM
_INTERRUPT_SECONDS = 5.0
_SAVE_SECONDS = 1.0
_ANSI = re.compile(r"\x1b\[[0-9;]*m")


def main(words: list[str]) -> int:
    """Run the notebook of the command line; return the exit code."""
    if len(words) != 2:  # noqa: PLR2004 - NOTEBOOK EXECUTED
        sys.exit("usage: python -m jupyter_gpudeploy.programs.notebook NOTEBOOK EXECUTED")
    try:
        import ipykernel  # noqa: F401 - the kernel that is started needs it
        import nbclient  # noqa: F401 - asked for by name below
    except ImportError as error:
        sys.exit(f"a notebook needs {error.name}: pip install nbclient ipykernel")
    source, target = map(Path, words)
    notebook = read(source)
    shift = inject(notebook, json.loads(os.environ.get("GPUDEPLOY_PARAMETERS") or "{}"))
    with tempfile.TemporaryDirectory(prefix="gpudeploy-", ignore_cleanup_errors=True) as sockets:
        return asyncio.run(Execution(notebook, target, shift, sockets).run())


def read(source: Path) -> Any:  # noqa: ANN401 - nbformat ships no types
    """Return a Python notebook in the current format, or leave saying why the file is none."""
    import nbformat

    try:
        notebook = nbformat.read(source, as_version=4)
    except OSError as error:
        sys.exit(f"{source} cannot be read: {error.strerror}")
    except Exception as error:  # noqa: BLE001 - nbformat raises whatever its parsers raise
        sys.exit(f"{source} is no notebook: {' '.join(str(error).split())[:200]}")
    language = notebook.metadata.get("kernelspec", {}).get("language") or "python"
    if language.lower() != "python":
        sys.exit(f"{source} is written in {language}: only Python notebooks can be run")
    return notebook


def inject(notebook: Any, parameters: dict[str, Any]) -> int:  # noqa: ANN401 - nbformat ships no types
    """Put the parameters into `notebook`. Return before which cell one was added, or how many cells there are."""
    from nbformat.v4 import new_code_cell

    unmoved = len(notebook.cells)
    if not parameters:
        return unmoved
    if wrong := [name for name in parameters if not name.isidentifier()]:
        sys.exit(f"a notebook's parameters are variables, which {wrong[0]!r} cannot be")
    text = "\n".join(["# Parameters", *(f"{name} = {literal(value)}" for name, value in parameters.items())])
    cell = new_code_cell(text, metadata={"tags": [INJECTED]})
    if (notebook.nbformat, notebook.nbformat_minor) < (4, 5):
        del cell["id"]
    earlier, tagged = _tagged(notebook, INJECTED), _tagged(notebook, "parameters")
    if earlier is not None:
        notebook.cells[earlier] = cell
        return unmoved
    place = 0 if tagged is None else tagged + 1
    notebook.cells.insert(place, cell)
    return place


def literal(value: object) -> str:
    """Return a value of JSON as Python writes it."""
    if isinstance(value, float) and not math.isfinite(value):
        return f'float("{value}")'
    if isinstance(value, list):
        return f"[{', '.join(map(literal, value))}]"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key!r}: {literal(inner)}" for key, inner in value.items()) + "}"
    return repr(value)


class Execution:
    """One run of a notebook.

    `added` is the place of a cell that the file does not have, for counting cells; `sockets` a folder that nobody else
    can look into, for the kernel's sockets.
    """

    def __init__(self, notebook: Any, target: Path, added: int, sockets: str) -> None:  # noqa: ANN401 - no types
        self.notebook = notebook
        self.target = target
        self.added = added
        self.current = 0
        self.stopped = False
        self._saved = 0.0
        self._client = _printing_client(notebook, sockets, self)

    async def run(self) -> int:
        """Run it, and return the exit code."""
        from nbclient.exceptions import CellExecutionError, DeadKernelError

        self._running = asyncio.ensure_future(self._client.async_execute())
        self.take_signals()
        try:
            await self._running
        except CellExecutionError as error:
            return self._ended(f"failed: {error.ename}: {error.evalue}")
        except DeadKernelError:
            return self._ended(f"failed: the kernel died{self._client.how_it_died()}")
        except asyncio.CancelledError:
            return self._ended("failed: it was cancelled")
        finally:
            self._save()
        return _STOPPED if self.stopped else 0

    def _ended(self, how: str) -> int:
        """Print what became of the current cell, and return the exit code."""
        number = self.current + (self.current < self.added)
        count = len(self.notebook.cells) - (self.added < len(self.notebook.cells))
        for output in self.notebook.cells[self.current].get("outputs", []):
            if output.output_type == "error" and not self.stopped:
                _complain(_ANSI.sub("", "\n".join(output.traceback)))
        _complain(f"cell {number} of {count} {'was told to stop' if self.stopped else how}")
        return _STOPPED if self.stopped else 1

    def take_signals(self) -> None:
        """Let signals stop the cell."""
        # nbclient has handlers of its own, which pull the kernel away under the cell: ours come after them.
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, self._stop)

    def _stop(self) -> None:
        """Interrupt the cell, so that it can clean up, and end the kernel if that does not help."""
        if not self.stopped:
            self.stopped = True
            self._interrupting = asyncio.ensure_future(self._client.interrupt())
            asyncio.get_running_loop().call_later(_INTERRUPT_SECONDS, self._give_up)

    def _give_up(self) -> None:
        self._client.shutdown_kernel = "immediate"
        self._running.cancel()

    def before(self, cell: Any, cell_index: int) -> None:  # noqa: ANN401, ARG002 - nbclient's own signature
        """Take note of the cell that begins."""
        self.current = cell_index

    def after(self, **_: object) -> None:
        """Save, not too often."""
        if time.monotonic() - self._saved > _SAVE_SECONDS:
            self._save()

    def _save(self) -> None:
        import nbformat

        self.target.parent.mkdir(parents=True, exist_ok=True)
        neighbour = self.target.with_name(f".{self.target.name}.{os.getpid()}")
        nbformat.write(self.notebook, neighbour)
        neighbour.replace(self.target)
        self._saved = time.monotonic()


def _printing_client(notebook: Any, sockets: str, execution: Execution) -> Any:  # noqa: ANN401 - nbclient has no types
    """Return a client with a kernel of this interpreter, that prints what the cells print."""
    from jupyter_client.kernelspec import KernelSpec
    from jupyter_client.manager import AsyncKernelManager
    from nbclient import NotebookClient

    class OwnKernel(AsyncKernelManager):
        """A kernel of this interpreter: none has to be installed, and no other is taken.

        Over TCP every user of the machine could read along.
        """

        transport = "ipc"
        connection_file = f"{sockets}/kernel.json"

        @property
        def kernel_spec(self) -> KernelSpec:
            launch = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
            argv = [*launch, "--HistoryManager.enabled=False"]
            return KernelSpec(argv=argv, display_name="Python", language="python")

    class PrintingClient(NotebookClient):
        process: Any = None

        async def async_start_new_kernel(self, **options: Any) -> None:  # noqa: ANN401 - the base's signature
            execution.take_signals()
            await super().async_start_new_kernel(**options)
            self.process = getattr(getattr(self.km, "provisioner", None), "process", None)

        def process_message(self, message: Any, cell: Any, cell_index: int) -> Any:  # noqa: ANN401 - the same
            if message["msg_type"] == "stream":
                out = sys.stderr if message["content"]["name"] == "stderr" else sys.stdout
                out.write(message["content"]["text"])
                out.flush()
            return super().process_message(message, cell, cell_index)

        async def interrupt(self) -> None:
            manager: Any = self.km
            if manager is not None and manager.has_kernel:
                await manager.interrupt_kernel()

        def how_it_died(self) -> str:
            code = None if self.process is None else self.process.poll()
            if code == -signal.SIGKILL:
                return ": killed by signal 9, as a rule for want of memory"
            return "" if code is None else f" (exit code {code})"

    return PrintingClient(
        notebook,
        timeout=None,
        kernel_manager_class=OwnKernel,
        resources={"metadata": {"path": "."}},
        on_cell_start=execution.before,
        on_cell_executed=execution.after,
    )


def _tagged(notebook: Any, tag: str) -> int | None:  # noqa: ANN401 - nbformat ships no types
    found = (place for place, cell in enumerate(notebook.cells) if tag in cell.metadata.get("tags", []))
    return next(found, None)


def _complain(text: str) -> None:
    print(text, file=sys.stderr, flush=True)  # noqa: T201 - the job's own log


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
