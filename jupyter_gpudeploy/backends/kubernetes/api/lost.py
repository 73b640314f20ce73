"""A request without an answer: what happened, in words, and whether the server can have seen it."""

from __future__ import annotations

CONNECT_SECONDS = 5.0
_NETWORK = "is the cluster up, and the network or the VPN?"
_KNOWN = (
    "Connection refused", "Name or service not known", "Temporary failure in name resolution", "Network is unreachable",
    "No route to host", "Connection reset by peer", "Remote end closed connection", "self-signed certificate",
    "IP address mismatch", "Hostname mismatch", "certificate has expired", "unable to get local issuer certificate",
)  # fmt: skip


class LostError(Exception):
    """No answer. `sent`: the server may have seen the request; `lasting`: another try would not help."""

    def __init__(self, reason: str, *, hint: str = "", sent: bool = True, lasting: bool = False) -> None:
        super().__init__(reason)
        self.reason = reason
        self.hint = hint
        self.sent = sent
        self.lasting = lasting


def what_happened(error: Exception, seconds: float) -> LostError:
    """Return what broke a request that waited `seconds` for an answer."""
    import urllib3.exceptions as library

    text = str(getattr(error, "reason", None) or error)
    if isinstance(error, library.ReadTimeoutError | TimeoutError):
        return LostError(f"no answer in {seconds:g} s", hint="is the network up?", lasting=True)
    if isinstance(error, library.ProxyError):
        return LostError(f"the proxy fails: {_plain(text)}", hint="see proxy-url, HTTPS_PROXY, NO_PROXY", sent=False)
    if "doesn't match" in text:  # urllib3's own comparison
        text = "CERTIFICATE_VERIFY hostname mismatch"
    if "CERTIFICATE_VERIFY" in text:
        hint = "is certificate-authority in the kubeconfig that of this cluster? its tls-server-name?"
        return LostError(f"its certificate is not trusted ({_plain(text)})", hint=hint, sent=False, lasting=True)
    if isinstance(error, library.NewConnectionError):
        return LostError(_plain(text), hint=_NETWORK, sent=False)
    if isinstance(error, library.ConnectTimeoutError):
        return LostError(f"no connection in {CONNECT_SECONDS:g} s", hint=_NETWORK, sent=False)
    return LostError(_plain(text), hint="is the network up?")


def _plain(text: str) -> str:
    """Return the part of urllib3's text that is the operating system's."""
    for known in _KNOWN:
        if known.lower() in text.lower():
            return known[0].lower() + known[1:]
    return text.rpartition(": ")[2].strip("'()\", ")[:200] or "the connection broke"
