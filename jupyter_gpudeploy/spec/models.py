"""The schema of a cell: the only file that knows it (its kinds of value are in `spec.fields`).

One flat set of keys. Whatever is wrong is reported at once (`spec.cell` puts the line and column of the cell to each
mistake). Numbers are strict: `gpus: true` is not 1. The same schema makes the JSON Schema of the wizard, the
completion and the reference documentation (`json_schema`).

Here and in the other files of models, annotations are values, not postponed: pydantic would compile the text of each.
"""

from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple, Self

from pydantic import Field, field_validator, model_validator

from jupyter_gpudeploy.spec import contradictions
from jupyter_gpudeploy.spec.fields import (
    LONGEST_NAME,
    AtLeastOne,
    Count,
    EnvironmentName,
    Line,
    Memory,
    Mistake,
    MistakesError,
    Number,
    ParameterName,
    Processors,
    Reference,
    Scalar,
    Strict,
    Switch,
    Text,
    Whole,
    no_items,
    offered,
)
from jupyter_gpudeploy.spec.git import GitSpec
from jupyter_gpudeploy.spec.parameters import Distribution, Parameter
from jupyter_gpudeploy.spec.parts import HealthSpec, MetricSpec, TrackingSpec, likely_goal
from jupyter_gpudeploy.spec.tokens import holds_secret, secret_like

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = [
    "TEXT_FIELDS",
    "Distribution",
    "HealthSpec",
    "MetricSpec",
    "Parameter",
    "Remark",
    "Scalar",
    "Spec",
    "TrackingSpec",
    "json_schema",
    "likely_goal",
    "secret_like",
]

TEXT_FIELDS = (
    "name", "description", "run", "serve", "args", "entry_point", "app", "model", "env", "secrets", "requirements",
    "working_dir", "metric_files", "tracking", "backend", "cluster", "namespace", "image", "gpu_type", "gpu_resource",
    "node_selector", "tolerations", "queue", "priority", "storage", "schedule", "time_zone", "expose", "host",
    "gateway", "image_pull_secrets", "service_account", "git",
)  # fmt: skip
"""The keys whose values are text: `env: {VERSION: 1.10}` is meant as it is spelled."""

ANY = "serve train sweep evaluate interactive"
PROGRAM = "serve train sweep evaluate"


class Remark(NamedTuple):
    """What was understood otherwise than written, or left out. `field` is as in the cell."""

    field: str
    message: str
    hint: str = ""
    level: Literal["info", "warning"] = "warning"

    def __str__(self) -> str:
        return f"{self.field}: {self.message}" + (f"  → {self.hint}" if self.hint else "")


class Spec(Strict):
    """Everything a cell can say. `code` is the Python below the `---`."""

    name: Annotated[Line, Field(min_length=1, max_length=LONGEST_NAME)] | None = Field(
        None, description="what the run is called", examples=["digits"], json_schema_extra=offered(ANY, section="Run")
    )
    description: Text | None = Field(None, description="notes for whoever reads the run later")

    run: Text | list[Text] | None = Field(
        None,
        description="a script, a folder (with entry_point), a notebook, or a command",
        examples=["train.py"],
        json_schema_extra=offered(PROGRAM, section="Program"),
    )
    serve: Line | None = Field(
        None,
        description="a server: fastapi, flask, command, vllm, ...",
        examples=["fastapi"],
        min_length=1,
        json_schema_extra=offered("serve"),
    )
    mode: Literal["auto_start", "job", "manual"] | None = Field(
        None, description="auto_start: a server; job: runs once; manual: an environment that stays up"
    )
    args: Text | list[Text] = Field(
        "",
        description="arguments; {name} is replaced by the parameter",
        examples=["--lr {lr} --epochs 20"],
        json_schema_extra=offered(PROGRAM),
    )
    entry_point: Line | None = Field(None, description="the script inside the folder of run:", examples=["main.py"])
    app: Line = Field("app", description="the variable that holds the application of serve: fastapi or flask")
    model: Line | None = Field(
        None,
        description="the model a model server loads",
        examples=["Qwen/Qwen3-0.6B"],
        json_schema_extra=offered("serve"),
    )

    parameters: dict[ParameterName, Parameter] = Field(
        default_factory=dict,
        description="the axes of a sweep",
        examples=[{"lr": [0.1, 0.01]}],
        json_schema_extra=offered("sweep evaluate", section="Search"),
    )
    method: Literal["grid", "random", "ablation", "bayes"] | None = Field(
        None,
        description="grid: every combination; random: max_runs draws; ablation: the baseline, then one change each;"
        " bayes: each point from what came of the ones before",
        json_schema_extra=offered("sweep"),
    )
    metric: MetricSpec | None = Field(
        None,
        description="what a comparison is about",
        examples=[{"name": "val_acc", "goal": "maximize"}],
        json_schema_extra=offered("sweep evaluate"),
    )
    max_runs: AtLeastOne | None = Field(
        None, description="at most so many trials", examples=[50], json_schema_extra=offered("sweep")
    )
    parallelism: AtLeastOne = Field(
        1, description="trials at the same time", examples=[2], json_schema_extra=offered("sweep")
    )
    seed: Whole = Field(0, description="of the sampler; also SEED in each trial", examples=[0])

    gpus: Count = Field(
        0,
        description="GPUs of each trial or replica",
        examples=[1],
        json_schema_extra=offered(ANY, section="Resources"),
    )
    cpu: Processors | None = Field(
        None, description="processors: 4, 500m", examples=[4], json_schema_extra=offered("interactive train")
    )
    memory: Memory | None = Field(
        None, description="memory: 16Gi, 256G", examples=["16Gi"], json_schema_extra=offered(ANY)
    )
    nodes: AtLeastOne = Field(1, description="machines of one trial", examples=[1])
    replicas: AtLeastOne = Field(1, description="copies of a server", examples=[2], json_schema_extra=offered("serve"))

    env: dict[EnvironmentName, Text] = Field(
        default_factory=dict,
        description="environment variables",
        examples=[{"OMP_NUM_THREADS": "1"}],
        json_schema_extra=offered(section="Environment"),
    )
    secrets: dict[EnvironmentName, Reference] = Field(
        default_factory=dict,
        description="NAME: where its value is found (env:NAME, file:PATH); never the value",
        examples=[{"HF_TOKEN": "env:HF_TOKEN"}],
        json_schema_extra=offered("serve"),
    )
    requirements: Text | list[Text] = Field(
        default_factory=no_items,
        description="packages, or a requirements file, beyond what the environment has",
        examples=[["scikit-learn"]],
        json_schema_extra=offered(ANY),
    )
    git: GitSpec | None = Field(
        None,
        description="a repository whose files stand for the notebook's folder: ADDRESS@REF, or {url, ref, path}",
        examples=["https://github.com/org/repo@v1.0"],
    )
    working_dir: Text | None = Field(
        None, description="where the program runs; the notebook's folder unless said", examples=["."]
    )
    allow_outside: Switch = Field(False, description="allow sources outside the notebook's folder", examples=[True])
    max_hours: Annotated[Number, Field(gt=0)] | None = Field(
        None,
        description="ended when it takes longer",
        examples=[12],
        json_schema_extra=offered("train sweep evaluate interactive", section="Limits"),
    )
    idle_minutes: Annotated[Number, Field(gt=0)] | None = Field(
        None,
        description="a server or an environment is stopped when nothing happens for so long",
        examples=[30],
        json_schema_extra=offered("serve interactive"),
    )
    retries: Count | None = Field(
        None, description="further attempts after a failure", examples=[2], json_schema_extra=offered("train")
    )
    warm: Switch | list[Line] = Field(
        False,
        description="fork trials from one prepared process; a list names modules to import first",
        examples=[["numpy"]],
    )
    metric_files: list[Text] = Field(
        default_factory=no_items,
        description="csv or json files with metrics; {name} and {output} are replaced",
        examples=[["{output}/log.csv"]],
        json_schema_extra=offered("evaluate"),
    )

    port: Annotated[Whole, Field(ge=1, le=65535)] | None = Field(
        None, description="the server's port", examples=[8000], json_schema_extra=offered("serve", section="Server")
    )
    health: HealthSpec | None = Field(
        None,
        description="the path that says the server is ready",
        examples=["/health"],
        json_schema_extra=offered("serve"),
    )
    route: Switch = Field(
        False, description="reachable from outside the cluster", examples=[True], json_schema_extra=offered("serve")
    )

    image: Line | None = Field(
        None,
        description="the container image, on a cluster",
        examples=["python:3.12-slim"],
        json_schema_extra=offered("cluster", section="Cluster"),
    )
    gpu_type: Line | None = Field(
        None,
        description="the GPU model: a name of the settings file, or the node's label",
        examples=["H100"],
        json_schema_extra=offered("cluster"),
    )
    gpu_resource: Line | None = Field(
        None,
        description="what a GPU is called on the cluster; device-class:NAME asks for it by a ResourceClaim",
        examples=["nvidia.com/mig-1g.10gb"],
    )
    node_selector: dict[Line, Text] = Field(
        default_factory=dict, description="labels that a node must have", examples=[{"pool": "gpu"}]
    )
    tolerations: list[Line] = Field(
        default_factory=no_items, description="taints borne: key, key=value, key=value:Effect", examples=[["gpu"]]
    )
    queue: Line | None = Field(
        None, description="the Kueue LocalQueue", examples=["team-a"], json_schema_extra=offered("cluster")
    )
    priority: Line | None = Field(None, description="the PriorityClass of the pods")
    storage: Line | None = Field(
        None,
        description="a volume for outputs and caches: its size, or claim:NAME",
        examples=["20Gi"],
        json_schema_extra=offered("cluster"),
    )
    shm: Memory | None = Field(None, description="size of /dev/shm on a cluster", examples=["8Gi"])
    upload: Switch | list[Text] | None = Field(
        None, description="files that go to the cluster, below the notebook's folder; false: none", examples=[["src"]]
    )
    schedule: Line | None = Field(None, description="when it runs, again and again, as in cron", examples=["0 6 * * *"])
    time_zone: Line | None = Field(None, description="of schedule:", examples=["Europe/Madrid"])
    expose: Literal["forward", "route", "httproute", "ingress", "loadbalancer"] | None = Field(
        None, description="how a server is reached from outside its cluster", json_schema_extra=offered("cluster")
    )
    host: Line | None = Field(None, description="the host name of expose:", examples=["chat.example.org"])
    gateway: Line | None = Field(None, description="namespace/name of the Gateway of expose: httproute")
    image_pull_secrets: list[Line] = Field(default_factory=no_items, description="Secrets that open the registry")
    service_account: Line | None = Field(None, description="the ServiceAccount of the pods")
    keep_hours: Annotated[Number, Field(gt=0)] | None = Field(
        None, description="how long a cluster keeps what has ended", examples=[168]
    )

    tracking: TrackingSpec | None = Field(
        None,
        description="an experiment tracker to report to as well",
        examples=[{"backend": "mlflow"}],
        json_schema_extra=offered("train sweep evaluate", section="Tracking"),
    )
    backend: Line | None = Field(
        None, description="local or kubernetes", examples=["local"], json_schema_extra=offered(ANY, section="Where")
    )
    cluster: Line | None = Field(
        None, description="a cluster of the settings file", json_schema_extra=offered("cluster")
    )
    namespace: Line | None = Field(None, description="the namespace on a cluster", json_schema_extra=offered("cluster"))

    code: str | None = Field(None, description="the program, below the line ---", exclude=True)

    @field_validator("secrets", mode="before")
    @classmethod
    def _secret_references(cls, value: Any) -> Any:  # noqa: ANN401 - anything may stand in a cell
        if isinstance(value, str):
            value = [value]
        if isinstance(value, list) and all(isinstance(name, str) for name in value):
            return {name: f"env:{name}" for name in value}
        return value

    @field_validator("metric", mode="before")
    @classmethod
    def _metric_by_name(cls, value: Any) -> Any:  # noqa: ANN401 - anything may stand in a cell
        if isinstance(value, str):
            return {"name": value, "goal": likely_goal(value)}
        if isinstance(value, dict) and isinstance(value.get("name"), str) and "goal" not in value:
            return {**value, "goal": likely_goal(value["name"])}
        return value

    @field_validator("code")
    @classmethod
    def _without_end(cls, code: str | None) -> str | None:
        """The empty lines at its end are no part of the code; code of empty lines is none."""
        return (code or "").rstrip() or None

    @field_validator("env")
    @classmethod
    def _no_secrets(cls, value: dict[str, str]) -> dict[str, str]:
        hint = "keep the value in the environment or a file: secrets: {{{0}: env:{0}}}"
        _refuse(
            Mistake("this looks like a token: a cell is saved, shared and shown", hint.format(name), at=(name,))
            for name, text in value.items()
            if holds_secret(name, text)
        )
        return value

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        _refuse(contradictions.found(self))
        return self

    @property
    def is_sweep(self) -> bool:
        """Whether there is more than one point to try."""
        return any(axis.values is None or len(axis.values) > 1 for axis in self.parameters.values())


def _refuse(mistakes: "Iterable[Mistake]") -> None:
    if found := list(mistakes):
        raise MistakesError(found)


def json_schema() -> dict[str, Any]:
    """Return the one JSON Schema of a cell's header, the short forms of its values included."""
    schema = Spec.model_json_schema()
    properties, parts = schema["properties"], schema["$defs"]
    properties.pop("code", None)
    schema["title"] = "deploy cell"
    scalar: list[dict[str, Any]] = [{"type": kind} for kind in ("string", "number", "boolean", "null")]
    parts["Parameter"] = {
        "description": parts["Parameter"]["description"],
        "anyOf": [{"type": "array", "items": {"anyOf": scalar}, "minItems": 1}, *scalar, parts["Parameter"]],
    }
    names = {"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}]}
    for name, short in (
        ("metric", [{"type": "string"}]),
        ("health", [{"type": "string"}]),
        ("git", [{"type": "string"}]),
        ("secrets", names["anyOf"]),
    ):
        long = properties[name].pop("anyOf", None) or [{"type": "object", "additionalProperties": {"type": "string"}}]
        properties[name] = {"anyOf": [*short, *long], **properties[name]}
    for name in ("cpu", "memory"):
        properties[name]["anyOf"] = [{"type": ["string", "number"]}, {"type": "null"}]
    return schema
