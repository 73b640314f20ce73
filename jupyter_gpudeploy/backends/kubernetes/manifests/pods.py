"""The pods of a run: one template, filled in for jobs, servers and environments.

There are two sorts of containers. In most runs the image is any that has Python: our own program is started in it, and
starts the task. A model server runs in its own image with its own command, and nothing of ours is in it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from jupyter_gpudeploy.backends.kubernetes import marks, places
from jupyter_gpudeploy.backends.kubernetes.manifests import environment, probes, scheduling, storage, uploads
from jupyter_gpudeploy.backends.kubernetes.manifests.security import pod_security
from jupyter_gpudeploy.backends.kubernetes.manifests.shapes import shape
from jupyter_gpudeploy.errors import PlanError
from jupyter_gpudeploy.plan.types import Slot, fill

if TYPE_CHECKING:
    from collections.abc import Sequence

    from jupyter_gpudeploy.backends.base import Upload
    from jupyter_gpudeploy.plan.types import ClusterOptions, Plan
    from jupyter_gpudeploy.servers.base import Container, ServerPreset

DAY = 86400
TASK_SECONDS = 7 * DAY
"""After so long a task is ended that says no `max_hours`: nothing holds a GPU for ever."""


class Program(NamedTuple):
    """What pods get: the ConfigMaps with the program, and what is uploaded besides."""

    config_maps: tuple[str, ...] = ()
    upload: Upload | None = None


_SLOTS = {
    Slot.HOST: "0.0.0.0",  # noqa: S104 - the pod's own network
    Slot.PYTHON: "python3",
    Slot.CODE: places.CODE,
    Slot.SOURCES: places.WORK,
    Slot.OUTPUT: places.OUT,
}


def preset_of(plan: Plan) -> ServerPreset | None:
    """Return what is known of the server of a plan, or None."""
    if plan.service is None:
        return None
    from jupyter_gpudeploy.plan.program import preset

    return preset(plan.service.preset)


def own_image(plan: Plan) -> Container | None:
    """Return how the server runs in its own image, None for what runs in any image with Python."""
    preset = preset_of(plan)
    return preset.container if preset else None


Role = Literal["", "leader", "worker"]
"""What a pod of a server on several machines is; empty for every other."""


def pod(
    plan: Plan, options: ClusterOptions, code: Program, *, in_jobset: bool = False, role: Role = ""
) -> dict[str, Any]:
    """Return the pod template."""
    server = own_image(plan)
    is_task = plan.kind in ("job", "sweep")
    labels = marks.labels(plan.name, marks.WORK)
    grouped = is_task and options.nodes > 1
    has_claims = bool(plan.resources.gpus and options.device_class)
    return shape(
        "pod",
        labels=labels,
        annotations={"kubectl.kubernetes.io/default-container": places.CONTAINER, marks.TITLE: plan.title},
        restart_policy="Never" if is_task else "OnFailure" if is_limited(plan) else "Always",
        deadline_seconds=task_seconds(plan) if is_task else None,
        grace_seconds=probes.grace_seconds(preset_of(plan)),
        service_account=options.service_account,
        priority=options.priority,
        subdomain=places.service_name(plan.name) if grouped and not in_jobset else None,
        pull_secrets=[{"name": name} for name in dict.fromkeys(options.image_pull_secrets)] or None,
        node_selector=dict(options.node_selector) or None,
        tolerations=scheduling.tolerations(plan, options),
        spread=scheduling.spread(selector(plan)) if plan.kind == "server" and options.replicas > 1 else None,
        claims=[_claim(plan)] if has_claims else None,
        security=pod_security(plan, server),
        init_containers=_init_containers(plan, options, code.upload) if server is None else None,
        containers=[
            _served(plan, options, server, role) if server else _runner(plan, options, role, in_jobset=in_jobset)
        ],
        volumes=storage.volumes(plan, options, None if server else code.config_maps),
    )


def is_limited(plan: Plan) -> bool:
    """Return whether a server or an environment comes to an end: a Deployment never does, a Job does.

    After `max_hours` the cluster ends it; when it is idle, our program in its pod ends well, and the Job with it.
    """
    ends = plan.max_seconds is not None or idle_seconds(plan) is not None
    return plan.kind in ("server", "manual") and ends


def idle_seconds(plan: Plan) -> float | None:
    """Return after how long without use a server or an environment is stopped; None where that is off."""
    return None if why_never_idle(plan) else plan.idle_seconds


def why_never_idle(plan: Plan) -> str:
    """Return why an idle server cannot be told; empty where it can."""
    if own_image(plan):
        return "a server of its own image runs nothing of ours that could see whether it is used"
    if plan.kind == "server" and options_of(plan).replicas > 1:
        return "each of several replicas sees only itself"
    if plan.kind == "server" and options_of(plan).nodes > 1:
        return "each of its machines sees only itself"
    return ""


def options_of(plan: Plan) -> ClusterOptions:
    """Return what was decided for a cluster. Raises PlanError for a plan of another backend."""
    if plan.cluster is None:
        raise PlanError(f"{plan.name} was planned for {plan.backend}, not for a cluster", hint="backend: kubernetes")
    return plan.cluster


def task_seconds(plan: Plan) -> int:
    """Return after how long a task is ended."""
    return max(1, round(plan.max_seconds)) if plan.max_seconds else TASK_SECONDS


def selector(plan: Plan) -> dict[str, str]:
    """Return the labels by which the pods of a run are found; the uid comes with the launch."""
    return {marks.RUN: plan.name, marks.PART: marks.WORK}


def key_variable(plan: Plan) -> str | None:
    """Return the variable of the container that holds the key of a server; None for one that knows no keys."""
    preset = preset_of(plan)
    if preset is None or preset.container is None:
        return None
    return preset.api_key_env or ("GPUDEPLOY_API_KEY" if preset.api_key_flag else None)


def _claim(plan: Plan) -> dict[str, str]:
    return {"name": scheduling.CLAIM, "resourceClaimTemplateName": plan.name}


def _runner(plan: Plan, options: ClusterOptions, role: Role, *, in_jobset: bool) -> dict[str, Any]:
    return _shape(
        plan,
        options,
        role,
        command=["python3", "-u", places.BOOT],
        args=None,
        variables=environment.of_runner(plan, options, in_jobset=in_jobset),
    )


def _served(plan: Plan, options: ClusterOptions, server: Container, role: Role) -> dict[str, Any]:
    """Return a server in its own image: behind the image's entry point where that is known, else by its command."""
    preset = preset_of(plan)
    if preset is None or plan.service is None:
        raise ValueError(f"{plan.name} is no server")
    slots = _SLOTS | {Slot.PORT: str(plan.service.port)}
    words = fill(plan.tasks[0].argv, slots)
    known = _repository(options.image) == _repository(preset.image)
    args = [environment.literal(text) for text in words]
    if known and server.drain and server.drain[0] not in words:
        args += server.drain
    if preset.api_key_flag and preset.api_key_flag not in words:
        args += [preset.api_key_flag, f"$({key_variable(plan)})"]
    args += _of_group(server, options, role)
    entered = len(server.entry_point) if known and tuple(words[: len(server.entry_point)]) == server.entry_point else 0
    return _shape(
        plan,
        options,
        role,
        command=None if known else args,
        args=args[entered:] if known else None,
        variables=environment.of_server(plan, options, server, key_variable(plan)),
    )


def _of_group(server: Container, options: ClusterOptions, role: Role) -> list[str]:
    """Return the words by which the machines of one server find each other."""
    known = {
        "nodes": str(options.nodes),
        "leader": f"$({environment.LEADER})",
        "rank": f"$({environment.WORKER})",
        "port": str(places.RENDEZVOUS_PORT),
    }
    words = (*server.together, *(server.worker if role == "worker" else ())) if role else ()
    return [word.format(**known) for word in words]


def _shape(
    plan: Plan, options: ClusterOptions, role: Role, *, command: list[str] | None, args: list[str] | None,
    variables: list[Any],
) -> dict[str, Any]:  # fmt: skip
    preset = preset_of(plan)
    asked = probes.probes(plan.service, preset) if plan.service and preset and role != "worker" else None
    pause = {"preStop": {"sleep": {"seconds": probes.pause_seconds(preset)}}}
    return shape(
        "container",
        name=places.CONTAINER,
        image=options.image,
        command=command,
        args=args,
        environment=variables,
        ports=_ports(plan, options, preset),
        resources=scheduling.resources(plan, options),
        startup=asked.startup if asked else None,
        readiness=asked.readiness if asked else None,
        liveness=asked.liveness if asked else None,
        lifecycle=pause if asked else None,
        mounts=storage.mounts(plan, options, with_code=own_image(plan) is None),
    )


def _ports(plan: Plan, options: ClusterOptions, preset: ServerPreset | None) -> list[dict[str, Any]] | None:
    meeting = [{"name": "rdzv", "containerPort": places.RENDEZVOUS_PORT}] if options.nodes > 1 else []
    if plan.service is None:
        return meeting or None
    found = [{"name": probes.HTTP, "containerPort": plan.service.port}, *meeting]
    if preset and preset.metrics_port:
        found.append({"name": "metrics", "containerPort": preset.metrics_port})
    return found


def _init_containers(plan: Plan, options: ClusterOptions, upload: Upload | None) -> list[dict[str, Any]] | None:
    found = []
    if upload is not None:
        folder = places.KEPT if options.storage else places.UPLOADED
        words = ["wait", upload.digest, folder, str(uploads.WAIT_SECONDS)]
        wanted = (places.ROOT, places.IN, places.STORAGE)
        found.append(_prepares(plan, options, places.RECEIVER, [places.RECEIVE, *words], wanted))
    if plan.requirements:
        words = [places.INSTALL, places.DEPENDENCIES, *map(environment.literal, plan.requirements)]
        found.append(_prepares(plan, options, places.INSTALLER, words, (places.ROOT, places.IN)))
    return found or None


def _prepares(
    plan: Plan, options: ClusterOptions, name: str, words: Sequence[str], wanted: Sequence[str]
) -> dict[str, Any]:
    """Return an init container that runs a program of ours and sees these folders."""
    seen = storage.mounts(plan, options, with_code=True)
    return shape(
        "container",
        name=name,
        image=options.image,
        command=["python3", "-u", *words],
        args=None,
        environment=environment.of_installer(),
        ports=None,
        resources=None,
        startup=None,
        readiness=None,
        liveness=None,
        lifecycle=None,
        mounts=[mount for mount in seen if mount["mountPath"] in wanted],
    )


def _repository(image: str) -> str:
    """Return an image without its tag and digest."""
    plain = image.partition("@")[0]
    head, separator, tail = plain.rpartition(":")
    return head if separator and "/" not in tail else plain
