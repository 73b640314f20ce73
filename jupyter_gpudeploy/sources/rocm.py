"""AMD GPUs through `amd-smi metric --json`, else the older `rocm-smi --json`.

Both are Python programs that take some tenths of a second of a processor, and neither goes on by itself, so they are
asked every ASK_SECONDS only, and never waited for: a look takes what the last asking has brought.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import tempfile
import time
from typing import IO, TYPE_CHECKING, Any

from jupyter_gpudeploy.events.types import GpuSample
from jupyter_gpudeploy.sources.base import TIME_OUT, percent

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

ASK_SECONDS = 5.0
_MIB = 1 << 20
_NEW = ("amd-smi", "metric", "--usage", "--mem-usage", "--power", "--temperature", "--json")
_OLD = ("rocm-smi", "--showuse", "--showmeminfo", "vram", "--showpower", "--showtemp", "--json")
_UNITS = {"B": 1, "KB": 1 << 10, "MB": _MIB, "GB": 1 << 30}


class Rocm:
    """What the tool said last, told once."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.trouble = ""
        self._clock = clock
        self._process: subprocess.Popen[bytes] | None = None
        self._answer: IO[bytes] | None = None
        self._asked_at = -ASK_SECONDS
        self._use_old = False
        self._is_closed = False

    def look(self) -> list[GpuSample]:
        """Return a sample a GPU, where an answer has come since the last look. Never waits."""
        if self._is_closed:
            return []
        found = self._collected()
        if self._process is None and self._clock() - self._asked_at >= ASK_SECONDS:
            self._ask()
        return found

    def close(self) -> None:
        """End what is asked now."""
        self._is_closed = True
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None
        if self._answer is not None:
            self._answer.close()

    def _ask(self) -> None:
        self._asked_at = self._clock()
        command = next((words for words in self._commands() if shutil.which(words[0])), None)
        if command is None:
            self.trouble = "there is no amd-smi and no rocm-smi"
            return
        self._answer = tempfile.TemporaryFile()  # noqa: SIM115 - closed when it was read
        try:
            self._process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=self._answer, stderr=subprocess.DEVNULL
            )
        except OSError as error:
            self.trouble = f"{command[0]} cannot be run: {error.strerror}"

    def _commands(self) -> tuple[tuple[str, ...], ...]:
        return (_OLD,) if self._use_old else (_NEW, _OLD)

    def _collected(self) -> list[GpuSample]:
        """Return what an asking that is over has brought."""
        if self._process is None or self._answer is None:
            return []
        if self._process.poll() is None:
            if self._clock() - self._asked_at > TIME_OUT:
                self._process.kill()
            return []
        self._answer.seek(0)
        text = self._answer.read().decode("utf-8", "replace")
        self._answer.close()
        code, self._process = self._process.returncode, None
        found = parse(text, time.time())
        if found:
            self.trouble = ""
        else:
            self.trouble = f"{'rocm-smi' if self._use_old else 'amd-smi'} told of no GPU (exit code {code})"
            self._use_old = not self._use_old and shutil.which(_OLD[0]) is not None
        return found


def parse(text: str, now: float) -> list[GpuSample]:
    """Return the samples of what either tool printed; none for what is no JSON. Warnings before it are passed over."""
    for place, sign in enumerate(text):
        if sign in "[{":
            try:
                content, _ = json.JSONDecoder().raw_decode(text, place)
                return _samples(content, now)
            except (ValueError, TypeError, AttributeError, KeyError, RecursionError):
                continue
    return []


def _samples(content: Any, now: float) -> list[GpuSample]:  # noqa: ANN401 - any JSON
    if isinstance(content, dict) and "gpu_data" in content:  # amd-smi of ROCm 7
        content = content["gpu_data"]
    if isinstance(content, list):
        return [_new(one, now) for one in content if "gpu" in one]
    return [_old(key.removeprefix("card"), card, now) for key, card in content.items() if key.startswith("card")]


def _new(gpu: Mapping[str, Any], now: float) -> GpuSample:
    """Return what amd-smi says of a GPU. Power and temperature have changed their names, and some are N/A on some."""
    usage, memory = _part(gpu, "usage"), _part(gpu, "mem_usage")
    power, heat = _part(gpu, "power"), _part(gpu, "temperature")
    return GpuSample(
        now,
        str(gpu["gpu"]),
        None,
        percent(_value(usage.get("gfx_activity"))),
        _bytes(memory.get("used_vram")),
        _bytes(memory.get("total_vram")),
        _first(power, "socket_power", "current_socket_power", "average_socket_power"),
        _first(heat, "edge", "hotspot"),
    )


def _old(name: str, card: Mapping[str, Any], now: float) -> GpuSample:
    """Return what rocm-smi says of a card: texts all of them, `N/A` among them."""
    used, total = _value(card.get("VRAM Total Used Memory (B)")), _value(card.get("VRAM Total Memory (B)"))
    return GpuSample(
        now,
        name,
        None,
        percent(_value(card.get("GPU use (%)"))),
        None if used is None else int(used),
        None if total is None else int(total),
        _first(card, "Current Socket Graphics Package Power (W)", "Average Graphics Package Power (W)"),
        _first(card, "Temperature (Sensor edge) (C)", "Temperature (Sensor junction) (C)"),
    )


def _part(gpu: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    found = gpu.get(name)
    return found if isinstance(found, dict) else {}


def _first(values: Mapping[str, Any], *names: str) -> float | None:
    return next((found for name in names if (found := _value(values.get(name))) is not None), None)


def _value(given: Any) -> float | None:  # noqa: ANN401 - {"value": 42, "unit": "%"}, or a number, or a text
    if isinstance(given, dict):
        given = given.get("value")
    try:
        return float(given)
    except (TypeError, ValueError):
        return None


def _bytes(given: Any) -> int | None:  # noqa: ANN401 - as above
    unit = given.get("unit", "MB") if isinstance(given, dict) else "MB"
    value = _value(given)
    return None if value is None or unit not in _UNITS else int(value * _UNITS[unit])


EXPORT = Rocm
