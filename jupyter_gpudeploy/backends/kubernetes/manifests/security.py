"""What a pod may do: what the restricted Pod Security Standard and OpenShift's restricted-v2 both allow, no more.

OpenShift chooses the numbers of user and group itself and refuses others.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jupyter_gpudeploy.plan.types import Plan
    from jupyter_gpudeploy.servers.base import Container

USER = 1000


def pod_security(plan: Plan, server: Container | None) -> dict[str, Any]:
    """Return the securityContext of a pod."""
    user, group = (server.user, server.group) if server else (USER, USER)
    return of_person(user, group, is_openshift=plan.target is not None and plan.target.flavour == "openshift")


def of_person(user: int = USER, group: int = USER, *, is_openshift: bool) -> dict[str, Any]:
    """Return the securityContext of a pod that runs as this user."""
    context: dict[str, Any] = {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}}
    if is_openshift:
        return context
    return {**context, "runAsUser": user, "runAsGroup": group, "fsGroup": user}
