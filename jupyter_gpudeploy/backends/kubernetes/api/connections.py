"""The connections that an Access describes: TLS, proxy, keepalive (imported when the first one is made)."""

from __future__ import annotations

import os
import socket
import ssl
import tempfile
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import urllib3
from urllib3.connection import HTTPConnection
from urllib3.connectionpool import HTTPSConnectionPool

from jupyter_gpudeploy.backends.kubernetes.api.errors import CredentialsError
from jupyter_gpudeploy.backends.kubernetes.api.proxies import proxy_for
from jupyter_gpudeploy.errors import BackendError

if TYPE_CHECKING:
    from jupyter_gpudeploy.backends.kubernetes.api.kubeconfig import Access


# urllib3 1, which kfp still asks for, gives OpenSSL no name where the server is an IP address; it compares the
# certificate with the server's name itself wherever OpenSSL was told not to.
_LACKS_NAMES = version("urllib3").startswith("1.")


class QuietPool(HTTPSConnectionPool):
    """Connections whose certificate is not verified: `Cluster.warnings` says so once, urllib3 would at each request."""

    def _validate_conn(self, conn: Any) -> None:  # noqa: ANN401 - its type differs between releases of urllib3
        if not getattr(conn, "sock", None):
            conn.connect()


def keepalive() -> list[tuple[int, int, int]]:
    """Return the options with which a dead connection is noticed after 20 + 3 x 10 s."""
    options = [(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)]
    for name, value in (("TCP_KEEPIDLE", 20), ("TCP_KEEPINTVL", 10), ("TCP_KEEPCNT", 3)):
        if hasattr(socket, name):
            options.append((socket.IPPROTO_TCP, getattr(socket, name), value))
    return options


def pool_manager(access: Access) -> urllib3.PoolManager:
    """Return the connections that `access` describes. Raises BackendError, CredentialsError."""
    settings: dict[str, Any] = {"maxsize": 8, "socket_options": [*HTTPConnection.default_socket_options, *keepalive()]}
    if access.server.startswith("https"):
        context = settings["ssl_context"] = tls_context(access)
        if _LACKS_NAMES:
            context.check_hostname = False
        if access.tls_server_name:
            settings["server_hostname"] = access.tls_server_name
    proxy = access.proxy or proxy_for(access.server, os.environ)
    try:
        manager = _manager(proxy, settings)
    except (ImportError, urllib3.exceptions.HTTPError) as error:
        hint = "pip install PySocks" if urlsplit(proxy).scheme.startswith("socks") else "see proxy-url and HTTPS_PROXY"
        raise BackendError(f"cannot use the proxy {urlsplit(proxy).hostname}: {error}", hint=hint) from None
    manager.pool_classes_by_scheme = {**manager.pool_classes_by_scheme}
    if access.insecure and not proxy.startswith("socks"):
        manager.pool_classes_by_scheme["https"] = QuietPool
    return manager


def _manager(proxy: str, settings: dict[str, Any]) -> urllib3.PoolManager:
    if not proxy:
        return urllib3.PoolManager(**settings)
    if urlsplit(proxy).scheme.startswith("socks"):
        from urllib3.contrib.socks import SOCKSProxyManager

        return SOCKSProxyManager(proxy, **settings)
    parts = urlsplit(proxy)
    login = f"{parts.username}:{parts.password or ''}" if parts.username else None
    headers = urllib3.make_headers(proxy_basic_auth=login) if login else {}
    return urllib3.ProxyManager(proxy, proxy_headers=headers, **settings)


def tls_context(access: Access) -> ssl.SSLContext:
    """Return how the server is verified, and what it is shown. Raises CredentialsError."""
    try:
        context = ssl.create_default_context(cadata=access.ca or None)
    except (ssl.SSLError, ValueError):
        raise CredentialsError(f"certificate-authority of {access.place} is no PEM certificate") from None
    # Go, and so kubectl, trusts any certificate that is given as the CA, and does not ask it for the extensions
    # that Python does since 3.13.
    context.verify_flags = (context.verify_flags | ssl.VERIFY_X509_PARTIAL_CHAIN) & ~ssl.VERIFY_X509_STRICT
    if access.insecure:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    if (own := access.credentials.certificate()) is not None:
        with tempfile.TemporaryDirectory(prefix="gpudeploy-") as folder:  # ssl takes files only; mode 700
            file = Path(folder) / "own.pem"
            file.write_bytes(own.certificate + b"\n" + own.key)
            try:
                context.load_cert_chain(file, password=b"")
            except (ssl.SSLError, OSError):
                raise CredentialsError(f"{access.credentials.name} is no PEM certificate with its key") from None
    return context
