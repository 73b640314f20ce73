"""The cluster as one object: up, down, and each part killed, stopped and started by itself."""

from __future__ import annotations

import contextlib
import json
import os
import signal
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from . import build, host, identities, images, network, paths, processes, system
from .client import JSON_PATCH, Client
from .parts import APISERVER, CONTAINERD, ETCD, KUBELET, PARTS, kubelet_settings, set_kubelet
from .system import ClusterError, timed, wait_for

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from .parts import Part

GPUS = {"nvidia.com/gpu": 4}
# As NVIDIA's GPU feature discovery labels a node.
GPU_LABELS = {
    "nvidia.com/gpu.present": "true",
    "nvidia.com/gpu.count": "4",
    "nvidia.com/gpu.product": "NVIDIA-H100-80GB-HBM3",
    "nvidia.com/gpu.memory": "81559",
}
KUBELET_VARIABLE = "GPUDEPLOY_CLUSTER_KUBELET"


class Cluster:
    """The one cluster of this machine. Every method may be called by several processes; `up` waits for another's."""

    # --- the whole ---

    def up(self) -> None:
        """Start what is not running; build what is missing. Raises ClusterError."""
        with host.lock():
            self._prepare()
            with timed("the cluster is up"):
                self._start_all()

    def prepare(self) -> None:
        """Everything that `up` and the tests need and that is kept: packages, programs, images. Minutes, once."""
        with host.lock():
            self._prepare()
            build.build(build.KWOK)

    def down(self) -> None:
        """End everything and delete what it wrote; built programs and images stay. Never raises for what is gone."""
        with host.lock():
            self._down()

    def repair(self) -> None:
        """Make everything as it is after `up`: every part started and thawed, the kubelet's settings, the GPUs."""
        with host.lock():
            for name in PARTS:
                if processes.main_pid(name) is not None:
                    self.thaw(name)
            if kubelet_settings() != _kubelet_environment():
                self.stop(KUBELET.name)
                set_kubelet(_kubelet_environment())
            self._start_all()

    def is_built(self) -> bool:
        """Whether `up` would only start what is there: seconds, not minutes."""
        return all(one.is_built() for one in build.NEEDED) and images.are_made()

    def is_up(self) -> bool:
        """Whether every part works and the node is Ready."""
        if not (identities.folder() / "ready").exists():
            return False
        return all(self.works(name) for name in PARTS) and self._is_ready()

    def status(self) -> dict[str, str]:
        """Part -> what one can say about it in a word or two."""
        states = {}
        for name in PARTS:
            pid = processes.main_pid(name)
            states[name] = f"works, pid {pid}" if self.works(name) else f"not working, pid {pid}" if pid else "down"
        return states

    # --- each part ---

    def works(self, name: str) -> bool:
        """Whether a part lives and does its work."""
        try:
            return processes.main_pid(name) is not None and bool(_part(name).works())
        except (OSError, ClusterError, ValueError):
            return False

    def pid(self, name: str) -> int:
        """The process of a part. Raises ClusterError when it is down."""
        found = processes.main_pid(_part(name).name)
        if found is None:
            raise ClusterError(f"{name} is down")
        return found

    def kill(self, name: str) -> None:
        """SIGKILL, as a crash is. Returns when it is gone."""
        processes.end(self._main(name), signal.SIGKILL)

    def stop(self, name: str) -> None:
        """SIGTERM, as an administrator would. Returns when it is gone."""
        processes.end(self._main(name))

    def freeze(self, name: str) -> None:
        """SIGSTOP: the part keeps its connections and says nothing (a half-open connection). `thaw` ends it."""
        os.kill(self.pid(name), signal.SIGSTOP)

    def thaw(self, name: str) -> None:
        """SIGCONT after `freeze`."""
        os.kill(self.pid(name), signal.SIGCONT)

    def start(self, name: str, *flags: str) -> None:
        """Start a part that is down, with its usual flags and `flags`, and wait until it works."""
        if processes.main_pid(name) is None:
            self._launch(_part(name), flags)
        self.wait(name)

    def restart(self, name: str, *flags: str, **settings: Any) -> None:
        """Stop and start a part. Flags and settings hold until the next restart.

        `settings` are fields of KubeletConfiguration (kubelet only), as `containerLogMaxSize="64Ki"`,
        `streamingConnectionIdleTimeout="5s"`; without any the kubelet is as it was at `up`.
        """
        self.stop(name)
        if name == KUBELET.name:
            set_kubelet({**_kubelet_environment(), **settings})
        elif settings:
            raise ClusterError(f"only the kubelet takes settings; give {name} flags")
        self.start(name, *flags)

    def wait(self, name: str) -> None:
        """Wait until a part works; for the kubelet: until its node is Ready and has its GPUs."""
        part = _part(name)
        wait_for(f"{name} works", lambda: self._check(part), part.seconds)
        if part is KUBELET:
            self.set_gpus()

    def log(self, name: str) -> Path:
        """The file with what a part said."""
        return processes.log_file(name)

    # --- the node ---

    def set_gpus(self, resources: Mapping[str, int] | None = None) -> None:
        """Give the node made-up devices, {"amd.com/gpu": 2, ...}; those not named get none."""
        wanted = dict(GPUS if resources is None else resources)
        wait_for("the node is Ready", self._is_ready, 90)
        # A kubelet that has just started sets them back once.
        wait_for("the GPUs of the node", lambda: self._patch_gpus(wanted), 60, every=0.5)

    def kubeconfig(self, user: str = "admin") -> Path:
        """The kubeconfig of `admin`, `plain` or `other`. The latter two may do nothing until a role is bound."""
        return identities.kubeconfig(user)

    def image(self, name: str) -> str:
        """The name by which pods have an image of paths.py."""
        return name

    def client(self, user: str = "admin") -> Client:
        """Few words of Kubernetes for tests that need to look behind the package's back."""
        return Client(user)

    # --- inside ---

    def _prepare(self) -> None:
        reason = system.why_not()
        if reason:
            raise ClusterError(reason)
        system.install_packages()
        build.build()
        images.make()

    def _start_all(self) -> None:
        host.make_folder()
        identities.make()
        network.up()
        if not kubelet_settings():
            set_kubelet(_kubelet_environment())
        with ThreadPoolExecutor() as pool:
            pool.submit(self._ensure, ETCD)
            server = pool.submit(self._ensure, APISERVER)
            runtime = pool.submit(self._ensure_runtime)
            server.result()
            others = [part for part in PARTS.values() if part not in {ETCD, APISERVER, CONTAINERD, KUBELET}]
            work = [pool.submit(self._ensure, part) for part in others]
            for task in (runtime, pool.submit(self._ensure, KUBELET), *work):
                task.result()
        self._finish()

    def _ensure_runtime(self) -> None:
        self._ensure(CONTAINERD)
        with timed("images in containerd"):
            images.load()

    def _ensure(self, part: Part) -> None:
        if not self.works(part.name):
            if processes.main_pid(part.name) is None:
                self._launch(part)
            wait_for(f"{part.name} works", lambda: self._check(part), part.seconds)

    def _finish(self) -> None:
        wait_for("the node is Ready", self._is_ready, 90)
        self.set_gpus()
        client = Client()
        client.patch(f"/api/v1/nodes/{paths.NODE}", {"metadata": {"labels": GPU_LABELS}})
        wait_for("default accounts", lambda: client.exists("/api/v1/namespaces/default/serviceaccounts/default"), 30)

    def _launch(self, part: Part, flags: Sequence[str] = ()) -> None:
        if part is KUBELET:
            host.make_cgroups()
        processes.start(part.name, [*part.argv(), *flags])

    def _check(self, part: Part) -> bool:
        if processes.main_pid(part.name) is None:
            raise ClusterError(f"{part.name} has ended; its last words: {_tail(processes.log_file(part.name))}")
        return bool(part.works())

    def _main(self, name: str) -> list[int]:
        pid = processes.main_pid(_part(name).name)
        return [] if pid is None else [pid]

    def _is_ready(self) -> bool:
        try:
            node = Client().get(f"/api/v1/nodes/{paths.NODE}")
        except ClusterError:
            return False
        return any(
            one["type"] == "Ready" and one["status"] == "True" for one in node.get("status", {}).get("conditions", [])
        )

    def _patch_gpus(self, wanted: Mapping[str, int]) -> bool:
        path = f"/api/v1/nodes/{paths.NODE}/status"
        status = Client().get(path)["status"]
        had = {name for name in status["capacity"] if "/" in name} - set(wanted)
        if not had and all(status["allocatable"].get(name) == str(count) for name, count in wanted.items()):
            return True
        changes = []
        for place in ("capacity", "allocatable"):
            held = set(status[place])
            at = f"/status/{place}/"
            changes += [{"op": "add", "path": at + _escape(name), "value": str(n)} for name, n in wanted.items()]
            changes += [{"op": "remove", "path": at + _escape(name)} for name in had & held]
        Client().patch(path, changes, JSON_PATCH)
        return False

    def _down(self) -> None:
        processes.end(processes.find(), signal.SIGKILL)
        host.kill_cgroups()
        network.down()
        host.delete_folder()
        host.remove_cgroups()


def _part(name: str) -> Part:
    try:
        return PARTS[name]
    except KeyError:
        raise ClusterError(f"no part is called {name}; there are {', '.join(PARTS)}") from None


def _kubelet_environment() -> dict[str, Any]:
    """Settings that hold from `up` on: JSON in an environment variable."""
    return dict(json.loads(os.environ.get(KUBELET_VARIABLE) or "{}"))


def _escape(name: str) -> str:
    return name.replace("~", "~0").replace("/", "~1")


def _tail(path: Path) -> str:
    with contextlib.suppress(OSError):
        return path.read_text(errors="replace")[-1500:]
    return ""
