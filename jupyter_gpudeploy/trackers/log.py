"""`log(step=3, loss=0.12)`: what a program reports on purpose.

This file is imported by the user's program, so it needs the standard library only, and little of that. In a pod that
is the image's Python, 3.8 or later.

::

    metrics/<task>.jsonl    {"time": 1718000000.1, "attempt": 1, "step": 3, "metrics": {"loss": 0.12}}
"""

from __future__ import annotations

import json
import os
import sys
import time
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from jupyter_gpudeploy.trackers._rows import Row

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from jupyter_gpudeploy.events.store import RunFolder
    from jupyter_gpudeploy.trackers._columns import Columns
    from jupyter_gpudeploy.trackers.base import Problem


def log(
    values: Mapping[str, Any] | None = None,
    /,
    *,
    step: float | None = None,
    epoch: float | None = None,
    **metrics: Any,  # noqa: ANN401 - numbers, and the scalars of numpy, torch, jax, ...
) -> None:
    """Report metrics: `log(step=3, loss=0.12)` or `log({"val/acc": 0.9}, step=3)`.

    Inside a run they are appended to the run's metrics, and a full disk costs the values, not the program; outside,
    they are printed. NaN and infinity are kept. A value that is None is left out. May be called from any thread and
    process of the program. Raises TypeError or ValueError for a value that is no number.
    """
    given = {**(values or {}), **metrics}
    if step is None:
        step = given.pop("step", None)
    if epoch is None:
        epoch = given.pop("epoch", None)
    place = {name: _float(name, value) for name, value in (("step", step), ("epoch", epoch)) if value is not None}
    numbers = {str(name): _float(name, value) for name, value in given.items() if value is not None}
    file = os.environ.get("GPUDEPLOY_METRICS")
    if file:
        attempt = int(os.environ.get("GPUDEPLOY_ATTEMPT") or 1)
        _append(file, {"time": time.time(), "attempt": attempt, **place, "metrics": numbers})
    else:
        words = (f"{name}={value:.12g}" for name, value in {**place, **numbers}.items())
        print(" ".join(words))  # noqa: T201 - outside a run, this is the report


def output_dir() -> Path:
    """Return the folder in which this program may leave files: the task's own inside a run, else where it runs."""
    from pathlib import Path

    folder = os.environ.get("GPUDEPLOY_OUTPUT")
    if not folder:
        return Path.cwd()
    path = Path(folder)
    path.mkdir(parents=True, exist_ok=True)
    return path


def _float(name: object, value: Any) -> float:  # noqa: ANN401 - whatever the user's program holds
    try:
        return float(value)
    except (TypeError, ValueError) as error:
        raise type(error)(f"log(): {name!s} is no number: {value!r:.80}") from None


def _append(file: str, record: Mapping[str, object]) -> None:
    """Append one line in one write; first a newline where a killed writer left half a line."""
    line = json.dumps(record, separators=(",", ":")).encode() + b"\n"
    try:
        descriptor = os.open(file, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        _complain(str(error.strerror))
        return
    try:
        size = os.fstat(descriptor).st_size
        if size and os.pread(descriptor, 1, size - 1) != b"\n":
            line = b"\n" + line
        os.write(descriptor, line)
    except OSError as error:
        _complain(str(error.strerror))
    finally:
        os.close(descriptor)


@lru_cache(maxsize=None)  # noqa: UP033 - in pods, Python 3.8
def _complain(reason: str) -> None:
    """Say once why metrics are not kept."""
    print(f"jupyter_gpudeploy.log: not kept: {reason}", file=sys.stderr)  # noqa: T201 - the program's own log


class _Reader:
    """Reads `metrics/<task>.jsonl`. Lines that are no whole record are passed over."""

    generation = 0

    def __init__(self, folder: RunFolder, task: Mapping[str, Any]) -> None:
        from jupyter_gpudeploy.events.follow import Tail

        self._task: int = task["number"]
        self._tail = Tail(folder.metrics_file(self._task))
        self._line = 0

    def files(self) -> Sequence[Path]:
        """Return the one file."""
        return [self._tail.file]

    def poll(self, *, ended: bool) -> Columns:
        """Return the points that are new."""
        from jupyter_gpudeploy.trackers._columns import Columns

        points = Columns()
        for line in self._tail.until_now(ended=ended):
            self._line += 1
            found = _parse(line)
            if found is not None:
                points.add(*found, self._line)
        return points.mark(self._task, "log")

    def problems(self) -> Sequence[Problem]:
        """Nothing: the file is our own."""
        return ()


def _parse(line: bytes) -> tuple[Row, int] | None:
    """Return one record and its attempt."""
    try:
        record = json.loads(line.decode())
        metrics = {name: float(value) for name, value in record["metrics"].items()}
        place = [None if (value := record.get(name)) is None else float(value) for name in ("step", "epoch", "time")]
        return Row(metrics, *place), int(record.get("attempt", 1))
    except (ValueError, TypeError, KeyError, AttributeError, OverflowError, RecursionError):
        return None


class LogTracker:
    """The metrics given to `log`."""

    def environment(self, tracking: Mapping[str, Any], task: Mapping[str, Any]) -> Mapping[str, str]:  # noqa: ARG002 - the seam
        """Nothing: the backend sets GPUDEPLOY_METRICS for every task."""
        return {}

    def reader(self, folder: RunFolder, task: Mapping[str, Any]) -> _Reader:
        """Return a reader of one task."""
        return _Reader(folder, task)


EXPORT = LogTracker()
