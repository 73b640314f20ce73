"""The values of a header that have keys of their own: metric, tracking, health."""

import re
from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from jupyter_gpudeploy.patterns import lazy
from jupyter_gpudeploy.spec.fields import Line, Seconds, Strict, no_items

_BETTER_HIGH = lazy(
    r"(acc|accuracy|auc|auroc|f1|map|ap|bleu|rouge|score|precision|recall|r2|reward|iou|dice|mcc|mrr|ndcg|psnr|ssim"
    r"|throughput)[0-9]*"
)


class MetricSpec(Strict):
    """What a comparison is about: `{name: val_acc, goal: maximize}`."""

    name: Line = Field(min_length=1, description="the metric as the program prints it")
    goal: Literal["minimize", "maximize"] = Field("minimize", description="which end is better")


class TrackingSpec(Strict):
    """Where runs are tracked besides here."""

    backend: Line = Field(description="wandb, mlflow or tensorboard")
    project: Line | None = Field(None, description="the tracker's project or experiment")
    entity: Line | None = Field(None, description="the tracker's team or user")
    tags: list[Line] = Field(default_factory=no_items, description="labels to find the run by")


class HealthSpec(Strict):
    """When a server counts as ready."""

    path: Line | None = Field(None, description="must answer 2xx or 3xx", examples=["/health"])
    startup: Seconds | None = Field(None, description="how long loading may take: 90s, 15m", examples=["15m"])

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


def likely_goal(metric: str) -> Literal["minimize", "maximize"]:
    """Return which end of a metric is better, told by its name: accuracies and scores up, everything else down."""
    words = re.split(r"[^A-Za-z0-9]+|(?<=[a-z])(?=[A-Z])", metric)
    return "maximize" if any(_BETTER_HIGH.fullmatch(word.lower()) for word in words) else "minimize"
