"""Real controllers of other projects beside the cluster, on demand: Kueue, JobSet, LeaderWorkerSet.

Each is a process of this machine, from the manifests that its project publishes (`config/default` of the module that
programs/<name>/go.mod names). Its root is a folder in which it finds what a pod would have: its service account with
the published rights, certificates, a configuration; so it needs no change and leaves nothing on this machine.

What differs from the published: no Deployment, one copy, no metrics; the API server calls webhooks at 127.0.0.1; and
those about kinds of Kubernetes itself (Jobs, Pods, Deployments) are called for namespaces with the label MANAGED only,
so that a test that knows nothing of them never meets them.
"""

from __future__ import annotations

import base64
import hashlib
import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import build, crds, identities, paths, processes
from .client import Client
from .parts import Part, http_answers, listens
from .system import ClusterError, command, say, timed, wait_for

if TYPE_CHECKING:
    from collections.abc import Iterable

MANAGED = {"gpudeploy.test/controllers": "true"}
"""The label of a namespace whose Jobs, Pods and Deployments they see before these are made."""
_ACCOUNT = "var/run/secrets/kubernetes.io/serviceaccount"
_VISIBILITY_PORT = 8082  # Kueue has it fixed
_BUILT_IN = {"", "apps", "batch"}
_PLURALS = {
    "v1": {"Namespace": "namespaces", "ServiceAccount": "serviceaccounts", "Service": "services"},
    "rbac.authorization.k8s.io/v1": {
        "ClusterRole": "clusterroles", "ClusterRoleBinding": "clusterrolebindings", "Role": "roles",
        "RoleBinding": "rolebindings",
    },
    "admissionregistration.k8s.io/v1": {
        "MutatingWebhookConfiguration": "mutatingwebhookconfigurations",
        "ValidatingWebhookConfiguration": "validatingwebhookconfigurations",
    },
    "apiregistration.k8s.io/v1": {"APIService": "apiservices"},
    "apiextensions.k8s.io/v1": {"CustomResourceDefinition": "customresourcedefinitions"},
}  # fmt: skip

_PUT_FIRST = {kind for version in ("v1", "rbac.authorization.k8s.io/v1") for kind in _PLURALS[version]}

Body = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Controller:
    """One of them. `settings` are put over its published configuration."""

    name: str
    module: str
    port: int
    health: int
    settings: Body

    @property
    def namespace(self) -> str:
        """Where its project puts it."""
        return f"{self.name}-system"

    @property
    def root(self) -> Path:
        """The folder that it takes for the whole machine."""
        return paths.run_dir() / "controllers" / self.name

    @property
    def program(self) -> build.Program:
        """What it is built from."""
        return build.CONTROLLERS[self.name]

    def part(self) -> Part:
        """It as a process."""
        return Part(self.name, self._argv, self._works, seconds=90)

    def _argv(self) -> list[str]:
        host, _, port = paths.API_URL.removeprefix("https://").partition(":")
        where = [f"KUBERNETES_SERVICE_HOST={host}", f"KUBERNETES_SERVICE_PORT={port}"]
        return ["/usr/bin/env", *where, "chroot", str(self.root), "/manager", "--config=/config.json"]

    def _works(self) -> bool:
        return http_answers(f"http://127.0.0.1:{self.health}/readyz") and listens("127.0.0.1", self.port)


# Without these Kueue leaves servers alone; an administrator adds them as is done here.
_FRAMEWORKS = ["batch/job", "jobset.x-k8s.io/jobset", "leaderworkerset.x-k8s.io/leaderworkerset", "pod", "deployment"]
CONTROLLERS = {
    one.name: one
    for one in (
        Controller("kueue", "sigs.k8s.io/kueue", 19443, 19081, {"integrations": {"frameworks": _FRAMEWORKS}}),
        Controller("jobset", "sigs.k8s.io/jobset", 19444, 19082, {}),
        Controller("lws", "sigs.k8s.io/lws", 19445, 19083, {}),
    )
}


def why_not(*names: str) -> str | None:
    """Say why these cannot be started at once; None if they can."""
    missing = [name for name in names if not build.CONTROLLERS[name].is_built()]
    return f"not built: python -m tests.cluster controllers up {' '.join(missing)}" if missing else None


def running() -> list[str]:
    """Those whose process lives."""
    return [name for name in CONTROLLERS if processes.main_pid(name) is not None]


def up(*names: str) -> None:
    """Build what is not built, start what does not run, and return when it works. Raises ClusterError."""
    wanted = [_named(name) for name in names or CONTROLLERS]
    build.build(*(one.program for one in wanted))
    for one in wanted:
        if not _is_whole(one):
            processes.end(processes.find(one.name))
            with timed(f"{one.name} is up"):
                _start(one)


def _is_whole(one: Controller) -> bool:
    """Whether it runs, and somebody has not removed its kinds since."""
    kinds = [body for body in manifests(one) if body["kind"] == "CustomResourceDefinition"]
    return processes.main_pid(one.name) is not None and all(Client().exists(_path(body)) for body in kinds)


def down(*names: str) -> None:
    """End them and remove their kinds with all objects of these. Those that are not there are no error."""
    client = Client()
    for one in (_named(name) for name in names or CONTROLLERS):
        was_there = processes.main_pid(one.name) is not None or one.root.exists()
        processes.end(processes.find(one.name))
        if was_there:
            _remove(client, one)
            shutil.rmtree(one.root, ignore_errors=True)
            say(f"{one.name} is down")


def _named(name: str) -> Controller:
    if name not in CONTROLLERS:
        raise ClusterError(f"no controller is called {name}; there are {', '.join(CONTROLLERS)}")
    return CONTROLLERS[name]


def _start(one: Controller) -> None:
    client, found = Client(), manifests(one)
    kinds = [_here(body, one) for body in found if body["kind"] == "CustomResourceDefinition"]
    for body in kinds:
        client.apply(_path(body), body)
    wait_for("the API server serves its kinds", lambda: all(crds.is_served(client, body) for body in kinds))
    hooks = [body for body in found if "webhooks" in body]
    for body in found:
        if body["kind"] in _PUT_FIRST:
            client.apply(_path(body), body)
    _make_root(client, one, found)
    processes.start(one.name, one.part().argv())
    wait_for(f"{one.name} works", lambda: _check(one), one.part().seconds)
    for body in hooks:
        client.apply(_path(body), _here(body, one))
    _serve_further_apis(client, one, [body for body in found if body["kind"] == "APIService"])


def _check(one: Controller) -> bool:
    if processes.main_pid(one.name) is None:
        said = processes.log_file(one.name).read_text(errors="replace")[-1500:]
        raise ClusterError(f"{one.name} has ended; its last words: {said}")
    return bool(one.part().works())


def _make_root(client: Client, one: Controller, found: Iterable[Body]) -> None:
    """Make what its pod would see. The program is static: it needs no library of this machine."""
    root, secret = one.root, identities.folder()
    account = next(body["metadata"]["name"] for body in found if body["kind"] == "ServiceAccount")
    for name in (_ACCOUNT, "certs", "etc/kueue/metrics", "tmp"):
        (root / name).mkdir(parents=True, exist_ok=True)
    shutil.copy2(paths.program(one.name), root / "manager")
    for name in ("crt", "key"):
        shutil.copy2(secret / f"apiserver.{name}", root / "certs" / f"tls.{name}")
    for name in ("visibility", "etc/kueue/metrics/certs"):
        (root / name).unlink(missing_ok=True)
        (root / name).symlink_to("/certs")
    asked = {"spec": {"expirationSeconds": 86400}}
    at = f"/api/v1/namespaces/{one.namespace}/serviceaccounts/{account}/token"
    token = client.post(at, {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", **asked})
    (root / _ACCOUNT / "token").write_text(token["status"]["token"])
    (root / _ACCOUNT / "namespace").write_text(one.namespace)
    shutil.copy2(secret / "ca.crt", root / _ACCOUNT / "ca.crt")
    (root / "config.json").write_text(json.dumps(_configuration(one, found), indent=2))


def _configuration(one: Controller, found: Iterable[Body]) -> Body:
    import yaml

    texts = [text for body in found if body["kind"] == "ConfigMap" for text in body["data"].values()]
    published = yaml.safe_load(texts[0])
    return {
        **published,
        **one.settings,
        "health": {"healthProbeBindAddress": f"127.0.0.1:{one.health}"},
        "metrics": {"bindAddress": "0"},
        "leaderElection": {"leaderElect": False},
        "internalCertManagement": {"enable": False},
        "webhook": {"host": "127.0.0.1", "port": one.port, "certDir": "/certs"},
    }


def _here(body: Body, one: Controller) -> Body:
    """Let the API server call webhooks where they are here."""
    body = json.loads(json.dumps(body))
    hooks = body.get("webhooks") or []
    conversion = (body["spec"].get("conversion") or {}).get("webhook") if "spec" in body else None
    for hook in [*hooks, *([conversion] if conversion else [])]:
        authority = base64.b64encode((identities.folder() / "ca.crt").read_bytes()).decode()
        path = hook["clientConfig"]["service"]["path"]
        hook["clientConfig"] = {"url": f"https://127.0.0.1:{one.port}{path}", "caBundle": authority}
    for hook in hooks:
        groups = {group for rule in hook["rules"] for group in rule["apiGroups"]}
        if groups <= _BUILT_IN and not hook.get("objectSelector"):
            hook["namespaceSelector"] = {"matchLabels": MANAGED}
    return dict(body)


def _serve_further_apis(client: Client, one: Controller, services: list[Body]) -> None:
    """Let its own API be part of the cluster's: the Service of it leads to this machine."""
    if not services:
        return
    name = services[0]["spec"]["service"]["name"]
    at = f"/api/v1/namespaces/{one.namespace}/services/{name}"
    client.patch(at, {"spec": {"selector": None}})
    endpoints = {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {"name": name, "labels": {"kubernetes.io/service-name": name}},
        "addressType": "IPv4",
        "ports": [{"name": "https", "port": _VISIBILITY_PORT, "protocol": "TCP"}],
        "endpoints": [{"addresses": [paths.HOST_ADDRESS], "conditions": {"ready": True}}],
    }
    client.apply(f"/apis/discovery.k8s.io/v1/namespaces/{one.namespace}/endpointslices/{name}", endpoints)
    for body in services:
        client.apply(_path(body), body)
    wait_for(f"the API server asks {one.name}", lambda: all(_is_available(client.get(_path(x))) for x in services), 60)


def _is_available(body: Body) -> bool:
    conditions = body.get("status", {}).get("conditions") or ()
    return any(one["type"] == "Available" and one["status"] == "True" for one in conditions)


def _remove(client: Client, one: Controller) -> None:
    """Remove what keeps others from going first: other APIs, webhooks, what holds objects until it is told."""
    found = manifests(one)
    for body in found:
        if "webhooks" in body or body["kind"] == "APIService":
            client.delete(_path(body))
    kinds = [body for body in found if body["kind"] == "CustomResourceDefinition"]
    for body in kinds:
        if client.exists(_path(body)):
            client.patch(_path(body), {"spec": {"conversion": {"strategy": "None", "webhook": None}}})
            wait_for("the API server reads them", lambda: _let_go(client, body))  # noqa: B023 - called at once
            client.delete(_path(body))
    for body in found:
        if body["kind"] in {"Namespace", "ClusterRole", "ClusterRoleBinding", "RoleBinding"}:
            client.delete(_path(body))
    wait_for(f"the end of {one.name}'s kinds", lambda: not any(client.exists(_path(body)) for body in kinds))


def _let_go(client: Client, kind: Body) -> bool:
    """Take the finalizers off all objects of a kind: nobody is there who would. Raises ClusterError while it changes."""
    spec = kind["spec"]
    version = next(version["name"] for version in spec["versions"] if version["storage"])
    root, plural = f"/apis/{spec['group']}/{version}", spec["names"]["plural"]
    for item in client.get(f"{root}/{plural}")["items"]:
        if item["metadata"].get("finalizers"):
            namespace = item["metadata"].get("namespace")
            within = f"{root}/namespaces/{namespace}" if namespace else root
            client.patch(f"{within}/{plural}/{item['metadata']['name']}", {"metadata": {"finalizers": None}})
    return True


def _path(body: Body) -> str:
    version, metadata = body["apiVersion"], body["metadata"]
    root = "/api/v1" if version == "v1" else f"/apis/{version}"
    within = f"/namespaces/{metadata['namespace']}" if "namespace" in metadata else ""
    return f"{root}{within}/{_PLURALS[version][body['kind']]}/{metadata['name']}"


def manifests(one: Controller) -> list[Body]:
    """What its project publishes, all objects of `config/default`. Kept beside the programs."""
    import yaml

    target = paths.cache() / f"{one.name}-manifests.json"
    stamp = hashlib.sha256((one.program.folder / "go.sum").read_bytes()).hexdigest()
    if target.exists():
        kept = json.loads(target.read_text())
        if kept["stamp"] == stamp:
            return list(kept["objects"])
    if not shutil.which("go"):
        raise ClusterError(f"the manifests of {one.name} are fetched with Go, and there is no `go` here")
    command(["go", "mod", "download", one.module], cwd=one.program.folder, env={"GOWORK": "off"})
    where = ["go", "list", "-m", "-f", "{{.Dir}}", one.module]
    folder = Path(command(where, cwd=one.program.folder, env={"GOWORK": "off"}).strip()) / "config" / "default"
    # From within: a path with an @ would be taken for an address.
    text = command([paths.program("kube"), "kubectl", "kustomize", "."], cwd=folder)
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    found = [crds.without_prose(body) for body in yaml.load_all(text, loader) if body]
    target.write_text(json.dumps({"stamp": stamp, "objects": found}))
    return found
