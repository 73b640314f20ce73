"""GPUs by the driver's library and by the makers' tools, against what these really print."""

from __future__ import annotations

import ctypes
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from tools import first_on_path, library, program, smi

from jupyter_gpudeploy.events.types import GpuSample
from jupyter_gpudeploy.sources import dcgm, nvidia_smi, rocm
from jupyter_gpudeploy.sources.dcgm import Dcgm
from jupyter_gpudeploy.sources.nvidia_smi import NvidiaSmi
from jupyter_gpudeploy.sources.nvml import Nvml
from jupyter_gpudeploy.sources.rocm import Rocm
from jupyter_gpudeploy.testing.source_contract import MetricSourceContract

GIB, MIB = 1 << 30, 1 << 20
SHOW = """
import sys
from jupyter_gpudeploy.sources.{module} import {name}
source = {name}()
print([list(sample)[1:] for sample in source.look()])
print(source.trouble)
"""


@pytest.fixture(scope="session")
def stub(tmp_path_factory):
    return library(tmp_path_factory.mktemp("nvml"))


def nvml(stub, module="nvml", name="Nvml", **environment):
    """Return (what a process with that library tells, its trouble)."""
    given = {**os.environ, "LD_LIBRARY_PATH": str(stub), **environment}
    code = SHOW.format(module=module, name=name)
    done = subprocess.run([sys.executable, "-c", code], env=given, capture_output=True, text=True, check=True)
    told, trouble = done.stdout.splitlines()
    return eval(told), trouble  # noqa: S307 - printed above


class TestNvml(MetricSourceContract):
    @pytest.fixture
    def source(self, stub, monkeypatch):
        pynvml = pytest.importorskip("pynvml")
        monkeypatch.setattr(pynvml, "CDLL", lambda _: ctypes.CDLL(str(stub / "libnvidia-ml.so.1")))
        monkeypatch.setattr(pynvml, "nvmlLib", None)
        monkeypatch.setattr(pynvml, "_nvmlGetFunctionPointer_cache", {})
        source = Nvml()
        yield source
        source.close()

    @pytest.fixture
    def lost(self, monkeypatch):
        pynvml = pytest.importorskip("pynvml")

        def none(_):
            raise OSError

        monkeypatch.setattr(pynvml, "CDLL", none)
        monkeypatch.setattr(pynvml, "nvmlLib", None)
        return Nvml()


class TestNvidiaSmi(MetricSourceContract):
    @pytest.fixture
    def source(self, tmp_path, monkeypatch):
        monkeypatch.setenv("PATH", first_on_path(smi(tmp_path / "bin")))
        source = NvidiaSmi()
        yield source
        source.close()

    @pytest.fixture
    def lost(self, tmp_path, monkeypatch):
        fails = (
            "#!/bin/sh\necho 'NVIDIA-SMI has failed because it could not communicate with the NVIDIA driver.'\nexit 9\n"
        )
        monkeypatch.setenv("PATH", first_on_path(program(tmp_path / "bin", "nvidia-smi", fails)))
        return NvidiaSmi()


class TestRocm(MetricSourceContract):
    @pytest.fixture
    def source(self, tmp_path, monkeypatch):
        monkeypatch.setattr(rocm, "ASK_SECONDS", 0.0)
        monkeypatch.setenv(
            "PATH", first_on_path(program(tmp_path / "bin", "amd-smi", f"#!/bin/sh\ncat <<E\n{AMD_SMI}\nE\n"))
        )
        source = Rocm()
        yield source
        source.close()

    @pytest.fixture
    def lost(self, tmp_path, monkeypatch):
        monkeypatch.setenv("PATH", first_on_path(program(tmp_path / "bin", "amd-smi", "#!/bin/sh\nexit 1\n")))
        return Rocm()


class TestDcgm(MetricSourceContract):
    @pytest.fixture
    def source(self):
        source = Dcgm(lambda: DCGM, pods={("ml", "digits-0-x"): 4})
        yield source
        source.close()

    @pytest.fixture
    def lost(self):
        def refuse():
            raise ConnectionRefusedError("refused")

        return Dcgm(refuse)


@pytest.mark.fault(3)
def test_what_the_library_does_not_support_is_unknown_and_used_memory_is_not_the_memory_controller(stub):
    told, trouble = nvml(stub)
    assert trouble == ""
    assert told == [
        ["0", None, 97.0, 5 * GIB, 80 * GIB, 300.5, 61.0],
        ["1", None, None, 5 * GIB, 80 * GIB, None, 61.0],
        ["MIG-100", None, None, 5 * GIB, 80 * GIB, None, None],
        ["MIG-101", None, None, 5 * GIB, 80 * GIB, None, None],
    ]


def test_eight_gpus_are_eight_samples(stub):
    told, _ = nvml(stub, GPUDEPLOY_STUB_GPUS="8")
    assert [row[0] for row in told] == list("01234567")


def test_a_driver_that_refuses_is_told_in_its_own_words(stub):
    told, trouble = nvml(stub, GPUDEPLOY_STUB_BROKEN="1")
    assert told == []
    assert "version mismatch" in trouble


def test_the_library_comes_before_the_tool_and_the_tool_before_nothing(stub, tmp_path):
    path = first_on_path(smi(tmp_path / "bin"))
    told, _ = nvml(stub, "_gpus", "Gpus", PATH=path)
    assert len(told) == 4
    assert not (tmp_path / "bin" / "calls").read_text()
    told, trouble = nvml(stub, "_gpus", "Gpus", PATH=path, GPUDEPLOY_STUB_BROKEN="1")
    assert trouble == ""
    assert "-l 1" in (tmp_path / "bin" / "calls").read_text()
    told, trouble = nvml(tmp_path, "_gpus", "Gpus", PATH="/nowhere")
    assert (told, bool(trouble)) == ([], True)


def test_one_process_goes_on_for_all_looks_and_ends_with_the_source(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", first_on_path(smi(tmp_path / "bin")))
    source = NvidiaSmi()
    looks = 0
    deadline = time.monotonic() + 20
    while looks < 5:
        assert time.monotonic() < deadline
        looks += bool(source.look())
        time.sleep(0.02)
    (call,) = (tmp_path / "bin" / "calls").read_text().splitlines()
    assert Path(f"/proc/{call.split()[0]}").exists()
    source.close()
    assert not Path(f"/proc/{call.split()[0]}").exists()


def test_a_stream_that_ends_is_begun_again_but_not_at_once(tmp_path, monkeypatch):
    ends = "#!/bin/sh\necho x >> $0.calls\necho '0, 50, 1, 2, 3, 4'\necho 'GPU is lost' >&2\nexit 15\n"
    monkeypatch.setenv("PATH", first_on_path(program(tmp_path / "bin", "nvidia-smi", ends)))
    now = [0.0]
    source = NvidiaSmi(clock=lambda: now[0])

    def until_it_ends():
        found = []
        deadline = time.monotonic() + 20
        while not source.trouble:
            assert time.monotonic() < deadline
            found += source.look()
            time.sleep(0.01)
        return found

    assert [sample.utilization for sample in until_it_ends()] == [50.0]
    assert "GPU is lost" in source.trouble
    assert source.look() == []
    now[0] += 3600
    deadline = time.monotonic() + 20
    while (tmp_path / "bin" / "nvidia-smi.calls").read_text() != "x\nx\n":
        assert time.monotonic() < deadline
        source.look()
        time.sleep(0.01)
    source.close()


@pytest.mark.parametrize(
    ("line", "values"),
    [
        ("0, 95, 7650, 8188, 81.25, 73", (95.0, 7650 * MIB, 8188 * MIB, 81.25, 73.0)),
        ("0, 98 %, 7234 MiB, 15360 MiB, 70.10 W, 72", (98.0, 7234 * MIB, 15360 * MIB, 70.1, 72.0)),
        ("0, [N/A], [N/A], [N/A], [N/A], [N/A]", (None,) * 5),
        ("0, [Not Supported], 4, 15360, [Unknown Error], 40", (None, 4 * MIB, 15360 * MIB, None, 40.0)),
        ("0, [GPU is lost], [GPU requires reset], ERR!, N/A, -", (None,) * 5),
        ("0, 0, 0, 44, [N/A], 0", (0.0, 0, 44 * MIB, None, 0.0)),
        ("0, 4294967295, 4, 8, 1, 1", (None, 4 * MIB, 8 * MIB, 1.0, 1.0)),
    ],
)
@pytest.mark.fault(3)
def test_lines_of_nvidia_smi(line, values):
    assert nvidia_smi.parse([line], 1.0) == [GpuSample(1.0, "0", None, *values)]


@pytest.mark.parametrize("line", ["", "No devices were found", "NVIDIA-SMI has failed, x, y, z, a, b", "0, 1, 2"])
def test_what_is_no_line_of_nvidia_smi_is_no_sample(line):
    assert nvidia_smi.parse([line], 1.0) == []


ROCM_SMI = """
WARNING: AMD GPU device(s) is/are in a low-power state. Check power control/runtime_status

{"card0": {"GPU use (%)": "0", "VRAM Total Memory (B)": "21458059264", "VRAM Total Used Memory (B)": "27856896",
"Average Graphics Package Power (W)": "19.0", "Temperature (Sensor edge) (C)": "41.0"},
"card1": {"GPU use (%)": "N/A", "VRAM Total Memory (B)": "21458059264", "VRAM Total Used Memory (B)": "N/A",
"Current Socket Graphics Package Power (W)": "7.0", "Temperature (Sensor edge) (C)": "N/A",
"Temperature (Sensor junction) (C)": "50.0"}, "system": {"Driver version": "6.7"}}
"""
_GPU = {
    "gpu": 0,
    "usage": {
        "gfx_activity": {"value": 42, "unit": "%"},
        "umc_activity": {"value": 3, "unit": "%"},
        "vcn_activity": [{"value": 0, "unit": "%"}, "N/A"],
    },
    "power": {"socket_power": {"value": 132, "unit": "W"}},
    "temperature": {"edge": "N/A", "hotspot": {"value": 44, "unit": "C"}},
    "mem_usage": {"total_vram": {"value": 196592, "unit": "MB"}, "used_vram": {"value": 285, "unit": "MB"}},
}
AMD_SMI = json.dumps([_GPU, {"gpu": 1, "usage": "N/A", "power": {"average_socket_power": 30}}])


def test_what_rocm_smi_prints():
    assert rocm.parse(ROCM_SMI, 1.0) == [
        GpuSample(1.0, "0", None, 0.0, 27856896, 21458059264, 19.0, 41.0),
        GpuSample(1.0, "1", None, None, None, 21458059264, 7.0, 50.0),
    ]


@pytest.mark.parametrize("text", [AMD_SMI, json.dumps({"gpu_data": json.loads(AMD_SMI)})])
def test_what_amd_smi_prints_before_and_since_rocm_7(text):
    assert rocm.parse(text, 1.0) == [
        GpuSample(1.0, "0", None, 42.0, 285 * MIB, 196592 * MIB, 132.0, 44.0),
        GpuSample(1.0, "1", None, None, None, None, 30.0, None),
    ]


@pytest.mark.parametrize("text", ["", "ERROR: no GPU", "[1, 2]", "{", '{"card0": 3}', "[" * 3000])
def test_what_is_no_answer_of_an_amd_tool_is_no_sample(text):
    assert rocm.parse(text, 1.0) == []


DCGM = """\
# HELP DCGM_FI_DEV_GPU_UTIL GPU utilization (in %).
# TYPE DCGM_FI_DEV_GPU_UTIL gauge
DCGM_FI_DEV_GPU_UTIL{gpu="0",UUID="GPU-a",device="nvidia0",modelName="NVIDIA RTX A5000",Hostname="k8s-gpu1",DCGM_FI_DRIVER_VERSION="550.54.15",container="main",namespace="ml",pod="digits-0-x"} 93
DCGM_FI_DEV_GPU_UTIL{gpu="1",UUID="GPU-b",device="nvidia1",container="",namespace="",pod=""} 0
DCGM_FI_DEV_GPU_UTIL{gpu="2",UUID="GPU-c",device="nvidia2",exported_namespace="ml",exported_pod="other"} 9223372036854775794
DCGM_FI_PROF_GR_ENGINE_ACTIVE{gpu="0",UUID="GPU-a",namespace="ml",pod="digits-0-x"} 0.5
DCGM_FI_PROF_GR_ENGINE_ACTIVE{gpu="3",UUID="GPU-d",GPU_I_PROFILE="1g.10gb",GPU_I_ID="7",namespace="ml",pod="part"} 0.25
DCGM_FI_DEV_FB_USED{gpu="0",UUID="GPU-a",namespace="ml",pod="digits-0-x"} 1024
DCGM_FI_DEV_FB_FREE{gpu="0",UUID="GPU-a",namespace="ml",pod="digits-0-x"} 3000
DCGM_FI_DEV_FB_RESERVED{gpu="0",UUID="GPU-a",namespace="ml",pod="digits-0-x"} 72
DCGM_FI_DEV_POWER_USAGE{gpu="0",UUID="GPU-a",namespace="ml",pod="digits-0-x"} 212.5
DCGM_FI_DEV_GPU_TEMP{gpu="1",UUID="GPU-b"} 38
dcgm_power_usage{gpu="4",uuid="GPU-e"} 51.2
"""


def test_a_page_of_a_dcgm_exporter():
    assert dcgm.parse(DCGM, 1.0) == [
        GpuSample(1.0, "0", None, 93.0, 1024 * MIB, 4096 * MIB, 212.5, None),
        GpuSample(1.0, "1", None, 0.0, None, None, None, 38.0),
        GpuSample(1.0, "2"),
        GpuSample(1.0, "3:7", None, 25.0),
        GpuSample(1.0, "4", None, None, None, None, 51.2),
    ]


def test_of_a_page_only_what_is_ours_is_told_by_pod_or_by_uuid():
    ours = dcgm.parse(DCGM, 1.0, pods={("ml", "other"): 5, ("else", "digits-0-x"): 6}, uuids={"GPU-b": 7})
    assert [(sample.gpu, sample.task) for sample in ours] == [("1", 7), ("2", 5)]
