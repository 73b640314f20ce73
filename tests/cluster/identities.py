"""Who may talk to the cluster: certificates, tokens, kubeconfigs. All are made anew for each cluster."""

from __future__ import annotations

import base64
import json
import secrets
from typing import TYPE_CHECKING

from . import paths
from .system import command

if TYPE_CHECKING:
    from pathlib import Path

# name -> (user, groups)
USERS = {
    "admin": ("admin", "system:masters"),
    "node": (f"system:node:{paths.NODE}", "system:nodes"),
    "kube-controller-manager": ("system:kube-controller-manager", ""),
    "kube-scheduler": ("system:kube-scheduler", ""),
    "kube-proxy": ("system:kube-proxy", ""),
    "plain": ("plain", "people"),  # may do nothing until a test binds a role to it
    "other": ("other", "people"),  # somebody else
}
PROXY = "front-proxy"
_EXTENSIONS = f"""
[req]
distinguished_name = name
[name]
[ca]
basicConstraints = critical, CA:TRUE
keyUsage = critical, keyCertSign, cRLSign, digitalSignature
subjectKeyIdentifier = hash
[server]
basicConstraints = critical, CA:FALSE
keyUsage = critical, digitalSignature, keyEncipherment
extendedKeyUsage = serverAuth
subjectKeyIdentifier = hash
authorityKeyIdentifier = keyid
subjectAltName = IP:{paths.HOST_ADDRESS}, IP:127.0.0.1, IP:10.98.0.1, DNS:localhost, DNS:kubernetes, DNS:kubernetes.default, DNS:kubernetes.default.svc, DNS:kubernetes.default.svc.{paths.DNS_DOMAIN}
"""


def folder() -> Path:
    """Keys, certificates and kubeconfigs of the running cluster."""
    return paths.run_dir() / "identities"


def kubeconfig(name: str = "admin") -> Path:
    """The kubeconfig of one of USERS; it has one context, named `gpudeploy-test-NAME`."""
    return paths.run_dir() / "kubeconfig" if name == "admin" else folder() / f"{name}.kubeconfig"


def make() -> None:
    """Write everything that is not there yet."""
    folder().mkdir(parents=True, exist_ok=True, mode=0o700)
    if not (folder() / "ready").exists():
        _certificates()
        _tokens()
        (folder() / "ready").touch()
    if not (folder() / "proxy.crt").exists():
        _proxy_certificate()


def token(name: str) -> str:
    """The bearer token of one of USERS."""
    return str(json.loads((folder() / "tokens.json").read_text())[name])


def write_kubeconfig(path: Path, name: str, bearer: str, namespace: str = "default") -> Path:
    """Write a kubeconfig for anybody with a token. JSON, which is YAML too."""
    context = f"gpudeploy-test-{name}"
    authority = base64.b64encode((folder() / "ca.crt").read_bytes()).decode()
    content = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [
            {
                "name": "gpudeploy-test",
                "cluster": {"server": paths.API_URL, "certificate-authority-data": authority},
            },
        ],
        "users": [{"name": name, "user": {"token": bearer}}],
        "contexts": [{"name": context, "context": {"cluster": "gpudeploy-test", "user": name, "namespace": namespace}}],
        "current-context": context,
    }
    path.touch(mode=0o600)
    path.write_text(json.dumps(content, indent=2))
    return path


def _certificates() -> None:
    place = folder()
    config, ca_key, ca_crt = place / "openssl.conf", place / "ca.key", place / "ca.crt"
    config.write_text(_EXTENSIONS)
    openssl: list[str | Path] = [
        "openssl",
        "req",
        "-x509",
        "-newkey",
        "rsa:2048",
        "-nodes",
        "-days",
        "3650",
        "-config",
        config,
    ]
    command([*openssl, "-extensions", "ca", "-subj", "/CN=gpudeploy-test", "-keyout", ca_key, "-out", ca_crt])
    signed: list[str | Path] = [
        *openssl,
        "-CA",
        ca_crt,
        "-CAkey",
        ca_key,
        "-extensions",
        "server",
        "-subj",
        "/CN=kube-apiserver",
    ]
    command([*signed, "-keyout", place / "apiserver.key", "-out", place / "apiserver.crt"])
    command(["openssl", "genrsa", "-out", place / "accounts.key", "2048"])
    command(["openssl", "rsa", "-in", place / "accounts.key", "-pubout", "-out", place / "accounts.pub"])


def _proxy_certificate() -> None:
    """By it the servers of other APIs know that a request comes through the API server."""
    place = folder()
    config = place / "proxy.conf"
    config.write_text("[req]\ndistinguished_name = name\n[name]\n[client]\nextendedKeyUsage = clientAuth\n")
    made: list[str | Path] = ["-keyout", place / "proxy.key", "-out", place / "proxy.crt"]
    signed: list[str | Path] = ["-CA", place / "ca.crt", "-CAkey", place / "ca.key"]
    words = f"req -x509 -newkey rsa:2048 -nodes -days 3650 -extensions client -subj /CN={PROXY}".split()
    command(["openssl", *words, "-config", config, *signed, *made])


def _tokens() -> None:
    tokens = {name: secrets.token_urlsafe(24) for name in USERS}
    rows = [f'{tokens[name]},{user},{user},"{groups}"' for name, (user, groups) in USERS.items()]
    (folder() / "tokens.csv").write_text("\n".join(rows) + "\n")
    (folder() / "tokens.json").write_text(json.dumps(tokens))
    for name in USERS:
        write_kubeconfig(kubeconfig(name), name, tokens[name])
