"""A kernel and a view of its card: what a browser receives, counted byte by byte on the kernel's own wire."""

from __future__ import annotations

import os
import time
from array import array
from pathlib import Path
from typing import Any, NamedTuple

from jupyter_client.manager import start_new_kernel

BUILT = """
import pathlib, tempfile
from jupyter_gpudeploy.notebook.card import widget
if not (widget.STATIC / "card.js").exists():
    widget.STATIC = pathlib.Path(tempfile.mkdtemp())
    (widget.STATIC / "card.js").write_text("export default { render() {} }")
"""
VIEW = "application/vnd.jupyter.widget-view+json"
_TICKS = os.sysconf("SC_CLK_TCK")


class Sent(NamedTuple):
    """One message of the card, by the clock of the view. `size`: all its frames."""

    when: float
    size: int
    content: dict[str, Any]
    times: list[float]


class View:
    """One kernel with the extension loaded. It answers as a browser does: hello to each card, an ack a second."""

    def __init__(self, folder: Path) -> None:
        environment = {**os.environ, "JUPYTER_GPUDEPLOY_HOME": str(folder / "state")}
        self._manager, self.client = start_new_kernel(kernel_name="python3", cwd=str(folder), env=environment)
        self.pid = self._manager.provisioner.process.pid
        self.sent: list[Sent] = []
        self.bytes: dict[str, int] = {}
        self.counts: dict[str, int] = {}
        self._comm = ""
        self._acked = 0.0
        self.run("%load_ext jupyter_gpudeploy\n" + BUILT)

    def close(self) -> None:
        """End the kernel."""
        self.client.stop_channels()
        self._manager.shutdown_kernel(now=True)

    def run(self, code: str, seconds: float = 120) -> None:
        """Run a cell to its end, and receive meanwhile."""
        cell, deadline = self.client.execute(code), time.time() + seconds
        while time.time() < deadline:
            message = self.receive(0.5)
            is_ours = message is not None and message["parent_header"].get("msg_id") == cell
            if message is not None and is_ours and message["header"]["msg_type"] == "error":
                raise RuntimeError("\n".join(message["content"]["traceback"]))
            if message is not None and is_ours and message["content"].get("execution_state") == "idle":
                return
        raise RuntimeError("the cell did not end")

    def watch(self, seconds: float) -> None:
        """Receive for so long."""
        end = time.time() + seconds
        while time.time() < end:
            self.receive(0.05)

    def until(self, kind: str, seconds: float = 60) -> None:
        """Receive until a message of this kind has come."""
        deadline = time.time() + seconds
        while not any(each.content["type"] == kind for each in self.sent):
            assert time.time() < deadline, f"no {kind}"
            self.receive(0.05)

    def receive(self, seconds: float) -> dict[str, Any] | None:
        """Take one message from the wire, if one comes."""
        socket = self.client.iopub_channel.socket
        if not socket.poll(int(seconds * 1000)):
            return None
        frames = socket.recv_multipart()
        now = time.time()
        _, parts = self.client.session.feed_identities(frames)
        message: dict[str, Any] = self.client.session.deserialize(parts)
        kind, size = message["header"]["msg_type"], sum(map(len, frames))
        self.bytes[kind] = self.bytes.get(kind, 0) + size
        self.counts[kind] = self.counts.get(kind, 0) + 1
        content = message["content"]
        if kind == "comm_open" and content["data"]["state"].get("_anywidget_id", "").endswith("DeployCard"):
            self._comm = content["comm_id"]
        elif content.get("data", {}).get(VIEW, {}).get("model_id") == self._comm:
            self._say(type="hello", view="benchmark")
        elif kind == "comm_msg" and content["comm_id"] == self._comm and content["data"].get("method") == "custom":
            times = array("d", bytes(message["buffers"][0])).tolist() if message["buffers"] else []
            self.sent.append(Sent(now, size, content["data"]["content"], times))
        if self.sent and now - self._acked > 1:
            self._acked = now
            self._say(type="ack", seq=self.sent[-1].content["seq"])
        return message

    def forget(self) -> None:
        """Count anew."""
        self.sent.clear()
        self.bytes.clear()
        self.counts.clear()

    def cpu(self) -> float:
        """Return the seconds of processor time that the kernel has used."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / _TICKS

    def memory(self) -> float:
        """Return the resident memory of the kernel in MB."""
        for line in Path(f"/proc/{self.pid}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) / 1024
        return 0.0

    def _say(self, **content: object) -> None:
        data = {"method": "custom", "content": content}
        message = self.client.session.msg("comm_msg", {"comm_id": self._comm, "data": data})
        self.client.shell_channel.send(message)


def busiest(sent: list[Sent]) -> tuple[int, int]:
    """Return the most messages and the most bytes within any second."""
    messages = size = first = 0
    most = (0, 0)
    for each in sent:
        messages, size = messages + 1, size + each.size
        while sent[first].when <= each.when - 1:
            messages, size = messages - 1, size - sent[first].size
            first += 1
        most = max(most[0], messages), max(most[1], size)
    return most


def share(values: list[float], part: float) -> float:
    """Return the value below which this part of them lies."""
    return sorted(values)[min(len(values) - 1, int(part * len(values)))]
