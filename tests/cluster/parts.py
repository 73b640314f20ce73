"""Each part of the cluster: what it is started with and how one knows that it works."""

from __future__ import annotations

import json
import socket
import urllib.request
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from . import identities, paths
from .client import Client

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

KUBELET_DEFAULTS: dict[str, Any] = {
    "apiVersion": "kubelet.config.k8s.io/v1beta1",
    "kind": "KubeletConfiguration",
    "address": paths.HOST_ADDRESS,
    "authentication": {"anonymous": {"enabled": True}, "webhook": {"enabled": False}},
    "authorization": {"mode": "AlwaysAllow"},
    "cgroupDriver": "cgroupfs",
    "cgroupRoot": "/gpudeploy",
    "clusterDNS": [paths.HOST_ADDRESS],
    "clusterDomain": paths.DNS_DOMAIN,
    "failCgroupV1": False,
    "failSwapOn": False,
    "imageGCHighThresholdPercent": 100,
    "maxPods": 250,
    "evictionHard": {"memory.available": "100Mi", "nodefs.available": "1%", "imagefs.available": "1%"},
}


@dataclass(frozen=True, slots=True)
class Part:
    """One program. `works` raises or returns False until the part does its work."""

    name: str
    argv: Callable[[], list[str]]
    works: Callable[[], object]
    seconds: float = 60


def _kube(name: str, /, **flags: object) -> list[str]:
    return [str(paths.program("kube")), name, *(f"--{key.replace('_', '-')}={value}" for key, value in flags.items())]


def _etcd() -> list[str]:
    return [
        *_kube("etcd", name="one", data_dir=paths.run_dir() / "etcd", initial_cluster=f"one={paths.ETCD_PEER_URL}"),
        f"--listen-client-urls={paths.ETCD_URL}",
        f"--advertise-client-urls={paths.ETCD_URL}",
        f"--listen-peer-urls={paths.ETCD_PEER_URL}",
        f"--initial-advertise-peer-urls={paths.ETCD_PEER_URL}",
        "--unsafe-no-fsync",
        "--log-level=warn",
    ]


def _apiserver() -> list[str]:
    secret = identities.folder()
    return _kube(
        "kube-apiserver",
        etcd_servers=paths.ETCD_URL,
        bind_address=paths.HOST_ADDRESS,
        advertise_address=paths.HOST_ADDRESS,
        secure_port=paths.API_PORT,
        tls_cert_file=secret / "apiserver.crt",
        tls_private_key_file=secret / "apiserver.key",
        client_ca_file=secret / "ca.crt",
        token_auth_file=secret / "tokens.csv",
        authorization_mode="Node,RBAC",
        enable_admission_plugins="NodeRestriction",
        service_account_issuer=paths.API_URL,
        service_account_key_file=secret / "accounts.pub",
        service_account_signing_key_file=secret / "accounts.key",
        service_cluster_ip_range=paths.SERVICE_RANGE,
        kubelet_preferred_address_types="InternalIP",
        allow_privileged="true",
        # For APIs of others behind this one, as Kueue's queue positions.
        requestheader_client_ca_file=secret / "ca.crt",
        requestheader_allowed_names=identities.PROXY,
        requestheader_username_headers="X-Remote-User",
        requestheader_group_headers="X-Remote-Group",
        requestheader_extra_headers_prefix="X-Remote-Extra-",
        proxy_client_cert_file=secret / "proxy.crt",
        proxy_client_key_file=secret / "proxy.key",
    )


def _manager() -> list[str]:
    secret, config = identities.folder(), identities.kubeconfig("kube-controller-manager")
    return _kube(
        "kube-controller-manager",
        kubeconfig=config,
        authentication_kubeconfig=config,
        authorization_kubeconfig=config,
        bind_address="127.0.0.1",
        service_account_private_key_file=secret / "accounts.key",
        root_ca_file=secret / "ca.crt",
        use_service_account_credentials="true",
        leader_elect="false",
        kube_api_qps=1000,
        kube_api_burst=2000,
    )


def _scheduler() -> list[str]:
    config = identities.kubeconfig("kube-scheduler")
    return _kube(
        "kube-scheduler",
        kubeconfig=config,
        authentication_kubeconfig=config,
        authorization_kubeconfig=config,
        bind_address="127.0.0.1",
        leader_elect="false",
        kube_api_qps=1000,
        kube_api_burst=2000,
    )


def containerd_socket() -> str:
    """Where containerd listens."""
    return str(paths.run_dir() / "containerd.sock")


def _containerd() -> list[str]:
    run = paths.run_dir()
    runtime, images = "io.containerd.cri.v1.runtime", "io.containerd.cri.v1.images"
    config = f"""
version = 3
root = "{run}/containerd"
state = "{run}/containerd-state"
disabled_plugins = ["io.containerd.nri.v1.nri", "io.containerd.tracing.processor.v1.otlp"]
[grpc]
address = "{containerd_socket()}"
[ttrpc]
address = "{containerd_socket()}.ttrpc"
[plugins.'{images}'.pinned_images]
sandbox = "{paths.PAUSE_IMAGE}"
[plugins.'{runtime}']
restrict_oom_score_adj = true
netns_mounts_under_state_dir = true
[plugins.'{runtime}'.cni]
bin_dirs = ["/usr/lib/cni"]
conf_dir = "{run}/cni"
[plugins.'{runtime}'.containerd.runtimes.runc]
runtime_type = "io.containerd.runc.v2"
"""
    path = run / "containerd.toml"
    path.write_text(config)
    return [str(paths.program("containerd")), "--config", str(path)]


def kubelet_settings() -> dict[str, Any]:
    """What differs from KUBELET_DEFAULTS now."""
    path = paths.run_dir() / "kubelet-settings.json"
    return dict(json.loads(path.read_text())) if path.exists() else {}


def set_kubelet(settings: Mapping[str, Any]) -> None:
    """Keep settings for the next start of the kubelet: fields of KubeletConfiguration."""
    (paths.run_dir() / "kubelet-settings.json").write_text(json.dumps(dict(settings)))


def _kubelet() -> list[str]:
    run = paths.run_dir()
    config = {
        **KUBELET_DEFAULTS,
        "podLogsDir": str(run / "pod-logs"),
        "containerRuntimeEndpoint": f"unix://{containerd_socket()}",
        **kubelet_settings(),
    }
    path = run / "kubelet.json"
    path.write_text(json.dumps(config, indent=2))
    return _kube(
        "kubelet",
        config=path,
        kubeconfig=identities.kubeconfig("node"),
        root_dir=run / "kubelet",
        cert_dir=run / "kubelet-pki",
        hostname_override=paths.NODE,
        node_ip=paths.HOST_ADDRESS,
    )


def _proxy() -> list[str]:
    return _kube(
        "kube-proxy",
        kubeconfig=identities.kubeconfig("kube-proxy"),
        hostname_override=paths.NODE,
        proxy_mode="nftables",
        cluster_cidr=paths.POD_RANGE,
        conntrack_max_per_core=0,
        masquerade_all="true",  # a pod that answers another on its own bridge must answer through the service
        healthz_bind_address="127.0.0.1:10256",
        metrics_bind_address="127.0.0.1:10249",
    )


def _coredns() -> list[str]:
    path = paths.run_dir() / "Corefile"
    path.write_text(f"""{paths.DNS_DOMAIN}:53 {{
    bind {paths.HOST_ADDRESS}
    errors
    kubernetes {paths.DNS_DOMAIN} {{
        kubeconfig {identities.kubeconfig()}
    }}
}}
""")
    return [str(paths.program("coredns")), "-conf", str(path)]


def listens(address: str, port: int) -> bool:
    """Whether somebody takes connections there."""
    with socket.create_connection((address, port), timeout=2):
        return True


def http_answers(url: str) -> bool:
    """Whether a server says there that it is well."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(url, timeout=2) as answer:
        return bool(answer.status == 200)


def _containerd_works() -> bool:
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(2)
        connection.connect(containerd_socket())
    return True


ETCD = Part("etcd", _etcd, lambda: http_answers(f"{paths.ETCD_URL}/health"))
APISERVER = Part("kube-apiserver", _apiserver, lambda: Client(seconds=3).text("/readyz") == "ok", seconds=120)
MANAGER = Part("kube-controller-manager", _manager, lambda: listens("127.0.0.1", 10257))
SCHEDULER = Part("kube-scheduler", _scheduler, lambda: listens("127.0.0.1", 10259))
CONTAINERD = Part("containerd", _containerd, _containerd_works)
KUBELET = Part("kubelet", _kubelet, lambda: http_answers("http://127.0.0.1:10248/healthz"))
PROXY = Part("kube-proxy", _proxy, lambda: http_answers("http://127.0.0.1:10256/livez"))
COREDNS = Part("coredns", _coredns, lambda: listens(paths.HOST_ADDRESS, 53))

PARTS = {part.name: part for part in (ETCD, APISERVER, CONTAINERD, MANAGER, SCHEDULER, KUBELET, PROXY, COREDNS)}
