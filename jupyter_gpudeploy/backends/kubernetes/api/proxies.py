"""Which proxy leads to a server: HTTPS_PROXY, HTTP_PROXY, NO_PROXY, read as kubectl reads them.

NO_PROXY is a list of names (with all below them), addresses, networks (`10.0.0.0/8`) and `*`, each with a port or not.
This machine itself is never reached through a proxy (Go's `golang.org/x/net/http/httpproxy`).
"""

from __future__ import annotations

import ipaddress
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from collections.abc import Mapping


def proxy_for(server: str, environment: Mapping[str, str]) -> str:
    """Return the URL of the proxy for `server`; empty: none."""
    parts = urlsplit(server)
    host, port = parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80)
    proxy = _either(environment, f"{parts.scheme}_proxy")
    if not proxy or _is_local(host) or _is_excepted(host, port, _either(environment, "no_proxy")):
        return ""
    return proxy if "://" in proxy else f"http://{proxy}"


def _either(environment: Mapping[str, str], name: str) -> str:
    return environment.get(name.upper()) or environment.get(name) or ""


def _is_local(host: str) -> bool:
    address = _address(host)
    return host == "localhost" or (address is not None and address.is_loopback)


def _is_excepted(host: str, port: int, rules: str) -> bool:
    return any(_covers(rule.strip().lower(), host, port) for rule in rules.split(",") if rule.strip())


def _covers(rule: str, host: str, port: int) -> bool:
    if rule == "*":
        return True
    address = _address(host)
    try:
        network = ipaddress.ip_network(rule, strict=False)
    except ValueError:
        pass
    else:
        return address is not None and address in network
    name, _, number = rule.rpartition(":")
    if name and number.isdigit():
        if int(number) != port:
            return False
        rule = name.strip("[]")
    if address is not None:
        return _address(rule) == address
    only_below = rule.startswith(".")
    rule = rule.removeprefix("*").removeprefix(".")
    return host.endswith(f".{rule}") or (host == rule and not only_below)


def _address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(text)
    except ValueError:
        return None
