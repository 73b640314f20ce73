"""The bridge that pods, services and the parts of the cluster meet on."""

from __future__ import annotations

import json
from pathlib import Path

from . import paths
from .system import ClusterError, command

_CNI_RESULTS = Path("/var/lib/cni/results")
_NETWORK = "gpudeploy"


def up() -> None:
    """Make the bridge, give it the one address, and let packets through. Changes nothing that is there."""
    if not Path("/sys/class/net", paths.BRIDGE).exists():
        command(["ip", "link", "add", paths.BRIDGE, "type", "bridge"])
    address = f"{paths.HOST_ADDRESS}/{paths.POD_RANGE.partition('/')[2]}"
    command(["ip", "address", "replace", address, "dev", paths.BRIDGE])
    command(["ip", "link", "set", paths.BRIDGE, "up"])
    Path("/proc/sys/net/ipv4/ip_forward").write_text("1")
    _write_cni()


def down() -> None:
    """Remove the bridge, kube-proxy's tables and what the CNI plugins remember."""
    for undo in (
        ["ip", "link", "delete", paths.BRIDGE],
        ["nft", "delete", "table", "ip", "kube-proxy"],
        ["nft", "delete", "table", "ip6", "kube-proxy"],
    ):
        try:
            command(undo)
        except (ClusterError, FileNotFoundError):
            continue
    for path in _CNI_RESULTS.glob(f"{_NETWORK}-*"):
        path.unlink(missing_ok=True)


def _write_cni() -> None:
    folder = paths.run_dir() / "cni"
    folder.mkdir(parents=True, exist_ok=True)
    bridge = {
        "type": "bridge",
        "bridge": paths.BRIDGE,
        "isGateway": True,
        "hairpinMode": True,
        "ipam": {
            "type": "host-local",
            "ranges": [[{"subnet": paths.POD_RANGE, "gateway": paths.HOST_ADDRESS, "rangeStart": "10.97.1.0"}]],
            "routes": [{"dst": "0.0.0.0/0"}],
            "dataDir": str(paths.run_dir() / "addresses"),
        },
    }
    network = {"cniVersion": "1.0.0", "name": _NETWORK, "plugins": [bridge, {"type": "loopback"}]}
    (folder / "10-gpudeploy.conflist").write_text(json.dumps(network, indent=2))
