"""What a task prints, moved from its pipe into its log file by the kernel (splice), without passing through Python.

The pipe stands in between so that a full disk costs log lines and not the task: what cannot be written is counted and
dropped. A pipe that was just emptied is left alone for some milliseconds, so a program that prints line by line wakes
nobody a hundred thousand times a second.
"""

from __future__ import annotations

import errno
import fcntl
import os
import time
from contextlib import suppress
from typing import TYPE_CHECKING

from jupyter_gpudeploy.events.masking import Mask
from jupyter_gpudeploy.events.times import TimesWriter

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from jupyter_gpudeploy.backends.local.loop import Loop, Timer

REST_SECONDS = 0.01
_FIRST_REST_SECONDS = 0.03
_GAP_SECONDS = 5.0
_CHUNK = 1 << 20
_BUSY = 1 << 15
_TURN_LIMIT = 1 << 24
_NO_SPLICE = frozenset({errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP})


class Pump:
    """One pipe and one log file. Hand `write_end` to the child, then call `started`. `hidden` is never written.

    On a full disk (or quota, or file size limit) the log ends with its last whole line; when there is room again it
    goes on with the next whole line, so no two halves ever become a line that nobody printed. `on_gap` is called with 0
    when that begins, and with the number of bytes that were not kept when there has been room for a while, or at the
    end.
    """

    def __init__(self, loop: Loop, log: str, on_gap: Callable[[int], None], hidden: Iterable[bytes] = ()) -> None:
        self._loop = loop
        self._log = log
        self._on_gap = on_gap
        self._read, self.write_end = os.pipe()
        os.set_blocking(self._read, False)
        self._file = -1
        self._mask = Mask(hidden)
        self._splices = not self._mask.is_needed
        self._enlarged = False
        self._is_watched = False
        self._dropped = 0
        self._in_torn_line = False
        self._in_gap = False
        self._full_at = 0.0
        self._dropping = False
        self._rest: Timer | None = None
        self._times = TimesWriter(log, time.time())
        try:
            self._open_log()
        except OSError as error:
            if error.errno in (errno.EMFILE, errno.ENFILE):
                os.close(self._read)
                os.close(self.write_end)
                raise
            self._is_full()

    def started(self) -> None:
        """The child has the write end: close ours. Its first output is looked for after a rest: many end before."""
        os.close(self.write_end)
        self._rest = self._loop.after(_FIRST_REST_SECONDS, self._on_output)

    def close(self) -> None:
        """Take what is in the pipe, then let go of it. Nothing is waited for."""
        if self._rest is not None:
            self._rest.cancel()
        self._drain()
        self._write(self._mask.rest())
        self._loop.unwatch(self._read)
        os.close(self._read)
        if self._file >= 0:
            os.close(self._file)
        self._tell_gap()

    def _on_output(self) -> None:
        self._rest = None
        moved, ended = self._drain()
        if moved:
            self._note_time()
        if self._in_gap and time.monotonic() - self._full_at > _GAP_SECONDS:
            self._tell_gap()
        if ended:
            self._loop.unwatch(self._read)
            return
        if moved >= _BUSY:
            self._enlarge()
        if moved >= _CHUNK // 2 or not moved:
            self._wait()
        else:
            self._rest = self._loop.after(REST_SECONDS, self._on_output)

    def _note_time(self) -> None:
        now = time.time()
        if self._times.is_due(now) and self._file >= 0:
            self._times.note(now, os.lseek(self._file, 0, os.SEEK_CUR))

    def _wait(self) -> None:
        if self._is_watched:
            self._loop.rearm(self._read)
        else:
            self._is_watched = True
            self._loop.watch(self._read, self._on_output, once=True)

    def _drain(self) -> tuple[int, bool]:
        """Return how many bytes left the pipe, and whether nobody can write into it any more."""
        moved = 0
        while moved < _TURN_LIMIT:
            try:
                count = self._move()
            except BlockingIOError:
                return moved, False
            if not count:
                return moved, True
            moved += count
        return moved, False

    def _move(self) -> int:
        if self._dropping:
            return self._try_again()
        try:
            if self._splices:
                return os.splice(self._read, self._file, _CHUNK)
        except BlockingIOError:
            raise
        except OSError as error:
            if error.errno in _NO_SPLICE:
                self._splices = False
                return self._move()
            self._pause()
            return self._try_again()
        count, data = self._take()
        self._write(data)
        return count

    def _take(self) -> tuple[int, bytes]:
        """Return how many bytes left the pipe, and what of them may be written, secrets hidden."""
        data = os.read(self._read, _CHUNK)
        return len(data), self._mask.feed(data)

    def _write(self, data: bytes) -> None:
        done = 0
        try:
            while done < len(data):
                done += os.write(self._file, data[done:])
        except OSError:
            self._pause()
            self._drop(data[done:])

    def _try_again(self) -> int:
        """Read a chunk while the disk was full a moment ago: write its whole lines, or drop it."""
        count, data = self._take()
        lines = data
        if self._in_torn_line:
            begin = data.find(b"\n") + 1
            lines = data[begin:] if begin else b""
            self._drop(data[: len(data) - len(lines)])
            self._in_torn_line = not begin
        if lines:
            try:
                if self._file < 0:
                    self._open_log()
                self._dropping = False
                self._write(lines)
            except OSError:
                self._is_full()
                self._drop(lines)
        return count

    def _pause(self) -> None:
        """Stop writing after the last whole line of the file."""
        self._is_full()
        end = os.lseek(self._file, 0, os.SEEK_CUR)
        size = min(end, _CHUNK)
        tail = os.pread(self._file, size, end - size)
        torn = size - (tail.rfind(b"\n") + 1)
        if torn:
            os.ftruncate(self._file, end - torn)
            os.lseek(self._file, end - torn, os.SEEK_SET)
            self._dropped += torn
            self._in_torn_line = True

    def _drop(self, data: bytes) -> None:
        self._dropped += len(data)
        if data:
            self._in_torn_line = not data.endswith(b"\n")

    def _is_full(self) -> None:
        self._dropping = True
        self._full_at = time.monotonic()
        if not self._in_gap:
            self._in_gap = True
            self._on_gap(0)

    def _tell_gap(self) -> None:
        if self._in_gap and self._dropped:
            self._on_gap(self._dropped)
        self._in_gap, self._dropped = False, 0

    def _open_log(self) -> None:
        self._file = os.open(self._log, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)

    def _enlarge(self) -> None:
        if not self._enlarged:
            self._enlarged = True
            with suppress(OSError):  # the user's share of pipe memory may be used up
                fcntl.fcntl(self._read, fcntl.F_SETPIPE_SZ, _CHUNK)
