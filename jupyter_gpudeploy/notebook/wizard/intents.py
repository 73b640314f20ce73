"""What a person wants, and which fields matter for it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from jupyter_gpudeploy.notebook.wizard.fields import Field, named

if TYPE_CHECKING:
    from collections.abc import Mapping


class Intent(NamedTuple):
    """One thing to want. `sets`: what a cell for it says from the start."""

    name: str
    label: str
    help: str
    sets: Mapping[str, str] = {}


INTENTS = (
    Intent("train", "Train or run a job", "a script, a notebook or a command runs once"),
    Intent("sweep", "Sweep or ablation", "the same program with many settings, compared in one table"),
    Intent("serve", "Serve a model or app", "a server that stays up and answers requests", {"serve": ""}),
    Intent("evaluate", "Evaluate or benchmark", "a program that measures something, once or for several inputs"),
    Intent(
        "interactive", "Interactive environment", "a place that stays up, for commands and apps", {"mode": "manual"}
    ),
)


def settings_of(intent: Intent) -> dict[str, str]:
    """Return what a cell for it says from the start; what the schema gives as an example where we say nothing."""
    return {key: value or named(key).example for key, value in intent.sets.items()}


def intent_of(values: Mapping[str, Any]) -> Intent:
    """Return what a cell with these keys is probably for."""
    if values.get("serve") is not None or values.get("mode") == "auto_start":
        name = "serve"
    elif values.get("mode") == "manual":
        name = "interactive"
    elif values.get("parameters"):
        name = "sweep"
    else:
        name = "evaluate" if values.get("metric") or values.get("metric_files") else "train"
    return by_name(name)


def by_name(name: str) -> Intent:
    """Return the intent of that name."""
    return next(intent for intent in INTENTS if intent.name == name)


def matters(field: Field, intent: Intent, values: Mapping[str, Any]) -> bool:
    """Return whether a field is asked for at once: it belongs to the intent, or the cell says something of it."""
    if field.name in values and field.name != "mode":
        return True
    return intent.name in field.intents or ("cluster" in field.intents and on_cluster(values))


def on_cluster(values: Mapping[str, Any]) -> bool:
    """Return whether a cell with these keys runs on a cluster."""
    return values.get("backend") == "kubernetes" or any(key in values for key in ("cluster", "namespace"))
