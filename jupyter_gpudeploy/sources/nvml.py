"""NVIDIA GPUs through the driver's library. A look at eight costs what a fiftieth of a spawned nvidia-smi does.

nvidia-ml-py finds and opens the library and knows its structures; the four calls of a look go straight to it, which is
four times as fast as by its wrappers (benchmarks/b15_gpu.py). Utilisation is what the driver has counted for the last
sixth of a second to second (nvmlUtilization_t), so more than one look a second tells nothing new. Lists of processes
take a thousand times as long as a look and are not asked for.
"""

from __future__ import annotations

import ctypes
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any, NamedTuple

from jupyter_gpudeploy.events.types import GpuSample
from jupyter_gpudeploy.sources.base import percent

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


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
    """Return what looks at the GPUs. A call that returns anything but 0 has read nothing."""
    library = nvml.nvmlLib
    share, milliwatts, celsius = nvml.c_nvmlUtilization_t(), ctypes.c_uint(), ctypes.c_uint()
    memory = nvml.c_nvmlMemory_v2_t()
    get_memory = getattr(library, "nvmlDeviceGetMemoryInfo_v2", None)
    if get_memory is None:  # before driver 510; what it calls used holds the driver's own share as well
        get_memory, memory = library.nvmlDeviceGetMemoryInfo, nvml.c_nvmlMemory_t()
    else:
        memory.version = nvml.nvmlMemory_v2
    to_share, to_power, to_heat, to_memory = map(ctypes.byref, (share, milliwatts, celsius, memory))
    get_share, get_power = library.nvmlDeviceGetUtilizationRates, library.nvmlDeviceGetPowerUsage
    get_heat, sensor = library.nvmlDeviceGetTemperature, nvml.NVML_TEMPERATURE_GPU
    made = GpuSample._make

    def read() -> list[GpuSample]:
        now = time.time()
        found = []
        for name, handle in gpus:
            use = None if get_share(handle, to_share) else percent(share.gpu)
            used, total = (None, None) if get_memory(handle, to_memory) else (memory.used, memory.total)
            power = None if get_power(handle, to_power) else milliwatts.value / 1000
            heat = None if get_heat(handle, sensor, to_heat) else celsius.value
            found.append(made((now, name, None, use, used, total, power, heat)))
        return found

    return read


EXPORT = Nvml
