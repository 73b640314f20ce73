"""Real kernels for the flow tests: start one, run cells in it, kill it."""

import json
import os
import signal
from contextlib import contextmanager

from jupyter_client.manager import KernelManager


class Kernel:
    """One ipykernel process with this interpreter."""

    def __init__(self, folder, state):
        self.manager = KernelManager(kernel_name="python3")
        environment = {**os.environ, "JUPYTER_GPUDEPLOY_HOME": str(state), "IPYTHONDIR": str(state / "ipython")}
        (state / "ipython").mkdir(parents=True, exist_ok=True)
        self.manager.start_kernel(cwd=str(folder), env=environment)
        self.client = self.manager.blocking_client()
        self.client.start_channels()
        self.client.wait_for_ready(timeout=60)

    def run(self, code, timeout=120):
        """Run a cell; return (reply content, list of iopub messages of it)."""
        messages = []
        reply = self.client.execute_interactive(
            code, timeout=timeout, output_hook=messages.append, store_history=True, allow_stdin=False
        )
        return reply["content"], messages

    def value(self, expression, timeout=120):
        """Return the value of an expression, through JSON."""
        reply, messages = self.run(f"import json as _j; print('VALUE' + _j.dumps({expression}))", timeout)
        assert reply["status"] == "ok", reply
        text = "".join(m["content"]["text"] for m in messages if m["msg_type"] == "stream")
        return json.loads(text.split("VALUE", 1)[1].splitlines()[0])

    def kill(self):
        """kill -9, as an out-of-memory killer would."""
        os.kill(self.manager.provisioner.process.pid, signal.SIGKILL)
        self.close()

    def close(self):
        self.client.stop_channels()
        self.manager.shutdown_kernel(now=True)
        self.manager.cleanup_resources()


@contextmanager
def kernel(folder, state):
    made = Kernel(folder, state)
    try:
        yield made
    finally:
        made.close()


def texts(messages, mime="text/plain"):
    """Return what a cell displayed, in its order."""
    kinds = {"display_data", "execute_result", "update_display_data"}
    return [m["content"]["data"][mime] for m in messages if m["msg_type"] in kinds and mime in m["content"]["data"]]
