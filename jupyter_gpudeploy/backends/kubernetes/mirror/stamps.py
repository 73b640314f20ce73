r"""A container's log as the API server sends it with `timestamps=true`, turned back into what the program printed.

Every line begins with the time at which the node took it in, `2026-11-23T14:51:00.123456789Z `. These stamps order a
log and identify its lines: a log can be asked for from a whole second on only, so after a break lines come again that
were taken before, and the stamps tell which. The clock of whoever reads plays no part in it. What stdout and stderr
print at the same moment can swap places by a few lines; the node's clock is taken to go forward otherwise.
"""

from __future__ import annotations

import re
from collections import deque
from datetime import UTC, datetime
from functools import lru_cache
from typing import NamedTuple

SECOND = 1_000_000_000
_STAMP = re.compile(rb"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.(\d{1,9}))?(Z|[+-]\d\d:\d\d) ")
_REMEMBERED = 8
_NANO_DIGITS = 9
_T = 10  # its place in 2026-11-23T14:51:00


class Taken(NamedTuple):
    """Which lines of a log were taken.

    `recent`: (nanoseconds since the epoch, lines of that time) of the last few distinct times, in the order of the
    log. `floor`: no line of this time or earlier is new, unless `recent` tells otherwise; 0 while nothing was left out
    of `recent`. `last`: the time of the last line; 0 before the first.
    """

    recent: tuple[tuple[int, int], ...] = ()
    floor: int = 0
    last: int = 0

    @property
    def since(self) -> str | None:
        """The whole second to ask for so that every line that is new comes, as RFC 3339; None for all."""
        if not self.recent:
            return None
        return stamp_text(min(time for time, _ in self.recent), "seconds")


NOTHING = Taken()


class Gap(NamedTuple):
    """What was printed between these times (nanoseconds), if anything, can no longer be had."""

    after: int
    before: int

    def __str__(self) -> str:
        times = " and ".join(stamp_text(time, "milliseconds") for time in self)
        return f"log lines between {times}, if there were any, are no longer on the node"


class Unstamper:
    """Takes the stamps off one stream of a log, and leaves out the lines that were taken before.

    `taken` is brought forward with every line handed out; `lines` counts those. `gap` is set when the stream begins
    after the last line taken and does not hold that line any more. A line is handed out when its newline has come.
    """

    def __init__(self, taken: Taken = NOTHING) -> None:
        self._recent = dict(taken.recent)
        self._floor = taken.floor
        self._last = taken.last
        self._expected = dict(taken.recent)
        self._pieces: list[bytes] = []
        self._unseen: list[list[bytes]] = []
        self.lines = 0
        self.gap: Gap | None = None

    @property
    def taken(self) -> Taken:
        """Which lines are taken by now."""
        self._remember()
        return Taken(tuple(self._recent.items()), self._floor, self._last)

    @property
    def is_past(self) -> bool:
        """Whether the stream has come to the lines that are new, or would come next."""
        return not self._expected

    @property
    def pending(self) -> bytes:
        """The beginning of a line that waits for its end."""
        return b"".join(self._pieces)

    def feed(self, data: bytes) -> bytes:
        """Return what the program printed in the lines that are whole by now."""
        end = data.rfind(b"\n") + 1
        if not end:
            if data:
                self._pieces.append(data)
            return b""
        whole = data[: end - 1]
        if self._pieces:
            whole = b"".join([*self._pieces, whole])
            self._pieces.clear()
        if end < len(data):
            self._pieces.append(data[end:])
        return self._take(whole.split(b"\n"), b"\n")

    def rest(self) -> bytes:
        """Return what was printed without a newline at the end of a log that is complete."""
        whole = b"".join(self._pieces)
        self._pieces.clear()
        return self._take([whole], b"") if whole else b""

    def _take(self, lines: list[bytes], end: bytes) -> bytes:
        if self._expected:
            lines = self._new(lines)
            if not lines:
                return b""
        self.lines += len(lines)
        self._unseen.append(lines)
        if len(self._unseen) > _REMEMBERED:
            self._remember()
        return b"\n".join(_bare(lines)) + end

    def _new(self, lines: list[bytes]) -> list[bytes]:
        """Return the lines that were not taken before; those come all before the first new one."""
        time = 0
        for index, line in enumerate(lines):
            time = stamp(line) or time
            if time in self._expected:
                self._expected[time] -= 1
                if not self._expected[time]:
                    del self._expected[time]
                    if not self._expected:
                        return lines[index + 1 :]
            elif time > self._floor:
                if self._last in self._expected:
                    self.gap = Gap(self._last, time)
                self._expected.clear()
                return lines[index:]
        return []

    def _remember(self) -> None:
        """Bring forward which lines are taken, by the last few times of those handed out since."""
        lines = [line for some in self._unseen for line in some]
        self._unseen.clear()
        if not lines:
            return
        times: deque[int] = deque()
        distinct: set[int] = set()
        pending = 0
        for index in range(len(lines) - 1, -1, -1):
            time = stamp(lines[index])
            if time is None:
                pending += 1
                continue
            if time not in distinct and len(distinct) == _REMEMBERED:
                self._recent.clear()
                left_out = lines[max(0, index - _REMEMBERED) : index + 1]
                self._floor = max(self._floor, *(stamp(line) or 0 for line in left_out))
                break
            distinct.add(time)
            times.extendleft([time] * (pending + 1))
            pending = 0
        else:
            times.extendleft([self._last] * pending)
        for time in times:
            self._recent[time] = self._recent.get(time, 0) + 1
        self._last = times[-1]
        while len(self._recent) > _REMEMBERED:
            oldest = next(iter(self._recent))
            del self._recent[oldest]
            self._floor = max(self._floor, oldest)


def stamp(line: bytes) -> int | None:
    """Return the time of a line, in nanoseconds since the epoch; None for one that has none."""
    match = _STAMP.match(line)
    if match is None:
        return None
    fraction = match[2] or b""
    return _seconds(match[1], match[3]) * SECOND + int(fraction.ljust(_NANO_DIGITS, b"0"))


def stamp_text(time: int, precision: str) -> str:
    """Return nanoseconds since the epoch as RFC 3339, cut to this precision (a `timespec` of datetime.isoformat)."""
    moment = datetime.fromtimestamp(time // SECOND, UTC).replace(microsecond=time % SECOND // 1000)
    return moment.isoformat(timespec=precision).replace("+00:00", "Z")


@lru_cache(maxsize=64)
def _seconds(text: bytes, zone: bytes) -> int:
    try:
        return int(datetime.fromisoformat((text + (b"+00:00" if zone == b"Z" else zone)).decode()).timestamp())
    except ValueError:  # digits that are no date
        return 0


def _bare(lines: list[bytes]) -> list[bytes]:
    """Return the lines without their stamps. Those of one node are all of one length, so that is tried first."""
    match = _STAMP.match(lines[0])
    if match is not None:
        width = match.end()
        heads = b"".join([line[:width] for line in lines])
        if (
            len(heads) == width * len(lines)
            and heads[_T::width].strip(b"T") == heads[width - 1 :: width].strip() == b""
        ):
            return [line[width:] for line in lines]
    return [line[found.end() :] if (found := _STAMP.match(line)) else line for line in lines]
