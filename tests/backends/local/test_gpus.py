"""Which GPUs there are and who holds them, with a `nvidia-smi` of ours first on PATH."""

import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

import jupyter_gpudeploy
from jupyter_gpudeploy.backends.local.gpus import Lease, Leases
from jupyter_gpudeploy.backends.local.procfs import identity

MIB = 2**20
ROOT = Path(jupyter_gpudeploy.__file__).parent.parent
TWO = """\
0, GPU-aaaa1111-0000, Tesla T4, 4, 15360, Disabled
1, GPU-bbbb2222-0000, Tesla T4, 4, 15360, Disabled
"""
FOUR = "".join(f"{index}, GPU-{index}{index}{index}{index}, NVIDIA H100, 0, 81559, [N/A]\n" for index in range(4))
MIG_GPUS = """\
0, GPU-5d5ba0d6, NVIDIA A100-SXM4-40GB, [N/A], [N/A], Enabled
1, GPU-77777777, NVIDIA A100-SXM4-40GB, 4, 40960, Disabled
"""
MIG_LIST = """\
GPU 0: NVIDIA A100-SXM4-40GB (UUID: GPU-5d5ba0d6)
  MIG 3g.20gb     Device  0: (UUID: MIG-c6d4f1ef-42e4-5de3-91c7-45d71c87eb3f)
  MIG 2g.10gb Device 1: (UUID: MIG-GPU-5d5ba0d6/1/0)
GPU 1: NVIDIA A100-SXM4-40GB (UUID: GPU-77777777)
"""
SCRIPT = """\
#!/bin/sh
here=$(dirname "$0")
echo "$*" >> "$here/calls"
case "$*" in
  *mig.mode.current*) [ -e "$here/old" ] && { echo 'Field "mig.mode.current" is not a valid field to query.'; exit 2; } ;;
esac
case "$*" in
  *query-gpu*) [ -e "$here/fails" ] && { cat "$here/fails"; exit 9; }
               [ -e "$here/hangs" ] && exec sleep 600
               cat "$here/gpus" ;;
  *query-compute-apps*) cat "$here/users" ;;
  -L) cat "$here/list" ;;
esac
"""


class FakeSmi:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir()
        for name, text in {"gpus": TWO, "users": "", "list": MIG_LIST, "nvidia-smi": SCRIPT, "calls": ""}.items():
            self.write(name, text)
        (folder / "nvidia-smi").chmod(0o755)

    def write(self, name: str, text: str) -> None:
        (self.folder / name).write_text(text)

    def calls(self) -> list[str]:
        return (self.folder / "calls").read_text().splitlines()


@pytest.fixture
def smi(tmp_path, monkeypatch) -> FakeSmi:
    fake = FakeSmi(tmp_path / "bin")
    monkeypatch.setenv("PATH", f"{fake.folder}{os.pathsep}/usr/bin{os.pathsep}/bin")
    for variable in ("CUDA_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES"):
        monkeypatch.delenv(variable, raising=False)
    return fake


@pytest.fixture
def leases(tmp_path) -> Leases:
    return Leases(tmp_path / "root")


def me(**more: object) -> dict[str, object]:
    return {"run": "r", "task": 0, **identity(os.getpid())._asdict(), **more}


def get(leases: Leases, count: int) -> Lease:
    lease = leases.acquire(count, me())
    assert lease is not None
    return lease


def test_gpus_are_listed_with_their_memory(smi, leases):
    devices = leases.available()
    assert devices.ids == ("0", "1")
    assert devices.names == ("Tesla T4", "Tesla T4")
    assert [(device.memory_used, device.memory_total) for device in devices] == [(4 * MIB, 15360 * MIB)] * 2
    assert devices.why == ""


def test_a_lease_makes_the_task_see_its_gpus_alone_counted_as_the_driver_counts(smi, leases):
    lease = get(leases, 1)
    assert lease.devices == ("0",)
    assert lease.environment == {"CUDA_VISIBLE_DEVICES": "0", "CUDA_DEVICE_ORDER": "PCI_BUS_ID"}
    assert lease.notice == ""
    assert get(leases, 1).devices == ("1",)


def test_no_gpu_is_given_twice_and_a_released_one_again(smi, leases):
    lease = get(leases, 2)
    assert leases.acquire(1, me()) is None
    leases.release(lease)
    leases.release(lease)
    assert get(leases, 1).devices == ("0",)


def test_asking_for_too_many_takes_none(smi, leases):
    assert leases.acquire(3, me()) is None
    assert get(leases, 2).devices == ("0", "1")


def test_a_task_without_gpus_sees_none_on_a_machine_that_has_some(smi, leases):
    assert get(leases, 0).environment == {"CUDA_VISIBLE_DEVICES": ""}
    assert get(leases, 2).devices == ("0", "1")


def test_a_machine_without_gpus_says_so_and_leaves_the_environment_alone(leases, tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    devices = leases.available()
    assert not devices
    assert "no GPU visible on this machine" in devices.why
    assert get(leases, 0) == Lease()
    assert leases.acquire(1, me()) is None


@pytest.mark.fault(39)
def test_a_gpu_used_by_others_is_taken_last_and_told(smi, leases):
    smi.write("users", f"GPU-aaaa1111-0000, {os.getpid()}, 7234, /usr/bin/python\n")
    assert get(leases, 1).devices == ("1",)
    second = get(leases, 1)
    assert second.devices == ("0",)
    assert second.notice == f"GPU 0 is also used by pid {os.getpid()} (python, 7234 MiB)"


@pytest.mark.fault(39)
def test_memory_held_by_somebody_who_cannot_be_seen_counts_as_used(smi, leases):
    smi.write("gpus", TWO.replace("Tesla T4, 4,", "Tesla T4, 9000,", 1))
    assert get(leases, 1).devices == ("1",)
    assert get(leases, 1).notice == "GPU 0 has 9000 of 15360 MiB in use by somebody who cannot be seen from here"


@pytest.mark.fault(39)
def test_a_user_who_left_meanwhile_is_not_told(smi, leases):
    smi.write("gpus", TWO.splitlines()[0] + "\n")
    smi.write("users", "GPU-aaaa1111-0000, 4711, 100, python\n")
    assert leases.available().visible[0].users
    smi.write("users", "")
    assert get(leases, 1).notice == ""


@pytest.mark.fault(39)
@pytest.mark.parametrize("unknown", ["[N/A]", "[Not Supported]", "N/A"])
def test_what_the_driver_does_not_know_is_none_and_never_zero(smi, leases, unknown):
    smi.write("gpus", f"0, GPU-aaaa, GeForce, {unknown}, {unknown}, {unknown}\n")
    smi.write("users", f"GPU-aaaa, 12, {unknown}, [Not Found]\n")
    (device,) = leases.available()
    assert device.memory_used is None
    assert device.memory_total is None
    assert str(device.users[0]) == "pid 12 (unknown)"


@pytest.mark.fault(39)
def test_parts_of_a_gpu_in_mig_mode_are_leased_and_the_whole_is_not(smi, leases):
    smi.write("gpus", MIG_GPUS)
    devices = leases.available()
    assert devices.ids == ("MIG-c6d4f1ef-42e4-5de3-91c7-45d71c87eb3f", "MIG-GPU-5d5ba0d6/1/0", "1")
    assert devices.names[0] == "NVIDIA A100-SXM4-40GB MIG 3g.20gb"
    assert devices.visible[0].memory_total is None
    assert get(leases, 1).environment["CUDA_VISIBLE_DEVICES"] == devices.ids[0]


@pytest.mark.fault(39)
def test_a_gpu_in_mig_mode_without_a_part_is_told(smi, leases):
    smi.write("gpus", MIG_GPUS)
    smi.write("list", "GPU 0: NVIDIA A100 (UUID: GPU-5d5ba0d6)\nGPU 1: NVIDIA A100 (UUID: GPU-77777777)\n")
    devices = leases.available()
    assert devices.ids == ("1",)
    assert devices.why == "GPU 0 is in MIG mode and has no MIG device"


@pytest.mark.fault(39)
@pytest.mark.parametrize("fault", ["GPU is lost", "GPU requires reset", "Unknown Error"])
def test_a_broken_gpu_is_left_out_and_told(smi, leases, fault):
    smi.write("gpus", f"0, GPU-aaaa, Tesla T4, [{fault}], [{fault}], Disabled\n" + TWO.splitlines()[1])
    devices = leases.available()
    assert devices.ids == ("1",)
    assert devices.why == f"GPU 0 is left out: {fault}"


@pytest.mark.fault(39)
@pytest.mark.parametrize(
    ("listed", "seen"),
    [
        ("", ()),
        ("-1", ()),
        ("1", ("1",)),
        ("3, 0", ("3", "0")),
        ("2,9,0", ("2",)),
        ("1,-1,2", ("1",)),
        ("GPU-2222", ("2",)),
        ("GPU-33,GPU-0", ("3", "0")),
        ("GPU-", ()),
        ("1,1,2", ("1",)),
        ("nonsense", ()),
    ],
)
def test_an_inherited_choice_is_honoured_as_cuda_reads_it(smi, leases, monkeypatch, listed, seen):
    smi.write("gpus", FOUR)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", listed)
    devices = leases.available()
    assert devices.ids == seen
    assert bool(devices.why) == (not seen)


def test_an_inherited_choice_of_a_mig_device_is_honoured(smi, leases, monkeypatch):
    smi.write("gpus", MIG_GPUS)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "MIG-c6d4f1ef-42e4-5de3-91c7-45d71c87eb3f")
    assert leases.available().ids == ("MIG-c6d4f1ef-42e4-5de3-91c7-45d71c87eb3f",)


@pytest.mark.fault(39)
def test_a_driver_that_cannot_be_reached_is_told_in_its_own_words(smi, leases):
    smi.write("fails", "NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver.\n")
    devices = leases.available()
    assert not devices
    assert devices.why.startswith("nvidia-smi failed (9): NVIDIA-SMI has failed because it couldn't communicate")


@pytest.mark.fault(39)
def test_a_driver_that_hangs_is_given_up(smi, monkeypatch):
    from jupyter_gpudeploy.backends.local import devices

    smi.write("hangs", "")
    assert devices.read_devices(time_out=0.5).why == "nvidia-smi did not answer within 0.5 s"


def test_an_old_driver_that_knows_no_mig_is_asked_without(smi, leases):
    smi.write("old", "")
    smi.write("gpus", "0, GPU-aaaa, Tesla K80, 0, 11441\n")
    assert leases.available().names == ("Tesla K80",)


def test_a_reading_is_kept_for_a_while(smi, leases):
    for _ in range(5):
        leases.available()
    assert len([call for call in smi.calls() if "query-gpu" in call]) == 1
    leases.available(max_age=0)
    assert len([call for call in smi.calls() if "query-gpu" in call]) == 2


@pytest.mark.parametrize(
    "difference", [{"pid": 2**22 - 1}, {"start_time": 1}, {"boot_id": "another boot"}, {"pid": "x"}]
)
def test_the_lease_of_a_holder_that_is_gone_is_free_again(smi, leases, difference):
    assert leases.acquire(2, me(**difference)) is not None
    assert get(leases, 2).devices == ("0", "1")
    (record,) = leases.held()
    assert record["holder"] == me()


def test_the_lease_of_another_machine_that_shares_the_folder_stays(smi, leases):
    other = {"id": "x", "devices": ["GPU-elsewhere"], "holder": me(boot_id="another machine")}
    leases.file.parent.mkdir()
    leases.file.write_text(json.dumps({"version": 1, "leases": [other]}))
    lease = get(leases, 2)
    leases.release(lease)
    assert leases.held() == [other]


def test_a_lease_handed_over_lives_as_long_as_its_new_holder(smi, leases):
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as task:
        lease = get(leases, 2)
        leases.hand_over(lease, {"task": 7, **identity(task.pid)._asdict()})
        assert leases.acquire(1, me()) is None
        assert leases.held()[0]["holder"]["task"] == 7
    assert get(leases, 2).devices == ("0", "1")


@pytest.mark.parametrize("content", ["", "{", "[]", '{"leases": 3}', '{"leases": [{"id": 1}]}'])
def test_a_file_that_is_no_longer_readable_holds_nobody_up(smi, leases, content):
    leases.file.parent.mkdir()
    leases.file.write_text(content)
    assert get(leases, 2).devices == ("0", "1")
    assert len(leases.held()) == 1


GRABBER = """
import os, sys, time
from pathlib import Path
from jupyter_gpudeploy.backends.local.gpus import Leases
from jupyter_gpudeploy.backends.local.procfs import identity
leases, marks = Leases(Path(sys.argv[1])), Path(sys.argv[2])
holder = identity(os.getpid())._asdict()
done = 0
while done < 5:
    lease = leases.acquire(1, holder)
    if lease is None:
        time.sleep(0.002)
        continue
    mark = marks / lease.devices[0]
    os.close(os.open(mark, os.O_CREAT | os.O_EXCL))     # fails if somebody else holds this GPU
    time.sleep(0.002)
    mark.unlink()
    leases.release(lease)
    done += 1
"""


@pytest.mark.fault(39)
def test_two_processes_never_get_the_same_gpu(smi, leases, tmp_path):
    smi.write("gpus", FOUR)
    (tmp_path / "marks").mkdir()
    words = [sys.executable, "-c", GRABBER, str(leases.file.parent), str(tmp_path / "marks")]
    grabbers = [subprocess.Popen(words, cwd=ROOT, stderr=subprocess.PIPE) for _ in range(10)]
    for grabber in grabbers:
        _, errors = grabber.communicate(timeout=60)
        assert grabber.returncode == 0, errors.decode()
    assert leases.held() == []


@pytest.mark.fault(39)
def test_two_threads_never_get_the_same_gpu(smi, leases):
    smi.write("gpus", FOUR)
    got: list[Lease | None] = []
    threads = [threading.Thread(target=lambda: got.append(leases.acquire(1, me()))) for _ in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(lease.devices[0] for lease in got if lease) == ["0", "1", "2", "3"]


ROCM = {
    "card0": {"Card Series": "Instinct MI250", "Unique ID": "0xaa", "VRAM Total Memory (B)": "1000", "VRAM Total Used Memory (B)": "10"},
    "card1": {"Card Series": "Instinct MI250", "Unique ID": "0xbb", "VRAM Total Memory (B)": "N/A", "VRAM Total Used Memory (B)": "N/A"},
    "card2": {},
    "system": {"Driver version": "6.7"},
}  # fmt: skip


@pytest.fixture
def rocm(smi) -> FakeSmi:
    (smi.folder / "nvidia-smi").unlink()
    smi.write("rocm-smi", f"#!/bin/sh\necho 'WARNING: something'\ncat <<'END'\n{json.dumps(ROCM)}\nEND\n")
    (smi.folder / "rocm-smi").chmod(0o755)
    return smi


def test_amd_gpus_are_leased_by_hip(rocm, leases):
    devices = leases.available()
    assert devices.ids == ("0", "1", "2")
    assert [device.memory_total for device in devices] == [1000, None, None]
    assert get(leases, 0).environment == {"HIP_VISIBLE_DEVICES": "-1"}
    assert get(leases, 2).environment == {"HIP_VISIBLE_DEVICES": "0,1"}


def test_hip_counts_what_the_runtime_left_visible(rocm, leases, monkeypatch):
    monkeypatch.setenv("ROCR_VISIBLE_DEVICES", "2,GPU-aa")
    devices = leases.available()
    assert [(device.id, device.uuid) for device in devices] == [("0", "card2"), ("1", "GPU-aa")]
    monkeypatch.setenv("HIP_VISIBLE_DEVICES", "1")
    assert [(device.id, device.uuid) for device in leases.available(max_age=0)] == [("1", "GPU-aa")]
