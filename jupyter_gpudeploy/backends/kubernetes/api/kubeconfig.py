"""A kubeconfig: which server a context means, who asks, and what is unsafe about it.

Several files (`KUBECONFIG=a:b`) are merged as kubectl does: the first one that names something wins, and relative paths
are relative to the file in which they stand.
"""

from __future__ import annotations

import base64
import binascii
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import urlsplit

from jupyter_gpudeploy.backends.kubernetes.api import credentials
from jupyter_gpudeploy.backends.kubernetes.api.errors import CredentialsError
from jupyter_gpudeploy.errors import BackendError, SpecError
from jupyter_gpudeploy.registry import did_you_mean

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from jupyter_gpudeploy.backends.kubernetes.api.credentials import Certificate, Credentials

_TRUE = frozenset({"true", "True", "TRUE"})


class Access(NamedTuple):
    """All that is needed to reach one cluster. `source` says where it stands; `context` is empty inside a pod.

    `ca`: PEM, None for the system's; `proxy`: of the kubeconfig, "" where it names none.
    """

    server: str
    namespace: str
    credentials: Credentials
    context: str = ""
    source: str = ""
    user: str | None = None
    ca: str | None = None
    insecure: bool = False
    tls_server_name: str = ""
    proxy: str = ""

    def __repr__(self) -> str:
        return f"Access({self.server!r}, namespace={self.namespace!r}, context={self.context!r})"

    @property
    def place(self) -> str:
        """The cluster in words: server, context and file."""
        named = f"context {self.context!r} of {self.source}" if self.context else self.source
        return f"{self.server} ({named})" if named else self.server

    @property
    def warnings(self) -> tuple[str, ...]:
        """What makes the connection unsafe, one sentence each."""
        name = urlsplit(self.server)
        if name.scheme == "http":
            return (f"plain http to {name.netloc}: anyone on the way can read the token and change what is run",)
        if self.insecure:
            reason = f"insecure-skip-tls-verify: true in {self.source}" if self.source else "insecure TLS"
            return (f"TLS is not verified ({reason}): anyone on the way can read the token and change what is run",)
        return ()


class Kubeconfig:
    """The merged files. Raises BackendError for one that cannot be read."""

    def __init__(self, files: Sequence[Path]) -> None:
        self.files = tuple(files)
        self.current = ""
        self._named: dict[str, dict[str, tuple[Path, Mapping[str, Any]]]] = {
            "contexts": {},
            "clusters": {},
            "users": {},
        }
        for file in self.files:
            self._merge(file, _read(file))

    @property
    def source(self) -> str:
        """The files in words."""
        return ", ".join(str(file) for file in self.files)

    @property
    def contexts(self) -> list[str]:
        """The names of all contexts, in the order of the files."""
        return list(self._named["contexts"])

    def access(self, context: str) -> Access:
        """Return what a context means. Raises BackendError, CredentialsError."""
        if context not in self._named["contexts"]:
            raise BackendError(
                f"there is no context {context!r} in {self.source}", hint=did_you_mean(context, self.contexts)
            )
        file, chosen = self._entry("contexts", context, "context")
        cluster_file, cluster = self._entry("clusters", str(chosen.get("cluster") or ""), "cluster", context)
        server = str(cluster.get("server") or "").rstrip("/")
        if urlsplit(server).scheme not in {"http", "https"}:
            raise BackendError(f"the cluster of context {context!r} in {cluster_file} has no server: https://...")
        user = str(chosen.get("user") or "")
        return Access(
            server=server,
            namespace=str(chosen.get("namespace") or "default"),
            credentials=self._credentials(user, context, cluster),
            context=context,
            source=str(file),
            user=user or None,
            ca=_pem(cluster, "certificate-authority", cluster_file.parent),
            insecure=str(cluster.get("insecure-skip-tls-verify") or "") in _TRUE,
            tls_server_name=str(cluster.get("tls-server-name") or ""),
            proxy=str(cluster.get("proxy-url") or ""),
        )

    def _merge(self, file: Path, body: Mapping[str, Any]) -> None:
        self.current = self.current or str(body.get("current-context") or "")
        for section, known in self._named.items():
            for entry in body.get(section) or []:
                name, inner = entry.get("name"), entry.get(section[:-1])
                if name is not None and isinstance(inner, dict):
                    known.setdefault(str(name), (file, inner))

    def _entry(self, section: str, name: str, what: str, context: str = "") -> tuple[Path, Mapping[str, Any]]:
        if name in self._named[section]:
            return self._named[section][name]
        hint = did_you_mean(name, self._named[section])
        raise BackendError(f"context {context!r} names the {what} {name!r}, which is not in {self.source}", hint=hint)

    def _credentials(self, user: str, context: str, cluster: Mapping[str, Any]) -> Credentials:
        if not user:
            return credentials.Fixed(f"no credentials: context {context!r} has no user")
        folder = self._entry("users", user, "user", context)[0].parent

        def read() -> Mapping[str, Any] | None:
            try:
                found = Kubeconfig(self.files)._named["users"].get(user)  # noqa: SLF001 - of the same class
            except BackendError:
                return None
            return found[1] if found else None

        return credentials.Kept(read, lambda entry: _build(entry, user, folder, cluster))


def files(given: str | None = None) -> tuple[list[Path], str]:
    """Return the kubeconfig files that are there, and in words where was looked. `given`: a path of a profile."""
    if given:
        looked = [Path(given).expanduser()]
    elif variable := os.environ.get("KUBECONFIG"):
        looked = [Path(part).expanduser() for part in variable.split(os.pathsep) if part]
    else:
        looked = [Path("~/.kube/config").expanduser()]
    return [file for file in looked if file.is_file()], ", ".join(str(file) for file in looked)


def _read(file: Path) -> Mapping[str, Any]:
    from jupyter_gpudeploy.spec.yaml import load

    try:
        document = load(file.read_text("utf-8"))
        body = document.as_text(()) if isinstance(document.value, dict) else None
    except OSError as error:
        raise BackendError(f"cannot read {file}: {error.strerror or type(error).__name__}") from None
    except UnicodeDecodeError:
        body = None
    except SpecError as error:  # its excerpt might be a line with a token
        first = error.problems[0]
        raise BackendError(f"{file} is no kubeconfig: {first.located}", hint=first.hint) from None
    if not isinstance(body, dict):
        raise BackendError(f"{file} is no kubeconfig", hint="`kubectl config view` shows what one holds")
    return body


def _build(entry: Mapping[str, Any], user: str, folder: Path, cluster: Mapping[str, Any]) -> Credentials:
    """Return the credentials of a user's entry, in the order in which kubectl looks."""
    certificate = _certificate(entry, folder)
    if entry.get("tokenFile") and not entry.get("token"):
        return credentials.TokenFile(folder / str(entry["tokenFile"]), certificate)
    if token := entry.get("token"):
        headers = {"Authorization": f"Bearer {token}"}
        return credentials.Fixed(f"the token of user {user!r}", headers, certificate)
    if isinstance(entry.get("exec"), dict):
        from jupyter_gpudeploy.backends.kubernetes.api.plugins import plugin

        return plugin(entry["exec"], folder, cluster)
    if isinstance(entry.get("auth-provider"), dict):
        whole = {
            "current-context": "it",
            "contexts": [{"name": "it", "context": {"cluster": "it", "user": "it"}}],
            "clusters": [{"name": "it", "cluster": {"server": cluster.get("server")}}],
            "users": [{"name": "it", "user": {"auth-provider": entry["auth-provider"]}}],
        }
        return credentials.LegacyProvider(str(entry["auth-provider"].get("name") or ""), whole)
    if entry.get("username"):
        header = credentials.basic(str(entry["username"]), str(entry.get("password") or ""))
        return credentials.Fixed(f"the password of user {user!r}", {"Authorization": header}, certificate)
    name = f"the client certificate of user {user!r}" if certificate else f"no credentials: user {user!r} has none"
    return credentials.Fixed(name, {}, certificate)


def _certificate(entry: Mapping[str, Any], folder: Path) -> Certificate | None:
    certificate, key = _pem(entry, "client-certificate", folder), _pem(entry, "client-key", folder)
    return credentials.Certificate(certificate.encode(), key.encode()) if certificate and key else None


def _pem(entry: Mapping[str, Any], name: str, folder: Path) -> str | None:
    if data := entry.get(f"{name}-data"):
        try:
            return base64.b64decode("".join(str(data).split()), validate=True).decode("utf-8")
        except (binascii.Error, ValueError):
            raise CredentialsError(f"{name}-data of the kubeconfig is not base64 of a PEM file") from None
    if path := entry.get(name):
        return credentials.read_file(folder / Path(str(path)).expanduser(), name).decode("utf-8", "replace")
    return None
