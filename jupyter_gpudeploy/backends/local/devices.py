"""Which GPUs this machine has, and who uses them: read from `nvidia-smi`, else from `rocm-smi`.

What a tool prints as `[N/A]` or `[Not Supported]` is None, never 0. Bytes throughout. Reading takes from 20 ms to some
seconds (a driver without persistence mode wakes every GPU first), so `gpus.Leases` keeps a reading for a while.

Which of them are ours to use is said by the environment, in the way CUDA reads it: `CUDA_VISIBLE_DEVICES` lists
indices or beginnings of UUIDs, the first one that fits none ends the list, and an empty one leaves nothing.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from typing import TYPE_CHECKING, NamedTuple

from jupyter_gpudeploy.patterns import lazy

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

TIME_OUT = 15.0
_MIB = 2**20
_FIELDS = "index,uuid,name,memory.used,memory.total"
_UNKNOWN = lazy(r"\[?(n/a|not supported|unknown error|not found|-)?\]?", re.IGNORECASE)
_BROKEN = lazy(r"\[?(.*(?:is lost|requires reset|unknown error|err!).*?)\]?", re.IGNORECASE)
_LISTED_GPU = lazy(r"GPU (\d+): .*\(UUID: (\S+)\)")
_LISTED_MIG = lazy(r"\s+MIG (\S+)\s+Device\s+\d+: \(UUID: (\S+)\)")
_PART_IN_USE = 0.1


class GpuUser(NamedTuple):
    """A process that holds memory of a GPU. Its pid is the machine's, which a container may not know."""

    pid: int
    name: str
    memory: int | None = None

    def __str__(self) -> str:
        held = "" if self.memory is None else f", {self.memory // _MIB} MiB"
        return f"pid {self.pid} ({self.name or 'unknown'}{held})"


class Device(NamedTuple):
    """One GPU, or one part of a GPU in MIG mode. `id` is the word that CUDA_VISIBLE_DEVICES takes for it."""

    id: str
    uuid: str
    name: str
    memory_used: int | None = None
    memory_total: int | None = None
    users: tuple[GpuUser, ...] = ()

    @property
    def in_use(self) -> str:
        """Who else uses it, for a person; empty when nobody does."""
        if self.users:
            return f"is also used by {' and '.join(map(str, self.users))}"
        if self.memory_used and self.memory_total and self.memory_used > _PART_IN_USE * self.memory_total:
            held = f"{self.memory_used // _MIB} of {self.memory_total // _MIB} MiB"
            return f"has {held} in use by somebody who cannot be seen from here"
        return ""


class Devices:
    """The GPUs that may be used, in the order of the tool that listed them.

    `why` says in a sentence why there are none or fewer than the machine has. `variable` is the environment variable
    that chooses among them, `hidden` its value for a process that shall see none, and `order` what makes the runtime
    count as the tool did.
    """

    def __init__(
        self,
        visible: tuple[Device, ...] = (),
        why: str = "",
        variable: str = "CUDA_VISIBLE_DEVICES",
        hidden: str = "",
        order: Mapping[str, str] | None = None,
    ) -> None:
        self.visible = visible
        self.why = why
        self.variable = variable
        self.hidden = hidden
        self.order = order or {}

    def __len__(self) -> int:
        return len(self.visible)

    def __iter__(self) -> Iterator[Device]:
        return iter(self.visible)

    @property
    def ids(self) -> tuple[str, ...]:
        """The words that the environment variable takes."""
        return tuple(device.id for device in self.visible)

    @property
    def names(self) -> tuple[str, ...]:
        """What each is called by its maker."""
        return tuple(device.name for device in self.visible)

    def environment(self, chosen: Sequence[Device]) -> dict[str, str]:
        """Return what makes a process see the chosen ones alone."""
        if not chosen:
            return {self.variable: self.hidden}
        return {**self.order, self.variable: ",".join(device.id for device in chosen)}


class _UnreadableError(Exception):
    """The tool is there and did not say what it was asked."""


def read_devices(environ: Mapping[str, str] = os.environ, time_out: float = TIME_OUT) -> Devices:
    """Ask this machine. Never raises: a tool that fails is told in `why`."""
    try:
        if path := shutil.which("nvidia-smi", path=environ.get("PATH")):
            return _nvidia(path, environ, time_out)
        if path := shutil.which("rocm-smi", path=environ.get("PATH")):
            return _rocm(path, environ, time_out)
    except _UnreadableError as error:
        return Devices(why=str(error))
    return Devices(why="no GPU visible on this machine: neither nvidia-smi nor rocm-smi is there")


def _ask(words: Sequence[str], time_out: float) -> str:
    """Return what a tool prints. Raises _UnreadableError with the tool's own last words."""
    tool = os.path.basename(words[0])  # noqa: PTH119 - a word of a command, not a file to work with
    try:
        answer = subprocess.run(words, capture_output=True, timeout=time_out, check=False, stdin=subprocess.DEVNULL)
    except subprocess.TimeoutExpired:
        raise _UnreadableError(f"{tool} did not answer within {time_out:g} s") from None
    except OSError as error:
        raise _UnreadableError(f"{tool} cannot be run: {error.strerror}") from None
    text = answer.stdout.decode("utf-8", "replace")
    if answer.returncode:
        said = (text + answer.stderr.decode("utf-8", "replace")).split("\n\n")[0]
        raise _UnreadableError(f"{tool} failed ({answer.returncode}): {' '.join(said.split()) or 'it said nothing'}")
    return text


# NVIDIA


def _nvidia(tool: str, environ: Mapping[str, str], time_out: float) -> Devices:
    rows, broken = _nvidia_rows(tool, time_out)
    migs = _migs(tool, time_out) if any(mig == "Enabled" for *_, mig in rows) else {}
    users = _nvidia_users(tool, time_out)
    found: list[tuple[str, Device]] = []
    for index, uuid, name, used, total, mig in rows:
        if mig == "Enabled":
            parts = migs.get(uuid, ())
            found += [
                (index, Device(part, part, f"{name} MIG {profile}", users=users.get(part, ())))
                for profile, part in parts
            ]
            broken += [] if parts else [f"GPU {index} is in MIG mode and has no MIG device"]
        else:
            found.append((index, Device(index, uuid, name, _mib(used), _mib(total), users.get(uuid, ()))))
    listed = environ.get("CUDA_VISIBLE_DEVICES")
    visible = tuple(device for _, device in found) if listed is None else _chosen(listed, found)
    if found and not visible:
        broken.append(f"CUDA_VISIBLE_DEVICES={listed!r} hides every GPU")
    if not found and not broken:
        broken.append("nvidia-smi lists no GPU")
    # CUDA counts the fastest first unless told to count as nvidia-smi does.
    return Devices(visible, "; ".join(broken), order={"CUDA_DEVICE_ORDER": "PCI_BUS_ID"})


def _nvidia_rows(tool: str, time_out: float) -> tuple[list[list[str]], list[str]]:
    """Return (index, uuid, name, used, total, MIG mode) of each GPU, and a sentence for each that is broken."""
    query = [tool, "--format=csv,noheader,nounits"]
    try:
        text = _ask([*query, f"--query-gpu={_FIELDS},mig.mode.current"], time_out)
    except _UnreadableError as error:
        if "not a valid field" not in str(error):
            raise
        text = _ask([*query, f"--query-gpu={_FIELDS}"], time_out)
    rows: list[list[str]] = []
    broken: list[str] = []
    for line in filter(None, map(str.strip, text.splitlines())):
        row = [*line.split(", "), "[N/A]"][:6]
        faults = [fault[1] for cell in row if (fault := _BROKEN.fullmatch(cell))]
        if faults or len(row) < 6 or not row[0].isdigit():  # noqa: PLR2004 - the six fields asked for
            broken.append(f"GPU {row[0]} is left out: {faults[0] if faults else line}")
        else:
            rows.append(row)
    return rows, broken


def _nvidia_users(tool: str, time_out: float) -> dict[str, tuple[GpuUser, ...]]:
    """Return who computes on each GPU, by its UUID; nothing where the driver does not tell."""
    fields = "gpu_uuid,pid,used_memory,process_name"
    try:
        text = _ask([tool, f"--query-compute-apps={fields}", "--format=csv,noheader,nounits"], time_out)
    except _UnreadableError:
        return {}
    users: dict[str, tuple[GpuUser, ...]] = {}
    for line in text.splitlines():
        uuid, *rest = line.strip().split(", ", 3)
        if len(rest) == 3 and rest[0].isdigit():  # noqa: PLR2004 - pid, memory, name
            name = "" if _UNKNOWN.fullmatch(rest[2]) else rest[2].split()[0].rpartition("/")[2]
            users[uuid] = (*users.get(uuid, ()), GpuUser(int(rest[0]), name, _mib(rest[1])))
    return users


def _migs(tool: str, time_out: float) -> dict[str, list[tuple[str, str]]]:
    """Return the MIG devices, (profile, UUID), of each GPU's UUID."""
    parts: dict[str, list[tuple[str, str]]] = {}
    gpu = ""
    for line in _ask([tool, "-L"], time_out).splitlines():
        if match := _LISTED_GPU.match(line):
            gpu = match[2]
        elif match := _LISTED_MIG.match(line):
            parts.setdefault(gpu, []).append((match[1], match[2]))
    return parts


def _mib(text: str) -> int | None:
    """Return bytes of a number of MiB, None for what the driver does not know."""
    try:
        return int(float(text) * _MIB)
    except ValueError:
        return None


# AMD


def _rocm(tool: str, environ: Mapping[str, str], time_out: float) -> Devices:
    text = _ask([tool, "--showproductname", "--showuniqueid", "--showmeminfo", "vram", "--json"], time_out)
    try:
        cards = json.loads(text[text.index("{") :])
        found = [(key.removeprefix("card"), _card(key, card)) for key, card in cards.items() if key.startswith("card")]
    except (ValueError, TypeError, AttributeError):
        raise _UnreadableError(f"rocm-smi printed no JSON: {text[:80]!r}") from None
    visible = tuple(device for _, device in found)
    # The runtime narrows first, and HIP counts what is left of it from 0.
    for variable in ("ROCR_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES"):
        if (listed := environ.get(variable)) is not None:
            visible = _chosen(listed, [(str(place), device) for place, device in enumerate(visible)])
        if variable == "ROCR_VISIBLE_DEVICES":
            visible = tuple(device._replace(id=str(place)) for place, device in enumerate(visible))
    why = "" if visible else "ROCR_VISIBLE_DEVICES or HIP_VISIBLE_DEVICES hides every GPU"
    return Devices(visible, why if found else "rocm-smi lists no GPU", "HIP_VISIBLE_DEVICES", "-1")


def _card(key: str, card: Mapping[str, str]) -> Device:
    name = card.get("Card Series") or card.get("Card series") or card.get("Card Model") or "AMD GPU"
    unique = card.get("Unique ID", "")
    uuid = f"GPU-{unique.removeprefix('0x')}" if unique.startswith("0x") else key
    return Device(
        key, uuid, name, _number(card.get("VRAM Total Used Memory (B)")), _number(card.get("VRAM Total Memory (B)"))
    )


def _number(text: str | None) -> int | None:
    return int(text) if text and text.isdigit() else None


def _chosen(listed: str, found: Sequence[tuple[str, Device]]) -> tuple[Device, ...]:
    """Return what a list of indices and beginnings of UUIDs leaves visible. `found` is (index, device)."""
    visible: list[Device] = []
    for word in map(str.strip, listed.split(",")):
        if word.isdigit():
            fits = [device for index, device in found if index == str(int(word))][:1]
        else:
            fits = [device for _, device in found if word and device.uuid.startswith(word)]
        if len(fits) != 1 or fits[0] in visible:
            break
        visible += fits
    return tuple(visible)
