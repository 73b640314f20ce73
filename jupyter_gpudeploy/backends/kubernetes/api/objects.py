"""Objects of one namespace, read and changed: plain dicts, as in YAML."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from jupyter_gpudeploy.backends.kubernetes.api.errors import GoneError, NotFoundError
from jupyter_gpudeploy.backends.kubernetes.api.kinds import Kind, kind_named
from jupyter_gpudeploy.backends.kubernetes.api.streams import LogStream, WatchStream
from jupyter_gpudeploy.backends.kubernetes.api.transport import Call
from jupyter_gpudeploy.backends.kubernetes.marks import FIELD_MANAGER

if TYPE_CHECKING:
    from collections.abc import Mapping

    from jupyter_gpudeploy.backends.kubernetes.api.discovery import Discovery
    from jupyter_gpudeploy.backends.kubernetes.api.transport import Transport

PAGE = 500
_CONTENT = {
    "merge": "application/merge-patch+json",
    "strategic": "application/strategic-merge-patch+json",
    "json": "application/json-patch+json",
}
_DRY = (("dryRun", "All"),)
_BARE = {"Accept": "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1,application/json"}
_BARE_LIST = {"Accept": "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1,application/json"}


class Listing(NamedTuple):
    """What a list gave: every item with its kind and apiVersion, and where a watch goes on from."""

    items: list[dict[str, Any]]
    resource_version: str


class Objects:
    """What `client.Cluster` does with objects of `namespace`. Raises as that does."""

    def __init__(self, transport: Transport, discovery: Discovery, namespace: str) -> None:
        self.namespace = namespace
        self._transport = transport
        self._discovery = discovery

    def get(
        self, kind: str, name: str, *, namespace: str | None = None, bare: bool = False, subresource: str = ""
    ) -> dict[str, Any]:
        """Return an object, or a subresource of it; `bare`: with its metadata alone. Raises NotFoundError."""
        path, accept = self._path(kind, name, namespace, subresource), _BARE if bare else {}
        return self._transport.json(Call("GET", path, f"read {kind} {name!r}", headers=accept))

    def list(
        self, kind: str, *, labels: str = "", fields: str = "", all_pages: bool = True, everywhere: bool = False,
        namespace: str | None = None, bare: bool = False,
    ) -> Listing:  # fmt: skip
        """Return the objects that the selectors name; `everywhere`: of all namespaces. One page is 500 of them.

        `namespace`: another one than ours. `bare`: with their metadata alone.
        """
        accept = _BARE_LIST if bare else {}
        where = "" if everywhere else namespace or self.namespace
        try:
            return self._list(kind, where, labels, fields, PAGE, accept, all_pages=all_pages)
        except GoneError:  # the list changed too much between two pages: all at once then
            return self._list(kind, where, labels, fields, 0, accept, all_pages=True)

    def watch(
        self,
        kind: str,
        *,
        labels: str = "",
        fields: str = "",
        resource_version: str,
        timeout_seconds: int = 240,
        read_seconds: float | None = None,
        bare: bool = False,
    ) -> WatchStream:
        """Return an iterator of {"type", "object"}, bookmarks too, that ends when the server ends it.

        Raises GoneError when `resource_version` is too old, at once or as an ERROR event. `read_seconds`: silence that
        counts as a broken connection (UnreachableError); by default the time of the whole watch. `bare`: objects with
        their metadata alone. `close()` ends it.
        """
        query = [
            ("watch", "true"),
            ("allowWatchBookmarks", "true"),
            ("resourceVersion", resource_version),
            ("timeoutSeconds", str(timeout_seconds)),
            *_selected(labels, fields),
        ]
        silence = read_seconds if read_seconds is not None else timeout_seconds + 15.0
        doing = f"watch {kind}s"
        accept = _BARE if bare else {}
        call = Call("GET", self._path(kind), doing, query, headers=accept, read_seconds=silence, streams=True)
        stream = LogStream(self._transport.send(call), f"the watch of {kind}s", silence)
        return WatchStream(stream, doing, self._transport.where)

    def create(self, body: Mapping[str, Any], *, dry_run: bool = False) -> dict[str, Any]:
        """Create an object. Raises ConflictError with reason AlreadyExists.

        Not tried again after a lost connection: an UnreachableError says when it may have been created all the same.
        """
        query = (*(_DRY if dry_run else ()), ("fieldManager", FIELD_MANAGER))
        path = self._body_path(body, "")
        return self._transport.json(Call("POST", path, f"create {_called(body)}", query, body, safe=dry_run))

    def apply(self, body: Mapping[str, Any], *, dry_run: bool = False, force: bool = False) -> dict[str, Any]:
        """Server-side apply under our field manager. Raises ConflictError when another manager owns a field."""
        query = [("fieldManager", FIELD_MANAGER), ("force", "true" if force else "false"), *(_DRY if dry_run else ())]
        path = self._body_path(body, body["metadata"]["name"])
        doing = f"{'check' if dry_run else 'apply'} {_called(body)}"
        return self._transport.json(Call("PATCH", path, doing, query, body, "application/apply-patch+yaml"))

    def patch(
        self,
        kind: str,
        name: str,
        body: Any,  # noqa: ANN401 - a dict, or the list of a JSON patch
        *,
        content: Literal["merge", "strategic", "json"] = "merge",
        subresource: str = "",
    ) -> dict[str, Any]:
        """Change an object. Raises NotFoundError; ConflictError when `body` names a resourceVersion that is over."""
        path, query = self._path(kind, name, subresource=subresource), (("fieldManager", FIELD_MANAGER),)
        return self._transport.json(Call("PATCH", path, f"change {kind} {name!r}", query, body, _CONTENT[content]))

    def delete(
        self,
        kind: str,
        name: str,
        *,
        uid: str | None = None,
        grace_seconds: float | None = None,
        propagation: Literal["Foreground", "Background", "Orphan"] = "Foreground",
    ) -> None:
        """Delete an object: only that with `uid`, where given. One that is not there is deleted already.

        Raises ConflictError when it has another uid.
        """
        body: dict[str, Any] = {"apiVersion": "v1", "kind": "DeleteOptions", "propagationPolicy": propagation}
        if uid:
            body["preconditions"] = {"uid": uid}
        if grace_seconds is not None:
            body["gracePeriodSeconds"] = int(grace_seconds)
        try:
            self._transport.json(Call("DELETE", self._path(kind, name), f"delete {kind} {name!r}", body=body))
        except NotFoundError:
            return

    def kind(self, name: str) -> Kind:
        """Return the kind in the version that the cluster serves. Raises BackendError for a name that is not ours."""
        kind = kind_named(name)
        return (self._discovery.served(kind) or kind) if kind.also else kind

    def _list(
        self, kind: str, namespace: str, labels: str, fields: str, page: int, accept: Mapping[str, str], *,
        all_pages: bool,
    ) -> Listing:  # fmt: skip
        known = self.kind(kind)
        items: list[dict[str, Any]] = []
        query = [*_selected(labels, fields), *([("limit", str(page))] if page else [])]
        following: list[tuple[str, str]] = []
        path = known.path(namespace)
        while True:
            doing = f"list {known.plural}"
            call = Call("GET", path, doing, [*query, *following], headers=accept, read_seconds=60)
            body = self._transport.json(call)
            named = {"apiVersion": known.api_version, "kind": kind}
            items += [{**named, **item, **named} for item in body.get("items") or []]
            metadata = body.get("metadata") or {}
            if not all_pages or not metadata.get("continue"):
                return Listing(items, str(metadata.get("resourceVersion") or ""))
            following = [("continue", metadata["continue"])]

    def _path(self, kind: str, name: str = "", namespace: str | None = None, subresource: str = "") -> str:
        return self.kind(kind).path(namespace or self.namespace, name, subresource)

    def _body_path(self, body: Mapping[str, Any], name: str) -> str:
        kind = kind_named(body["kind"])._replace(api_version=body["apiVersion"])
        return kind.path(body["metadata"].get("namespace") or self.namespace, name)


def _called(body: Mapping[str, Any]) -> str:
    metadata = body["metadata"]
    return f"{body['kind']} {metadata.get('name') or metadata.get('generateName')!r}"


def _selected(labels: str, fields: str) -> list[tuple[str, str]]:
    both = (("labelSelector", labels), ("fieldSelector", fields))
    return [(name, value) for name, value in both if value]
