"""When a log had how many bytes: the times of a log whose lines carry none.

Beside `logs/<task>.<attempt>.log` lies `<task>.<attempt>.times`: 16 bytes for each look, time (f8) and size (u8),
little-endian, at most one a second and only while the log grows. A log that was done within a second has none.
"""

from __future__ import annotations

import os
import struct
from array import array

EVERY_SECONDS = 1.0
_ENTRY = struct.Struct("<dQ")


def times_file(log: str) -> str:
    """Return where the times of this log lie."""
    return log.removesuffix(".log") + ".times"


class TimesWriter:
    """Notes how large a log is. It gives up when it cannot: a log without times is still a log."""

    def __init__(self, log: str, begun: float) -> None:
        self._file = times_file(log)
        self._due = begun + EVERY_SECONDS

    def is_due(self, now: float) -> bool:
        """Return whether the last note is long enough ago."""
        return now >= self._due

    def note(self, now: float, size: int) -> None:
        """Say that the log has `size` bytes at `now`."""
        self._due = now + EVERY_SECONDS
        try:
            descriptor = os.open(self._file, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                os.write(descriptor, _ENTRY.pack(now, size))
            finally:
                os.close(descriptor)
        except OSError:
            return


def read_times(log: str) -> tuple[array[float], array[int]]:
    """Return the times and the sizes noted, both rising; what contradicts a later one is left out."""
    try:
        with open(times_file(log), "rb") as stream:  # noqa: PTH123 - as light as what imports it
            data = stream.read()
    except OSError:
        return array("d"), array("Q")
    times, sizes = array("d"), array("Q")
    for time, size in _ENTRY.iter_unpack(data[: len(data) // _ENTRY.size * _ENTRY.size]):
        while sizes and (sizes[-1] >= size or times[-1] > time):
            times.pop()
            sizes.pop()
        times.append(time)
        sizes.append(size)
    return times, sizes
