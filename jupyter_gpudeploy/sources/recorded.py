"""What whoever keeps a run has measured of it already, as it comes into the run's folder."""

from __future__ import annotations

from typing import TYPE_CHECKING

from jupyter_gpudeploy.events.samples import SampleReader

if TYPE_CHECKING:
    from jupyter_gpudeploy.events.store import RunFolder
    from jupyter_gpudeploy.events.types import Sample


class Recorded:
    """The samples of one task, and those of the run as a whole; the first look tells all that there is."""

    def __init__(self, folder: RunFolder, task: int | None) -> None:
        self._reader: SampleReader | None = SampleReader(folder.samples_file)
        self._task = task

    @property
    def trouble(self) -> str:
        """Why there is nothing to tell."""
        is_empty = self._reader is None or not self._reader.file.exists()
        return "nothing was measured of this run so far" if is_empty else ""

    def look(self) -> list[Sample]:
        """Return what is new."""
        samples = [] if self._reader is None else self._reader.poll()
        return [sample for sample in samples if sample.task in (None, self._task)]

    def close(self) -> None:
        """Read no more."""
        self._reader = None


EXPORT = Recorded
