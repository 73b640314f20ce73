"""One request to a server, and its answer. Standard library; proxies of the environment are not for our own servers."""

from __future__ import annotations

import http.client
import json
import urllib.error
import urllib.parse
import urllib.request
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from jupyter_gpudeploy.errors import BackendError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from jupyter_gpudeploy.backends.base import Endpoint

_SHOWN = 400
_UNTOUCHED = "/?#[]@!$&'()*+,;=:%~-._"


@dataclass(frozen=True, slots=True)
class Response:
    """What a server answered. `status` may be any: an answer of 500 is an answer."""

    status: int
    headers: Mapping[str, str]
    content: bytes

    @property
    def text(self) -> str:
        """The body as text, bad UTF-8 replaced."""
        return self.content.decode("utf-8", "replace")

    def json(self) -> Any:  # noqa: ANN401 - whatever the server sends
        """Return the body read as JSON. Raises BackendError that shows what came instead."""
        try:
            return json.loads(self.content)
        except ValueError:
            message = f"the answer ({self.status}) is no JSON: {self.text[:_SHOWN]!r}"
            raise BackendError(message, hint="response.text has all of it") from None

    def __repr__(self) -> str:
        more = "..." if len(self.text) > _SHOWN else ""
        return f"<Response {self.status}> {self.text[:_SHOWN]}{more}"


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """Redirects are answers too: following one would leave our server."""

    def redirect_request(self, *args: object, **kwargs: object) -> None:  # noqa: ARG002 - the base's signature
        return None


def send(
    endpoint: Endpoint,
    path: str = "/",
    *,
    json_body: object = None,
    data: bytes | str | None = None,
    method: str | None = None,
    headers: Mapping[str, str] | None = None,
    timeout: float = 30,
) -> Response:
    """Send one request. GET, or POST when there is a body, unless `method` says otherwise.

    Raises BackendError when nothing answers within `timeout` seconds.
    """
    url = endpoint.url.rstrip("/") + "/" + urllib.parse.quote(path.lstrip("/"), safe=_UNTOUCHED)
    sent = {**endpoint.headers, **(headers or {})}
    if json_body is not None:
        data = json.dumps(json_body)
        sent.setdefault("Content-Type", "application/json")
    body = data.encode() if isinstance(data, str) else data
    request = urllib.request.Request(url, data=body, headers=sent, method=method)  # noqa: S310 - our own server's URL
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), _NoRedirect)
    try:
        with opener.open(request, timeout=timeout) as answer:
            return Response(answer.status, dict(answer.headers), answer.read())
    except urllib.error.HTTPError as error:
        with error:
            return Response(error.code, dict(error.headers), error.read())
    except (OSError, http.client.HTTPException) as error:
        reason = getattr(error, "reason", None) or error
        raise BackendError(f"{url} does not answer: {reason}", hint="run.logs(tail=20) shows what it says") from error
