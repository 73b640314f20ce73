"""One namespace of one cluster: what the rest of this package does with an API server.

Objects are plain dicts, as in YAML. Any method may be called from any thread; each raises ApiError (a subclass tells
which), UnreachableError or CredentialsError, and nothing else of the wire. Reads are tried again while the server is
throttling or away for a while (`transport.Patience`); `on_wait` is told when that takes longer than 10 s.
"""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Self
from urllib.parse import urlsplit

from jupyter_gpudeploy.backends.kubernetes.api import channels
from jupyter_gpudeploy.backends.kubernetes.api.discovery import Discovery
from jupyter_gpudeploy.backends.kubernetes.api.errors import ForbiddenError, GoneError, NotFoundError
from jupyter_gpudeploy.backends.kubernetes.api.kinds import Kind, kind_named
from jupyter_gpudeploy.backends.kubernetes.api.streams import LogStream, WatchStream
from jupyter_gpudeploy.backends.kubernetes.api.transport import Call, Patience, Transport
from jupyter_gpudeploy.backends.kubernetes.marks import FIELD_MANAGER
from jupyter_gpudeploy.names import safe_name

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from jupyter_gpudeploy.backends.kubernetes.api.channels import ExecResult, PortSocket
    from jupyter_gpudeploy.backends.kubernetes.api.kubeconfig import Access
    from jupyter_gpudeploy.spec.settings import ClusterSettings

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


class Cluster:
    """`server`: its URL; `namespace`; `context`: of the kubeconfig, empty inside a pod; `settings`: its profile.

    `warnings`: what makes the connection unsafe, one sentence each.
    """

    def __init__(
        self, access: Access, settings: ClusterSettings | None = None, *, patience: Patience | None = None
    ) -> None:
        self.server = access.server
        self.namespace = access.namespace
        self.context = access.context
        self.warnings = access.warnings
        self.settings = settings
        self.access = access
        self._transport = Transport(access, f"namespace {access.namespace!r} of {access.place}", patience)
        self._discovery = Discovery(self._transport, access.namespace)

    def __repr__(self) -> str:
        return f"Cluster({self.server!r}, namespace={self.namespace!r}, context={self.context!r})"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def id(self) -> str:
        """A safe name for the API server, the same for everyone who reaches it by this address."""
        return safe_name(urlsplit(self.server).netloc)

    @cached_property
    def user(self) -> str | None:
        """Who asks, as the server knows it; the kubeconfig's name where it does not say. None: unknown."""
        body = {"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"}
        call = Call("POST", "/apis/authentication.k8s.io/v1/selfsubjectreviews", "ask who I am", body=body)
        try:
            known = self._transport.json(call).get("status", {}).get("userInfo", {}).get("username")
        except (ForbiddenError, NotFoundError):  # servers before 1.28 do not tell
            known = None
        return known or self.access.user

    @property
    def on_wait(self) -> Callable[[str], None]:
        """Called with one sentence when a request is tried for longer than 10 s. Nothing, unless it is set."""
        return self._transport.tell

    @on_wait.setter
    def on_wait(self, tell: Callable[[str], None]) -> None:
        self._transport.tell = tell

    def close(self) -> None:
        """Close idle connections. Streams that are open go on until they are closed."""
        self._transport.close()

    # Objects

    def get(
        self, kind: str, name: str, *, namespace: str | None = None, bare: bool = False, subresource: str = ""
    ) -> dict[str, Any]:
        """Return an object, or a subresource of it; `bare`: with its metadata alone. Raises NotFoundError."""
        path, accept = self._path(kind, name, namespace, subresource), _BARE if bare else {}
        return self._transport.json(Call("GET", path, f"read {kind} {name!r}", headers=accept))

    def list(
        self, kind: str, *, labels: str = "", fields: str = "", all_pages: bool = True, everywhere: bool = False,
        bare: bool = False,
    ) -> Listing:  # fmt: skip
        """Return the objects that the selectors name; `everywhere`: of all namespaces. One page is 500 of them.

        `bare`: with their metadata alone.
        """
        accept = _BARE_LIST if bare else {}
        try:
            return self._list(kind, labels, fields, PAGE, accept, all_pages=all_pages, everywhere=everywhere)
        except GoneError:  # the list changed too much between two pages: all at once then
            return self._list(kind, labels, fields, 0, accept, all_pages=True, everywhere=everywhere)

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

    # Pods

    def open_log(
        self,
        pod: str,
        container: str,
        *,
        follow: bool,
        since_time: str | None = None,
        previous: bool = False,
        timestamps: bool = True,
        tail_lines: int | None = None,
        read_seconds: float = 60.0,
    ) -> LogStream:
        """Open a container's log. `since_time`: RFC 3339, by the node's clock, inclusive to the second.

        Its `read` raises UnreachableError after `read_seconds` of silence. A clean end does not say that the container
        has ended. Raises ApiError (400) while the container waits to start.
        """
        flags = {"follow": follow, "previous": previous, "timestamps": timestamps}
        query = [("container", container), *((name, "true") for name, value in flags.items() if value)]
        if since_time:
            query.append(("sinceTime", since_time))
        if tail_lines is not None:
            query.append(("tailLines", str(tail_lines)))
        what = f"the log of pod {pod!r}"
        path = self._path("Pod", pod, subresource="log")
        accept = {"Accept": "*/*"}
        call = Call("GET", path, f"read {what}", query, headers=accept, read_seconds=read_seconds, streams=True)
        return LogStream(self._transport.send(call), what, read_seconds)

    def execute(
        self,
        pod: str,
        container: str,
        argv: Sequence[str],
        *,
        stdin: Iterable[bytes] | None = None,
        on_output: Callable[[int, bytes], None] | None = None,
        timeout: float = 60.0,
        stop: threading.Event | None = None,
    ) -> ExecResult:
        """Run a command in a container, without a shell, and wait for its end.

        `stdin`: pieces of any size, taken as there is room; its end is told to the command only by servers that speak
        v5 (Kubernetes 1.30 and later). `on_output(channel, bytes)` gets stdout (1) and stderr (2) as they come, and
        then they are not kept. `stop` leaves it: then exit_code is None. Raises ApiError when the command cannot be
        started, UnreachableError when it has not ended within `timeout` seconds.
        """
        query = [("container", container), *(("command", word) for word in argv)]
        query += [("stdin", "true")] * (stdin is not None) + [("stdout", "true"), ("stderr", "true")]
        path = self._path("Pod", pod, subresource="exec")
        call = Call("GET", path, f"run {argv[0]!r} in pod {pod!r}", query, safe=False)
        return channels.execute(self._transport, call, stdin=stdin, on_output=on_output, timeout=timeout, stop=stop)

    def connect_port(self, pod: str, port: int) -> PortSocket:
        """Return a connected socket whose other end is a port of the pod, over a websocket of its own.

        When it ends, its `failure` is what the cluster said, or None. Closing it ends all.
        """
        path = self._path("Pod", pod, subresource="portforward")
        call = Call("GET", path, f"reach port {port} of pod {pod!r}", [("ports", str(port))])
        return channels.connect_port(self._transport, call, port)

    # The cluster itself

    def version(self) -> str:
        """Return the server's version: `v1.37.2`."""
        return self._discovery.version()

    def groups(self) -> frozenset[str]:
        """Return every "group/version" that is served; the core is "v1"."""
        return self._discovery.groups()

    def has(self, kind: str) -> bool:
        """Return whether the cluster serves that kind."""
        return self._discovery.served(kind_named(kind)) is not None

    def kind(self, name: str) -> Kind:
        """Return the kind in the version that the cluster serves. Raises BackendError for a name that is not ours."""
        kind = kind_named(name)
        return (self._discovery.served(kind) or kind) if kind.also else kind

    @property
    def is_openshift(self) -> bool:
        """Whether it is OpenShift: what the settings say, else whether it has its API."""
        if self.settings is not None and self.settings.flavour is not None:
            return self.settings.flavour == "openshift"
        return any(group.startswith(("route.openshift.io/", "config.openshift.io/")) for group in self.groups())

    def can_i(self, verb: str, resource: str, group: str = "", subresource: str = "") -> bool | None:
        """Return whether the server lets us do that in this namespace; None when it does not tell."""
        return self._discovery.can_i(verb, resource, group, subresource)

    def _list(
        self, kind: str, labels: str, fields: str, page: int, accept: Mapping[str, str], *,
        all_pages: bool, everywhere: bool,
    ) -> Listing:  # fmt: skip
        known = self.kind(kind)
        items: list[dict[str, Any]] = []
        query = [*_selected(labels, fields), *([("limit", str(page))] if page else [])]
        following: list[tuple[str, str]] = []
        path = known.path("" if everywhere else self.namespace)
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
