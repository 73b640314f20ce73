"""Where the local backend keeps things, and how a plan is written down.

::

    <root>/
      runs/<name>/            the folder of a run (events/store.py), and beside what stands there:
        ref.json              name, uid, fingerprint, created: all that a listing needs
        supervisor.json       who keeps the run: pid, start time, boot id, host
        supervisor.lock       held for as long as the supervisor lives
        supervisor.log        what the supervisor itself had to say: empty, as long as all is well
        control/              requests to the supervisor, each a whole file
        checkout/             the files of the repository that `git:` names
      runs/.<name>.<uid>.tmp  a run that is being prepared; renamed to its name when it is whole
      replaced/<name>-<uid>/  runs whose name was given to another
      git/<hash>/             files of repositories, one commit each (checkout.py)
      envs/<hash>/            environments with the packages that a cell asked for
      gpus.json               who holds which GPU
      gpus.lock               held while that is read and written
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from jupyter_gpudeploy.events.store import RunFolder

if TYPE_CHECKING:
    from pathlib import Path

FIRST_EXECUTED = 1000
"""The number of the first `execute` of a manual run. Manual runs have no tasks of a plan."""


class LocalFolder(RunFolder):
    """The folder of a local run, with what only the local backend keeps there."""

    @property
    def ref_file(self) -> Path:
        """`ref.json`."""
        return self.path / "ref.json"

    @property
    def supervisor_file(self) -> Path:
        """`supervisor.json`."""
        return self.path / "supervisor.json"

    @property
    def lock_file(self) -> Path:
        """`supervisor.lock`."""
        return self.path / "supervisor.lock"

    @property
    def supervisor_log(self) -> Path:
        """`supervisor.log`."""
        return self.path / "supervisor.log"

    @property
    def setup_log(self) -> Path:
        """`logs/setup.log`, what installing the requirements printed."""
        return self.path / "logs" / "setup.log"

    @property
    def control(self) -> Path:
        """`control/`."""
        return self.path / "control"

    @property
    def checkout(self) -> Path:
        """`checkout/`, the files of a repository; they stand for the notebook's folder."""
        return self.path / "checkout"

    @property
    def root(self) -> Path:
        """The state root that this run lies in, two floors up."""
        return self.path.parent.parent
