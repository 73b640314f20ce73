"""The schema of a cell: the only file that knows it.

One flat set of keys. Whatever is wrong is reported at once (`spec.cell` puts the line and column of the cell to each
mistake). Numbers are strict: `gpus: true` is not 1. The same schema makes the JSON Schema of the wizard, the
completion and the reference documentation (`json_schema`).
"""

from __future__ import annotations

import keyword
import math
import re
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, field_validator, model_validator

from jupyter_gpudeploy.quantities import kubernetes_memory, parse_cpu, parse_memory, parse_seconds

Scalar = str | int | float | bool | None
Distribution = Literal["uniform", "log_uniform", "normal", "log_normal"]
_DISTRIBUTION_ALIASES = {
    "int_uniform": "uniform",
    "q_uniform": "uniform",
    "log_uniform_values": "log_uniform",
    "q_log_uniform_values": "log_uniform",
    "loguniform": "log_uniform",
}
_ENVIRONMENT_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_PROGRAM_CHANGING = re.compile(r"LD_.*|DYLD_.*|PYTHON(PATH|HOME|STARTUP|INSPECT)|BASH_ENV|ENV|IFS|PATH")
_SECRET_LIKE = re.compile(
    r"\b(hf_[A-Za-z0-9]{20,}|sk-[A-Za-z0-9_-]{20,}|gh[pousr]_[A-Za-z0-9]{20,}|github_pat_\w{20,}|AKIA[0-9A-Z]{16}"
    r"|xox[abpr]-[A-Za-z0-9-]{10,}|glpat-[\w-]{16,}|AIza[\w-]{30,}|eyJ[\w-]{10,}\.[\w-]{10,}\.[\w-]{5,}"
    r"|nvapi-[\w-]{20,}|-----BEGIN [A-Z ]*PRIVATE KEY-----)"
)


def _memory(value: object) -> object:
    return kubernetes_memory(parse_memory(value)) if _is_quantity(value) else value


def _cpu(value: object) -> object:
    return parse_cpu(value) if _is_quantity(value) else value


def _seconds(value: object) -> object:
    return parse_seconds(value) if _is_quantity(value) else value


def _is_quantity(value: object) -> bool:
    return isinstance(value, str | int | float) and not isinstance(value, bool)


def _as_text(value: object) -> object:
    """Environment values are text: a number keeps its spelling, true and false the YAML one."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value) if isinstance(value, int | float) else value


Text = Annotated[str, BeforeValidator(_as_text)]
Count = Annotated[int, Field(strict=True, ge=0)]
AtLeastOne = Annotated[int, Field(strict=True, ge=1)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Parameter(_Strict):
    """One axis: `[a, b]`, one value, or `{values}` / `{min, max, distribution}`.

    A boolean value becomes `--name` or `--no-name` on a command line, or what `flags: [on, off]` says.
    """

    values: list[Scalar] | None = Field(None, description="the values to try, in order; the first is the baseline")
    min: float | None = Field(None, description="the smallest value of a range")
    max: float | None = Field(None, description="the largest value of a range")
    distribution: Distribution | None = Field(None, description="how values of a range are drawn")
    mu: float = Field(0.0, description="the mean, for normal and log_normal")
    sigma: float = Field(1.0, gt=0, description="the standard deviation, for normal and log_normal")
    q: Annotated[float, Field(gt=0)] | None = Field(None, description="round drawn values to this step")
    integer: bool = Field(False, description="draw whole numbers", strict=True)
    flags: tuple[str, str] | None = Field(None, description="what true and false are on the command line")

    @model_validator(mode="before")
    @classmethod
    def _from_short_form(cls, value: Any) -> Any:  # noqa: ANN401 - anything may stand in a cell
        if isinstance(value, list):
            return {"values": value}
        if not isinstance(value, dict):
            return {"values": [value]}
        value = dict(value)
        if "value" in value and "values" not in value:
            value["values"] = [value.pop("value")]
        if isinstance(value.get("distribution"), str):
            name = value["distribution"]
            value["distribution"] = _DISTRIBUTION_ALIASES.get(name, name)
            if name in {"categorical", "constant"}:
                del value["distribution"]
            if name == "int_uniform":
                value.setdefault("integer", True)
        return value

    @field_validator("values")
    @classmethod
    def _some_values(cls, values: list[Scalar] | None) -> list[Scalar] | None:
        if values is not None and not values:
            raise ValueError("the list of values is empty")
        if values is not None:
            for index, value in enumerate(values):
                if value in values[:index] and any(type(value) is type(other) for other in values[:index]):
                    raise ValueError(f"{value!r} stands twice in the list of values")
        return values

    @model_validator(mode="after")
    def _one_form(self) -> Self:
        is_range = self.min is not None or self.max is not None
        is_bell = self.distribution in {"normal", "log_normal"}
        if (self.values is not None) == (is_range or is_bell):
            raise ValueError("give either values: [..] or min: and max:")
        if self.values is None and not is_bell:
            if self.min is None or self.max is None:
                raise ValueError("a range has both min: and max:")
            if not (math.isfinite(self.min) and math.isfinite(self.max) and self.min < self.max):
                raise ValueError(f"min {self.min:g} must be below max {self.max:g}, both finite")
            if self.distribution == "log_uniform" and self.min <= 0:
                raise ValueError("log_uniform needs a min above 0")
        return self


class MetricSpec(_Strict):
    """What a comparison is about: `{name: val_acc, goal: maximize}`."""

    name: str = Field(min_length=1, description="the metric as the program prints it")
    goal: Literal["minimize", "maximize"] = Field("minimize", description="which end is better")


class TrackingSpec(_Strict):
    """Where runs are tracked besides here."""

    backend: str = Field(description="wandb, mlflow or tensorboard")
    project: str | None = None
    entity: str | None = None
    tags: list[Text] = []


class HealthSpec(_Strict):
    """When a server counts as ready."""

    path: str | None = Field(None, description="must answer 2xx or 3xx")
    startup: Annotated[float, BeforeValidator(_seconds), Field(gt=0)] | None = Field(
        None, description="how long loading may take: 90s, 15m"
    )

    @model_validator(mode="before")
    @classmethod
    def _from_path(cls, value: Any) -> Any:  # noqa: ANN401 - anything may stand in a cell
        return {"path": value} if isinstance(value, str) else value

    @field_validator("path")
    @classmethod
    def _absolute(cls, path: str | None) -> str | None:
        if path is not None and not path.startswith("/"):
            raise ValueError(f"{path!r} must begin with /")
        return path


class Spec(_Strict):
    """Everything a cell can say. `code` is the Python below the `---`."""

    name: str | None = Field(None, min_length=1, max_length=200, description="what the run is called")
    description: str | None = Field(None, description="notes for whoever reads the run later")

    run: str | list[Text] | None = Field(
        None, description="a script, a folder (with entry_point), a notebook, or a command"
    )
    serve: str | None = Field(None, description="a server: fastapi, flask, command, vllm, ...")
    mode: Literal["auto_start", "job", "manual"] | None = Field(
        None, description="auto_start: a server; job: runs once; manual: an environment that stays up"
    )
    args: str | list[Text] = Field("", description="arguments; {name} is replaced by the parameter")
    entry_point: str | None = Field(None, description="the script inside the folder of run:")
    app: str = Field("app", description="the variable that holds the application of serve: fastapi or flask")
    model: str | None = Field(None, description="the model a model server loads")

    parameters: dict[str, Parameter] = Field(default_factory=dict, description="the axes of a sweep")
    method: Literal["grid", "random", "ablation", "bayes"] | None = Field(
        None,
        description="grid: every combination; random: max_runs draws; ablation: the baseline, then one change each",
    )
    metric: MetricSpec | None = Field(None, description="what a comparison is about")
    max_runs: AtLeastOne | None = Field(None, description="at most so many trials")
    parallelism: AtLeastOne = Field(1, description="trials at the same time")
    seed: Annotated[int, Field(strict=True)] = Field(0, description="of the sampler; also SEED in each trial")

    gpus: Count = Field(0, description="GPUs of each trial or replica")
    cpu: Annotated[float, BeforeValidator(_cpu), Field(gt=0)] | None = Field(None, description="processors: 4, 500m")
    memory: Annotated[str, BeforeValidator(_memory)] | None = Field(None, description="memory: 16Gi, 256G")
    nodes: AtLeastOne = Field(1, description="machines of one trial")
    replicas: AtLeastOne = Field(1, description="copies of a server")

    env: dict[str, Text] = Field(default_factory=dict, description="environment variables")
    secrets: dict[str, str] = Field(
        default_factory=dict, description="NAME: where its value is found (env:NAME, file:PATH); never the value"
    )
    requirements: str | list[Text] = Field(
        default_factory=list, description="packages, or a requirements file, beyond what the environment has"
    )
    working_dir: str | None = Field(None, description="where the program runs; the notebook's folder unless said")
    allow_outside: bool = Field(False, strict=True, description="allow sources outside the notebook's folder")
    max_hours: Annotated[float, Field(gt=0)] | None = Field(None, description="ended when it takes longer")
    retries: Count | None = Field(None, description="further attempts after a failure")
    warm: bool | list[Text] = Field(
        False, description="fork trials from one prepared process; a list names modules to import first"
    )
    metric_files: list[Text] = Field(
        default_factory=list, description="csv or json files with metrics; {name} and {output} are replaced"
    )

    port: Annotated[int, Field(strict=True, ge=1, le=65535)] | None = Field(None, description="the server's port")
    health: HealthSpec | None = Field(None, description="the path that says the server is ready")
    route: bool = Field(False, strict=True, description="reachable from outside the cluster")

    tracking: TrackingSpec | None = Field(None, description="an experiment tracker to report to as well")
    backend: str | None = Field(None, description="local or kubernetes")
    cluster: str | None = Field(None, description="a cluster of the settings file")
    namespace: str | None = Field(None, description="the namespace on a cluster")

    code: str | None = Field(None, description="the program, below the line ---", exclude=True)

    @field_validator("secrets", mode="before")
    @classmethod
    def _secret_references(cls, value: Any) -> Any:  # noqa: ANN401 - anything may stand in a cell
        if isinstance(value, str):
            value = [value]
        if isinstance(value, list):
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

    @field_validator("env", "secrets")
    @classmethod
    def _environment_names(cls, value: dict[str, str]) -> dict[str, str]:
        for name in value:
            if not _ENVIRONMENT_NAME.fullmatch(name):
                raise ValueError(f"{name!r} cannot be an environment variable: letters, digits and _ only")
        return value

    @field_validator("parameters")
    @classmethod
    def _parameter_names(cls, value: dict[str, Parameter]) -> dict[str, Parameter]:
        for name in value:
            if not re.fullmatch(r"[A-Za-z_][\w.-]*", name):
                raise ValueError(f"{name!r} cannot be a parameter: begin with a letter, then letters, digits, _ . -")
            if _PROGRAM_CHANGING.fullmatch(name):
                raise ValueError(f"{name!r} would change the program that runs, not its parameters")
        return value

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        wrong = list(_contradictions(self))
        if wrong:
            raise ValueError("\n".join(wrong))
        return self

    @property
    def is_sweep(self) -> bool:
        """Whether there is more than one point to try."""
        return any(axis.values is None or len(axis.values) > 1 for axis in self.parameters.values())


def _contradictions(spec: Spec) -> list[str]:
    wrong = []
    if spec.serve is not None and spec.mode not in (None, "auto_start"):
        wrong.append(f"serve: {spec.serve} is a server, mode: {spec.mode} is not")
    if spec.run is None and spec.serve is None and spec.code is None and spec.mode != "manual":
        wrong.append("nothing to run: give run:, serve:, or Python below a line ---")
    if spec.run is not None and spec.code is not None:
        wrong.append("the program comes twice: run: and the Python below ---")
    if spec.entry_point is not None and spec.run is None:
        wrong.append("entry_point: names a script inside the folder of run:, which is missing")
    if spec.code is not None:
        wrong += [
            f"parameter {name!r} cannot be a Python variable of the code below ---"
            for name in spec.parameters
            if not name.isidentifier() or keyword.iskeyword(name)
        ]
    if spec.method == "random" and spec.max_runs is None and spec.is_sweep:
        wrong.append("method: random needs max_runs:")
    if spec.method in {"grid", "ablation", None}:
        wrong += [
            f"parameter {name!r} is a range: method: {spec.method or 'grid'} needs values; or take method: random"
            for name, axis in spec.parameters.items()
            if axis.values is None
        ]
    if spec.method == "bayes" and spec.metric is None:
        wrong.append("method: bayes needs metric:, what is it to improve?")
    return wrong


def likely_goal(metric: str) -> Literal["minimize", "maximize"]:
    """Return which end of a metric is better, told by its name: accuracies and scores up, everything else down."""
    better_high = re.compile(r"(acc|accuracy|auc|auroc|f1|map|ap|bleu|rouge|score|precision|recall|r2|reward|iou|dice)")
    words = re.split(r"[^a-z0-9]+", metric.lower())
    return "maximize" if any(better_high.match(word) for word in words) else "minimize"


def secret_like(text: str) -> re.Match[str] | None:
    """Return where `text` holds what looks like a token or a private key."""
    return _SECRET_LIKE.search(text)


def json_schema() -> dict[str, Any]:
    """Return the one JSON Schema of a cell's header."""
    schema = Spec.model_json_schema()
    schema["properties"].pop("code", None)
    schema["title"] = "deploy cell"
    return schema
