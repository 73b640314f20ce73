"""Who asks: how a user of a kubeconfig proves it, and how that is renewed.

No value is ever in a repr, an error or a log. `refresh` is called after a 401; the caller tries once more when it
returns True.
"""

from __future__ import annotations

import base64
import time
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from jupyter_gpudeploy.backends.kubernetes.api.errors import CredentialsError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

SIGN_IN = (
    "sign in again in a terminal (oc login, aws sso login, gcloud auth login, az login, ...), then run the cell again"
)
_FILE_SECONDS = 10.0


class Certificate(NamedTuple):
    """A client certificate and its key, PEM."""

    certificate: bytes
    key: bytes

    def __repr__(self) -> str:
        return "Certificate(...)"


class Credentials(Protocol):
    """`name` says in words what is used: `the token in /path`; `way_out` what a person can do when it is refused."""

    @property
    def name(self) -> str:
        """The credentials in words."""

    @property
    def way_out(self) -> str:
        """One sentence."""

    def headers(self) -> dict[str, str]:
        """Return the headers of the next request. Raises CredentialsError."""

    def certificate(self) -> Certificate | None:
        """Return what the next TLS connection shows. Raises CredentialsError."""

    def refresh(self) -> bool:
        """Take what is newer, after a 401. Return whether anything is. Raises CredentialsError."""


class Fixed:
    """A token, a password or a certificate that stands in the kubeconfig; or nothing (`Fixed("no credentials")`)."""

    def __init__(
        self, name: str, headers: Mapping[str, str] | None = None, certificate: Certificate | None = None
    ) -> None:
        self.name = name
        self.way_out = SIGN_IN
        self._headers = dict(headers or {})
        self._certificate = certificate

    def headers(self) -> dict[str, str]:
        """Return the same ones each time."""
        return dict(self._headers)

    def certificate(self) -> Certificate | None:
        """Return the same one each time."""
        return self._certificate

    def refresh(self) -> bool:
        """Nothing newer is known."""
        return False


class TokenFile:
    """A token in a file that somebody renews (service account, web identity): read again every 10 seconds."""

    def __init__(self, file: Path, certificate: Certificate | None = None) -> None:
        self.file = file
        self.name = f"the token in {file}"
        self.way_out = f"renew {file}, then run the cell again"
        self._certificate = certificate
        self._token = ""
        self._read_at = -_FILE_SECONDS

    def headers(self) -> dict[str, str]:
        """Return the token of the file."""
        if time.monotonic() - self._read_at >= _FILE_SECONDS:
            self._read()
        return {"Authorization": f"Bearer {self._token}"}

    def certificate(self) -> Certificate | None:
        """Return the certificate that stands beside the token."""
        return self._certificate

    def refresh(self) -> bool:
        """Read the file now."""
        before = self._token
        self._read()
        return self._token != before

    def _read(self) -> None:
        self._token = read_file(self.file, "the token").decode("utf-8", "replace").strip()
        self._read_at = time.monotonic()
        if not self._token:
            raise CredentialsError(f"the token file {self.file} is empty", hint=self.way_out)


class LegacyProvider:
    """`auth-provider: oidc` or `gcp`, which the client package still knows: it makes and renews the token.

    `load` is one user of a kubeconfig as a whole kubeconfig, which nothing is written back to.
    """

    def __init__(self, provider: str, load: Mapping[str, Any]) -> None:
        self.name = f"the auth-provider {provider!r}"
        self.way_out = SIGN_IN
        self._load = load
        self._header = ""

    def headers(self) -> dict[str, str]:
        """Return the provider's token."""
        if not self._header:
            self._renew()
        return {"Authorization": self._header}

    def certificate(self) -> Certificate | None:
        """Return None: they give tokens."""
        return None

    def refresh(self) -> bool:
        """Ask the provider again."""
        before = self._header
        self._renew()
        return self._header != before

    def _renew(self) -> None:
        from kubernetes.client import Configuration
        from kubernetes.config import load_kube_config_from_dict

        configuration = Configuration()
        try:
            load_kube_config_from_dict(  # type: ignore[no-untyped-call] # it has no types
                dict(self._load), client_configuration=configuration, persist_config=False
            )
        except Exception as error:  # noqa: BLE001 - whatever a provider's library raises
            raise CredentialsError(f"{self.name} gave no token ({type(error).__name__})", hint=SIGN_IN) from None
        keys = configuration.api_key
        self._header = str(keys.get("BearerToken") or keys.get("authorization") or "")  # its name until 35, since 36
        if not self._header:
            raise CredentialsError(f"{self.name} gave no token", hint=SIGN_IN)


class Kept:
    """Credentials of a kubeconfig's user: the file is read again after a 401, since `oc login` writes to it.

    `read` returns the user's entry now, or None when it is gone; `build` makes credentials of an entry.
    """

    def __init__(
        self, read: Callable[[], Mapping[str, Any] | None], build: Callable[[Mapping[str, Any]], Credentials]
    ) -> None:
        self._read = read
        self._build = build
        self._entry = read() or {}
        self._current = build(self._entry)

    @property
    def name(self) -> str:
        """What is used now."""
        return self._current.name

    @property
    def way_out(self) -> str:
        """What to do about it."""
        return self._current.way_out

    def headers(self) -> dict[str, str]:
        """Return those of the present entry. `as: name` acts as another user, where the cluster allows it."""
        acting = {"Impersonate-User": str(self._entry["as"])} if self._entry.get("as") else {}
        return {**self._current.headers(), **acting}

    def certificate(self) -> Certificate | None:
        """Return that of the present entry."""
        return self._current.certificate()

    def refresh(self) -> bool:
        """Read the file; an unchanged entry is asked to renew itself."""
        entry = self._read()
        if entry is None or entry == self._entry:
            return self._current.refresh()
        self._entry, self._current = entry, self._build(entry)
        return True


def basic(user: str, password: str) -> str:
    """Return the header of a user and a password."""
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


def read_file(file: Path, what: str) -> bytes:
    """Return what a file of the kubeconfig holds. Raises CredentialsError that names it."""
    try:
        return file.read_bytes()
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise CredentialsError(f"cannot read {what} {file}: {reason}", hint="see the kubeconfig") from None
