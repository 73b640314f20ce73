"""Just enough of a Kubernetes client to start a cluster: JSON over HTTPS, standard library only."""

from __future__ import annotations

import json
import ssl
import urllib.error
import urllib.request
from typing import Any

from . import identities, paths
from .system import ClusterError

JSON_PATCH = "application/json-patch+json"
MERGE_PATCH = "application/merge-patch+json"
APPLY_PATCH = "application/apply-patch+yaml"  # JSON is YAML
JSON = "application/json"
METADATA_LIST = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"


class Client:
    """One of the cluster's users."""

    def __init__(self, user: str = "admin", seconds: float = 30) -> None:
        authority = str(identities.folder() / "ca.crt")
        self._seconds = seconds
        self._token = identities.token(user)
        https = urllib.request.HTTPSHandler(context=ssl.create_default_context(cafile=authority))
        self._opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), https)

    def text(self, path: str, method: str = "GET", body: object = None, kind: str = JSON, accept: str = JSON) -> str:
        """Send one request and return the answer. Raises ClusterError with the server's message, OSError."""
        data = None if body is None else json.dumps(body).encode()
        headers = {"Authorization": f"Bearer {self._token}", "Content-Type": kind, "Accept": accept}
        request = urllib.request.Request(paths.API_URL + path, data, headers, method=method)
        try:
            with self._opener.open(request, timeout=self._seconds) as answer:
                return str(answer.read().decode())
        except urllib.error.HTTPError as error:
            with error:
                raise ClusterError(f"{method} {path}: {error.code} {_message(error.read())}") from error

    def get(self, path: str, kind: str = JSON) -> dict[str, Any]:
        """Read an object or a list."""
        return dict(json.loads(self.text(path, accept=kind)))

    def exists(self, path: str) -> bool:
        """Whether there is an object at `path`."""
        try:
            self.text(path)
        except ClusterError as error:
            if not _is_missing(error):
                raise
            return False
        return True

    def post(self, path: str, body: object) -> dict[str, Any]:
        """Create an object."""
        return dict(json.loads(self.text(path, "POST", body)))

    def patch(self, path: str, body: object, kind: str = MERGE_PATCH) -> dict[str, Any]:
        """Change an object."""
        return dict(json.loads(self.text(path, "PATCH", body, kind)))

    def apply(self, path: str, body: object) -> dict[str, Any]:
        """Make an object be so, by server-side apply."""
        return self.patch(f"{path}?fieldManager=test-cluster&force=true", body, APPLY_PATCH)

    def delete(self, path: str) -> None:
        """Delete an object; none there is fine."""
        try:
            self.text(path, "DELETE")
        except ClusterError as error:
            if not _is_missing(error):
                raise


def _is_missing(error: ClusterError) -> bool:
    return isinstance(error.__cause__, urllib.error.HTTPError) and error.__cause__.code == 404


def _message(body: bytes) -> str:
    """What the server says, of a Status or of any other answer."""
    try:
        return str(json.loads(body)["message"])
    except (ValueError, LookupError, TypeError):
        return body.decode(errors="replace")[:500]
