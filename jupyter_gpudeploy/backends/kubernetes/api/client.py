"""One namespace of one cluster: what the rest of this package does with an API server.

Objects are plain dicts, as in YAML. Any method may be called from any thread; each raises ApiError (a subclass tells
which), UnreachableError or CredentialsError, and nothing else of the wire. Reads are tried again while the server is
throttling or away for a while (`transport.Patience`); `on_wait` is told when that takes longer than 10 s.
"""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Self
from urllib.parse import urlsplit

from jupyter_gpudeploy.backends.kubernetes.api import channels
from jupyter_gpudeploy.backends.kubernetes.api.discovery import Discovery
from jupyter_gpudeploy.backends.kubernetes.api.errors import ForbiddenError, NotFoundError
from jupyter_gpudeploy.backends.kubernetes.api.kinds import kind_named
from jupyter_gpudeploy.backends.kubernetes.api.objects import Objects
from jupyter_gpudeploy.backends.kubernetes.api.streams import LogStream
from jupyter_gpudeploy.backends.kubernetes.api.transport import Call, Patience, Transport
from jupyter_gpudeploy.names import safe_name

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable, Iterable, Sequence

    from jupyter_gpudeploy.backends.kubernetes.api.channels import CommandStream, ExecResult, PortSocket
    from jupyter_gpudeploy.backends.kubernetes.api.kubeconfig import Access
    from jupyter_gpudeploy.spec.settings import ClusterSettings

_PAGE_SECONDS = 5.0


class Cluster(Objects):
    """`server`: its URL; `namespace`; `context`: of the kubeconfig, empty inside a pod; `settings`: its profile.

    `warnings`: what makes the connection unsafe, one sentence each.
    """

    def __init__(
        self, access: Access, settings: ClusterSettings | None = None, *, patience: Patience | None = None
    ) -> None:
        self.server = access.server
        self.context = access.context
        self.warnings = access.warnings
        self.settings = settings
        self.access = access
        transport = Transport(access, f"namespace {access.namespace!r} of {access.place}", patience)
        super().__init__(transport, Discovery(transport, access.namespace), access.namespace)

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
        call = self._exec(pod, container, argv, feeds=stdin is not None)
        return channels.execute(self._transport, call, stdin=stdin, on_output=on_output, timeout=timeout, stop=stop)

    def open_command(self, pod: str, container: str, argv: Sequence[str]) -> CommandStream:
        """Start a command that goes on in a container, with a stdin that ends when this is closed. Raises ApiError."""
        return channels.CommandStream(self._transport, self._exec(pod, container, argv, feeds=True))

    def _exec(self, pod: str, container: str, argv: Sequence[str], *, feeds: bool) -> Call:
        query = [("container", container), *(("command", word) for word in argv)]
        query += [("stdin", "true")] * feeds + [("stdout", "true"), ("stderr", "true")]
        path = self._path("Pod", pod, subresource="exec")
        return Call("GET", path, f"run {argv[0]!r} in pod {pod!r}", query, safe=False)

    def page(self, namespace: str, pod: str, port: int, path: str) -> str:
        """Return a page of a pod's own web server, through the API server. Raises ApiError."""
        at = f"{kind_named('Pod').path(namespace, f'{pod}:{port}')}/proxy{path}"
        call = Call("GET", at, f"read {path} of pod {pod!r}", headers={"Accept": "*/*"}, read_seconds=_PAGE_SECONDS)
        return self._transport.send(call).data.decode("utf-8", "replace")

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

    @property
    def is_openshift(self) -> bool:
        """Whether it is OpenShift: what the settings say, else whether it has its API."""
        if self.settings is not None and self.settings.flavour is not None:
            return self.settings.flavour == "openshift"
        return any(group.startswith(("route.openshift.io/", "config.openshift.io/")) for group in self.groups())

    def can_i(self, verb: str, resource: str, group: str = "", subresource: str = "") -> bool | None:
        """Return whether the server lets us do that in this namespace; None when it does not tell."""
        return self._discovery.can_i(verb, resource, group, subresource)
