"""What a cluster can answer, as errors: no exception of urllib3 or of the client package comes out of this package.

::

    BackendError
    ├── ApiError            the API server said no; carries its status, reason and details
    │   ├── NotFoundError   404
    │   ├── ConflictError   409: it exists, another manager owns the field, or the uid is another one
    │   ├── ForbiddenError  403: RBAC, quota or admission
    │   ├── GoneError       410: the resource version is too old; list again
    │   └── ThrottledError  429, after all patience; carries retry_after
    ├── UnreachableError    no answer, half an answer, or silence
    └── CredentialsError    401 and no way to renew, a plugin that failed, a file that is missing
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from jupyter_gpudeploy.errors import BackendError

if TYPE_CHECKING:
    from collections.abc import Mapping


class ApiError(BackendError):
    """`status`: the HTTP code; `reason`: the machine's word (`AlreadyExists`); `said`: the server's own sentence."""

    def __init__(
        self,
        message: str,
        *,
        hint: str = "",
        status: int = 0,
        reason: str = "",
        said: str = "",
        details: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(message, hint=hint)
        self.status = status
        self.reason = reason
        self.said = said
        self.details = dict(details or {})

    @property
    def causes(self) -> list[dict[str, Any]]:
        """What the server lists one by one: {"reason", "message", "field"}."""
        return [cause for cause in self.details.get("causes") or [] if isinstance(cause, dict)]


class NotFoundError(ApiError):
    """404."""


class ConflictError(ApiError):
    """409. `reason` tells which: AlreadyExists, or Conflict."""


class ForbiddenError(ApiError):
    """403."""


class GoneError(ApiError):
    """410, as an answer or as an event of a watch."""


class ThrottledError(ApiError):
    """429. `retry_after`: the seconds that the server asked for last."""

    retry_after: float = 0.0


class UnreachableError(BackendError):
    """The server did not answer, or stopped in the middle."""


class CredentialsError(BackendError):
    """The server does not know who asks, and it could not be told."""


_BY_STATUS: dict[int, type[ApiError]] = {
    403: ForbiddenError, 404: NotFoundError, 409: ConflictError, 410: GoneError, 429: ThrottledError
}  # fmt: skip


def from_status(status: int, body: Mapping[str, Any], doing: str, where: str) -> ApiError:
    """Return the error for a Status object. `doing`: `create Job 'digits'`; `where`: the namespace and cluster."""
    said = str(body.get("message") or "").strip()
    reason = str(body.get("reason") or "")
    details = body.get("details") if isinstance(body.get("details"), dict) else {}
    kind = _BY_STATUS.get(status, ApiError)
    spoken = said or reason or f"HTTP {status}"
    return kind(
        f"cannot {doing} in {where}: {spoken}",
        hint=_way_out(status, reason, said),
        status=status,
        reason=reason,
        said=said,
        details=details,
    )


def _way_out(status: int, reason: str, said: str) -> str:
    if status == 403:  # noqa: PLR2004 - HTTP
        if "exceeded quota" in said:
            return "ask for less, wait for others to end, or see `%deploy doctor` for what is used"
        if "is forbidden: User" in said or " cannot " in said:
            return "ask for the Role that `%deploy doctor` prints, or choose another namespace:"
        return "the cluster's admission rules refuse it"
    if status == 409 and reason == "AlreadyExists":  # noqa: PLR2004 - HTTP
        return "choose another name"
    if status == 422:  # noqa: PLR2004 - HTTP
        return "the server refuses a value: see the field it names"
    return "the server is busy: try again later" if status in {429, 503} else ""
