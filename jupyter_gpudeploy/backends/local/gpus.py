"""Who of us holds which GPU. No scheduler runs on this machine, so a file says it.

`<root>/gpus.json` lists the leases, `<root>/gpus.lock` is held while it is read and written. A lease ends when it is
released, or when its holder is gone: a holder is a process, told by its pid, its start time and the boot of the
machine. Processes that know nothing of us are seen in the driver's list; a GPU that they use is given out last, and
said so. Leases of GPUs that this machine does not have are another machine's that shares the folder: left alone.
"""

from __future__ import annotations

import fcntl
import json
import os
import time
from contextlib import contextmanager
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple

from jupyter_gpudeploy.backends.local.devices import Device, Devices, read_devices
from jupyter_gpudeploy.backends.local.procfs import is_alive
from jupyter_gpudeploy.events.store import write_atomically

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

FRESH_SECONDS = 5.0
_Record = dict[str, Any]


class Lease(NamedTuple):
    """GPUs that are one task's until they are released.

    `environment` makes the task see these alone, or none for a lease of 0; it is empty on a machine without GPUs.
    `notice` says who else is on them; empty when nobody is.
    """

    devices: tuple[str, ...] = ()
    environment: Mapping[str, str] = MappingProxyType({})
    notice: str = ""
    id: str = ""


class Leases:
    """The leases kept under one root. Any thread and any process may use it."""

    def __init__(self, root: Path) -> None:
        self.file = root / "gpus.json"
        self.lock_file = root / "gpus.lock"
        self._reading: tuple[float, Devices] | None = None
        self._had: Devices | None = None

    def available(self, max_age: float = FRESH_SECONDS) -> Devices:
        """Return the GPUs that we may use, held or not, as read at most `max_age` seconds ago."""
        if self._reading is None or time.monotonic() - self._reading[0] > max_age:
            devices = read_devices()
            self._reading = time.monotonic(), devices
            if devices:
                self._had = devices
        return self._reading[1]

    def held(self) -> list[Mapping[str, Any]]:
        """Return the living leases: `devices` (UUIDs), `holder`, `time`."""
        with self._locked():
            return list(self._living(self._load(), self.available()))

    def acquire(self, count: int, holder: Mapping[str, object]) -> Lease | None:
        """Return a lease of `count` GPUs, or None while there are not so many free. Does not wait for one.

        `holder` needs `pid`, `start_time` (clock ticks since boot) and `boot_id`, see `procfs.identity`; whatever
        else it says is kept beside them. More GPUs than the machine has are never free: compare `available` first.
        """
        if count == 0:
            return Lease(environment=self._none_visible())
        lease = self._try(count, holder, self.available())
        if lease is not None and lease.notice:
            # The reading may be older than the end of whoever was there: look again before telling tales.
            self.release(lease)
            lease = self._try(count, holder, self.available(max_age=0))
        return lease

    def hand_over(self, lease: Lease, holder: Mapping[str, object]) -> None:
        """Make the lease depend on another process, as a rule on the task's own once it has started."""
        if lease.id:
            with self._locked():
                records = self._load()
                self._save(
                    [{**record, "holder": dict(holder)} if record["id"] == lease.id else record for record in records]
                )

    def release(self, lease: Lease) -> None:
        """Give the GPUs back. A lease that is released already stays so."""
        if lease.id:
            with self._locked():
                self._save([record for record in self._load() if record["id"] != lease.id])

    def _none_visible(self) -> dict[str, str]:
        devices = self._had or self.available()
        return devices.environment(()) if devices else {}

    def _try(self, count: int, holder: Mapping[str, object], devices: Devices) -> Lease | None:
        with self._locked():
            records = self._living(self._load(), devices)
            taken = {uuid for record in records for uuid in record["devices"]}
            free = sorted((device for device in devices if device.uuid not in taken), key=_cost)
            if len(free) < count:
                return None
            chosen = [device for device in devices if device in free[:count]]
            identity = os.urandom(8).hex()
            uuids = [device.uuid for device in chosen]
            records.append({"id": identity, "devices": uuids, "holder": dict(holder), "time": time.time()})
            self._save(records)
        notice = "; ".join(f"GPU {device.id} {device.in_use}" for device in chosen if device.in_use)
        return Lease(tuple(device.id for device in chosen), devices.environment(chosen), notice, identity)

    @staticmethod
    def _living(records: Sequence[_Record], devices: Devices) -> list[_Record]:
        """Return the leases that count: those with a living holder, and those of other machines' GPUs."""
        ours = {device.uuid for device in devices}
        return [record for record in records if not ours.intersection(record["devices"]) or _is_held(record["holder"])]

    @contextmanager
    def _locked(self) -> Iterator[None]:
        self.lock_file.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(self.lock_file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)

    def _load(self) -> list[_Record]:
        """Return the leases; none from a file that is not there or no longer readable."""
        try:
            records = json.loads(self.file.read_text("utf-8"))["leases"]
            return [dict(record) for record in records if {"id", "devices", "holder"} <= record.keys()]
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return []

    def _save(self, records: Sequence[_Record]) -> None:
        write_atomically(self.file, json.dumps({"version": 1, "leases": list(records)}, indent=1) + "\n")


def _is_held(holder: Mapping[str, Any]) -> bool:
    """Say whether the holder lives, or the process that it holds the GPUs for (`process`, told in the same way)."""
    return is_alive(holder) or is_alive(holder.get("process") or {})


def _cost(device: Device) -> tuple[bool, int]:
    """Return what to sort by: what nobody uses first, then what is emptier by a GiB; equals keep their order."""
    return bool(device.in_use), (device.memory_used or 0) // 2**30
