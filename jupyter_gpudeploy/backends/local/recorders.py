"""Starting the recorder: the one process a machine and user that samples GPUs and processes for all living runs.

Nothing depends on it. A run without one goes on in the same way, and has no samples; the next launch, or the next look
at a living run, starts another. JUPYTER_GPUDEPLOY_SAMPLING=off starts none.
"""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path

import jupyter_gpudeploy
from jupyter_gpudeploy.backends.local.keepers import inherited

SWITCH = "JUPYTER_GPUDEPLOY_SAMPLING"
LOCK = "recorder.lock"
_LOOK_SECONDS = 10.0
_PROGRAM = """\
import os
if os.fork():
    os._exit(0)
os.setsid()
import sys
package, root, *packages = sys.argv[1:]
os.chdir("/")
sys.path += [package, *packages]
import fcntl, time
lock = os.open(root + "/recorder.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
for _ in range(5):
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        break
    except BlockingIOError:
        time.sleep(0.05)
else:
    os._exit(0)
time.sleep(0.5)
from jupyter_gpudeploy.backends.local.recorder import main
main(root, lock)
"""
_looked: dict[Path, float] = {}


def ensure(root: Path, *, now_and_then: bool = False) -> None:
    """Start the recorder of a state root unless it is there. Takes a few microseconds where it is; never fails.

    It begins to work half a second later, when what launched the run is through. `now_and_then`: look only if that was
    not done in the last seconds.
    """
    if os.environ.get(SWITCH, "").lower() in ("off", "0", "no", "false"):
        return
    moment = time.monotonic()
    if now_and_then and moment - _looked.get(root, -_LOOK_SECONDS) < _LOOK_SECONDS:
        return
    _looked[root] = moment
    with suppress(OSError):
        if not is_there(root):
            _start(root)


def is_there(root: Path) -> bool:
    """Whether a recorder works for a state root, on whichever machine. Raises OSError."""
    descriptor = os.open(root / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


def _start(root: Path) -> None:
    """Start it in a session of its own, as nobody's child, with nothing of ours open."""
    package = str(Path(jupyter_gpudeploy.__file__).parent.parent)
    packages = [path for path in sys.path if path.endswith(("site-packages", "dist-packages"))]
    process = subprocess.Popen(
        [sys.executable, "-I", "-S", "-c", _PROGRAM, package, str(root), *packages],
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=inherited(),
        start_new_session=True,
    )  # fmt: skip
    threading.Thread(target=process.wait, name="recorder starts", daemon=True).start()
