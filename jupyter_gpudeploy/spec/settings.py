"""The settings file: what a person says once about their clusters instead of in every cell.

::

    default_cluster: barcelona
    clusters:
      barcelona:
        context: bcn-prod            # of the kubeconfig; the profile's own name unless said
        namespace: ml
        image: registry.example/science:1
        queue: gpu-queue
        gpu_types: {H100: NVIDIA-H100-80GB-HBM3}
    prices: {H100: 2.40, local: 0.30}    # of one GPU hour, for %deploy top: by GPU type, cluster or backend

It is `$JUPYTER_GPUDEPLOY_CONFIG`, else `$XDG_CONFIG_HOME/jupyter_gpudeploy/config.yaml`, else the same below
`~/.config`. No file is the same as an empty one. Everything in it is text.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, ValidationError

from jupyter_gpudeploy.errors import Problem, SpecError
from jupyter_gpudeploy.names import safe_name
from jupyter_gpudeploy.registry import did_you_mean
from jupyter_gpudeploy.settings_file import settings_file
from jupyter_gpudeploy.spec.draft import dotted, reachable
from jupyter_gpudeploy.spec.fields import Line, Strict
from jupyter_gpudeploy.spec.yaml import load

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from pydantic_core import ErrorDetails

    from jupyter_gpudeploy.spec.yaml import Document


def _object_name(text: str) -> str:
    if safe_name(text, 63) != text and not text[:1].isdigit():
        raise ValueError("is no Kubernetes name: small letters, digits and - only")
    return text


Name = Annotated[Line, AfterValidator(_object_name)]


def _price(text: str) -> float:
    try:
        price = float(text)
    except ValueError:
        price = -1.0
    if not 0 <= price < float("inf"):
        raise ValueError("is no price of a GPU hour: a number, without a currency")
    return price


Price = Annotated[float, BeforeValidator(_price)]


class SettingsError(SpecError):
    """The settings file is wrong. All mistakes at once; `file` is where."""

    def __init__(self, problems: Sequence[Problem], file: Path) -> None:
        super().__init__(problems)
        self.file = file
        count = len(self.problems)
        said = f" {self.message}" if count == 1 else "".join(f"\n  {problem}" for problem in self.problems)
        self.message = f"{file}:{said}" if count == 1 else f"{count} mistakes in {file}{said}"
        self.args = (self.message,)

    def __reduce__(self) -> tuple[type[SettingsError], tuple[tuple[Problem, ...], Path]]:  # type: ignore[override]
        return type(self), (self.problems, self.file)


class ClusterSettings(Strict):
    """One profile: how a cluster is reached, and what its runs get unless the cell says otherwise."""

    context: Line | None = Field(None, description="the context of the kubeconfig; in-cluster inside a pod")
    kubeconfig: Line | None = Field(None, description="the kubeconfig file, where it is not the usual one")
    namespace: Name | None = Field(None, description="the namespace; else the context's")
    flavour: Literal["kubernetes", "openshift"] | None = Field(None, description="else found out")
    image: Line | None = Field(None, description="the image of runs that name none")
    queue: Line | None = Field(None, description="the LocalQueue of Kueue")
    priority: Line | None = Field(None, description="the PriorityClass")
    storage: Line | None = Field(None, description="where results are kept: a size, or claim:NAME")
    storage_class: Line | None = Field(None, description="the StorageClass of new claims")
    gpu_resource: Line = Field("nvidia.com/gpu", description="the resource that a GPU is")
    gpu_types: dict[Line, Line] = Field(default_factory=dict, description="H100: the node label's value for it")
    gpu_label: Line = Field("nvidia.com/gpu.product", description="the node label that names the GPU")
    node_selector: dict[Line, Line] = Field(default_factory=dict, description="labels that the node must have")
    tolerations: list[Line] = Field(default_factory=list, description="key, key=value or key=value:Effect")
    image_pull_secrets: list[Line] = Field(default_factory=list, description="Secrets of the image registries")
    service_account: Line | None = Field(None, description="the ServiceAccount of the pods")
    expose: Literal["forward", "route", "httproute", "ingress", "loadbalancer"] | None = Field(
        None, description="how servers are reached"
    )
    dcgm: Line | None = Field(None, description="namespace of the DCGM exporter, where it may be asked for GPU use")
    gateway: Line | None = Field(None, description="namespace/name of the Gateway of httproutes")
    monitoring: Literal["podmonitor"] | None = Field(
        None, description="podmonitor: make one for each server; it needs the right to"
    )


class Settings(Strict):
    """The whole file."""

    clusters: dict[Line, ClusterSettings] = Field(default_factory=dict, description="profiles by name")
    default_cluster: Line | None = Field(None, description="the cluster of cells that name none")
    default_backend: Line | None = Field(None, description="the backend of cells that name none")
    prices: dict[Line, Price] = Field(default_factory=dict, description="of one GPU hour: H100, a cluster, or local")


def read_settings(file: Path | None = None) -> Settings:
    """Return the settings. Raises SettingsError."""
    file = file or settings_file()
    try:
        text = file.read_text("utf-8")
    except FileNotFoundError:
        return Settings.model_validate({})
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is no UTF-8 text"
        raise SettingsError([Problem(f"cannot be read: {reason}")], file) from None
    problems: Sequence[Problem]
    try:
        return _checked(load(text))
    except SpecError as error:
        problems = error.problems
    raise SettingsError(problems, file)


def _checked(document: Document) -> Settings:
    if document.value is None:
        return Settings.model_validate({})
    if not isinstance(document.value, dict):
        raise SpecError(
            [Problem("the settings must be lines of `key: value`", "for example default_cluster: name", 1, 1)]
        )
    values = document.as_text(())
    for name, profile in (values.get("clusters") or {}).items() if isinstance(values.get("clusters"), dict) else ():
        if profile is None:
            values["clusters"][name] = {}
    try:
        return Settings.model_validate(values)
    except ValidationError as error:
        details = error.errors(include_url=False)
    raise SpecError([_problem(detail, document) for detail in details])


def _problem(detail: ErrorDetails, document: Document) -> Problem:
    path = reachable(document.value, detail["loc"])
    label = dotted(path)
    kind = detail["type"]
    if kind == "extra_forbidden":
        known = list((ClusterSettings if len(path) > 1 else Settings).model_fields)
        *above, key = path
        inside = f" in {dotted(above)}:" if above else ""
        return _at(f"there is no key {str(key)!r}{inside}", did_you_mean(str(key), known), label, document.where(path))
    place = document.where_value(path)
    return _at(f"{label} {_words(detail)}", _hint(detail), label, place)


def _at(message: str, hint: str, label: str, place: tuple[int, int]) -> Problem:
    return Problem(message, hint, *place, field=label)


def _words(detail: ErrorDetails) -> str:
    kind: str = detail["type"]
    context: dict[str, Any] = detail.get("ctx") or {}
    if kind == "literal_error":
        return f"must be one of {context['expected']}".replace("'", "")
    if kind == "value_error":
        return str(context["error"])
    wanted = {"string_type": "text", "list_type": "a list", "dict_type": "lines of `key: value`"}
    wanted["model_type"] = wanted["dict_type"]
    return f"must be {wanted[kind]}" if kind in wanted else "is not understood"


def _hint(detail: ErrorDetails) -> str:
    if detail["type"] == "list_type":
        return f"write [{detail['input']}]" if isinstance(detail["input"], str) else ""
    return ""
