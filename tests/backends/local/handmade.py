"""Plans made by hand, and a backend with what tests ask again and again."""

from __future__ import annotations

import threading
import time

from jupyter_gpudeploy.backends.local import processes
from jupyter_gpudeploy.events.status import Status
from jupyter_gpudeploy.events.store import JournalReader
from jupyter_gpudeploy.events.types import Notice
from jupyter_gpudeploy.plan.types import Plan, Slot, Task, word

PATIENCE = 30.0


def until(condition, what="it", seconds=PATIENCE):
    """Return what `condition` returns as soon as that is true."""
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, f"{what} did not happen in {seconds} s"
        time.sleep(0.01)
    return found


def plan(*programs, **fields):
    """Return a plan whose tasks run these Python programs."""
    tasks = tuple(Task(n, f"task {n}", (word(Slot.PYTHON), word("-c"), word(text))) for n, text in enumerate(programs))
    made = Plan("run", "Run", "job" if len(tasks) == 1 else "sweep", "local", tasks, "f0", working_dir="/tmp")
    return made._replace(**fields)


class Driver:
    """A backend with what tests ask again and again."""

    def __init__(self, backend):
        self.backend = backend

    def launch(self, *programs, **fields):
        return self.backend.launch(self.backend.render(plan(*programs, **fields)))

    def events(self, ref):
        return JournalReader(self.backend.folder(ref).events_file).poll()

    def status(self, ref):
        return Status.of((), self.events(ref))

    def notices(self, ref):
        return [event.message for event in self.events(ref) if isinstance(event, Notice)]

    def wait(self, ref, seconds=PATIENCE):
        def has_ended():
            status = self.status(ref)
            return status if status.state.is_final else None

        return until(has_ended, f"the end of the run, {self.log(ref)}", seconds)

    def wait_for(self, ref, condition, what="the state"):
        return until(lambda: condition(self.status(ref)) and self.status(ref), what)

    def lines(self, ref, task=0, since=None, *, follow=False):
        stop = threading.Event()
        if not follow:
            stop.set()
        return [line.text for line in self.backend.logs(ref, task, stop, since)]

    def log(self, ref):
        return self.backend.folder(ref).supervisor_log.read_text()

    def supervisor(self, ref):
        return until(lambda: processes.kept_by(self.backend.folder(ref).supervisor_file), "the supervisor")

    def record(self, ref):
        return self.backend.folder(ref).record()
