"""NVIDIA GPUs through `nvidia-smi`, where its library cannot be used: one process that goes on, never one a look."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from typing import TYPE_CHECKING

from jupyter_gpudeploy.events.types import GpuSample
from jupyter_gpudeploy.sources.base import percent

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

FIELDS = ("index", "utilization.gpu", "memory.used", "memory.total", "power.draw", "temperature.gpu")
QUERY = (f"--query-gpu={','.join(FIELDS)}", "--format=csv,noheader,nounits", "-l", "1")
_MIB = 1 << 20
_MOST_BYTES = 1 << 20
_AGAIN_SECONDS = (5.0, 60.0)


class NvidiaSmi:
    """A stream of `nvidia-smi -l 1`. Each of its lines is told once, by the first look after it came.

    `start`: words that start it elsewhere, in a container for example, before the tool's own.
    """

    def __init__(self, start: Sequence[str] = (), clock: Callable[[], float] = time.monotonic) -> None:
        self.trouble = ""
        self._start = tuple(start)
        self._clock = clock
        self._process: subprocess.Popen[bytes] | None = None
        self._held = b""
        self._again, self._pause = 0.0, _AGAIN_SECONDS[0]
        self._is_closed = False

    def look(self) -> list[GpuSample]:
        """Return what the stream has brought since the last look, the newest of each GPU. Never waits."""
        if self._is_closed or (self._process is None and not self._begin()):
            return []
        lines, has_ended = self._lines()
        found = {sample.gpu: sample for sample in parse(lines, time.time())}
        if found:
            self.trouble, self._pause = "", _AGAIN_SECONDS[0]
        if has_ended:
            self._end(lines)
        return [*found.values()]

    def close(self) -> None:
        """End the process."""
        self._is_closed = True
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._drop()

    def _begin(self) -> bool:
        if self._clock() < self._again:
            return False
        self._put_off()
        program = self._start or tuple(filter(None, [shutil.which("nvidia-smi")]))
        if not program:
            self.trouble = "there is no nvidia-smi"
            return False
        try:
            self._process = subprocess.Popen(
                [*program, *QUERY],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                bufsize=0,
            )
        except OSError as error:
            self.trouble = f"nvidia-smi cannot be run: {error.strerror}"
            return False
        assert self._process.stdout is not None  # noqa: S101 - it was asked for
        os.set_blocking(self._process.stdout.fileno(), False)
        return True

    def _lines(self) -> tuple[list[str], bool]:
        """Return the lines that are whole by now, and whether the stream has ended."""
        assert self._process is not None and self._process.stdout is not None  # noqa: PT018, S101 - it runs
        has_ended = False
        while len(self._held) < _MOST_BYTES:
            try:
                data = os.read(self._process.stdout.fileno(), 1 << 16)
            except BlockingIOError:
                break
            if not data:
                has_ended = True
                break
            self._held += data
        whole, _, self._held = self._held.rpartition(b"\n")
        return whole.decode("utf-8", "replace").splitlines(), has_ended

    def _end(self, lines: list[str]) -> None:
        assert self._process is not None  # noqa: S101 - it ran
        code = self._process.wait()
        said = " ".join([*lines, self._held.decode("utf-8", "replace")]).strip()
        self.trouble = f"nvidia-smi ended ({code}): {said[-300:] or 'it said nothing'}"
        self._drop()
        self._put_off()

    def _drop(self) -> None:
        if self._process is not None and self._process.stdout is not None:
            self._process.stdout.close()
        self._process, self._held = None, b""

    def _put_off(self) -> None:
        self._again = self._clock() + self._pause
        self._pause = min(self._pause * 2, _AGAIN_SECONDS[1])


def parse(lines: Sequence[str], now: float) -> list[GpuSample]:
    """Return the samples of lines of `--query-gpu=<FIELDS>`, `csv,noheader,nounits`. What is no such line is left out.

    `[N/A]`, `[Not Supported]`, `[Unknown Error]` and the like are None, as in MIG mode the utilisation is.
    """
    found = []
    for line in lines:
        cells = [cell.strip() for cell in line.split(",")]
        if len(cells) != len(FIELDS) or not cells[0].isdigit():
            continue
        utilization, used, total, power, temperature = map(number, cells[1:])
        found.append(
            GpuSample(now, cells[0], None, percent(utilization), _bytes(used), _bytes(total), power, temperature)
        )
    return found


def number(text: str) -> float | None:
    """Return a number as the tool prints it, with or without its unit; None for what it does not know."""
    try:
        return float(text.split(maxsplit=1)[0])
    except (ValueError, IndexError):
        return None


def _bytes(mebibytes: float | None) -> int | None:
    return None if mebibytes is None else int(mebibytes * _MIB)


EXPORT = NvidiaSmi
