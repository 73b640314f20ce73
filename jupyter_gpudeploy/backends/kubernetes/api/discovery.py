"""What a cluster serves and what it lets us do. Asked once, then remembered for ten minutes."""

from __future__ import annotations

import threading
import time
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from jupyter_gpudeploy.backends.kubernetes.api.errors import ApiError, NotFoundError
from jupyter_gpudeploy.backends.kubernetes.api.transport import Call

if TYPE_CHECKING:
    from collections.abc import Callable

    from jupyter_gpudeploy.backends.kubernetes.api.kinds import Kind
    from jupyter_gpudeploy.backends.kubernetes.api.transport import Transport

FRESH_SECONDS = 600.0
_Answer = TypeVar("_Answer")


class Discovery:
    """The questions about one cluster, and about one namespace of it."""

    def __init__(self, transport: Transport, namespace: str) -> None:
        self._transport = transport
        self._namespace = namespace
        self._known: dict[object, tuple[float, Any]] = {}
        self._lock = threading.RLock()

    def version(self) -> str:
        """Return the server's own word for its version."""
        body = self._once("version", lambda: self._get("/version", "ask for the version"))
        return str(body.get("gitVersion") or "unknown")

    def groups(self) -> frozenset[str]:
        """Return every group/version."""
        return self._once("groups", self._groups)

    def served(self, kind: Kind) -> Kind | None:
        """Return the kind in the newest of its versions that is served; None: in none."""
        for version in (kind.api_version, *kind.also):
            if version in self.groups() and kind.plural in self._once(version, partial(self._plurals, version)):
                return kind._replace(api_version=version)
        return None

    def can_i(self, verb: str, resource: str, group: str = "", subresource: str = "") -> bool | None:
        """Ask for all rules at once; where a rule may be missing from the answer, for this one alone."""
        try:
            rules, is_whole = self._once("rules", self._rules)
        except ApiError:
            rules, is_whole = [], False
        whole = f"{resource}/{subresource}" if subresource else resource
        if any(_allows(rule, verb, group, whole) for rule in rules):
            return True
        question = verb, resource, group, subresource
        return False if is_whole else self._once(question, lambda: self._may(*question))

    def _once(self, key: object, ask: Callable[[], _Answer]) -> _Answer:
        with self._lock:
            asked, answer = self._known.get(key, (0.0, None))
            if key not in self._known or time.monotonic() - asked > FRESH_SECONDS:
                answer = ask()
                self._known[key] = time.monotonic(), answer
            return answer  # type: ignore[no-any-return] # what `ask` gave, now or before

    def _get(self, path: str, doing: str) -> dict[str, Any]:
        return self._transport.json(Call("GET", path, doing))

    def _groups(self) -> frozenset[str]:
        body = self._get("/apis", "list the API groups")
        versions = (version for group in body.get("groups") or [] for version in group.get("versions") or [])
        return frozenset({"v1", *(str(version["groupVersion"]) for version in versions)})

    def _plurals(self, version: str) -> frozenset[str]:
        path = "/api/v1" if version == "v1" else f"/apis/{version}"
        try:
            body = self._get(path, f"list the kinds of {version}")
        except NotFoundError:
            return frozenset()
        return frozenset(str(resource["name"]) for resource in body.get("resources") or [])

    def _rules(self) -> tuple[list[dict[str, Any]], bool]:
        body = _review("SelfSubjectRulesReview", {"namespace": self._namespace})
        call = Call("POST", "/apis/authorization.k8s.io/v1/selfsubjectrulesreviews", "ask what I may do", body=body)
        status = self._transport.json(call).get("status") or {}
        return list(status.get("resourceRules") or []), not status.get("incomplete")

    def _may(self, verb: str, resource: str, group: str, subresource: str) -> bool | None:
        asked = {"namespace": self._namespace, "verb": verb, "resource": resource, "group": group}
        body = _review("SelfSubjectAccessReview", {"resourceAttributes": {**asked, "subresource": subresource}})
        call = Call("POST", "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", "ask what I may do", body=body)
        try:
            return bool((self._transport.json(call).get("status") or {}).get("allowed"))
        except ApiError:
            return None


def _review(kind: str, spec: dict[str, Any]) -> dict[str, Any]:
    return {"apiVersion": "authorization.k8s.io/v1", "kind": kind, "spec": spec}


def _allows(rule: dict[str, Any], verb: str, group: str, resource: str) -> bool:
    """Return whether a rule gives this for every name. `*/scale` means the subresource of every resource."""
    wanted = {resource, "*"} | ({f"*/{resource.partition('/')[2]}"} if "/" in resource else set())
    return (
        not rule.get("resourceNames")
        and bool({verb, "*"} & set(rule.get("verbs") or []))
        and bool({group, "*"} & set(rule.get("apiGroups") or []))
        and bool(wanted & set(rule.get("resources") or []))
    )
