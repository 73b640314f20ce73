"""A real shell, and a real kernel, each with a state root of its own."""

from __future__ import annotations

import os
import queue
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest
from patience import PATIENCE, REPOSITORY, eventually

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def home(tmp_path, monkeypatch):
    """The state root of the test; every run in it is stopped at the end."""
    root = tmp_path / "home"
    monkeypatch.setenv("JUPYTER_GPUDEPLOY_HOME", str(root))
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    yield root
    if (root / "runs").exists():
        from jupyter_gpudeploy import runs

        for run in runs():
            run.stop(0.5)


@pytest.fixture
def shell(home, tmp_path, monkeypatch):
    """A real InteractiveShell with the extension loaded; what it displays is in `shell.display_pub.outputs`."""
    from IPython.core.displaypub import CapturingDisplayPublisher
    from IPython.core.interactiveshell import InteractiveShell
    from traitlets.config import Config

    monkeypatch.chdir(tmp_path)
    InteractiveShell.clear_instance()
    shell = InteractiveShell.instance(config=Config(HistoryManager={"enabled": False}))
    shell.display_pub = CapturingDisplayPublisher()
    shell.run_line_magic("load_ext", "jupyter_gpudeploy")
    yield shell
    shell.run_line_magic("unload_ext", "jupyter_gpudeploy")
    InteractiveShell.clear_instance()


@dataclass
class Reply:
    """What one cell sent: its stream text, its displays by id (the last version of each), its result, its error."""

    stdout: str = ""
    stderr: str = ""
    displays: dict[str, dict[str, str]] = field(default_factory=dict)
    result: dict[str, str] = field(default_factory=dict)
    status: str = ""
    ename: str = ""
    traceback: list[str] = field(default_factory=list)

    @property
    def shown(self) -> str:
        """The text of the only display."""
        (bundle,) = self.displays.values()
        return bundle["text/plain"]


class Kernel:
    """A real kernel. Displays are kept by their id over all cells, as a notebook keeps them."""

    def __init__(self, cwd: Path, home: Path) -> None:
        from jupyter_client.manager import KernelManager

        self.environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), "JUPYTER_GPUDEPLOY_HOME": str(home)}
        self.environment |= {"IPYTHONDIR": str(home / "ipython"), "PYDEVD_DISABLE_FILE_VALIDATION": "1"}
        self.manager = KernelManager(kernel_name="python3")
        self.manager.start_kernel(cwd=str(cwd), env=self.environment)
        self.displays: dict[str, dict[str, str]] = {}
        self.updates: list[str] = []
        self.connect()

    def connect(self) -> None:
        """Connect a client, as a notebook that is opened does."""
        self.client = self.manager.blocking_client()
        self.client.start_channels()
        self.client.wait_for_ready(timeout=PATIENCE)

    def disconnect(self) -> None:
        """Go away, as a tab that is closed does; the kernel stays."""
        self.client.stop_channels()

    def start(self, code: str) -> str:
        """Send a cell and return at once with its id."""
        return self.client.execute(code)

    def run(self, code: str) -> Reply:
        """Run a cell to its end."""
        return self.finish(self.start(code))

    def ok(self, code: str) -> Reply:
        """Run a cell that must not fail."""
        reply = self.run(code)
        assert reply.status == "ok", "\n".join(reply.traceback)
        return reply

    def finish(self, cell: str) -> Reply:
        """Collect what a cell sends until the kernel is idle again."""
        reply = Reply()
        while True:
            message = self.client.get_iopub_msg(timeout=PATIENCE)
            if self._take(message, cell, reply):
                break
        while (answer := self.client.get_shell_msg(timeout=PATIENCE))["parent_header"].get("msg_id") != cell:
            pass
        reply.status = answer["content"]["status"]
        for display in reply.displays:
            reply.displays[display] = self.displays[display]
        return reply

    def until_sent(self, cell: str, kind: str) -> None:
        """Wait until a cell that runs has sent a message of this kind."""
        while True:
            message = self.client.get_iopub_msg(timeout=PATIENCE)
            self._take(message, cell, Reply())
            if message["parent_header"].get("msg_id") == cell and message["header"]["msg_type"] == kind:
                return

    def listen(self) -> None:
        """Take what has come in since the last cell, updates of displays above all."""
        while True:
            try:
                self._take(self.client.get_iopub_msg(timeout=0.1), "", Reply())
            except queue.Empty:
                return

    def until_shown(self, display: str, text: str) -> str:
        """Wait until the display says `text`, with no cell running."""
        eventually(lambda: self.listen() or text in self.displays[display]["text/plain"])
        return self.displays[display]["text/plain"]

    def close(self) -> None:
        """End the kernel."""
        self.client.stop_channels()
        self.manager.shutdown_kernel(now=True)
        self.manager.cleanup_resources()

    def _take(self, message, cell, reply) -> bool:
        kind, content = message["header"]["msg_type"], message["content"]
        is_ours = message["parent_header"].get("msg_id") == cell
        if kind in ("display_data", "update_display_data"):
            display = content["transient"].get("display_id", message["header"]["msg_id"])
            if kind == "update_display_data":
                assert display in self.displays, "an update of a display that nobody has"
                self.updates.append(display)
            elif is_ours:
                reply.displays[display] = {}
            self.displays[display] = content["data"]
        elif is_ours and kind == "stream":
            setattr(reply, content["name"], getattr(reply, content["name"]) + content["text"])
        elif is_ours and kind == "execute_result":
            reply.result = content["data"]
        elif is_ours and kind == "error":
            reply.ename, reply.traceback = content["ename"], content["traceback"]
        return is_ours and kind == "status" and content["execution_state"] == "idle"


@pytest.fixture
def kernels(home, tmp_path):
    """Start kernels that share one state root: `kernels()` returns a new one."""
    started = []

    def start() -> Kernel:
        kernel = Kernel(tmp_path, home)
        started.append(kernel)
        kernel.ok("%load_ext jupyter_gpudeploy")
        return kernel

    yield start
    for kernel in started:
        kernel.close()


@pytest.fixture
def kernel(kernels):
    return kernels()
