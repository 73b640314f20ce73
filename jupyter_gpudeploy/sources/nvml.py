"""NVIDIA GPUs through the driver's library. A look at eight costs less than a fiftieth of a spawned nvidia-smi.

nvidia-ml-py finds and opens the library and knows its structures; the four calls of a look go straight to it, which is
four times as fast as by its wrappers (benchmarks/b15_gpu.py). Utilisation is what the driver has counted for the last
sixth of a second to second (nvmlUtilization_t), so more than one look a second tells nothing new. Lists of processes
take a thousand times as long as a look and are not asked for.
"""

from __future__ import annotations

import ctypes
import struct
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any, NamedTuple

from jupyter_gpudeploy.events.types import GpuSample
from jupyter_gpudeploy.sources.base import percent

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

_LAYOUT = struct.Struct("I4x8xQ16xQ2I")  # nvmlUtilization_t, nvmlMemory_v2_t (total and used), power, temperature
_OLD_LAYOUT = struct.Struct("I4xQ8xQ2I")  # with nvmlMemory_t (total, free, used)
_ALL_READ = (0, 0, 0, 0)


class _Gpu(NamedTuple):
    """One GPU, or a part of one in MIG mode. `id` is the word that CUDA_VISIBLE_DEVICES takes for it."""

    id: str
    handle: Any


class Nvml:
    """Every GPU that the driver knows; in MIG mode its parts, of which the driver tells the memory alone."""

    def __init__(self) -> None:
        self.trouble = ""
        self._read: Callable[[], list[GpuSample]] | None = None
        self._is_closed = False
        self._nvml: Any = None

    def look(self) -> list[GpuSample]:
        """Return a sample a GPU. The first look opens the library, which can take seconds without persistence mode."""
        read = self._read or self._open()
        return [] if read is None else read()

    def close(self) -> None:
        """Let go of the driver, so that it may put the GPUs to sleep."""
        self._is_closed = True
        self._read = None
        if self._nvml is not None:
            with suppress(self._nvml.NVMLError):
                self._nvml.nvmlShutdown()
            self._nvml = None

    def _open(self) -> Callable[[], list[GpuSample]] | None:
        if self.trouble or self._is_closed:
            return None
        try:
            import pynvml
        except ImportError:
            self.trouble = "nvidia-ml-py is not installed"
            return None
        try:
            pynvml.nvmlInit()
        except pynvml.NVMLError as error:
            self.trouble = f"the NVIDIA driver's library says: {error}"
            return None
        self._nvml = pynvml
        try:
            gpus = [gpu for index in range(pynvml.nvmlDeviceGetCount()) for gpu in _parts(pynvml, index)]
        except pynvml.NVMLError as error:
            self.trouble = f"the NVIDIA driver lists no GPU: {error}"
            return None
        self._read = _reader(pynvml, gpus)
        return self._read


def _parts(nvml: Any, index: int) -> list[_Gpu]:  # noqa: ANN401 - a module without types
    """Return the GPU of that index; in MIG mode its parts. One that is lost is left out."""
    try:
        handle = nvml.nvmlDeviceGetHandleByIndex(index)
    except nvml.NVMLError:
        return []
    try:
        if nvml.nvmlDeviceGetMigMode(handle)[0] != nvml.NVML_DEVICE_MIG_ENABLE:
            return [_Gpu(str(index), handle)]
    except nvml.NVMLError:
        return [_Gpu(str(index), handle)]
    found = []
    for part in range(nvml.nvmlDeviceGetMaxMigDeviceCount(handle)):
        with suppress(nvml.NVMLError):
            one = nvml.nvmlDeviceGetMigDeviceHandleByIndex(handle, part)
            found.append(_Gpu(str(nvml.nvmlDeviceGetUUID(one)), one))
    return found


def _reader(nvml: Any, gpus: Sequence[_Gpu]) -> Callable[[], list[GpuSample]]:  # noqa: ANN401 - a module without types
    """Return what looks at the GPUs. A call that returns anything but 0 has read nothing.

    The driver writes into one buffer, which is unpacked at once: a field of a structure takes ctypes as long as a call.
    """
    library, sensor = nvml.nvmlLib, nvml.NVML_TEMPERATURE_GPU
    get_share, get_power = library.nvmlDeviceGetUtilizationRates, library.nvmlDeviceGetPowerUsage
    get_heat, get_memory = library.nvmlDeviceGetTemperature, getattr(library, "nvmlDeviceGetMemoryInfo_v2", None)
    answer, layout = nvml.c_nvmlMemory_v2_t, _LAYOUT
    if get_memory is None:  # before driver 510; what it calls used holds the driver's own share as well
        get_memory, answer, layout = library.nvmlDeviceGetMemoryInfo, nvml.c_nvmlMemory_t, _OLD_LAYOUT
    buffer = ctypes.create_string_buffer(layout.size * len(gpus))
    fields = (0, 8, layout.size - 8, layout.size - 4)
    places = [
        (gpu.handle, *(ctypes.byref(buffer, place * layout.size + field) for field in fields))
        for place, gpu in enumerate(gpus)
    ]
    if layout is _LAYOUT:
        for place in range(len(gpus)):
            answer.from_buffer(buffer, place * layout.size + 8).version = nvml.nvmlMemory_v2
    names, made, unpacked = [gpu.id for gpu in gpus], GpuSample._make, layout.iter_unpack

    def read() -> list[GpuSample]:
        now = time.time()
        codes = [
            (get_share(gpu, share), get_memory(gpu, memory), get_power(gpu, power), get_heat(gpu, sensor, heat))
            for gpu, share, memory, power, heat in places
        ]
        return [
            made((now, name, None, percent(use), used, total, power / 1000, heat))
            if code == _ALL_READ
            else made((now, name, None, *_known(code, use, used, total, power, heat)))
            for name, code, (use, total, used, power, heat) in zip(names, codes, unpacked(buffer), strict=True)
        ]

    return read


def _known(codes: Sequence[int], use: int, used: int, total: int, power: int, heat: int) -> Sequence[float | None]:
    """Return what was read, None for what was not."""
    no_share, no_memory, no_power, no_heat = codes
    return (
        None if no_share else percent(use),
        *((None, None) if no_memory else (used, total)),
        None if no_power else power / 1000,
        None if no_heat else heat,
    )


EXPORT = Nvml
