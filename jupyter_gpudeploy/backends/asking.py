"""A process that chooses points (`jupyter_gpudeploy.sweeps`), as seen from whoever keeps a run.

It is asked for one point at a time, and waited for by its descriptor. Standard library alone: a supervisor does so.
"""

from __future__ import annotations

import fcntl
import json
import os
import signal
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from jupyter_gpudeploy.events.points import Chosen, of_line

if TYPE_CHECKING:
    from collections.abc import Mapping

_PROGRAM = "import sys; sys.path.append(sys.argv.pop(1)); from jupyter_gpudeploy.sweeps import main; main(sys.argv[1])"
_SIGNALS = (signal.SIGINT, signal.SIGHUP, signal.SIGTERM, signal.SIGPIPE)


class Answer(NamedTuple):
    """What came back: a point, or why there is none; `is_dead`: the process has ended."""

    chosen: Chosen | None = None
    error: str = ""
    is_dead: bool = False


class Asker:
    """One such process. Its end is not waited for here: whoever starts it reaps `pid`."""

    def __init__(self, folder: Path, python: str, environment: Mapping[str, str]) -> None:
        theirs_in, self._questions = os.pipe()
        self.descriptor, theirs_out = os.pipe()
        fcntl.fcntl(self.descriptor, fcntl.F_SETFL, os.O_NONBLOCK)
        try:
            self.pid = os.posix_spawn(
                python,
                [python, "-P", "-c", _PROGRAM, str(Path(__file__).parent.parent.parent), str(folder)],
                {**environment, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
                file_actions=[(os.POSIX_SPAWN_DUP2, theirs_in, 0), (os.POSIX_SPAWN_DUP2, theirs_out, 1)],
                setsid=True, setsigmask=(), setsigdef=_SIGNALS,
            )  # fmt: skip
        except BaseException:
            os.close(self._questions)
            os.close(self.descriptor)
            raise
        finally:
            os.close(theirs_in)
            os.close(theirs_out)
        self._said = b""

    def ask(self, number: int) -> bool:
        """Ask for a point; return whether the process could be asked."""
        try:
            os.write(self._questions, json.dumps({"ask": number}).encode() + b"\n")
        except OSError:
            return False
        return True

    def answer(self) -> Answer | None:
        """Return what has come; None while nothing has. Does not wait."""
        try:
            data = os.read(self.descriptor, 1 << 16)
        except BlockingIOError:
            return None
        if not data:
            return Answer(is_dead=True)
        self._said += data
        if not self._said.endswith(b"\n"):
            return None
        line, self._said = self._said, b""
        return _read(line)

    def close(self) -> None:
        """Let it go: it ends when it sees that nobody asks any more."""
        with suppress(OSError):
            os.close(self._questions)
            os.close(self.descriptor)

    def end(self) -> None:
        """End it at once, and reap it; nothing is lost with it."""
        self.close()
        with suppress(OSError):
            os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)


def _read(line: bytes) -> Answer:
    try:
        content = json.loads(line)
        if "error" in content:
            hint = f" ({content['hint']})" if content.get("hint") else ""
            return Answer(error=f"{content['error']}{hint}")
        return Answer(of_line(content))
    except (ValueError, KeyError, TypeError):
        return Answer(error=f"{line[:200]!r} is no point")
